"""From scores to probabilities: Platt scaling, a class at a time.

J. Platt, "Probabilistic outputs for support vector machines", 1999, with the Newton method of
H.-T. Lin, C.-J. Lin and R. C. Weng, "A note on Platt's probabilistic outputs for support vector
machines", Machine Learning 68, 2007. Targets may be soft (annotators' probability).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.verdict import Calibration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEPS = 100
RIDGE = 1e-12
SHOWN = 0.5  # the soft label from which an image counts as showing a class
WEAK_SLOPE = 0.01  # of the log-odds per standard deviation: order kept, next to no confidence
# Scores are float32: a spread below this is their rounding, and a slope fitted to it would overflow.
LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration, and what a person should know of how it came about."""

    calibration: Calibration
    warnings: tuple[str, ...]


def calibrate(
    scores: NDArray[np.float32], targets: NDArray[np.float32], classes: Sequence[str]
) -> Calibrated:
    """Fit slope and intercept of every class.

    Args:
        scores: (n, K) of the serving engine, of parts that the fit never saw.
        targets: (n, K) soft labels in 0..1.
        classes: K names, for warnings.
    """
    slopes, intercepts, warnings = [], [], []
    for k, name in enumerate(classes):
        column = scores[:, k].astype(np.float64)
        shown = targets[:, k] >= SHOWN
        slope, intercept = fit_platt(column, targets[:, k].astype(np.float64))
        if slope <= 0 or not shown.any() or shown.all():
            spread = _spread(column)
            mean = float(np.clip(_smooth(targets[:, k].astype(np.float64)).mean(), 1e-6, 1 - 1e-6))
            slope = WEAK_SLOPE / spread
            intercept = float(np.log(mean / (1 - mean))) - slope * float(column.mean())
            if not shown.any() or shown.all():
                why = f"{'every' if shown.any() else 'no'} calibration image shows it"
            else:
                why = "on the calibration parts, higher scores do not mean more defects"
            warnings.append(f"{name}: {why}; its probabilities are next to constant")
        slopes.append(slope)
        intercepts.append(intercept)
    return Calibrated(
        calibration=Calibration(slope=tuple(slopes), intercept=tuple(intercepts)),
        warnings=tuple(warnings),
    )


def fit_platt(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """(slope, intercept) with the least cross-entropy between targets and the logistic curve.

    Targets are drawn in as Platt does, by one part more of each kind, so that the answer is finite
    even when the scores separate the kinds.

    Args:
        scores: (n,).
        targets: (n,) in 0..1.
    """
    scale = _spread(scores)
    centre = float(scores.mean())
    x = (scores - centre) / scale
    t = _smooth(targets)
    mean = float(t.mean())
    a, b = 0.0, float(np.log(mean / (1 - mean)))
    loss = _cross_entropy(x, t, a, b)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(a * x + b)))
        gradient = np.array([((p - t) * x).sum(), (p - t).sum()])
        if np.abs(gradient).max() < 1e-9:
            break
        w = p * (1 - p)
        hessian = np.array([[(w * x * x).sum(), (w * x).sum()], [(w * x).sum(), w.sum()]])
        step = np.linalg.solve(hessian + RIDGE * np.eye(2), gradient)
        descent = float(gradient @ step)
        size = 1.0
        tried = _cross_entropy(x, t, a - step[0], b - step[1])
        while tried >= loss - 1e-4 * size * descent and size > 1e-10:
            size /= 2
            tried = _cross_entropy(x, t, a - size * step[0], b - size * step[1])
        if tried >= loss:
            break  # the arithmetic cannot tell any better
        a, b, loss = a - size * float(step[0]), b - size * float(step[1]), tried
    return a / scale, b - a * centre / scale


def _spread(scores: NDArray[np.float64]) -> float:
    """Their standard deviation; 1 when they are all the same score."""
    spread = float(scores.std())
    return spread if spread > LEAST_SPREAD * max(1.0, float(np.abs(scores).max())) else 1.0


def _smooth(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = float(targets.sum())
    high = (positive + 1) / (positive + 2)
    low = 1 / (len(targets) - positive + 2)
    return np.asarray(low + targets * (high - low))


def _cross_entropy(x: NDArray[np.float64], t: NDArray[np.float64], a: float, b: float) -> float:
    z = a * x + b
    return float((np.logaddexp(0, z) - t * z).sum())
