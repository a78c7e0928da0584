"""Curves over judged parts: what a probability is worth, and what a limit would cost.

probabilities, labels -> reliability | ROC | precision and recall | risk against coverage
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.measuring.intervals import clopper_pearson

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10
LONGEST = 200  # points of a curve: more than a picture can show
LEAST = 1e-12  # a probability is taken no nearer to 0 or 1 in a logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Parts whose probability lies in one range.

    Attributes:
        low, high: the range; the upper end belongs to it only at 1.
        parts: how many lie in it.
        mean_probability: of those parts.
        observed: their mean label: the share that shows the class, soft labels as they are.
        observed_low, observed_high: exact interval as if the parts were independent.
    """

    low: float
    high: float
    parts: int
    mean_probability: float
    observed: float
    observed_low: float
    observed_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Whether probabilities mean what they say.

    Attributes:
        bins: those with parts in them, ascending.
        expected_calibration_error: mean distance of probability and observation, bins by size
            (C. Guo et al., "On calibration of modern neural networks", 2017).
        brier: mean squared distance of probability and label (G. Brier 1950).
        log_loss: mean cross-entropy with the label.
        parts: how many.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_calibration_error: float
    brier: float
    log_loss: float
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RocPoint:
    """What a limit at `threshold` would call bad, among good and among bad parts."""

    threshold: float
    false_positive_rate: float
    true_positive_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPoint:
    """What a limit at `threshold` would call bad: how much of the bad, and how rightly."""

    threshold: float
    recall: float
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskPoint:
    """Deciding only the surest parts: how many, and how many of these wrongly.

    Attributes:
        coverage: share of parts decided, those farthest from one half.
        risk: share of these that one half puts on the wrong side.
        escapes, overkills: the wrong ones, by kind.
    """

    coverage: float
    risk: float
    escapes: int
    overkills: int


def reliability(
    probability: NDArray[np.float64], target: NDArray[np.float64], *, bins: int = BINS
) -> Reliability:
    """Reliability of one class.

    Args:
        probability: (n,) at least one, in 0..1.
        target: (n,) label in 0..1, soft or hard.
        bins: how many ranges of equal width.
    """
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    made = []
    for i in np.unique(place).tolist():
        inside = place == i
        n, mean = int(inside.sum()), float(target[inside].mean())
        low, high = clopper_pearson(mean * n, n)
        made.append(
            ReliabilityBin(
                low=i / bins,
                high=(i + 1) / bins,
                parts=n,
                mean_probability=float(probability[inside].mean()),
                observed=mean,
                observed_low=low,
                observed_high=high,
            )
        )
    safe = np.clip(probability, LEAST, 1 - LEAST)
    loss = -(target * np.log(safe) + (1 - target) * np.log1p(-safe))
    error = sum(each.parts * abs(each.mean_probability - each.observed) for each in made)
    return Reliability(
        bins=tuple(made),
        expected_calibration_error=error / len(probability),
        brier=float(((probability - target) ** 2).mean()),
        log_loss=float(loss.mean()),
        parts=len(probability),
    )


def roc_curve(score: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[RocPoint, ...]:
    """By falling threshold; it begins at (0, 0), which is not among the points."""
    threshold, hits, false = _steps(score, bad)
    good_total, bad_total = int((~bad).sum()), int(bad.sum())
    return tuple(
        RocPoint(
            threshold=float(threshold[i]),
            false_positive_rate=float(false[i] / good_total),
            true_positive_rate=float(hits[i] / bad_total),
        )
        for i in _thinned(len(threshold))
    )


def precision_curve(
    score: NDArray[np.float64], bad: NDArray[np.bool_]
) -> tuple[PrecisionPoint, ...]:
    """Precision against recall, recall ascending; at most `LONGEST` points."""
    threshold, hits, false = _steps(score, bad)
    return tuple(
        PrecisionPoint(
            threshold=float(threshold[i]),
            recall=float(hits[i] / bad.sum()),
            precision=float(hits[i] / (hits[i] + false[i])),
        )
        for i in _thinned(len(threshold))
    )


def risk_curve(score: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[RiskPoint, ...]:
    """Risk against coverage, coverage ascending (R. El-Yaniv, Y. Wiener, "On the foundations of
    noise-free selective classification", 2010); parts equally far from one half come together.
    """
    sure = np.abs(score - 0.5)
    order = np.argsort(-sure, kind="stable")
    missed = np.cumsum((bad & (score <= 0.5))[order])
    wronged = np.cumsum((~bad & (score > 0.5))[order])
    ordered = sure[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return tuple(
        RiskPoint(
            coverage=float((end + 1) / len(score)),
            risk=float((missed[end] + wronged[end]) / (end + 1)),
            escapes=int(missed[end]),
            overkills=int(wronged[end]),
        )
        for end in ends[_thinned(len(ends))].tolist()
    )


def _steps(
    score: NDArray[np.float64], bad: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores descending, and how many bad and good parts lie at or above each."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = np.cumsum(bad[order], dtype=np.int64)[ends]
    return ordered[ends], hits, ends + 1 - hits


def _thinned(length: int) -> NDArray[np.int64]:
    """At most `LONGEST` places of a curve, both ends among them."""
    return np.unique(np.linspace(0, length - 1, min(length, LONGEST)).round().astype(np.int64))
