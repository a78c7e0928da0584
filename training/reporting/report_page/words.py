"""Figures as people read them, and the words that a report uses.

Intervals are rounded outwards and upper bounds upwards, so that print never promises more than was
measured. Every figure carries its exact value, and the place in report.json that it comes from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from training.reporting.report_page.markup import Markup, join, tag

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rounding(Protocol):
    """How a figure is written: rounded down for -1, up for 1, to the nearest for 0."""

    def __call__(self, value: float, rounding: int = 0, /) -> str:
        """The figure as text."""


SLACK = 1e-9  # what binary fractions may be off by before a figure is rounded to the next one
PERCENT_FIGURES = frozenset(
    {"escape_rate", "overkill_rate", "review_rate", "accuracy", "sensitivity", "specificity"}
)
NAMES: dict[str, tuple[str, str]] = {
    "escape_rate": ("Escape rate", "bad parts that passed"),
    "overkill_rate": ("Overkill rate", "good parts that failed"),
    "review_rate": ("Review rate", "parts sent to a person"),
    "auc": ("ROC AUC", "bad parts score above good ones"),
    "average_precision": ("Average precision", "mean precision over all recalls"),
    "f1": ("F1", "of probability above one half, whatever the limits"),
    "accuracy": ("Accuracy", "probability above one half, whatever the limits"),
}
SLICES = {
    "lot": ("lot", "lots"),
    "mould": ("mould", "moulds"),
    "station": ("station", "stations"),
    "view": ("view", "views"),
    "annotator": ("annotator", "annotators"),
}
TERMS: dict[str, str] = {
    "Pass, review, fail": "What is decided on a part. Review means that a person decides.",
    "Escape": "A bad part that passed. The escape rate is their share of all bad parts.",
    "Overkill": "A good part that failed. The overkill rate is their share of all good parts.",
    "95 % interval": "If the whole study were repeated on other parts of the same kind, about 19 "
    'of 20 such intervals would hold the true figure. A bound ("at most") is one-sided.',
    "Group": "Parts that share their history: a lot, a module, a mould. They resemble each other, "
    "so 100 parts of one lot say less than 100 parts of 100 lots.",
    "Grouped, and as if independent": "The grouped interval counts with that resemblance and is "
    "the one to use. The other treats every part as a draw of its own; it stands beside it to show "
    "how much that would flatter.",
    "Certificate": "The sentence that bounds the escape rate. It holds for parts like those it was "
    "measured on, under the settings in this report, and for nothing else.",
    "Fit, calibrate, test": "Three sides of the data: parts the network learnt from, parts that "
    "calibration and limits were chosen on, and parts that were read once, to measure.",
    "Calibration": "Turning a score into a probability: of the parts given 0.3, about 30 in 100 "
    "should be bad. The reliability diagram shows whether they are.",
    "Log loss": "How far probabilities are from what turned out to be; lower is better.",
    "Limits": "Below the pass limit a part passes, from the fail limit on it fails, between them "
    "lies review.",
    "Novelty": "How unlike the images the model was made from an image is. Above its limit the "
    "part goes to review, whatever else the model says.",
    "ROC curve, AUC": "Found defects against false alarms at every limit there could be. AUC is "
    "the area below it: 0.5 is guessing, 1 is perfect order.",
    "Precision, recall, F1": "Of what was stopped, how much was bad; of what was bad, how much was "
    "stopped; and their harmonic mean.",
    "Coverage and risk": "How many parts the machine decides by itself, and how many of these "
    "decisions are wrong, when the review band is widened or narrowed.",
    "Evidence": "Where in the image the model sees a defect: bright colour is strong evidence, and "
    "boxes are what it would report.",
    "Design effect": "How many times more a rate of grouped parts varies than one of independent "
    "parts.",
}


def percent(value: float, rounding: int = 0) -> str:
    """A share such as "1.9 %"; two decimals below 1 %."""
    digits = 2 if 0 < abs(value) < 0.01 else 1
    return f"{rounded(100 * value, digits, rounding):.{digits}f} %"


def fraction(value: float, rounding: int = 0) -> str:
    """A figure between 0 and 1 such as "0.931"."""
    return f"{rounded(value, 3, rounding):.3f}"


def four(value: float, rounding: int = 0) -> str:
    """A figure with four digits that count."""
    if rounding or not math.isfinite(value):
        return f"{rounded(value, 4, rounding):.4f}"
    return f"{value:.4g}"


def rounded(value: float, digits: int, rounding: int) -> float:
    """To so many decimals: downwards for -1, upwards for 1, else to the nearest."""
    scale = 10.0**digits
    if rounding < 0:
        return math.floor(value * scale + SLACK) / scale
    if rounding > 0:
        return math.ceil(value * scale - SLACK) / scale
    return round(value, digits)


def form_of(figure: str) -> Rounding:
    """How a figure of this name is written."""
    return percent if figure in PERCENT_FIGURES else fraction


def exact(value: float, text: str, *path: str | int) -> Markup:
    """A figure with its exact value, and its place in report.json as a JSON pointer (RFC 6901)."""
    key = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    return tag("data", text, value=repr(value), data_key=key)


def span_of(
    low: float, high: float, form: Rounding, low_place: Sequence[str], high_place: Sequence[str]
) -> Markup:
    """The interval between two figures, rounded outwards."""
    return join(
        exact(low, form(low, -1), *low_place), " – ", exact(high, form(high, 1), *high_place)
    )


def bare(form: Rounding) -> Rounding:
    """The same figures without a unit, where it stands beside them already."""
    return lambda value, rounding=0: form(value, rounding).removesuffix(" %")


def size(pair: tuple[int, int] | None) -> str:
    """(height, width) as "width x height pixels"."""
    return "several sizes" if pair is None else f"{pair[1]} × {pair[0]} pixels"


def counted(count: int, one: str, many: str | None = None) -> str:
    """So many of a thing."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def glossary() -> Markup:
    """The words of this report, explained."""
    terms = (join(tag("dt", term), tag("dd", text)) for term, text in sorted(TERMS.items()))
    return tag("dl", *terms, class_="terms")
