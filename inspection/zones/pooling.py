"""How sharply a network pooled its evidence, from a map and its score.

    evidence (h, w), score -> the r for which log(mean(exp(r e))) / r is the score

A package does not say it, and a map with one spot taken out must be pooled as the network pools.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING: Final = 0.01
"""By how much a score may lie outside its own map: arithmetic of 8 bits of mantissa."""

EXACT: Final = 1e-10
"""Of a score, and of the logarithm of a sharpness: far below what float32 tells apart."""


def sharpness_of(evidence: NDArray[np.float32], score: float) -> float | None:
    """The r for which log(mean(exp(r e))) / r of a map is its score; None when there is none.

    Networks pool so (`engines.network.pool_evidence`), and it grows with r from mean to maximum.
    """
    low, high = 1e-3, 1e3
    under = pooled(evidence, low) - score
    if not (under <= ROUNDING and score <= float(evidence.max()) + ROUNDING):
        return None
    over = pooled(evidence, high) - score
    if under >= 0 or over <= 0:
        return low if under >= 0 else high
    # The secant in log r; an end that stays counts half (Illinois: Dowell and Jarratt, 1971).
    a, b, middle, last = math.log(low), math.log(high), 0.0, 0.0
    for _ in range(60):
        middle = (a * over - b * under) / (over - under)
        found = pooled(evidence, math.exp(middle)) - score
        if abs(found) < EXACT or b - a < EXACT:
            break
        stays = 0.5 if found * last > 0 else 1.0
        last = found
        if found < 0:
            a, under, over = middle, found, over * stays
        else:
            b, over, under = middle, found, under * stays
    return math.exp(middle)


def pooled(evidence: NDArray[np.float32], sharpness: float) -> float:
    """log(mean(exp(r e))) / r of a map."""
    values = evidence.astype(np.float64)
    peak = float(values.max())
    return peak + math.log(float(np.exp((values - peak) * sharpness).mean())) / sharpness
