"""Groups laid aside while a network is tuned, and the figure that says when to stop.

They are never those of calibration or test: all of this happens inside the images to fit on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TRIES = 50


def lay_aside(
    groups: Sequence[str], targets: NDArray[np.float32], share: float, seed: int
) -> NDArray[np.int64]:
    """Rows of whole groups, about `share` of all; none when that cannot be done well.

    Of several draws, the one whose class shares are most like those of all images. Both the rows
    and the rest need images with and without each class.

    Args:
        groups: N names of lots or modules.
        targets: (N, K) in 0..1.
        share: of the images; 0 for none.
        seed: of the draws.
    """
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(names.max()) + 1
    shown = targets > 0.5
    generator = np.random.default_rng(seed)
    best, found = np.inf, np.zeros(0, np.int64)
    if share <= 0 or count < 4:
        return found
    for _ in range(TRIES):
        sizes = np.bincount(names)
        order = generator.permutation(count)
        taken = order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), share * len(names))))]
        aside = np.isin(names, taken)
        if aside.mean() > 2 * share or not (both(shown[aside]) and both(shown[~aside])):
            continue
        unlike = np.abs(shown[aside].mean(axis=0) - shown.mean(axis=0)).sum()
        unlike += abs(aside.mean() - share)
        if unlike < best:
            best, found = float(unlike), np.flatnonzero(aside)
    return found


def both(shown: NDArray[np.bool_]) -> bool:
    """Whether each column holds True and False."""
    return bool(len(shown) and (shown.any(axis=0) & ~shown.all(axis=0)).all())


def mean_auc(scores: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """Mean over the classes of the area under the ROC curve, (N, K) both; ties count half.

    By ranks (Hanley and McNeil 1982): the share of pairs of a bad and a good image whose scores
    lie the right way round.
    """
    areas = []
    for score, target in zip(scores.T, targets.T, strict=True):
        bad, good = np.sort(score[target > 0.5]), np.sort(score[target <= 0.5])
        below = np.searchsorted(good, bad, side="left") + np.searchsorted(good, bad, side="right")
        areas.append(below.sum() / 2 / (len(bad) * len(good)))
    return float(np.mean(areas))
