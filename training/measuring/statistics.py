"""Readings of the same parts compared: who disagrees with whom, and whether it is chance.

Sources, by short name in the docstrings below:
    McNemar 1947: Note on the sampling error of the difference between correlated proportions or
        percentages, Psychometrika 12, 153-157.
    Cohen 1960: A coefficient of agreement for nominal scales, Educational and Psychological
        Measurement 20, 37-46.
    Fleiss, Cohen, Everitt 1969: Large sample standard errors of kappa and weighted kappa,
        Psychological Bulletin 72, 323-327.
    Fleiss 1971: Measuring nominal scale agreement among many raters, Psychological Bulletin 76,
        378-382; the standard error as corrected by Fleiss, Nee, Landis 1979, ibid. 86, 974-977.
    DeLong, DeLong, Clarke-Pearson 1988: Comparing the areas under two or more correlated receiver
        operating characteristic curves, Biometrics 44, 837-845.
    Sun, Xu 2014: Fast implementation of DeLong's algorithm, IEEE Signal Processing Letters 21,
        1389-1393.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from inspection.errors import DataError
from training.measuring.intervals import interval_without_disorder, ranking

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """Agreement beyond chance.

    Attributes:
        value: 1 is full agreement, 0 what chance would give; None when all readings are one and the
            same label, for then chance alone agrees fully (0/0).
        standard_error: of `value`; None when that is not defined, or no formula is known.
        null_standard_error: the same if only chance agreed: value / this is the test statistic.
        items: how many things were read.
    """

    value: float | None
    standard_error: float | None
    null_standard_error: float | None
    items: int

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float] | None:
        """Two-sided normal interval, cut to -1..1; None where there is no standard error."""
        if self.value is None or self.standard_error is None:
            return None
        half = float(special.ndtri(0.5 + confidence / 2)) * self.standard_error
        return max(-1.0, self.value - half), min(1.0, self.value + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Whether two figures on the same parts differ: the difference, its interval, and p."""

    difference: float
    low: float
    high: float
    z: float
    p: float


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p that both kinds of disagreement are equally likely (McNemar 1947).

    Args:
        b: parts that only the first got right.
        c: parts that only the second got right.

    Returns:
        Twice the binomial tail of min(b, c) in b + c at one half, at most 1; 1 when they never
        disagree.
    """
    if b < 0 or c < 0:
        raise DataError(f"disagreements count from 0, not {min(b, c)}")
    return min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> Kappa:
    """Agreement of two readers of the same things (Cohen 1960; Fleiss, Cohen, Everitt 1969).

    Args:
        first: a label for each thing.
        second: the other reader's, in the same order.

    Raises:
        DataError: nothing was read, or they read different numbers of things.
    """
    if len(first) != len(second) or not len(first):
        raise DataError(f"{len(first)} and {len(second)} readings cannot be compared")
    numbers = {name: i for i, name in enumerate(dict.fromkeys((*first, *second)))}
    table = np.zeros((len(numbers), len(numbers)))
    for one, other in zip(first, second, strict=True):
        table[numbers[one], numbers[other]] += 1
    return cohen_kappa_of_table(table)


def cohen_kappa_of_table(table: NDArray[np.float64]) -> Kappa:
    """The same out of (k, k) counts: rows the first reader's labels, columns the second's."""
    n = float(table.sum())
    share = table / n
    rows, columns = share.sum(axis=1), share.sum(axis=0)
    agreed, chance = float(np.trace(share)), float(rows @ columns)
    items = round(n)
    if chance >= 1:
        return Kappa(value=None, standard_error=None, null_standard_error=None, items=items)
    kappa = (agreed - chance) / (1 - chance)
    weight = rows[np.newaxis, :] + columns[:, np.newaxis]  # p.i + pj. of cell (i, j)
    on = float((np.diag(share) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    off = float((share * weight**2).sum() - (np.diag(share) * np.diag(weight) ** 2).sum())
    rest = (kappa - chance * (1 - kappa)) ** 2
    variance = (on + (1 - kappa) ** 2 * off - rest) / ((1 - chance) ** 2 * n)
    null = chance + chance**2 - float((rows * columns * (rows + columns)).sum())
    return Kappa(
        value=kappa,
        standard_error=math.sqrt(max(0.0, variance)),
        null_standard_error=math.sqrt(max(0.0, null / n)) / (1 - chance),
        items=items,
    )


def fleiss_kappa(counts: NDArray[np.int64]) -> Kappa:
    """Agreement of several readers, not necessarily the same ones for each thing (Fleiss 1971).

    Things read by differing numbers of readers are taken as they are: the agreement of each is its
    share of agreeing pairs, and chance comes from all readings. The standard error is known for
    equal numbers only.

    Args:
        counts: (n, k) how many readers gave each of k labels; at least two a thing.

    Raises:
        DataError: nothing was read, or something by fewer than two.
    """
    readers = counts.sum(axis=1) if counts.ndim == 2 else np.zeros(0)
    if not len(readers) or readers.min() < 2:
        raise DataError("agreement needs at least two readings of each thing")
    pairs = (counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))
    share = counts.sum(axis=0) / readers.sum()
    chance = float((share**2).sum())
    if chance >= 1:
        return Kappa(value=None, standard_error=None, null_standard_error=None, items=len(counts))
    null = None
    if readers.min() == readers.max():
        m, spread = float(readers[0]), share * (1 - share)
        inside = float(spread.sum()) ** 2 - float((spread * (1 - 2 * share)).sum())
        null = math.sqrt(max(0.0, 2 * inside / (len(counts) * m * (m - 1)))) / float(spread.sum())
    return Kappa(
        value=(float(pairs.mean()) - chance) / (1 - chance),
        standard_error=None,
        null_standard_error=null,
        items=len(counts),
    )


def delong_components(
    scores: NDArray[np.float64], bad: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The AUC, (m,) each bad part's share of good parts below it, (n,) the same for good ones.

    DeLong et al. 1988, with the midranks of Sun, Xu 2014.
    """
    high, low = scores[bad], scores[~bad]
    m, n = len(high), len(low)
    both = _midranks(np.concatenate([high, low]))
    above = (both[:m] - _midranks(high)) / n
    below = 1 - (both[m:] - _midranks(low)) / m
    return float(above.mean()), above, below


def delong_variance(scores: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Variance of the AUC of independent parts; see `delong_components`."""
    _, above, below = delong_components(scores, bad)
    return float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def delong_interval(
    scores: NDArray[np.float64], bad: NDArray[np.bool_], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Two-sided interval of the AUC as if every part were independent, cut to 0..1.

    At an AUC of 0 or 1 the variance says nothing; then see `intervals.interval_without_disorder`.
    """
    auc, _ = ranking(scores, bad)
    pairs = min(int(bad.sum()), int((~bad).sum()))
    if pairs < 2:
        return 0.0, 1.0
    half = float(special.ndtri(0.5 + confidence / 2)) * math.sqrt(delong_variance(scores, bad))
    if auc in (0.0, 1.0) or half == 0:
        return interval_without_disorder(auc, pairs, confidence=confidence)
    return max(0.0, auc - half), min(1.0, auc + half)


def delong_test(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    bad: NDArray[np.bool_],
    *,
    confidence: float = 0.95,
) -> PairedTest:
    """Whether two AUCs on the same, independent parts differ (DeLong et al. 1988).

    Args:
        first: (n,) scores of one model, higher is more likely bad.
        second: (n,) those of the other.
        bad: (n,).
        confidence: two-sided, of the interval of first minus second.

    Raises:
        DataError: fewer than two good or two bad parts.
    """
    m, n = int(bad.sum()), int((~bad).sum())
    if min(m, n) < 2:
        raise DataError("comparing AUCs needs at least two good and two bad parts")
    auc_first, high_first, low_first = delong_components(first, bad)
    auc_second, high_second, low_second = delong_components(second, bad)
    variance = (
        float(np.var(high_first - high_second, ddof=1)) / m
        + float(np.var(low_first - low_second, ddof=1)) / n
    )
    difference, spread = auc_first - auc_second, math.sqrt(variance)
    z = difference / spread if spread > 0 else 0.0 if difference == 0 else math.inf
    half = float(special.ndtri(0.5 + confidence / 2)) * spread
    return PairedTest(
        difference=difference,
        low=difference - half,
        high=difference + half,
        z=z,
        p=2 * float(special.ndtr(-abs(z))),
    )
