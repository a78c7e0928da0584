"""The certificate says what test parts show, of the verdict that a part finally gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.verdict import Disposition
from training.measuring.certify import certify
from training.measuring.evaluation import PartResult
from training.measuring.intervals import parts_needed, upper_bound

DISPOSITIONS: tuple[Disposition, ...] = ("pass", "review", "fail")


def part(number: int, label: str, disposition: Disposition, group: str | None = None) -> PartResult:
    return PartResult(
        path=f"{number}.png",
        part=str(number),
        group=group or str(number),
        label=label,
        bad=label != "good",
        probabilities=(number % 97 / 100,),
        novelty=1.0,
        disposition=disposition,
    )


def parts(bad: int, escapes: int, good: int = 50, overkills: int = 0) -> list[PartResult]:
    made = [part(i, "spot", "pass" if i < escapes else "fail") for i in range(bad)]
    made += [part(1000 + i, "good", "fail" if i < overkills else "pass") for i in range(good)]
    return made


def test_the_issue_s_words_come_out() -> None:
    held = certify(parts(162, 0), wanted_escape_rate=0.02, classes=("spot",))
    assert held.certified
    assert held.escape_bound == pytest.approx(upper_bound(0, 162))
    assert held.in_words().startswith(
        "escape rate at most 1.9 % at 95 % confidence, from 162 bad parts"
    )
    missed = certify(parts(162, 0), wanted_escape_rate=0.01, classes=("spot",))
    assert not missed.certified
    assert missed.more_bad_parts_needed == 299 - 162 == 137
    assert missed.in_words().startswith("cannot certify 1 %: 137 more bad parts needed;")


def test_escapes_of_the_test_parts_count() -> None:
    found = certify(parts(162, 3), wanted_escape_rate=0.02, classes=("spot",))
    assert (found.escapes, found.certified) == (3, False)
    assert found.naive_escape_bound == pytest.approx(upper_bound(3, 162))
    assert found.more_bad_parts_needed >= parts_needed(0.02, escapes=3) - 162
    assert "without another escape" in found.in_words()
    assert "3 of which passed" in found.in_words()


def test_a_bound_is_said_rounded_up() -> None:
    found = certify(parts(160, 0), wanted_escape_rate=0.05, classes=("spot",))
    assert 0.0185 < found.escape_bound < 0.0186
    assert "at most 1.9 %" in found.in_words()
    many = certify(parts(400, 0), wanted_escape_rate=0.05, classes=("spot",))
    assert 0.0074 < many.escape_bound < 0.0075
    assert "at most 0.75 %" in many.in_words()


def test_a_review_is_neither_an_escape_nor_an_overkill() -> None:
    all_in_review = [replace(each, disposition="review") for each in parts(60, 60, overkills=50)]
    found = certify(all_in_review, wanted_escape_rate=0.05, classes=("spot",))
    assert (found.escapes, found.overkills) == (0, 0)
    assert found.certified


def test_failing_good_parts_are_bounded_too() -> None:
    found = certify(parts(60, 0, good=200, overkills=4), wanted_escape_rate=0.1, classes=("spot",))
    assert (found.overkills, found.good_parts) == (4, 200)
    assert found.naive_overkill_bound == pytest.approx(upper_bound(4, 200))
    assert found.overkill_bound >= found.naive_overkill_bound
    assert "from 200 good parts, 4 of which failed" in found.fails_in_words()


def test_parts_of_few_groups_are_worth_less() -> None:
    alone = parts(120, 0)
    grouped = [
        replace(each, group=f"lot-{number // 30}", probabilities=(number // 30 / 10,))
        for number, each in enumerate(alone)
    ]
    one = certify(alone, wanted_escape_rate=0.05, classes=("spot",))
    other = certify(grouped, wanted_escape_rate=0.05, classes=("spot",))
    assert one.certified
    assert not other.certified
    assert other.naive_escape_bound == one.naive_escape_bound
    assert other.escape_bound > 5 * one.escape_bound


def test_a_class_with_few_bad_test_parts_refuses_the_certificate() -> None:
    shown = parts(200, 0)
    shown[:3] = [replace(each, label="void") for each in shown[:3]]
    found = certify(shown, wanted_escape_rate=0.05, classes=("spot", "void"))
    assert found.escape_bound <= 0.05
    assert not found.certified
    assert found.scant_classes == ("void",)
    assert found.in_words().startswith("cannot certify 5 %: 7 more bad parts needed of void;")


def test_without_a_bad_part_nothing_is_certified() -> None:
    found = certify(parts(0, 0), wanted_escape_rate=0.05, classes=("spot",))
    assert not found.certified
    assert found.escape_bound == 1
    assert found.more_bad_parts_needed == parts_needed(0.05)
    assert found.in_words() == (
        "cannot certify 5 %: 59 more bad parts needed; escape rate unknown: no bad part was seen"
    )


def test_a_part_that_shows_two_classes_counts_in_both() -> None:
    both = [replace(each, label="spot;void") if each.bad else each for each in parts(60, 0)]
    found = certify(both, wanted_escape_rate=0.05, classes=("spot", "void"))
    assert found.certified
    assert found.bad_parts == 60


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(DISPOSITIONS), st.integers(0, 5)),
        min_size=1,
        max_size=60,
    ),
    st.floats(0.01, 0.5),
)
@settings(max_examples=40, deadline=None)
def test_it_never_claims_more_than_the_exact_bound(
    shown: list[tuple[bool, Disposition, int]], wanted: float
) -> None:
    made = [
        part(i, "spot" if bad else "good", disposition, str(group))
        for i, (bad, disposition, group) in enumerate(shown)
    ]
    found = certify(made, wanted_escape_rate=wanted, classes=("spot",))
    bad = [each for each in made if each.bad]
    escapes = sum(each.disposition == "pass" for each in bad)
    assert found.escapes == escapes
    assert found.escape_bound >= upper_bound(escapes, len(bad))
    assert found.certified == (found.escape_bound <= wanted and len(bad) >= 10)
    assert found.certified == (found.more_bad_parts_needed == 0)
    again = certify(made, wanted_escape_rate=wanted, classes=("spot",))
    assert again == found
    one_worse = [
        replace(each, disposition="pass") if each is (bad or made)[0] else each for each in made
    ]
    worse = certify(one_worse, wanted_escape_rate=wanted, classes=("spot",))
    assert worse.naive_escape_bound >= found.naive_escape_bound
    assert np.isfinite(worse.overkill_bound)
