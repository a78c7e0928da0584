"""Limits where no bad part was ever seen: a share of good parts goes to review, and none fails.

    scores of good calibration parts -> a scale -> probability (one half about where review begins)
    probability, novelty -> novelty limit -> pass limit, within the review budget -> pass | review

Without bad parts nothing is known of escapes; the only lever is how many good parts people look at,
so the whole review budget is spent. The limits are order statistics of good parts: of n good ones
and one more, each is equally likely to be the highest, so the next one exceeds the k-th smallest
with chance 1 - k / (n + 1) (V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random
World", 2005, split conformal prediction). For two limits the chances add up at most. That is the
mean over calibration sets; the bound beside it holds for this one (S. Wilks 1941: the share above
the k-th smallest is distributed as Beta(n + 1 - k, k)), with the effective size in the place of n
where parts come in groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError
from inspection.verdict import Calibration, Certificate, OperatingPoint, at_most
from training.calibrate import Calibrated
from training.data.rows import counted
from training.measuring.intervals import (
    EscapeBound,
    design_effect,
    effective_size,
    parts_needed,
    upper_bound,
)
from training.operating_point import CONFIDENCE, NEVER, NOVELTY_QUANTILE, Chosen

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the ordinary good part gets on the scale: far from the limit, and from 0 too.
ORDINARY = 0.05
LEAST_SPREAD = 1e-3  # between the ordinary score and the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodShare:
    """How many good parts a pair of limits sends to review.

    Attributes:
        expected: the most that is to be expected of good parts like these.
        bound: at `CONFIDENCE`, honest about groups.
        reviewed, parts, groups: what was seen.
        effective_size: how many independent parts they are worth.
    """

    expected: float
    bound: float
    reviewed: int
    parts: int
    groups: int
    effective_size: float

    def in_words(self) -> str:
        """Such as "12 of 80 good calibration parts go to review; of good parts like these ..."."""
        return (
            f"{self.reviewed} of {counted(self.parts, 'good calibration part')} go to review; of "
            f"good parts like these {at_most(self.expected)} at most are expected to, and "
            f"{at_most(self.bound)} is the bound at {CONFIDENCE:.0%} confidence"
        )


def calibrate_good_only(scores: NDArray[np.float32], *, review_budget: float) -> Calibrated:
    """A scale for scores of good parts: `ORDINARY` for the median, one half at the review budget.

    Not a chance that the part is bad: nobody could tell. Order is kept, so limits lose nothing. The
    pass limit lies at one half or a little above: the novelty limit takes some of the budget, and
    limits count parts where this counts images.

    Args:
        scores: (n, 1) of the serving engine, of good parts that the fit never saw.
        review_budget: the share of parts that may go to review.

    Raises:
        DataError: no score, or one that is not finite.
    """
    column = np.sort(scores[:, 0].astype(np.float64))
    if not len(column) or not np.isfinite(column).all():
        raise DataError(
            "no good calibration part has a score that is a number",
            remedy="Give the calibration side good parts.",
        )
    limit = column[_rank(len(column), review_budget) - 1]
    ordinary = float(np.median(column))
    least = LEAST_SPREAD * max(1.0, float(np.abs(column).max()))
    slope = math.log((1 - ORDINARY) / ORDINARY) / max(limit - ordinary, least)
    return Calibrated(
        calibration=Calibration(slope=(slope,), intercept=(-slope * float(limit),)),
        warnings=(
            (
                "no bad part to calibrate on: the probability is a scale, 0.5 about where review "
                "begins, not the chance that a part is bad"
            ),
        ),
        methods=("good-only",),
        log_losses=({},),
    )


def choose_limits_good_only(
    probability: NDArray[np.float64],
    novelty: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    wanted_escape_rate: float,
    review_budget: float,
    split_digest: str,
) -> Chosen:
    """Limits from good calibration parts alone: what is unlike them goes to review, none fails.

    Args:
        probability: (n, 1) a part's largest, by `calibrate_good_only`.
        novelty: (n,) a part's largest novelty.
        groups: (n,) number of each part's group.
        wanted_escape_rate: written into the certificate, which refuses it.
        review_budget: largest share of good parts that may go to review, novel ones included.
        split_digest: of the split that the parts come from.

    Raises:
        DataError: there are no parts, or a number is not finite.
    """
    n = len(probability)
    if not n or not (np.isfinite(probability).all() and np.isfinite(novelty).all()):
        raise DataError(
            "there is no good calibration part, or its score is not a number",
            remedy="Give the calibration side good parts.",
        )
    score = probability.max(axis=1)
    novel_rank = min(n, math.ceil((n + 1) * NOVELTY_QUANTILE))
    left = max(0.0, review_budget - (1 - novel_rank / (n + 1)))
    rank = _rank(n, left)
    novelty_limit = float(np.sort(novelty)[novel_rank - 1])
    # The part at the rank passes, and so do those that score the same; the next number does not.
    pass_below = min(1.0, float(np.nextafter(np.sort(score)[rank - 1], 2.0)))
    share = _good_share(score >= pass_below, novelty > novelty_limit, groups, rank, novel_rank)
    return Chosen(
        operating_point=OperatingPoint(
            pass_below=(pass_below,),
            fail_from=(NEVER,),
            novelty_limit=novelty_limit,
            split_digest=split_digest,
            certificate=Certificate(
                wanted_escape_rate=wanted_escape_rate,
                escape_bound=1.0,
                naive_escape_bound=1.0,
                confidence=CONFIDENCE,
                bad_parts=0,
                groups=0,
                certified=False,
                more_bad_parts_needed=parts_needed(wanted_escape_rate, confidence=CONFIDENCE),
            ),
        ),
        bound=NOTHING_KNOWN,
        scant={},
        review_share=share.reviewed / n,
        review_budget=review_budget,
        warnings=_warnings(share, review_budget),
    )


NOTHING_KNOWN = EscapeBound(
    bound=1.0,
    naive=1.0,
    at_effective_size=1.0,
    bootstrap=1.0,
    escapes=0,
    parts=0,
    groups=0,
    design_effect=1.0,
    effective_size=0.0,
)


def _rank(n: int, share: float) -> int:
    """The lowest rank that the next part exceeds with chance `share` or less; at most n."""
    return max(1, min(n, math.ceil((n + 1) * (1 - share) - 1e-9)))


def _good_share(
    above: NDArray[np.bool_],
    novel: NDArray[np.bool_],
    groups: NDArray[np.int64],
    rank: int,
    novel_rank: int,
) -> GoodShare:
    """The share of good parts in review, its expectation and its bound."""
    n, k = len(above), len(np.unique(groups))
    reviewed = above | novel
    effect = design_effect(reviewed.astype(np.float64), groups)
    size = effective_size(n, k, effect, level=CONFIDENCE)
    each = 1 - (1 - CONFIDENCE) / 2  # two limits share the doubt

    def bound(at: int, worth: float) -> float:
        return upper_bound((n - at) / n * worth, worth, confidence=each)

    naive = bound(rank, n) + bound(novel_rank, n)
    grouped = bound(rank, size) + bound(novel_rank, size)
    return GoodShare(
        expected=min(1.0, 2 - (rank + novel_rank) / (n + 1)),
        bound=min(1.0, max(naive, grouped)),
        reviewed=int(reviewed.sum()),
        parts=n,
        groups=k,
        effective_size=size,
    )


def _warnings(share: GoodShare, review_budget: float) -> tuple[str, ...]:
    said = [
        (
            "no bad part was seen: how many would pass is unknown, nothing fails by itself, and "
            "whatever is unlike good parts goes to review"
        ),
        share.in_words(),
    ]
    if share.expected > review_budget + 1e-9:
        # Both limits are then the largest value seen: 2 / (n + 1) is expected at most.
        needed = math.ceil(2 / max(review_budget, 1e-3) - 1e-9) - 1
        said.append(
            f"{counted(share.parts, 'good calibration part')} cannot hold a review budget of "
            f"{review_budget:.1%}: {needed - share.parts} more needed"
        )
    return tuple(said)
