"""Another set is measured without what the package was made from: by image, name and likeness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.labelled_sets import bare_manifest, bare_rows
from training.dividing.overlap import near_limit, overlap
from training.dividing.split_file import parse_split_csv, split_csv_bytes
from training.split import split

MADE_FROM = bare_manifest(bare_rows([(6, 4)] * 10))
GENERATOR = np.random.default_rng(0)
HASHES = [int.from_bytes(GENERATOR.bytes(32), "big") for _ in MADE_FROM.rows]
SPLIT = split(MADE_FROM, seed=0)
RECORD = parse_split_csv(split_csv_bytes(MADE_FROM, SPLIT, HASHES), "split.csv")


def other_set() -> list[object]:
    rows = bare_rows([(6, 4)] * 10)
    return [
        replace(row, part=f"new-{row.part}", group=f"new-{row.group}", sha256=f"e{row.sha256[1:]}")
        for row in rows
    ]


def fresh(count: int) -> list[int]:
    return [int.from_bytes(GENERATOR.bytes(32), "big") for _ in range(count)]


def test_a_set_with_nothing_in_common_stays_whole() -> None:
    manifest = bare_manifest(other_set())  # type: ignore[arg-type]
    found = overlap(RECORD, manifest, fresh(100), same_product=True)
    assert found.parts == frozenset()
    assert found.in_words == "no part of it was in training"


def test_images_names_and_near_images_of_training_are_left_out() -> None:
    rows = list(other_set())
    fit = [MADE_FROM.rows[i] for i in SPLIT.fit.tolist()]
    tested = MADE_FROM.rows[int(SPLIT.test[0])]
    rows[0] = replace(rows[0], sha256=fit[0].sha256)  # type: ignore[type-var]
    rows[1] = replace(rows[1], part=fit[1].part)  # type: ignore[type-var]
    rows[2] = replace(rows[2], group=fit[2].group)  # type: ignore[type-var]
    rows[4] = replace(rows[4], sha256=tested.sha256)  # type: ignore[type-var]
    manifest = bare_manifest(rows)  # type: ignore[arg-type]
    hashes = fresh(100)
    near = next(i for i, row in enumerate(manifest.rows) if row is rows[50])
    hashes[near] = HASHES[int(SPLIT.fit[9])] ^ 0b1011
    found = overlap(RECORD, manifest, hashes, same_product=True)
    assert found.same_image == {rows[0].part}  # type: ignore[attr-defined]
    assert found.same_part == {fit[1].part}
    assert found.near == {manifest.rows[near].part}
    assert found.same_group == {rows[2].part}  # type: ignore[attr-defined]
    assert "4 parts left out that the model was made from (1 by image, 1 by name" in found.in_words
    assert "1 by a group that was in training" in found.in_words
    other = overlap(RECORD, manifest, hashes, same_product=False)
    assert other.same_part == frozenset()
    assert other.same_group == frozenset()


def test_parts_that_all_look_alike_are_not_taken_for_each_other() -> None:
    parts = [f"p{i}" for i in range(40)]
    assert near_limit(fresh(40), parts) == 8
    alike = [HASHES[0] ^ (1 << i) for i in range(40)]  # two bits from one to the next
    assert near_limit(alike, parts) == 1
    assert near_limit([HASHES[0]] * 40, parts) is None
    assert near_limit([HASHES[0]] * 40, ["one"] * 40) == 8
