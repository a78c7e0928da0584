"""What fsck finds, what it makes again, and what it leaves to a backup."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from inspection.errors import RecordsDamaged
from inspection.stores.database import open_engine
from inspection.stores.files import INCOMING
from inspection.stores.fsck import check_store
from inspection.stores.places import images_dir
from tests.contracts.plants import Plant

if TYPE_CHECKING:
    from inspection.stores.fsck import FsckReport


@pytest.fixture
def plant(any_url: str, tmp_path: Path) -> Plant:
    made = Plant(data_dir=tmp_path, url=any_url)
    made.live()
    return made


def check(plant: Plant, *, repair: bool = False) -> FsckReport:
    return check_store(plant.url, images_dir(plant.data_dir), repair=repair)


def damage(plant: Plant, statement: str) -> None:
    engine = open_engine(plant.url, writing=True)
    with engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount
    engine.dispose()


def test_a_sound_store_needs_nothing(plant: Plant) -> None:
    before = plant.rows()
    for repair in (False, True):
        found = check(plant, repair=repair)
        assert (found.ok, found.extra, found.repaired, found.cleared) == (True, (), (), 0)
    assert plant.rows() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inspections SET disposition = 'pass' WHERE sequence = 2",
        "DELETE FROM inspections WHERE sequence = 3",
        "INSERT INTO findings VALUES ('dent', 4)",
        "DELETE FROM reviews",
        "DELETE FROM mentions",
        "UPDATE part_names SET root = 'Z'",
        "UPDATE holds SET released = 3",
        "DELETE FROM statements WHERE kind = 'event'",
        "UPDATE counts SET inspections = inspections + 1",
        "DELETE FROM tallies",
    ],
)
def test_derived_rows_are_made_again_from_the_records(plant: Plant, statement: str) -> None:
    before = plant.rows()
    damage(plant, statement)
    assert not check(plant).ok
    assert plant.rows() != before
    found = check(plant, repair=True)
    assert found.report.problems == ()
    assert found.repaired
    assert plant.rows() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = leaf_hash WHERE sequence = 2",
        "UPDATE entries SET leaf_hash = body WHERE sequence = 2",
        "DELETE FROM entries WHERE sequence = 10",
        "UPDATE tree_heads SET root = peaks WHERE size = 10",
    ],
)
def test_records_are_never_repaired(plant: Plant, statement: str) -> None:
    damage(plant, statement)
    before = plant.rows()
    assert not check(plant).ok
    with pytest.raises(RecordsDamaged) as caught:
        check(plant, repair=True)
    assert "backup" in caught.value.remedy
    assert plant.rows() == before


def test_missing_and_damaged_files_are_found_and_not_made_up(plant: Plant) -> None:
    first, second, *_ = (path for path in sorted(plant.images.root.glob("??/*")))
    first.unlink()
    second.chmod(0o644)
    second.write_bytes(b"other")
    for repair in (False, True):
        found = check(plant, repair=repair)
        assert len(found.report.problems) == 2
        assert "missing" in " ".join(found.report.problems)
        assert "holds something else" in " ".join(found.report.problems)


def test_extra_files_are_listed_one_by_one_and_kept(plant: Plant) -> None:
    digest = plant.images.put(b"sent, but never recorded")
    stranger = plant.images.root / "notes.txt"
    stranger.write_text("mine")
    for repair in (False, True):
        found = check(plant, repair=repair)
        assert found.ok
        assert {(each.path, each.why) for each in found.extra} == {
            (plant.images.path(digest), "unnamed"),
            (stranger, "leftover"),
        }
    assert stranger.exists()


def test_only_stale_leftovers_are_cleared(plant: Plant) -> None:
    names = f"{os.getpid()}-old", f"{os.getpid()}-fresh"
    old, fresh = (plant.images.root / INCOMING / name for name in names)
    for path in (old, fresh):
        path.write_bytes(b"half an ima")
    os.utime(old, (0, 0))
    assert {each.path for each in check(plant).extra} == {old, fresh}
    found = check(plant, repair=True)
    assert (found.cleared, [each.path for each in found.extra]) == (1, [fresh])
    assert (old.exists(), fresh.exists()) == (False, True)
