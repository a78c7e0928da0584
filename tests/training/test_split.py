"""No part, group or duplicate stands on two sides; every side gets its share."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, bare_rows
from training.dividing.duplicates import Pair
from training.dividing.grouping import choose_grouping, group_names
from training.dividing.leaks import leaks
from training.manifest import Manifest
from training.split import SIDES, Split, former_split, kfold, split

Random = Literal["group", "part-random"]
UNEVEN = [(10, 1), (2, 12), (8, 3), (9, 0), (5, 6), (7, 3), (6, 5), (10, 2), (3, 8), (9, 1)] * 3


def test_every_row_is_on_one_side_and_groups_stay_together() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = split(manifest, seed=7)
    numbers = np.concatenate([made.side(side) for side in SIDES])
    assert sorted(numbers.tolist()) == list(range(len(manifest.rows)))
    groups = [{manifest.groups[i] for i in made.side(side).tolist()} for side in SIDES]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize("by", ["group", "part-random"])
def test_sides_get_about_their_share_of_parts_and_of_bad_parts(by: Random) -> None:
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
def test_a_duplicate_lies_on_one_side_whatever_the_seed(by: Random) -> None:
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


def with_fields(counts: list[tuple[int, int]], **fields: str) -> Manifest:
    """Parts without groups, but with the fields: "{group}" is the number of their group."""
    rows = []
    for row in bare_rows(counts):
        number = int(row.group[1:])
        given = {name: text.format(group=number, third=number % 3) for name, text in fields.items()}
        rows.append(replace(row, group=row.part, **given))  # type: ignore[arg-type]
    return bare_manifest(rows)


def sides_of(manifest: Manifest, made: Split, values: list[str | None]) -> dict[str, set[str]]:
    """On which sides each value stands."""
    found: dict[str, set[str]] = {}
    for value, side in zip(values, made.names(), strict=True):
        if value is not None:
            found.setdefault(value, set()).add(side)
    return found


@pytest.mark.parametrize(
    ("fields", "used", "why"),
    [
        ({}, "part", "by part alone: the source names no group"),
        ({"lot": "L{group}"}, "lot", "no group is given, but lots are"),
        ({"lot": "L{group}", "mould": "M{third}"}, "lot", "no group is given, but lots are"),
        ({"mould": "M{group}"}, "mould", "neither group nor lot is given"),
        ({"captured_at": "2026-10-{group:02d}T06:00:00"}, "date", "times of capture are"),
    ],
)
def test_parts_stay_together_by_what_the_source_gave(
    fields: dict[str, str], used: str, why: str
) -> None:
    fields = {name: text.replace("{group:02d}", "1{third}") for name, text in fields.items()}
    manifest = with_fields([(4, 2)] * 12, **fields)
    made = split(manifest, seed=0)
    assert made.grouped_by == (used,)
    assert why in made.why
    assert leaks(manifest, made) == ()
    name = "captured_at" if used == "date" else used
    values = [getattr(row, name) for row in manifest.rows]
    assert all(len(sides) == 1 for sides in sides_of(manifest, made, values).values())


def test_the_group_of_the_source_holds_whatever_else_is_asked_for() -> None:
    rows = [
        replace(row, mould=f"M{i % 9}", lot=row.group) for i, row in enumerate(bare_rows(UNEVEN))
    ]
    manifest = bare_manifest(rows)
    with pytest.raises(DataError, match="chain them together") as caught:
        split(manifest, seed=0, group_by=["mould"])
    assert "--group-by" in caught.value.remedy
    assert split(manifest, seed=0, group_by=["lot"]).grouped_by == ("group", "lot")
    with pytest.raises(DataError, match="declares a group for its parts"):
        split(manifest, seed=0, group_by=["part"])


def test_a_field_that_nothing_names_is_refused_with_what_there_is() -> None:
    manifest = with_fields([(4, 2)] * 6, lot="L{group}")
    with pytest.raises(DataError, match="names no mould") as caught:
        choose_grouping(manifest, ["mould"])
    assert "Group by lot or part" in caught.value.remedy
    with pytest.raises(DataError, match="nothing can be grouped by colour"):
        choose_grouping(manifest, ["colour"])
    assert group_names(manifest, ("lot",))[0] == manifest.rows[0].lot


def test_a_rare_class_is_spread_over_the_sides() -> None:
    rows = bare_rows([(9, 1)] * 30)
    rare = [i for i, row in enumerate(rows) if row.bad][::10]
    rows = [replace(row, label="void") if i in rare else row for i, row in enumerate(rows)]
    manifest = bare_manifest(rows, ("scratch", "void"))
    for seed in range(6):
        made = split(manifest, seed=seed)
        for side in SIDES:
            shown = [manifest.rows[i].label for i in made.side(side).tolist()]
            assert shown.count("void") == 1
            assert "scratch" in shown


def test_near_duplicates_lie_on_one_side() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    ends = [(0, 100), (100, 150), (3, 90)]
    pairs = [Pair(first=a, second=b, kind="near", distance=4) for a, b in ends]
    for seed in range(6):
        made = split(manifest, seed=seed, pairs=pairs)
        names = made.names()
        assert names[0] == names[100] == names[150]
        assert leaks(manifest, made, pairs) == ()
        folded = kfold(manifest, 4, seed, pairs=pairs)
        assert folded.of_row[3] == folded.of_row[90]


def test_a_chain_of_duplicates_that_swallows_the_set_is_refused_by_name() -> None:
    manifest = with_fields([(6, 4)] * 10)
    pairs = [Pair(first=i, second=i + 1, kind="near", distance=3) for i in range(60)]
    with pytest.raises(
        DataError, match=r"61 of 100 parts \(61%\).*near-duplicate images"
    ) as caught:
        split(manifest, seed=0, pairs=pairs)
    assert "data check plates" in caught.value.remedy
    split(manifest, seed=0, pairs=pairs[:30])


def test_a_lot_that_holds_nearly_all_parts_is_named() -> None:
    with pytest.raises(DataError, match="all of group g000"):
        split(bare_manifest(bare_rows([(60, 30), (5, 2), (5, 2), (4, 2)])), seed=0)


def test_good_parts_alone_are_divided_too() -> None:
    manifest = bare_manifest(bare_rows([(1, 0)] * 20), ())
    made = split(manifest, seed=0, needs_bad=False)
    assert [len(made.side(side)) for side in SIDES] == [12, 3, 5]


def test_packages_of_the_first_release_find_their_split_again() -> None:
    rows = bare_rows(UNEVEN)
    made = former_split(bare_manifest(rows), seed=11)
    assert made.digest.startswith("8c499f40e700")
    two = [replace(row, label="void") if row.bad and i % 2 else row for i, row in enumerate(rows)]
    assert former_split(bare_manifest(two, ("scratch", "void")), seed=11).digest.startswith(
        "2985129b9e9e"
    )


def test_every_row_is_tested_in_one_fold() -> None:
    manifest = bare_manifest(bare_rows(UNEVEN))
    made = kfold(manifest, 5, 0)
    tested = np.concatenate([made.rows(fold)[1] for fold in range(5)])
    assert sorted(tested.tolist()) == list(range(len(manifest.rows)))
    for fold in range(5):
        fit, test = made.rows(fold)
        fitted = {manifest.groups[i] for i in fit.tolist()}
        assert not fitted & {manifest.groups[i] for i in test.tolist()}
        assert len(test) / len(manifest.rows) == pytest.approx(0.2, abs=0.05)
    with pytest.raises(DataError, match="30 groups cannot be divided into 31"):
        kfold(manifest, 31, 0)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=3, max_size=12),
    st.integers(0, 100),
)
@settings(max_examples=50, deadline=None)
def test_any_set_is_divided_without_a_leak(counts: list[tuple[int, int]], seed: int) -> None:
    manifest = bare_manifest(bare_rows(counts))
    made = split(manifest, seed=seed)
    for side in SIDES:
        assert manifest.bad[made.side(side)].any()
    assert leaks(manifest, made) == ()
