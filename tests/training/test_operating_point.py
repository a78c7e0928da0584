"""Limits keep the escape rate they claim, and say so when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from inspection.errors import DataError
from training.intervals import parts_needed, upper_bound
from training.operating_point import Chosen, choose_limits, novelty_quantile


def choose(
    probability: NDArray[np.float64],
    bad: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    *,
    wanted: float = 0.05,
    budget: float = 0.15,
    novelty: NDArray[np.float64] | None = None,
    classes: int = 1,
) -> Chosen:
    return choose_limits(
        probability,
        np.ones(len(bad)) if novelty is None else novelty,
        bad,
        np.arange(len(bad)) if groups is None else groups,
        wanted_escape_rate=wanted,
        review_budget=budget,
        classes=classes,
        split_digest="d",
    )


def overlapping(
    good: int, bad: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(-1, 1, good), generator.normal(1, 1, bad)])
    return 1 / (1 + np.exp(-2 * scores)), np.arange(good + bad) >= good


def test_limit_is_the_highest_one_whose_bound_holds() -> None:
    probability, bad = overlapping(300, 300)
    chosen = choose(probability, bad)
    (limit,) = chosen.operating_point.pass_below
    escapes = int((probability[bad] < limit).sum())
    assert chosen.bound.escapes == escapes
    assert upper_bound(escapes, 300) <= 0.05
    assert upper_bound(escapes + 1, 300) > 0.05
    certificate = chosen.operating_point.certificate
    assert certificate.certified
    assert certificate.more_bad_parts_needed == 0
    assert certificate.bad_parts == certificate.groups == 300


def test_too_few_bad_parts_get_the_tightest_limit_and_a_number() -> None:
    probability, bad = overlapping(300, 40)
    chosen = choose(probability, bad)
    assert chosen.operating_point.pass_below[0] == probability[bad].min()
    certificate = chosen.operating_point.certificate
    assert not certificate.certified
    assert certificate.escape_bound == pytest.approx(upper_bound(0, 40))
    assert certificate.more_bad_parts_needed == parts_needed(0.05) - 40 == 19


def test_groups_need_more_parts_than_single_parts_do() -> None:
    probability, bad = overlapping(300, 40)
    order = np.argsort(probability[bad])
    groups = np.arange(340)
    groups[np.flatnonzero(bad)[order]] = 300 + np.arange(40) // 8  # five groups, alike within
    alone = choose(probability, bad).operating_point.certificate
    grouped = choose(probability, bad, groups).operating_point.certificate
    assert grouped.groups == 5
    assert grouped.naive_escape_bound == alone.naive_escape_bound
    assert grouped.escape_bound > 2 * alone.escape_bound
    assert grouped.more_bad_parts_needed > 5 * alone.more_bad_parts_needed


def test_review_stays_within_its_budget_and_is_used_up_while_good_parts_fail() -> None:
    probability, bad = overlapping(400, 100)
    for budget in (0.0, 0.05, 0.15, 0.3):
        chosen = choose(probability, bad, budget=budget)
        assert chosen.review_share <= budget
        assert chosen.review_share > budget - 0.01


def test_fail_limit_rises_no_further_than_the_last_good_part() -> None:
    probability = np.concatenate([np.linspace(0.01, 0.2, 100), np.linspace(0.7, 0.99, 100)])
    bad = np.arange(200) >= 100
    chosen = choose(probability, bad, budget=0.9)
    (limit,) = chosen.operating_point.fail_from
    assert 0.7 <= limit == chosen.operating_point.pass_below[0] < 0.71  # no review left to do
    assert chosen.review_share == 0


def test_novel_parts_use_up_the_review_budget() -> None:
    probability, bad = overlapping(1000, 400)
    novelty = np.ones(1400)
    novelty[:4] = 9.0
    chosen = choose(probability, bad, novelty=novelty, budget=0.1)
    assert chosen.operating_point.novelty_limit == 1.0
    assert chosen.review_share <= 0.1


def test_novelty_limit_is_the_largest_value_when_there_are_few() -> None:
    assert novelty_quantile(np.arange(50.0)) == 49
    assert novelty_quantile(np.arange(1999.0)) == 1989  # the 1,990th smallest of 1,999


def test_every_class_gets_the_limits() -> None:
    probability, bad = overlapping(100, 100)
    point = choose(probability, bad, classes=3).operating_point
    assert len(point.pass_below) == len(point.fail_from) == 3


def test_parts_of_one_kind_are_refused() -> None:
    with pytest.raises(DataError, match="all good or all bad"):
        choose(np.array([0.1, 0.2]), np.array([False, False]))


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 6)), min_size=4, max_size=60
    ),
    st.floats(0.01, 0.5),
    st.floats(0.0, 0.5),
)
@settings(max_examples=80, deadline=None)
def test_what_is_claimed_agrees_with_the_parts(
    parts: list[tuple[int, bool, int]], wanted: float, budget: float
) -> None:
    probability = np.array([p[0] / 20 for p in parts])
    bad = np.array([p[1] for p in parts])
    groups = np.array([p[2] for p in parts])
    bad[:2] = (True, False)
    chosen = choose(probability, bad, groups, wanted=wanted, budget=budget)
    point = chosen.operating_point
    certificate = point.certificate
    assert point.pass_below[0] <= point.fail_from[0]
    assert chosen.bound.escapes == (probability[bad] < point.pass_below[0]).sum()
    assert certificate.escape_bound >= certificate.naive_escape_bound
    assert certificate.certified == (certificate.escape_bound <= wanted)
    assert certificate.certified == (certificate.more_bad_parts_needed == 0)
    assert chosen.review_share <= budget + 1e-9
    if not certificate.certified:
        assert chosen.bound.escapes == 0


@pytest.mark.slow
def test_certified_limits_hold_on_new_groups_where_naive_ones_do_not() -> None:
    """Limit and bound come from the same parts; their groups' levels differ a good deal."""
    generator = np.random.default_rng(8)
    wrong, naive_wrong, runs = 0, 0, 100
    for _ in range(runs):
        groups = np.repeat(np.arange(20), generator.integers(5, 16, 20))
        level = np.sqrt(0.4) * generator.standard_normal(20)
        scores = level[groups] + np.sqrt(0.6) * generator.standard_normal(len(groups))
        probability = np.append(stats.norm.cdf(scores), 0.001)
        bad = np.append(np.ones(len(groups), dtype=np.bool_), False)
        with_good = np.append(groups, 20)
        for given_groups, naive in ((with_good, False), (np.arange(len(bad)), True)):
            point = choose(probability, bad, given_groups, wanted=0.1).operating_point
            true_rate = point.pass_below[0]  # probability is uniform over bad parts
            if point.certificate.certified and true_rate > 0.1:
                wrong += not naive
                naive_wrong += naive
    assert wrong / runs < 0.1  # 5 % are promised; chance at 100 runs reaches 10 %
    assert naive_wrong / runs > 0.12
