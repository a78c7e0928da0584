"""Limits by costs are the cheapest there are, and still fail closed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection.errors import ConfigurationError
from training.measuring.costs import Costs, cheapest_limits
from training.operating_point import FEWEST_BAD, choose_limits
from training.report import in_words


def cost_of(
    probability: NDArray[np.float64],
    novel: NDArray[np.bool_],
    bad: NDArray[np.bool_],
    costs: Costs,
    limits: tuple[float, float],
) -> float:
    """The definition: every part gets its verdict, and each verdict its price."""
    spent = 0.0
    share = bad.mean() if costs.bad_share is None else costs.bad_share
    for p, strange, wrong in zip(probability, novel, bad, strict=True):
        weight = share / bad.sum() if wrong else (1 - share) / (~bad).sum()
        if strange or limits[0] <= p < limits[1]:
            spent += weight * costs.review
        elif p < limits[0]:
            spent += weight * costs.escape * wrong
        else:
            spent += weight * costs.overkill * (not wrong)
    return float(spent)


@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans(), st.booleans()), min_size=2, max_size=14),
    st.tuples(st.integers(1, 100), st.integers(0, 20), st.integers(0, 5)),
)
@settings(max_examples=60, deadline=None)
def test_no_pair_of_limits_is_cheaper(
    parts: list[tuple[int, bool, bool]], prices: tuple[int, int, int]
) -> None:
    probability = np.array([p[0] / 10 for p in parts])
    bad, novel = np.array([p[1] for p in parts]), np.array([p[2] for p in parts])
    bad[:2] = (True, False)
    costs = Costs(escape=prices[0], overkill=prices[1], review=prices[2], bad_share=0.1)
    found = cheapest_limits(probability, novel, bad, costs, 1.0)
    assert found.cost == pytest.approx(
        cost_of(probability, novel, bad, costs, (found.pass_below, found.fail_from))
    )
    tried = [low / 20 for low in range(11)]
    for low in tried:
        for high in (step / 20 for step in range(23)):
            if high >= low:
                assert found.cost <= cost_of(probability, novel, bad, costs, (low, high)) + 1e-9


def test_dearer_escapes_let_fewer_parts_pass() -> None:
    generator = np.random.default_rng(0)
    bad = np.arange(400) >= 250
    probability = 1 / (1 + np.exp(-generator.normal(np.where(bad, 1.5, -1.5), 1.2)))
    novel = np.zeros(400, dtype=np.bool_)
    limits = [
        cheapest_limits(probability, novel, bad, Costs(escape=e, overkill=2, review=0.5), 1.0)
        for e in (1, 10, 100, 10_000)
    ]
    passes = [each.pass_below for each in limits]
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > passes[-1]
    assert not (bad & (probability < passes[-1])).any()


def test_free_overkill_needs_no_reviewer() -> None:
    bad = np.arange(40) >= 20
    probability = np.linspace(0.01, 0.99, 40)
    novel = np.zeros(40, dtype=np.bool_)
    found = cheapest_limits(probability, novel, bad, Costs(escape=9, overkill=0, review=1), 1.0)
    assert found.pass_below == found.fail_from == probability[0]


def test_the_review_budget_holds_for_costs_too() -> None:
    generator = np.random.default_rng(1)
    bad = np.arange(300) >= 200
    probability = 1 / (1 + np.exp(-generator.normal(np.where(bad, 1, -1), 1.5)))
    chosen = choose_limits(
        probability[:, np.newaxis],
        np.ones(300),
        bad[:, np.newaxis],
        np.arange(300),
        wanted_escape_rate=0.05,
        review_budget=0.1,
        costs=Costs(escape=1000, overkill=10, review=0.1),
        classes=("crack",),
        split_digest="d",
    )
    assert chosen.review_share <= 0.1
    assert chosen.cost is not None
    certificate = chosen.operating_point.certificate
    assert not certificate.certified  # only test parts can
    assert certificate.measured_on == "calibration"


def test_limits_that_costs_chose_say_why_they_certify_nothing() -> None:
    bad = np.arange(800) >= 400
    chosen = choose_limits(
        np.where(bad, np.linspace(0.2, 0.99, 800), np.linspace(0.01, 0.6, 800))[:, np.newaxis],
        np.ones(800),
        bad[:, np.newaxis],
        np.arange(800),
        wanted_escape_rate=0.05,
        review_budget=0.1,
        costs=Costs(escape=100, overkill=1, review=0.1),
        classes=("crack",),
        split_digest="d",
    )
    certificate = chosen.operating_point.certificate
    assert certificate.escape_bound <= 0.05
    assert not certificate.certified
    for said in (in_words(chosen), certificate.in_words()):
        assert said.startswith("cannot certify 5 %")
        assert "limits" in said
        assert "0 more bad parts" not in said
        assert "()" not in said


def test_a_rare_class_keeps_its_own_limit_under_costs() -> None:
    bad = np.arange(200) >= 100
    shows = np.stack([bad, np.zeros(200, dtype=np.bool_)], axis=1)
    shows[100 : 100 + FEWEST_BAD - 1] = (False, True)
    probability = np.stack([np.linspace(0, 1, 200), np.full(200, 0.3)], axis=1)
    point = choose_limits(
        probability,
        np.ones(200),
        shows,
        np.arange(200),
        wanted_escape_rate=0.05,
        review_budget=0.5,
        costs=Costs(escape=1, overkill=1, review=1),
        classes=("crack", "void"),
        split_digest="d",
    ).operating_point
    assert point.pass_below[1] <= 0.3


@pytest.mark.parametrize(
    "prices", [{"escape": 0}, {"escape": float("nan")}, {"review": -1}, {"bad_share": 1.0}]
)
def test_prices_that_make_no_sense_are_refused(prices: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Costs(**{"escape": 10.0, "overkill": 1.0, "review": 0.1, **prices})
