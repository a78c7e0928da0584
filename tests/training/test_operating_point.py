"""Limits keep the escape rate they claim, and say so when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from inspection.engine import Prediction
from inspection.errors import DataError
from inspection.recipe import Recipe
from inspection.verdict import Calibration, decide
from training.measuring.intervals import parts_needed, upper_bound
from training.operating_point import FEWEST_BAD, Chosen, choose_limits, novelty_quantile
from training.report import in_words

NAMES = ("crack", "void", "stain")


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
        np.repeat(probability[:, np.newaxis], classes, axis=1),
        np.ones(len(bad)) if novelty is None else novelty,
        np.repeat(bad[:, np.newaxis], classes, axis=1),
        np.arange(len(bad)) if groups is None else groups,
        wanted_escape_rate=wanted,
        review_budget=budget,
        classes=NAMES[:classes],
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


def choose_two(voids: int, *, void_probability: float = 0.005) -> Chosen:
    """300 good parts, 300 cracks that are found, and a few voids that the model hardly sees."""
    crack, cracked = overlapping(300, 300)
    generator = np.random.default_rng(2)
    probability = np.zeros((600 + voids, 2))
    probability[:600, 0], probability[600:, 0] = crack, 0.01
    probability[:, 1] = void_probability * generator.uniform(0.5, 1, len(probability))
    shows = np.zeros(probability.shape, dtype=np.bool_)
    shows[:600, 0], shows[600:, 1] = cracked, True
    return choose_limits(
        probability,
        np.ones(len(probability)),
        shows,
        np.arange(len(probability)),
        wanted_escape_rate=0.05,
        review_budget=0.9,
        classes=("crack", "void"),
        split_digest="d",
    )


def test_a_class_without_calibration_parts_lets_nothing_pass_and_refuses_the_certificate() -> None:
    chosen = choose_two(0)
    point = chosen.operating_point
    assert point.pass_below[0] > 0
    assert point.pass_below[1] == 0
    assert point.fail_from[1] > 1  # nor does anything fail on a probability without meaning
    assert point.certificate.escape_bound <= 0.05
    assert not point.certificate.certified
    assert point.certificate.more_bad_parts_needed == FEWEST_BAD
    assert chosen.warnings[0].startswith("void: no bad part among the calibration parts")
    assert "cannot certify 5 %: 10 more bad parts needed" in in_words(chosen)
    assert "(void 0)" in in_words(chosen)


def test_a_class_without_calibration_parts_sends_the_best_of_parts_to_review() -> None:
    recipe = Recipe(
        product="p",
        modality="vision",
        bits=8,
        channels=1,
        input_size_px=(32, 32),
        window=(0.0, 255.0),
        classes=("crack", "void"),
    )
    scores = np.array([-20, -20], np.float32)
    prediction = Prediction(
        scores=scores, evidence=np.full((2, 2, 2), -20, np.float32), novelty=0.5
    )
    calibration = Calibration(slope=(1.0, 1.0), intercept=(0.0, 0.0))
    verdict = decide(prediction, calibration, choose_two(0).operating_point, recipe, (32, 32))
    assert verdict.disposition == "review"
    assert [finding.defect_class for finding in verdict.findings] == ["void"]


def test_a_class_with_few_calibration_parts_passes_none_of_them_and_is_named() -> None:
    chosen = choose_two(FEWEST_BAD - 1)
    point = chosen.operating_point
    assert 0 < point.pass_below[1] < 0.005 < point.pass_below[0]
    assert not point.certificate.certified
    assert point.certificate.more_bad_parts_needed >= 1
    assert any("void: only 9 bad parts" in warning for warning in chosen.warnings)
    assert chosen.scant == {"void": 9}


def test_a_review_share_past_the_budget_is_told() -> None:
    chosen = choose_two(0)
    assert chosen.review_share == pytest.approx(
        1 - (overlapping(300, 300)[0] >= chosen.operating_point.fail_from[0]).mean()
    )
    probability, bad = overlapping(300, 300)
    novel = choose(probability, bad, novelty=np.arange(600.0), budget=0.0)
    assert "as novel" in novel.warnings[0]


def test_one_of_a_thing_is_not_many() -> None:
    chosen = choose(np.array([0.1, 0.9]), np.array([False, True]))
    assert "from 1 bad part in 1 group (0 of them" in in_words(chosen)


def test_the_sentence_of_the_limits_never_says_less_than_their_bound() -> None:
    chosen = choose(*overlapping(160, 200))
    assert 0.0451 < chosen.bound.bound < 0.0452
    assert "at most 4.6 %" in in_words(chosen)


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
    enough = bad.sum() >= FEWEST_BAD
    assert certificate.certified == (certificate.escape_bound <= wanted and enough)
    assert certificate.certified == (certificate.more_bad_parts_needed == 0)
    assert chosen.review_share <= budget + 1e-9
    if certificate.escape_bound > wanted:
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


def test_without_a_certificate_the_rest_of_the_review_budget_tightens_the_pass_limit() -> None:
    """Bad parts far above the good ones: the next one may lie between them."""
    probability = np.concatenate([np.linspace(0.01, 0.2, 90), np.full(10, 0.9)])
    bad = np.arange(100) >= 90
    chosen = choose(probability, bad, wanted=0.01, budget=0.15)
    point = chosen.operating_point
    assert not point.certificate.certified
    assert point.pass_below[0] == np.sort(probability[~bad])[-15]
    assert point.fail_from[0] == 0.9
    assert chosen.review_share == 0.15
    assert choose(probability, bad, wanted=0.5, budget=0.15).operating_point.pass_below[0] == 0.9


def test_the_fail_limit_can_be_held_to_an_overkill_rate() -> None:
    probability, bad = overlapping(600, 300)
    free = choose(probability, bad, budget=0.5)
    held = choose_limits(
        probability[:, np.newaxis],
        np.ones(900),
        bad[:, np.newaxis],
        np.arange(900),
        wanted_escape_rate=0.05,
        review_budget=0.5,
        wanted_overkill_rate=0.05,
        classes=("crack",),
        split_digest="d",
    )
    assert free.overkill is not None
    assert held.overkill is not None
    assert held.overkill.bound <= 0.05
    assert held.overkill.escapes > free.overkill.escapes
    assert held.review_share < free.review_share  # no more review than the wanted rate asks for
    (limit,) = held.operating_point.fail_from
    assert held.overkill.escapes == (probability[~bad] >= limit).sum()
    assert held.warnings == ()


def test_an_overkill_rate_that_the_budget_does_not_allow_is_told() -> None:
    probability, bad = overlapping(300, 300)
    chosen = choose_limits(
        probability[:, np.newaxis],
        np.ones(600),
        bad[:, np.newaxis],
        np.arange(600),
        wanted_escape_rate=0.02,
        review_budget=0.01,
        wanted_overkill_rate=0.02,
        classes=("crack",),
        split_digest="d",
    )
    assert chosen.review_share <= 0.01
    assert "an overkill rate of 2.0% cannot be held" in chosen.warnings[-1]
    assert chosen.overkill is not None
    certificate = chosen.operating_point.certificate
    assert certificate.overkill_bound == chosen.overkill.bound > 0.02
