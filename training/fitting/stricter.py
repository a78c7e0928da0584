"""Marked things under zones stricter than they are: how a length is learnt, not a look.

what zones allow, what people marked and how long it is -> zones that refuse what they allowed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection.engines.detail import LEAST_MM
from training.data.cells import COVERED

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABOUT_OCTAVES = 0.5  # how far from a thing's length such zones lie, one standard deviation
USUAL = 0.95  # quantile of the cells of what is allowed, by how far it goes beyond its zone


def stricter(
    allowed: NDArray[np.float32],
    shown: NDArray[np.float32],
    lengths: NDArray[np.float32],
    laxer: NDArray[np.float32],
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same square under stricter zones, which refuse what is longer than they allow then.

    What was refused is refused by these, too. How much stricter is drawn so that one of the marked
    things comes to lie about its limit: there, a length is learnt most.

    Args:
        allowed: (K, h, w) octaves of mm, as the branch is told.
        shown: (K, h, w) share that a defect covers; NaN where unknown.
        lengths: (K, h, w) mm of what people marked; NaN where unknown.
        laxer: (K, 1, 1) octaves by which people allow more than the zones say; see `laxity`.
        generator: of the draw.
    """
    k, rows, columns = np.nonzero(np.nan_to_num(lengths) > 0)
    if not len(rows):
        return allowed, shown
    octaves = np.log2(np.maximum(lengths, LEAST_MM / 2)) - allowed - laxer
    one = int(generator.integers(len(rows)))
    beyond = float(octaves[k[one], rows[one], columns[one]])
    change = beyond + float(generator.normal(0.0, ABOUT_OCTAVES))
    if change >= 0:
        return allowed, shown  # no stricter than they are: the labels know
    refused = np.where(octaves > change, 1.0, shown)
    unknown = np.isnan(lengths) & ~(shown >= COVERED)
    told = np.maximum(allowed + np.float32(change), np.float32(np.log2(LEAST_MM)))
    return told, np.where(unknown, np.nan, refused).astype(np.float32)


def laxity(
    lengths: NDArray[np.float16], masks: NDArray[np.float32], allowed: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(K, 1, 1) octaves by which what people allow is longer than the zones do; 0 or more.

    A recipe of one class allows what its strictest defect may; labels know pores from cracks.

    Args:
        lengths: (N, K, h, w) mm of what people marked, allowed or not.
        masks: (N, K, h, w) of what is refused.
        allowed: (K, h, w) octaves of mm, as the branch is told.
    """
    found = np.zeros((len(allowed), 1, 1), np.float32)
    least = np.log2(LEAST_MM)
    for k in range(len(allowed)):
        kept: list[NDArray[np.float32]] = []
        for one, mask in zip(lengths[:, k], masks[:, k], strict=True):
            cells = (np.nan_to_num(one) > 0) & (mask == 0) & (allowed[k] > least)
            kept.append(np.log2(one[cells].astype(np.float32)) - allowed[k][cells])
        beyond = np.concatenate(kept) if kept else np.zeros(0, np.float32)
        if len(beyond):
            found[k] = max(0.0, float(np.quantile(beyond, USUAL)))
    return found
