"""Which parts of another set may be measured, and what they share their history with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.labelled_sets import import_folders, write_folders
from tests.spot_model import write_spot_package
from training.data.taught import grouped_as
from training.dividing.duplicates import perceptual_hashes
from training.dividing.grouping import group_names
from training.dividing.sides import side_to_judge
from training.dividing.split_file import split_csv_bytes
from training.manifest import Manifest
from training.split import split


@pytest.fixture(scope="module")
def lots(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A set that names lots and no groups."""
    root = tmp_path_factory.mktemp("line")
    manifest = import_folders(write_folders(root / "line", lots=6, per_lot=5), root / "datasets")
    return replace(
        manifest, rows=tuple(replace(row, lot=row.group, group=row.part) for row in manifest.rows)
    )


def test_parts_of_a_lot_that_was_in_training_are_left_out_and_bounds_go_by_lot(
    lots: Manifest, tmp_path: Path
) -> None:
    made = split(lots, seed=1)
    taught = grouped_as(lots, group_names(lots, made.grouped_by))
    record = split_csv_bytes(taught, made, perceptual_hashes(lots))
    package = write_spot_package(tmp_path, product=lots.product, more={"split.csv": record})
    fitted = {lots.rows[i].lot for i in made.fit.tolist()}
    tested = {lots.rows[i].lot for i in made.test.tolist()}
    old, new = min(lot for lot in fitted if lot), max(lot for lot in tested if lot)
    kept = tuple(
        replace(row, part=f"x{row.part}", group=f"x{row.part}")
        for row in lots.rows
        if row.lot == new
    )
    one = next(row for row in lots.rows if row.lot == new)
    late = replace(one, path="late.png", sha256="0" * 64, part="late", group="late", lot=old)
    other = replace(lots, name="other", rows=(*kept, late))
    (other.folder / "late.png").write_bytes(other.file(one).read_bytes())
    side = side_to_judge(package, None, other, "all")  # type: ignore[arg-type]
    assert {other.rows[i].lot for i in side.rows.tolist()} == {new}
    assert "1 part left out that the model was made from (1 by a group that was" in side.note
    assert side.groups is not None
    assert {side.groups[i] for i in side.rows.tolist()} == {new}
