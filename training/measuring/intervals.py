"""How sure a figure is: exact binomial bounds, and the same for parts that come in groups.

Parts of one lot or module resemble each other, so a hundred of them say less than a hundred parts
from a hundred lots. Two answers to that, and the wider one counts:

    group bootstrap     draw whole groups again and again (percentile interval); says nothing when
                        nothing happened: no escape in the sample is no escape in any draw
    effective size      the design effect from the variance between groups, then the exact bound
                        with as many parts as the sample is worth (Korn and Graubard)

Sources, by short name in the docstrings below:
    Clopper, Pearson 1934: The use of confidence or fiducial limits, Biometrika 26, 404-413.
    Wilson 1927: Probable inference, JASA 22, 209-212.
    Korn, Graubard 1998: Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data, Survey Methodology 24, 193-201.
    Kish 1965: Survey Sampling, section 5.4 (design effect of clusters).
    Donner 1986: A review of inference procedures for the intraclass correlation coefficient in the
        one-way random effects model, International Statistical Review 54, 67-82.
    Efron, Tibshirani 1993: An Introduction to the Bootstrap, chapter 13 (percentile interval).
    Davison, Hinkley 1997: Bootstrap Methods and their Application, section 3.8 (whole clusters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special  # not scipy.stats: that takes over a second to import

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DRAWS = 2000
CHUNK = 250  # bootstrap draws handled at once: bounds the memory, not the result


def clopper_pearson(hits: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact binomial interval (Clopper, Pearson 1934).

    Args:
        hits: how often it happened; need not be whole, for effective sample sizes.
        n: how often it could have happened.
        confidence: of the interval; half of the rest lies on either side.
    """
    tail = (1 - confidence) / 2
    return (
        lower_bound(hits, n, confidence=1 - tail),
        upper_bound(hits, n, confidence=1 - tail),
    )


def upper_bound(hits: float, n: float, *, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a rate (Clopper, Pearson 1934); 1 when nothing was seen."""
    if n <= hits:
        return 1.0
    return float(special.betaincinv(hits + 1, n - hits, confidence))


def lower_bound(hits: float, n: float, *, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a rate (Clopper, Pearson 1934)."""
    if hits <= 0:
        return 0.0
    return float(special.betaincinv(hits, n - hits + 1, 1 - confidence))


def wilson(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval (Wilson 1927), for comparison with reports that use it."""
    z = float(special.ndtri(0.5 + confidence / 2))
    centre = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return centre - half, centre + half


def parts_needed(rate: float, *, escapes: int = 0, confidence: float = 0.95) -> int:
    """The fewest bad parts whose upper bound reaches `rate` with that many escapes among them."""
    low, high = escapes + 1, escapes + 2
    while upper_bound(escapes, high, confidence=confidence) > rate:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if upper_bound(escapes, middle, confidence=confidence) <= rate:
            high = middle
        else:
            low = middle + 1
    return low


def design_effect(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """How many times more the mean of grouped values varies than that of independent ones.

    1 + (m - 1) * rho (Kish 1965) with rho the intraclass correlation from one-way analysis of
    variance (Donner 1986) and m the mean size of a part's group. Never below 1. When all parts
    come from one group, nothing tells what lies between groups, and n parts count as one.

    Args:
        values: (n,) such as 1 for an escape and 0 otherwise.
        groups: (n,) number of each part's group.
    """
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n, k = len(values), len(sizes)
    if k == 1:
        return float(n)
    if k == n:
        return 1.0
    means = np.bincount(member, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[member]) ** 2).sum()) / (n - k)
    size0 = (n - float((sizes**2).sum()) / n) / (k - 1)
    spread = between + (size0 - 1) * within
    correlation = (between - within) / spread if spread > 0 else 0.0
    return max(1.0, 1 + (float((sizes**2).sum()) / n - 1) * correlation)


def effective_size(n: int, groups: int, effect: float, *, level: float) -> float:
    """How many independent parts `n` grouped ones are worth (Korn, Graubard 1998), at most n.

    n / design effect, times (t(n-1) / t(groups-1))^2 at `level`: with few groups the design effect
    itself is a guess.
    """
    if n < 2 or groups < 2:
        return min(float(n), 1.0)
    ratio = float(special.stdtrit(n - 1, level) / special.stdtrit(groups - 1, level)) ** 2
    return min(float(n), n / effect * ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscapeBound:
    """An upper bound of the escape rate and what it comes from.

    Attributes:
        bound: the largest of the three below.
        naive: as if every part were independent.
        at_effective_size: exact bound at `effective_size`.
        bootstrap: quantile of the resampled rate.
        escapes, parts, groups: what was seen.
        design_effect, effective_size: how much the parts are worth.
    """

    bound: float
    naive: float
    at_effective_size: float
    bootstrap: float
    escapes: int
    parts: int
    groups: int
    design_effect: float
    effective_size: float


def escape_bound(
    escaped: NDArray[np.bool_],
    scores: NDArray[np.float64],
    groups: NDArray[np.int64],
    bootstrap: GroupBootstrap,
    *,
    confidence: float = 0.95,
) -> EscapeBound:
    """Upper bound of the escape rate of bad parts that come in groups.

    The design effect is the larger one of two: that of the escapes, and that of "among the lowest
    quarter of the scores", the parts that would escape next. The second one does not vanish when
    nothing escaped, and is the steadier one when little did. Where that quarter is all of them, for
    most scores are the same, it tells nothing; see `_tells_nothing`.

    Args:
        escaped: (n,) for each bad part.
        scores: (n,) what its verdict depended on; low ones escape.
        groups: (n,) number of its group.
        bootstrap: over the same n parts.
        confidence: one-sided.
    """
    n, escapes = len(escaped), int(escaped.sum())
    k = len(np.unique(groups))
    nearly = scores <= np.quantile(scores, 0.25)
    effect = max(
        design_effect(nearly.astype(np.float64), groups),
        design_effect(escaped.astype(np.float64), groups),
    )
    if _tells_nothing(nearly, escaped):
        effect = max(effect, n / k)
    size = effective_size(n, k, effect, level=confidence)
    naive = upper_bound(escapes, n, confidence=confidence)
    exact = upper_bound(escapes / n * size, size, confidence=confidence)
    rates = bootstrap.rates(escaped, np.ones(n, dtype=np.bool_))
    resampled = float(np.quantile(rates, confidence))
    return EscapeBound(
        bound=max(naive, exact, resampled),
        naive=naive,
        at_effective_size=exact,
        bootstrap=resampled,
        escapes=escapes,
        parts=n,
        groups=k,
        design_effect=effect,
        effective_size=size,
    )


def rate_interval(
    hits: NDArray[np.bool_],
    of: NDArray[np.bool_],
    groups: NDArray[np.int64],
    bootstrap: GroupBootstrap,
    *,
    nearness: NDArray[np.float64] | None = None,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Two-sided interval of a rate: what both the group bootstrap and the effective size allow.

    Where it never happened, or always did, the hits do not tell how alike the parts of a group are.
    Then their design effect is that of "among the quarter that came nearest to it", as in
    `escape_bound`; without `nearness`, or where most parts come equally near, the groups themselves
    are the units, as if the parts of one were all alike.

    Args:
        hits: (n,) parts that count.
        of: (n,) parts that could have counted.
        groups: (n,) number of each part's group.
        bootstrap: over the same n parts.
        nearness: (n,) larger for parts that come nearer to counting.
        confidence: two-sided.
    """
    n, happened = int(of.sum()), int((hits & of).sum())
    k = len(np.unique(groups[of]))
    effect = design_effect(hits[of].astype(np.float64), groups[of])
    if nearness is not None:
        near = nearness[of] >= np.quantile(nearness[of], 0.75)
        effect = max(effect, design_effect(near.astype(np.float64), groups[of]))
        if _tells_nothing(near, hits[of]):
            effect = max(effect, n / k)
    elif happened in (0, n):
        effect = max(effect, n / k)
    size = effective_size(n, k, effect, level=0.5 + confidence / 2)
    low, high = clopper_pearson(happened / n * size, size, confidence=confidence)
    resampled = percentiles(bootstrap.rates(hits & of, of), confidence=confidence)
    return min(low, resampled[0]), max(high, resampled[1])


def _tells_nothing(near: NDArray[np.bool_], happened: NDArray[np.bool_]) -> bool:
    """Whether nothing shows how alike the parts of a group are: all came equally near to it, and it
    happened to all or to none. Then the groups themselves are the units.

    A probability that has risen to 1 is such a case: it no longer tells one part from another.
    """
    return bool(near.all() and (happened.all() or not happened.any()))


def percentiles(draws: NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (Efron, Tibshirani 1993)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


class GroupBootstrap:
    """Resamples whole groups, with replacement (Davison, Hinkley 1997).

    Args:
        groups: (n,) number of each part's group.
        seed: the same seed gives the same draws.
        draws: how many.
    """

    def __init__(self, groups: NDArray[np.int64], *, seed: int, draws: int = DRAWS) -> None:
        names, self._member = np.unique(groups, return_inverse=True)
        count = len(names)
        generator = np.random.default_rng([seed, count])
        drawn = generator.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * count)
        self._counts = counts.reshape(draws, count)

    def weights(self) -> NDArray[np.float64]:
        """(draws, n) how often each part counts in each draw."""
        return self._counts[:, self._member].astype(np.float64)

    def rates(self, hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(draws,) of the share of `hits` among `of`; draws without any of them are left out."""
        size = self._counts.shape[1]
        happened = np.bincount(self._member, weights=hits & of, minlength=size)
        possible = np.bincount(self._member, weights=of, minlength=size)
        below = self._counts @ possible
        return np.asarray((self._counts @ happened)[below > 0] / below[below > 0])

    def ranking(
        self, scores: NDArray[np.float64], bad: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(draws,) of the AUC and of the average precision; one-sided draws are left out."""
        aucs, precisions = [], []
        for start in range(0, len(self._counts), CHUNK):
            weights = self._counts[start : start + CHUNK][:, self._member]
            auc, precision = weighted_ranking(scores, bad, weights)
            aucs.append(auc)
            precisions.append(precision)
        auc, precision = np.concatenate(aucs), np.concatenate(precisions)
        usable = np.isfinite(auc)
        return auc[usable], precision[usable]


def weighted_ranking(
    scores: NDArray[np.float64], bad: NDArray[np.bool_], weights: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(d,) AUC and (d,) average precision when each part counts `weights` times.

    AUC is the chance that a bad part scores above a good one, ties counting half. Average precision
    is the mean of the precision over the steps of recall, parts of one score in one step.

    Args:
        scores: (n,) higher is more likely bad.
        bad: (n,).
        weights: (d, n) how often each part counts; a row without good or bad parts gives NaN.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # last part of each score
    hits = np.cumsum(weights[:, order] * bad[order], axis=1)[:, ends].astype(np.float64)
    seen = np.cumsum(weights[:, order], axis=1)[:, ends].astype(np.float64)
    false = seen - hits
    zero = np.zeros((len(weights), 1))
    new_hits = np.diff(hits, axis=1, prepend=zero)
    new_false = np.diff(false, axis=1, prepend=zero)
    bad_total, good_total = hits[:, -1], false[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (new_false * (hits - new_hits / 2)).sum(axis=1)
        auc = above / (bad_total * good_total)
        precision = np.where(seen > 0, hits / seen, 0.0)
        average = (new_hits * precision).sum(axis=1) / bad_total
    return np.asarray(auc), np.where(np.isfinite(auc), average, np.nan)


def ranking(scores: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC and average precision; see `weighted_ranking`."""
    auc, average = weighted_ranking(scores, bad, np.ones((1, len(scores)), dtype=np.int64))
    return float(auc[0]), float(average[0])


def curve_interval(
    value: float,
    draws: NDArray[np.float64],
    bad: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Two-sided interval of an AUC or average precision of parts that come in groups.

    The deviation of the group bootstrap, made wider for k groups: by sqrt(k / (k-1)), for draws
    vary around the sample's own mean, and by taking Student's t with k - 1 degrees of freedom for
    the normal quantile, as Korn and Graubard do for rates. On the logit scale (delta method), so
    that it stays within 0..1. k is the lesser of the groups that hold bad parts and of those that
    hold good ones. An approximation: a simulation in
    tests/training/measuring/test_intervals.py shows what it covers. One group says nothing of
    others: 0 to 1.

    Args:
        value: of all parts.
        draws: (d,) of `GroupBootstrap.ranking`.
        bad: (n,).
        groups: (n,) number of each part's group.
        confidence: two-sided.
    """
    k = min(len(np.unique(groups[bad])), len(np.unique(groups[~bad])))
    if k < 2:
        return 0.0, 1.0
    spread = float(draws.std()) * math.sqrt(k / (k - 1))
    if value in (0.0, 1.0) or spread == 0:
        return interval_without_disorder(value, k, confidence=confidence)
    return logit_interval(value, float(special.stdtrit(k - 1, 0.5 + confidence / 2)) * spread)


def logit_interval(value: float, half: float) -> tuple[float, float]:
    """`value` +- `half`, laid out on the logit scale: the slope there is 1 / (v (1 - v))."""
    centre, reach = special.logit(value), half / (value * (1 - value))
    return float(special.expit(centre - reach)), float(special.expit(centre + reach))


def interval_without_disorder(
    value: float, pairs: int, *, confidence: float
) -> tuple[float, float]:
    """Interval of an AUC (or average precision) when the draws do not differ.

    `pairs` disjoint pairs of a bad and a good part are as many independent trials, each in order
    with the chance that the AUC is; so the exact bound of a rate holds (Clopper, Pearson 1934; the
    rule of three). Parts of one group count as one pair. For the average precision, which is 1
    just when the AUC is, it is an approximation.
    """
    return clopper_pearson(value * pairs, pairs, confidence=confidence)


def number_groups(names: Sequence[str]) -> NDArray[np.int64]:
    """(n,) a number for each name, equal for equal names."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
