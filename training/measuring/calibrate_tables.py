"""Calibration by tables: isotonic regression and Venn-Abers prediction, as knots to interpolate.

Both rest on the pool of adjacent violators (M. Ayer et al., "An empirical distribution function for
sampling with incomplete information", 1955): the best never-falling fit is constant on blocks.
Labels may be soft: the fit is by least squares, whose best constant is their mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_KNOTS = 50  # of a Venn-Abers table, at equal shares of the scores


def fit_isotonic(
    scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(m,) scores and (m,) probabilities of isotonic regression, one knot a block.

    The knot lies at the block's mean score, so that what is read between knots rises where the
    steps of the fit do not (A. Oron, N. Flournoy, "Centered isotonic regression: point and interval
    estimation for dose-response studies", Statistics in Biopharmaceutical Research 9, 2017). A
    block's mean label is drawn in by half a part of each kind, so that no probability is 0 or 1.

    Args:
        scores: (n,) of calibration parts.
        targets: (n,) labels in 0..1.
    """
    at, label, weight = _by_score(scores, targets)
    mean, start = pooled(label, weight)
    size = np.add.reduceat(weight, start)
    centre = np.add.reduceat(weight * at, start) / size
    drawn_in = np.maximum.accumulate((mean * size + 0.5) / (size + 1))
    return centre, drawn_in


def fit_venn_abers(
    scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(m,) scores and (m,) probabilities of inductive Venn-Abers prediction.

    V. Vovk, I. Petej, V. Fedorova, "Large-scale probabilistic predictors with and without
    guarantees of validity", 2015: isotonic regression with the new part taken as good gives p0, as
    bad p1; one of them is right, and p1 / (1 - p0 + p1) is the compromise of least regret under
    log loss.

    Args:
        scores: (n,) of calibration parts.
        targets: (n,) labels in 0..1.
    """
    at, label, weight = _by_score(scores, targets)
    if len(at) <= MOST_KNOTS:
        chosen = np.arange(len(at))
    else:
        chosen = np.unique(np.linspace(0, len(at) - 1, MOST_KNOTS).round().astype(np.int64))
    probability = np.empty(len(chosen))
    for j, i in enumerate(chosen.tolist()):
        heavier = weight.copy()
        heavier[i] += 1
        p0, p1 = (_fitted_at(i, _with(label, weight, i, new), heavier) for new in (0.0, 1.0))
        probability[j] = p1 / (1 - p0 + p1)
    return at[chosen], np.maximum.accumulate(np.clip(probability, 0, 1))


def pooled(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(b,) the means of the blocks of the best rising fit, and (b,) where each begins."""
    means: list[float] = []
    sizes: list[float] = []
    starts: list[int] = []
    for i, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        mean, size, start = value, weight, i
        while means and means[-1] >= mean:
            before, earlier = means.pop(), sizes.pop()
            mean = (before * earlier + mean * size) / (earlier + size)
            size, start = earlier + size, starts.pop()
        means.append(mean)
        sizes.append(size)
        starts.append(start)
    return np.array(means), np.array(starts, dtype=np.int64)


def _by_score(
    scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distinct scores ascending, the mean label at each, and how many parts have it."""
    at, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    weight = counts.astype(np.float64)
    return at, np.bincount(place, weights=targets) / weight, weight


def _with(
    label: NDArray[np.float64], weight: NDArray[np.float64], i: int, new: float
) -> NDArray[np.float64]:
    """The labels with one part more at score `i`."""
    changed = label.copy()
    changed[i] = (label[i] * weight[i] + new) / (weight[i] + 1)
    return changed


def _fitted_at(i: int, label: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    mean, start = pooled(label, weight)
    return float(mean[int(np.searchsorted(start, i, side="right")) - 1])
