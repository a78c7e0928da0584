"""The limits between pass, review and fail, and what they were shown to hold.

    probabilities of calibration parts -> novelty limit -> pass limit (escape bound) -> fail limit

The wanted escape rate steers the pass limit; or, with costs, both limits are the cheapest. What
they then hold is measured on test parts (`training.measuring.certify`); the certificate made here
is of the calibration parts, and stands in until that is done.

Why the pass limit may be chosen and bounded on the same parts. Let the n bad calibration parts be
independent and put the limit at the (j+1)-th smallest of their probabilities, so that j of them
lie below. Whatever the distribution, the chance that another bad part lies below that limit is
itself distributed as Beta(j+1, n-j) (W. Conover, "Practical Nonparametric Statistics", tolerance
limits; S. Wilks 1941). The Clopper-Pearson bound of j escapes in n is the upper quantile of just
this distribution. So a limit at an order statistic that is fixed beforehand holds its bound with
the confidence it says.

For parts in groups the effective size takes the place of n. It depends on the data, so j is not
fixed beforehand; going up from j = 0 and stopping at the first limit that misses the wanted rate
keeps the confidence, as tests in a fixed order do (W. Maurer, L. Hothorn, W. Lehmacher 1995).
A simulation in tests/training/test_operating_point.py shows it.

One bound over all bad parts says nothing of a class that few of them show: such a class could pass
entirely and the bound would hold. So a class with fewer than `FEWEST_BAD` bad calibration parts
refuses the certificate, and its own limit is lowered until none of its parts passes; a class
without any has no probability that means anything, and nothing passes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError
from inspection.verdict import Certificate, OperatingPoint, at_most
from training.data.rows import counted
from training.measuring.costs import cheapest_limits
from training.measuring.intervals import EscapeBound, GroupBootstrap, escape_bound, parts_needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from training.measuring.costs import Costs

CONFIDENCE = 0.95
NOVELTY_QUANTILE = 0.995
# Ten bad parts without an escape bound a class's own escape rate at 26 % (95 % confidence): too
# little to promise anything by itself, but enough to see that its scores rise at all.
FEWEST_BAD = 10
NEVER = float(np.nextafter(1.0, 2.0))  # a limit that no probability reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An operating point, and how it came about.

    Attributes:
        bound: of the escape rate at the pass limit, with all that it comes from.
        scant: classes with fewer than `FEWEST_BAD` bad parts, and how many each has.
        review_share: of the calibration parts, at these limits.
        review_budget: what was allowed.
        warnings: what a person should know.
        overkill: of the rate of good parts that fail, likewise; its `escapes` are these parts.
            The fail limit is not an order statistic fixed beforehand, so this is an estimate until
            it is measured on test parts.
        cost: expected cost a part at these limits, where costs chose them.
    """

    operating_point: OperatingPoint
    bound: EscapeBound
    scant: Mapping[str, int]
    review_share: float
    review_budget: float
    warnings: tuple[str, ...]
    overkill: EscapeBound | None = None
    cost: float | None = None


def choose_limits(
    probability: NDArray[np.float64],
    novelty: NDArray[np.float64],
    shows: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    wanted_escape_rate: float,
    review_budget: float,
    classes: Sequence[str],
    split_digest: str,
    wanted_overkill_rate: float | None = None,
    costs: Costs | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Chosen:
    """Choose limits on the calibration parts; one limit serves all classes with enough bad parts.

    A part escapes when all its classes lie below their limits, so what counts is its largest
    probability. Parts that go to review as novel are counted as if they were not, on the safe side;
    so are those that only a limit lowered for want of bad parts keeps from passing.

    Args:
        probability: (n, K) a part's largest calibrated probability of each class.
        novelty: (n,) a part's largest novelty.
        shows: (n, K) the defect classes that a part shows; none for a good part.
        groups: (n,) number of each part's group.
        wanted_escape_rate: in 0..1, above 0.
        review_budget: largest share of parts that may go to review, novel ones included.
        classes: K names.
        split_digest: of the split that the parts come from.
        wanted_overkill_rate: when given, the review band ends where the bound of the share of good
            parts that fail still holds it; otherwise it takes up what the budget leaves.
        costs: when given, they choose both limits instead of the wanted escape rate.
        confidence: one-sided, of both bounds.
        seed: of the bootstrap.

    Raises:
        DataError: there is no bad part, or no good one.
    """
    bad = np.asarray(shows.any(axis=1))
    if not bad.any() or bad.all():
        raise DataError("the calibration parts are all good or all bad")
    counts = shows.sum(axis=0)
    scant = {
        name: int(count) for name, count in zip(classes, counts, strict=True) if count < FEWEST_BAD
    }
    warnings = [_scant_warning(name, count) for name, count in scant.items()]
    novelty_limit = novelty_quantile(novelty)
    largest = probability[:, counts > 0].max(axis=1)
    novel: NDArray[np.bool_] = np.greater(novelty, novelty_limit)
    cost = None
    if costs is not None:
        cheapest = cheapest_limits(largest, novel, bad, costs, review_budget)
        limit, fail_limit, cost = cheapest.pass_below, cheapest.fail_from, cheapest.cost
        bound = _bound_below(largest[bad], groups[bad], limit, confidence, seed)
    else:
        limit, bound = _pass_limit(largest[bad], groups[bad], wanted_escape_rate, confidence, seed)
        spares = 2.0  # above every limit
        if wanted_overkill_rate is not None:
            lowest, _ = _pass_limit(
                -largest[~bad], groups[~bad], wanted_overkill_rate, confidence, seed
            )
            spares = float(np.nextafter(-lowest, 2))
        fail_limit = max(limit, min(spares, _fail_limit(largest, novel, bad, limit, review_budget)))
        if bound.bound > wanted_escape_rate:
            limit = _tightened(largest, novel, limit, fail_limit, review_budget)
    overkill = _bound_below(
        -largest[~bad], groups[~bad], float(np.nextafter(-fail_limit, 2)), confidence, seed
    )
    if wanted_overkill_rate is not None and overkill.bound > wanted_overkill_rate:
        warnings.append(
            f"an overkill rate of {wanted_overkill_rate:.1%} cannot be held within a review budget "
            f"of {review_budget:.1%}: it is at most {at_most(overkill.bound)}"
        )
    pass_below = np.array(
        [
            0.0 if count == 0 else limit if count >= FEWEST_BAD else min(limit, own[shown].min())
            for count, own, shown in zip(counts, probability.T, shows.T, strict=True)
        ]
    )
    fail_from = np.where(counts > 0, fail_limit, NEVER)
    kept, fails = (probability >= pass_below).any(axis=1), (probability >= fail_from).any(axis=1)
    review_share = float((novel | (kept & ~fails)).mean())
    if review_share > review_budget:
        why = "by the limits of classes with too few bad parts" if scant else "as novel"
        warnings.append(
            f"{review_share:.1%} of the calibration parts go to review, more than the budget of "
            f"{review_budget:.1%}: {why}"
        )
    held = bound.bound <= wanted_escape_rate
    # A limit that costs chose is no order statistic fixed beforehand: only test parts can certify.
    certified = held and not scant and costs is None
    more = sum(FEWEST_BAD - count for count in scant.values())
    if not held:
        worth = bound.effective_size / bound.parts
        needed = parts_needed(wanted_escape_rate, confidence=confidence)
        more = max(1, more, math.ceil(needed / worth) - bound.parts)
    certificate = Certificate(
        wanted_escape_rate=wanted_escape_rate,
        escape_bound=bound.bound,
        naive_escape_bound=bound.naive,
        confidence=confidence,
        bad_parts=bound.parts,
        groups=bound.groups,
        certified=certified,
        more_bad_parts_needed=more,
        escapes=bound.escapes,
        good_parts=overkill.parts,
        overkills=overkill.escapes,
        overkill_bound=overkill.bound,
        naive_overkill_bound=overkill.naive,
        scant_classes=tuple(scant),
    )
    return Chosen(
        operating_point=OperatingPoint(
            pass_below=tuple(pass_below.tolist()),
            fail_from=tuple(fail_from.tolist()),
            novelty_limit=novelty_limit,
            split_digest=split_digest,
            certificate=certificate,
        ),
        bound=bound,
        overkill=overkill,
        scant=scant,
        review_share=review_share,
        review_budget=review_budget,
        warnings=tuple(warnings),
        cost=cost,
    )


def novelty_quantile(novelty: NDArray[np.float64], quantile: float = NOVELTY_QUANTILE) -> float:
    """The limit that a new part of the same kind exceeds with chance 1 - `quantile` or less.

    The ceil((n+1) * quantile)-th smallest value (V. Vovk, A. Gammerman, G. Shafer, "Algorithmic
    Learning in a Random World", split conformal prediction); the largest one when n is too small
    for that, which a new part exceeds with chance 1 / (n+1).
    """
    rank = min(len(novelty), math.ceil((len(novelty) + 1) * quantile))
    return float(np.sort(novelty)[rank - 1])


def _scant_warning(name: str, count: int) -> str:
    """Why a class refuses the certificate, and what becomes of its parts."""
    if count == 0:
        return (
            f"{name}: no bad part among the calibration parts, so its probability means nothing: "
            "no part passes, all that does not fail goes to review, and nothing is certified"
        )
    return (
        f"{name}: only {counted(count, 'bad part')} among the calibration parts, fewer than "
        f"{FEWEST_BAD}: its pass limit is the lowest probability among them, and nothing is "
        "certified"
    )


def _pass_limit(
    probability: NDArray[np.float64],
    groups: NDArray[np.int64],
    wanted: float,
    confidence: float,
    seed: int,
) -> tuple[float, EscapeBound]:
    """The highest limit of the fixed order that keeps its bound, or the lowest one of all."""
    bootstrap = GroupBootstrap(groups, seed=seed)
    kept: tuple[float, EscapeBound] | None = None
    for limit in np.unique(probability).tolist():  # ascending; at the first one nothing escapes
        escaped = probability < limit
        bound = escape_bound(escaped, probability, groups, bootstrap, confidence=confidence)
        if kept is None or bound.bound <= wanted:
            kept = (limit, bound)
        if bound.bound > wanted:
            break
    if kept is None:
        raise DataError("no bad part to choose a limit on")
    return kept


def _bound_below(
    probability: NDArray[np.float64],
    groups: NDArray[np.int64],
    limit: float,
    confidence: float,
    seed: int,
) -> EscapeBound:
    """The bound of the share of such parts below a limit."""
    bootstrap = GroupBootstrap(groups, seed=seed)
    return escape_bound(probability < limit, probability, groups, bootstrap, confidence=confidence)


def _tightened(
    probability: NDArray[np.float64],
    novel: NDArray[np.bool_],
    pass_below: float,
    fail_from: float,
    review_budget: float,
) -> float:
    """A pass limit as low as the review budget still allows.

    Without a certificate, the next bad part may well score below the lowest one seen; whatever is
    left of the budget is spent on the parts just below it.
    """
    in_review = int((novel | ((probability >= pass_below) & (probability < fail_from))).sum())
    room = math.floor(review_budget * len(probability)) - in_review
    below = np.sort(probability[~novel & (probability < pass_below)])[::-1]
    fits = below[: max(0, room)]
    if len(fits) < len(below):  # equal ones go together, or not at all
        fits = fits[fits > below[len(fits)]]
    return float(fits[-1]) if len(fits) else pass_below


def _fail_limit(
    probability: NDArray[np.float64],
    novel: NDArray[np.bool_],
    bad: NDArray[np.bool_],
    pass_below: float,
    review_budget: float,
) -> float:
    """As high as the review budget allows, but no higher than where no good part fails any more."""
    allowed = max(0, math.floor(review_budget * len(probability)) - int(novel.sum()))
    suspect = np.sort(probability[~novel & (probability >= pass_below)])
    within_budget = float(suspect[allowed]) if allowed < len(suspect) else 1.0
    highest_good = float(probability[~bad].max())
    above = probability[bad & (probability > highest_good)]
    spares_all_good = float(above.min()) if len(above) else float(np.nextafter(highest_good, 2))
    return max(pass_below, min(within_budget, spares_all_good))
