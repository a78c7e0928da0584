from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection.errors import DataError
from training.measuring.operating_point_good import calibrate_good_only, choose_limits_good_only
from training.operating_point import Chosen


def choose(
    score: NDArray[np.float64],
    novelty: NDArray[np.float64],
    budget: float = 0.1,
    groups: NDArray[np.int64] | None = None,
) -> Chosen:
    return choose_limits_good_only(
        score[:, np.newaxis],
        novelty,
        np.arange(len(score)) if groups is None else groups,
        wanted_escape_rate=0.01,
        review_budget=budget,
        split_digest="0" * 64,
    )


def reviewed(chosen: Chosen, score: NDArray[np.float64], novelty: NDArray[np.float64]) -> float:
    point = chosen.operating_point
    return float(((score >= point.pass_below[0]) | (novelty > point.novelty_limit)).mean())


def test_nothing_fails_and_nothing_is_certified() -> None:
    generator = np.random.default_rng(1)
    chosen = choose(generator.uniform(size=200), generator.uniform(size=200))
    point = chosen.operating_point
    assert point.fail_from[0] > 1
    assert not point.certificate.certified
    assert point.certificate.bad_parts == 0
    assert point.certificate.escape_bound == 1.0
    assert "how many would pass is unknown" in chosen.warnings[0]


@pytest.mark.parametrize(("parts", "budget"), [(200, 0.1), (60, 0.1), (40, 0.15), (1000, 0.02)])
def test_new_good_parts_keep_to_the_review_budget_on_average(parts: int, budget: float) -> None:
    generator = np.random.default_rng([parts, 3])
    shares = []
    for _ in range(150):
        score, novelty = generator.uniform(size=parts), generator.exponential(size=parts)
        chosen = choose(score, novelty, budget)
        shares.append(
            reviewed(chosen, generator.uniform(size=2000), generator.exponential(size=2000))
        )
    assert np.mean(shares) <= budget + 0.003
    assert np.mean(shares) >= budget / 2  # the budget is spent: it is all there is against escapes


def test_the_bound_on_the_review_share_holds_as_often_as_it_says() -> None:
    generator = np.random.default_rng(8)
    held = []
    for _ in range(200):
        score, novelty = generator.uniform(size=80), generator.exponential(size=80)
        chosen = choose(score, novelty)
        bound = float(chosen.warnings[1].split("and ")[1].split("%")[0]) / 100
        new = reviewed(chosen, generator.uniform(size=4000), generator.exponential(size=4000))
        held.append(new <= bound + 0.0005)
    assert np.mean(held) >= 0.95


def test_few_parts_say_that_they_are_too_few() -> None:
    generator = np.random.default_rng(2)
    chosen = choose(generator.uniform(size=5), generator.uniform(size=5), budget=0.1)
    assert chosen.warnings[-1] == (
        "5 good calibration parts cannot hold a review budget of 10.0%: 14 more needed"
    )
    enough = choose(generator.uniform(size=19), generator.uniform(size=19), budget=0.1)
    assert "more needed" not in " ".join(enough.warnings)


def test_parts_of_one_group_make_the_bound_wider() -> None:
    generator = np.random.default_rng(4)
    lots = np.repeat(np.arange(10), 10)
    score = np.repeat(generator.uniform(size=10), 10) + generator.normal(0, 0.01, 100)
    novelty = generator.uniform(size=100)

    def bound(groups: NDArray[np.int64]) -> float:
        said = choose(score, novelty, groups=groups).warnings[1]
        return float(said.split("and ")[1].split("%")[0])

    assert bound(lots) > bound(np.arange(100)) + 5


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_limits_always_make_an_operating_point(
    scores: list[float], budget: float, seed: int
) -> None:
    score = np.array(scores)
    novelty = np.random.default_rng(seed).exponential(size=len(score))
    point = choose(score, novelty, budget).operating_point
    assert 0 < point.pass_below[0] <= 1
    assert point.fail_from[0] > 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_gets_no_limits(wrong: float) -> None:
    good = np.full(20, 0.5)
    broken = np.append(good[1:], wrong)
    for score, novelty in ((broken, good), (good, broken), (good[:0], good[:0])):
        with pytest.raises(DataError):
            choose(score, novelty)
    with pytest.raises(DataError):
        calibrate_good_only(broken[:, np.newaxis].astype(np.float32), review_budget=0.1)


def test_the_scale_says_one_half_where_review_begins() -> None:
    scores = np.random.default_rng(6).normal(size=(99, 1)).astype(np.float32)
    calibrated = calibrate_good_only(scores, review_budget=0.1)
    read = np.sort(calibrated.calibration.probabilities(scores)[:, 0])
    assert read[89] == pytest.approx(0.5, abs=1e-5)
    assert read[49] == pytest.approx(0.05, abs=1e-3)
    assert calibrated.methods == ("good-only",)
    assert "not the chance that a part is bad" in calibrated.warnings[0]


def test_scores_that_are_all_alike_still_make_a_scale() -> None:
    scores = np.full((12, 1), 3.0, np.float32)
    calibration = calibrate_good_only(scores, review_budget=0.1).calibration
    assert np.isfinite(calibration.probabilities(scores)).all()
