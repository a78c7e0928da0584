"""No part, group or duplicate stands on two sides; every side gets its share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, bare_rows
from training.split import SIDES, By, check_no_leak, folds, split

UNEVEN = [(10, 1), (2, 12), (8, 3), (9, 0), (5, 6), (7, 3), (6, 5), (10, 2), (3, 8), (9, 1)] * 3


def test_every_row_is_on_one_side_and_groups_stay_together() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = split(manifest, seed=7)
    numbers = np.concatenate([made.side(side) for side in SIDES])
    assert sorted(numbers.tolist()) == list(range(len(manifest.rows)))
    groups = [{manifest.groups[i] for i in made.side(side).tolist()} for side in SIDES]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize("by", ["group", "part-random"])
def test_sides_get_about_their_share_of_parts_and_of_bad_parts(by: By) -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = split(manifest, seed=3, by=by)
    for side, share in zip(SIDES, (0.60, 0.15, 0.25), strict=True):
        rows = made.side(side)
        assert len(rows) / len(manifest.rows) == pytest.approx(share, abs=0.03)
        bad = manifest.bad
        assert bad[rows].sum() / bad.sum() == pytest.approx(share, abs=0.04)


def test_the_same_seed_gives_the_same_split_and_another_one_another() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = split(manifest, seed=1)
    assert split(manifest, seed=1).digest == made.digest
    assert (split(manifest, seed=1).test == made.test).all()
    assert split(manifest, seed=2).digest != made.digest
    assert split(manifest, seed=1, by="part-random").digest != made.digest


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = bare_rows(UNEVEN)
    made = split(bare_manifest(rows), seed=4)
    assert split(bare_manifest(rows[::-1]), seed=4).digest == made.digest


@pytest.mark.parametrize("by", ["group", "part-random"])
def test_a_duplicate_lies_on_one_side_whatever_the_seed(by: By) -> None:
    rows = bare_rows(UNEVEN)
    first, other, third = rows[0], rows[-1], rows[len(rows) // 2]
    assert len({first.group, other.group, third.group}) == 3
    twins = [replace(row, sha256=first.sha256, label=first.label) for row in (other, third)]
    kept = [row for row in rows if row not in (other, third)]
    manifest = bare_manifest([*kept, *twins])
    for seed in range(8):
        made = split(manifest, seed=seed, by=by)
        holding = [
            side
            for side in SIDES
            for i in made.side(side).tolist()
            if manifest.rows[i].sha256 == first.sha256
        ]
        assert len(holding) == 3
        assert len(set(holding)) == 1


def test_images_of_one_part_stay_together_even_in_a_random_split() -> None:
    rows = bare_rows([(6, 4)] * 5)
    second = [replace(row, path=f"second/{row.part}", sha256=f"f{row.sha256[1:]}") for row in rows]
    manifest = bare_manifest([*rows, *second])
    made = split(manifest, seed=0, by="part-random")
    parts = [{manifest.parts[i] for i in made.side(side).tolist()} for side in SIDES]
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match="2 groups cannot be divided into 3"):
        split(bare_manifest(bare_rows([(5, 5), (5, 5)])), seed=0)


def test_a_side_without_bad_parts_is_refused() -> None:
    with pytest.raises(DataError, match="all good or all bad"):
        split(bare_manifest(bare_rows([(8, 4), (8, 0), (8, 0), (8, 0)])), seed=0)


def test_every_row_is_tested_in_one_fold() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = folds(manifest, 5, seed=0)
    tested = np.concatenate([test for _, test in made])
    assert sorted(tested.tolist()) == list(range(len(manifest.rows)))
    for fit, test in made:
        fitted = {manifest.groups[i] for i in fit.tolist()}
        assert not fitted & {manifest.groups[i] for i in test.tolist()}
        assert len(test) / len(manifest.rows) == pytest.approx(0.2, abs=0.05)


def test_a_leak_is_found_whoever_made_the_sides() -> None:
    manifest = bare_manifest(bare_rows([(3, 1), (3, 1)]))
    sides = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    check_no_leak(manifest, sides)
    sides[0] = 1
    with pytest.raises(DataError, match="3 groups would stand on two sides"):
        check_no_leak(manifest, sides)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=3, max_size=12),
    st.integers(0, 100),
)
@settings(max_examples=50, deadline=None)
def test_any_set_is_divided_without_a_leak(counts: list[tuple[int, int]], seed: int) -> None:
    manifest = bare_manifest(bare_rows(counts))
    made = split(manifest, seed=seed)
    sides = np.zeros(len(manifest.rows), dtype=np.int64)
    for number, side in enumerate(SIDES):
        sides[made.side(side)] = number
        assert manifest.bad[made.side(side)].any()
    check_no_leak(manifest, sides)
