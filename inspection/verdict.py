"""From a prediction to pass, fail or review.

    Prediction -> Calibration -> probabilities -> OperatingPoint -> Verdict

Everything fails closed: a part passes only when every class lies below its pass limit, the image
is like those the model was made from, and nothing else asks for a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from inspection.errors import EngineError, RecipeError
from inspection.heatmap import region_of_evidence, sigmoid
from inspection.recipe import Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from inspection.engine import Prediction
    from inspection.recipe import Recipe

Disposition = Literal["pass", "fail", "review"]

LARGEST = float(np.finfo(np.float32).max)
BLEND = 0.01  # of a class's curve in its table: enough to keep the order, too little to matter


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Knots between which a class's probability is interpolated; none for a class without a table.

    Attributes:
        scores: strictly ascending.
        probabilities: at these scores, never falling.
    """

    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.probabilities) or len(self.scores) == 1:
            raise RecipeError("a calibration table needs a probability a score, and two or none")
        if not all(abs(score) <= LARGEST for score in self.scores):  # NaN is not
            raise RecipeError("a calibration table holds a score that is not finite as float32")
        if not all(0 <= probability <= 1 for probability in self.probabilities):
            raise RecipeError("a calibration table holds a probability outside 0..1")
        rising = all(low < high for low, high in pairwise(self.scores))
        if not rising or any(low > high for low, high in pairwise(self.probabilities)):
            raise RecipeError("a calibration table would turn the order of scores round")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Scores to probabilities, a class each, fitted on the serving engine's scores of parts that
    the fit never saw.

    A class follows its curve, sigmoid(slope * score + intercept) (J. Platt, "Probabilistic outputs
    for support vector machines", 1999), or its table where it has one. A table is flat beyond its
    ends and may be flat within; so a `BLEND` of the curve is mixed in, and whatever way a class is
    calibrated, a higher score is a higher probability: limits keep the order of parts.

    Attributes:
        slope, intercept: of every class's curve.
        tables: none at all, or one a class, with no knots for a class that follows its curve.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    tables: tuple[ScoreTable, ...] = ()

    def __post_init__(self) -> None:
        if not self.slope or len(self.slope) != len(self.intercept):
            raise RecipeError("calibration needs one slope and one intercept a class")
        if not all(abs(v) <= LARGEST for v in (*self.slope, *self.intercept)):  # NaN is not
            raise RecipeError("calibration holds a number that is not finite as float32")
        if min(self.slope) <= 0:
            raise RecipeError("a calibration slope must be positive: order would be turned round")
        if self.tables and len(self.tables) != len(self.slope):
            raise RecipeError("calibration needs a table for every class, or none at all")

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """(..., K) scores to (..., K) probabilities, float64; NaN for a score that is NaN."""
        found = self._curve(scores)
        for k, table in enumerate(self.tables):
            if table.scores:
                column = scores[..., k].astype(np.float64)
                read = np.interp(column, table.scores, table.probabilities)
                found[..., k] = (1 - BLEND) * read + BLEND * found[..., k]
        return found

    def local(self, evidence: NDArray[np.float32]) -> NDArray[np.float64]:
        """(K, h, w) evidence to (K, h, w): the probability if all the image looked like this.

        By the curve alone: a cell may lie far beyond every score that a table was made from, and a
        stored inspection keeps the curve to draw its map with.
        """
        return np.moveaxis(self._curve(np.moveaxis(evidence, 0, -1)), -1, 0)

    def _curve(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        slope = np.asarray(self.slope, dtype=np.float32)
        intercept = np.asarray(self.intercept, dtype=np.float32)
        return sigmoid(scores * slope + intercept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the limits were shown to hold, and on how much.

    Attributes:
        wanted_escape_rate: the escape rate that was asked for.
        escape_bound: upper bound of the escape rate, honest about groups, at `confidence`.
        naive_escape_bound: the same as if every part were independent (Clopper-Pearson).
        confidence: such as 0.95.
        bad_parts: bad parts behind the bound.
        groups: groups (lots, modules) that these came from.
        certified: whether `escape_bound` is at most `wanted_escape_rate`, and every class has bad
            parts enough to have a say in it.
        more_bad_parts_needed: how many more would have to be judged without an escape; 0 when
            certified.
        escapes: bad parts that passed.
        good_parts, overkills: good parts, and how many of them failed.
        overkill_bound, naive_overkill_bound: upper bounds of that rate, likewise; 1 is no bound.
        measured_on: the parts that the limits were chosen on, or test parts, read once after that.
        scant_classes: those with too few bad parts to be certified.
    """

    wanted_escape_rate: float
    escape_bound: float
    naive_escape_bound: float
    confidence: float
    bad_parts: int
    groups: int
    certified: bool
    more_bad_parts_needed: int
    escapes: int = 0
    good_parts: int = 0
    overkills: int = 0
    overkill_bound: float = 1.0
    naive_overkill_bound: float = 1.0
    measured_on: Literal["calibration", "test"] = "calibration"
    scant_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rates = (
            self.wanted_escape_rate,
            self.escape_bound,
            self.naive_escape_bound,
            self.overkill_bound,
            self.naive_overkill_bound,
        )
        if not all(0 <= rate <= 1 for rate in rates) or not 0 < self.confidence < 1:
            raise RecipeError("rates lie in 0..1 and the confidence between 0 and 1")
        if min(self.bad_parts, self.groups, self.more_bad_parts_needed) < 0:
            raise RecipeError("a certificate counts from 0")
        if not 0 <= self.escapes <= self.bad_parts or not 0 <= self.overkills <= self.good_parts:
            raise RecipeError("a certificate counts wrong verdicts among its parts")
        if self.certified and (
            self.escape_bound > self.wanted_escape_rate
            or not (self.bad_parts and self.groups)
            or self.scant_classes
        ):
            raise RecipeError("a certificate cannot claim more than its bound and its parts show")

    def in_words(self) -> str:
        """What it says, as a person would: the bound, and what it rests on."""
        parts = f"{self.bad_parts} bad part{'' if self.bad_parts == 1 else 's'}"
        groups = f"{self.groups} group{'' if self.groups == 1 else 's'}"
        passed = f", {self.escapes} of which passed" if self.escapes else ""
        bound = (
            f"escape rate at most {at_most(self.escape_bound)} at {_percent(self.confidence)} "
            f"confidence, from {parts} in {groups}{passed}"
        )
        if not self.bad_parts:
            bound = "escape rate unknown: no bad part was seen"
        if self.certified:
            return bound
        if not self.more_bad_parts_needed and self.measured_on == "calibration":
            unread = "the parts that the limits were chosen on do not show it, test parts may"
            return f"cannot certify {_percent(self.wanted_escape_rate)}: {unread}; {bound}"
        of = f" of {', '.join(self.scant_classes)}" if self.scant_classes else ""
        if self.scant_classes and self.escape_bound > self.wanted_escape_rate:
            of = f", of {', '.join(self.scant_classes)} among others"
        if not self.bad_parts:
            of = ""
        without = ", without another escape" if self.escapes else ""
        more = self.more_bad_parts_needed
        needed = f"{more} more bad part{'' if more == 1 else 's'} needed{of}{without}"
        return f"cannot certify {_percent(self.wanted_escape_rate)}: {needed}; {bound}"

    def fails_in_words(self) -> str:
        """The same of good parts that fail; empty when it was not measured."""
        if not self.good_parts:
            return ""
        parts = f"{self.good_parts} good part{'' if self.good_parts == 1 else 's'}"
        return (
            f"overkill rate at most {at_most(self.overkill_bound)} at {_percent(self.confidence)} "
            f"confidence, from {parts}, {self.overkills} of which failed"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Limits on probabilities, a class each, and on novelty.

    A class at or above `fail_from` fails the part; below `pass_below` it does not stand in the way
    of a pass; between them lies review. Novelty above `novelty_limit` is review.
    """

    pass_below: tuple[float, ...]
    fail_from: tuple[float, ...]
    novelty_limit: float
    split_digest: str
    certificate: Certificate

    def __post_init__(self) -> None:
        if not self.pass_below or len(self.pass_below) != len(self.fail_from):
            raise RecipeError("an operating point needs both limits for every class")
        for low, high in zip(self.pass_below, self.fail_from, strict=True):
            if not (0 <= low <= 1 and low <= high < math.inf):
                raise RecipeError(f"limits {low} and {high} are not in order, or above 1")
        if not math.isfinite(self.novelty_limit) or self.novelty_limit < 0:
            raise RecipeError(f"novelty limit {self.novelty_limit} makes no sense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A defect class that stands in the way of a pass, and where.

    Attributes:
        zone: of the recipe, in which it lies; None where the recipe draws none.
        size_mm: largest extent on the part, in millimetres; None where it was not measured.
        rule: the acceptance rule that it breaks, in words; None where none was asked.
    """

    defect_class: str
    probability: float
    region: Region
    zone: str | None = None
    size_mm: float | None = None
    rule: str | None = None

    def __post_init__(self) -> None:
        if self.size_mm is not None and not (math.isfinite(self.size_mm) and self.size_mm >= 0):
            raise EngineError(f"a finding of {self.size_mm} mm makes no sense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why the disposition is what it is: a stable code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer for one image.

    Attributes:
        disposition: pass, fail or review.
        probability: for each defect class; empty when the image could not be judged.
        novelty: distance from the training images; None when the image could not be judged.
        findings: strongest first.
        reasons: none for a pass, at least one otherwise.
        allowed: what was found and a rule of its zone allows; it stands in the way of nothing.
    """

    disposition: Disposition
    probability: Mapping[str, float]
    novelty: float | None
    findings: tuple[Finding, ...] = ()
    reasons: tuple[Reason, ...] = ()
    allowed: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.disposition not in ("pass", "fail", "review"):
            raise EngineError(f"{self.disposition!r} is not a disposition")
        if self.disposition == "pass" and (self.findings or self.reasons or not self.probability):
            raise EngineError("a pass has no findings and no reasons, and it has probabilities")
        if self.novelty is None and self.disposition == "pass":
            raise EngineError("a pass needs a novelty")
        if self.novelty is not None and not math.isfinite(self.novelty):
            raise EngineError(f"novelty {self.novelty} is not a number")
        if self.disposition != "pass" and not self.reasons:
            raise EngineError("whatever is not a pass says why")
        if not all(0 <= p <= 1 for p in self.probability.values()):
            raise EngineError("a probability lies outside 0..1")
        object.__setattr__(self, "probability", MappingProxyType(dict(self.probability)))


def decide(
    prediction: Prediction,
    calibration: Calibration,
    operating_point: OperatingPoint,
    recipe: Recipe,
    frame_size_px: tuple[int, int],
) -> Verdict:
    """Judge one prediction.

    Args:
        prediction: the network's answer; finite by construction.
        calibration: the package's.
        operating_point: the package's.
        recipe: for the names of the classes and the region of the frame that was judged.
        frame_size_px: (height, width) of the frame, for findings in its pixels.

    Raises:
        EngineError: classes of network, calibration, limits and recipe do not agree in number.
    """
    count = len(recipe.classes)
    sizes = (prediction.scores, calibration.slope, operating_point.pass_below)
    if any(len(size) != count for size in sizes):
        raise EngineError(f"the recipe has {count} classes, the model another number")
    probabilities = calibration.probabilities(prediction.scores)
    local = calibration.local(prediction.evidence)
    judged = recipe.judged_region(frame_size_px)
    findings: list[Finding] = []
    failed: list[str] = []
    for k in np.argsort(-probabilities, kind="stable"):
        probability = float(probabilities[k])
        if probability < operating_point.pass_below[k]:
            continue
        # Half of the peak: with a low pass limit the box would take in half of the image.
        limit = max(operating_point.pass_below[k], 0.5 * float(local[k].max()))
        findings.append(
            Finding(
                defect_class=recipe.classes[k],
                probability=probability,
                region=region_of_evidence(local[k], judged, limit=limit),
            )
        )
        if probability >= operating_point.fail_from[k]:
            failed.append(recipe.classes[k])
    reasons: list[Reason] = []
    if prediction.novelty > operating_point.novelty_limit:
        detail = (
            f"novelty {prediction.novelty:.3g} is above the limit "
            f"{operating_point.novelty_limit:.3g}: unlike the images the model was made from"
        )
        reasons.append(Reason(code="novel", detail=detail))
    for finding in findings:
        code = "defect" if finding.defect_class in failed else "uncertain"
        what = "at or above its fail limit" if code == "defect" else "between its limits"
        detail = f"{finding.defect_class}: probability {finding.probability:.3f} is {what}"
        reasons.append(Reason(code=code, detail=detail))
    disposition: Disposition = "fail" if failed else "review" if findings else "pass"
    if reasons and reasons[0].code == "novel":
        disposition = "review"  # what the model does not know it must not fail either
    return Verdict(
        disposition=disposition,
        probability={name: float(p) for name, p in zip(recipe.classes, probabilities, strict=True)},
        novelty=prediction.novelty,
        findings=tuple(findings),
        reasons=tuple(reasons),
    )


def unjudged(reason: Reason) -> Verdict:
    """The verdict on an image that was decoded but that the recipe cannot judge: review."""
    return Verdict(disposition="review", probability={}, novelty=None, reasons=(reason,))


def needs_person(verdict: Verdict, reason: Reason) -> Verdict:
    """The same verdict with one more reason, under which it cannot be a pass."""
    disposition = "review" if verdict.disposition == "pass" else verdict.disposition
    return replace(
        verdict,
        disposition=disposition,
        probability=dict(verdict.probability),
        reasons=(*verdict.reasons, reason),
    )


def at_most(bound: float) -> str:
    """An upper bound such as "1.9 %", rounded up: what is said must hold too."""
    digits = 2 if bound < 0.01 else 1
    step = 10.0 ** (digits + 2)
    return f"{min(100.0, 100 * math.ceil(bound * step - 1e-9) / step):.{digits + 3}g} %"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
