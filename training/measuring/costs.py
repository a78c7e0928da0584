"""The limits that cost least: what an escape, an overkill and a review cost, on judged parts.

probabilities of calibration parts, costs -> every pair of limits -> the cheapest one
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a verdict costs, a part, in any one unit.

    Attributes:
        escape: a bad part that passes.
        overkill: a good part that fails.
        review: a part that a person looks at.
        bad_share: share of bad parts on the line; that of the calibration parts when absent, which
            is far too high where bad parts were collected.
    """

    escape: float
    overkill: float
    review: float
    bad_share: float | None = None

    def __post_init__(self) -> None:
        for name in ("escape", "overkill", "review"):
            cost = getattr(self, name)
            if not (math.isfinite(cost) and cost >= 0):
                raise ConfigurationError(f"the cost of {name} is {cost}, not a number from 0 on")
        if not self.escape > 0:
            raise ConfigurationError("an escape that costs nothing would let every part pass")
        if self.bad_share is not None and not 0 < self.bad_share < 1:
            raise ConfigurationError(f"a share of bad parts of {self.bad_share} is not within 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheapest:
    """A pair of limits, and what it costs a part on the parts it was chosen on."""

    pass_below: float
    fail_from: float
    cost: float


def cheapest_limits(
    probability: NDArray[np.float64],
    novel: NDArray[np.bool_],
    bad: NDArray[np.bool_],
    costs: Costs,
    review_budget: float,
) -> Cheapest:
    """The pair of limits with the least expected cost, within the review budget where that is met.

    Where several cost the same, the one that lets fewer parts pass, then the one that fails fewer.
    Novel parts go to review under any limits. No part at or above one half of a class passes,
    however cheap an escape is said to be.

    Args:
        probability: (n,) a part's largest probability.
        novel: (n,) parts above the novelty limit.
        bad: (n,) parts of both kinds.
        costs: of each verdict.
        review_budget: largest share of parts in review.
    """
    share = float(bad.mean()) if costs.bad_share is None else costs.bad_share
    weight = np.where(bad, share / bad.sum(), (1 - share) / (~bad).sum())
    limits = np.unique([*probability, 0.5, np.nextafter(max(0.5, float(probability.max())), 2)])
    place = np.searchsorted(limits, probability)  # of each part: the limits above it let it pass

    def below(value: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) sums over parts below each limit, novel ones left out."""
        per_limit = np.bincount(place[~novel], weights=value[~novel], minlength=len(limits))
        return np.concatenate([[0.0], np.cumsum(per_limit)[:-1]])

    escaped = below(weight * bad)
    good_below, weight_below = below(weight * ~bad), below(weight)
    count_below = below(np.ones(len(probability)))
    overkilled = float(weight[~novel & ~bad].sum()) - good_below
    passing, failing = np.arange(len(limits))[:, np.newaxis], np.arange(len(limits))
    reviewed = weight_below[failing] - weight_below[passing] + float(weight[novel].sum())
    count = count_below[failing] - count_below[passing] + int(novel.sum())
    cost = (
        costs.escape * escaped[passing]
        + costs.overkill * overkilled[failing]
        + costs.review * reviewed
    )
    allowed = (failing >= passing) & (limits[passing] <= 0.5)
    allowed[0] |= failing >= 0  # the lowest limit lets nothing pass: always allowed
    affordable = allowed & (count <= math.floor(review_budget * len(probability)))
    cost = np.where(affordable if affordable.any() else allowed, cost, np.inf)
    least = cost.min()
    tied = np.argwhere(cost <= least + 1e-12 * max(1.0, float(least)))
    row, column = min(tied.tolist(), key=lambda pair: (pair[0], -pair[1]))
    return Cheapest(
        pass_below=min(1.0, float(limits[row])),
        fail_from=float(limits[column]),
        cost=float(cost[row, column]),
    )
