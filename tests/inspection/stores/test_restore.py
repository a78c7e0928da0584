"""Restoring: from either database to either, wholly checked before and after, over nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inspection.errors import ConfigurationError, InputError, RecordError, RecordsDamaged
from inspection.stores.backup import make_backup
from inspection.stores.keys import AccessKeys
from inspection.stores.manifest import (
    Manifest,
    listed,
    read_manifest,
    require_manifest,
    write_list,
    write_manifest,
)
from inspection.stores.migrate import schema_status
from inspection.stores.places import records_path
from inspection.stores.portable import examine_records
from inspection.stores.restore import MARKER, check_backup, restore
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from tests.contracts.drafts import make_draft
from tests.contracts.plants import Plant
from tests.contracts.previous_release import images_of_0001, records_of_0001

if TYPE_CHECKING:
    from inspection.stores.restore import Restored
    from tests.postgres_server import PostgresServer


@pytest.fixture
def plant(any_url: str, tmp_path: Path) -> Plant:
    return Plant(data_dir=tmp_path, url=any_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Plant:
    """An empty place, once on each database."""
    place = tmp_path / "target"
    if request.param == "sqlite":
        return Plant(data_dir=place, url=f"sqlite:///{records_path(place)}")
    server: PostgresServer = request.getfixturevalue("postgres")
    return Plant(data_dir=place, url=server.empty())


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of a small plant."""
    plant = Plant.on_sqlite(tmp_path / "backed up")
    plant.live()
    return make_backup(plant.url, plant.images, tmp_path / "backup").folder


def put_back(folder: Path, target: Plant) -> Restored:
    return restore(folder, data_dir=target.data_dir, url=target.url)


def is_untouched(target: Plant) -> bool:
    if target.url.startswith("sqlite"):
        return not target.data_dir.exists()
    return schema_status(target.url).state == "empty" and not target.data_dir.exists()


# --- what comes back -----------------------------------------------------------------------------


def test_everything_comes_back_on_either_database(
    plant: Plant, target: Plant, tmp_path: Path
) -> None:
    plant.live()
    with closing(AccessKeys(plant.url)) as keys:
        text, key = keys.create("line-1", "station")
    make_backup(plant.url, plant.images, tmp_path / "backup")

    done = put_back(tmp_path / "backup", target)

    assert done.report.problems == ()
    assert (done.report.records, done.report.images) == (10, 12)
    assert target.rows() == plant.rows()
    assert list(target.images.digests()) == list(plant.images.digests())
    with closing(AccessKeys(target.url)) as keys:
        assert keys.authenticate(text) == key
    assert not (target.data_dir / MARKER).exists()


def test_work_goes_on_where_the_backup_ends(plant: Plant, target: Plant, tmp_path: Path) -> None:
    draft = plant.draft(serial="A1")
    with closing(open_records(plant.url)) as store:
        first = store.append(draft)
    make_backup(plant.url, plant.images, tmp_path / "backup")
    put_back(tmp_path / "backup", target)
    with closing(open_records(target.url)) as store:
        assert store.append(draft) == first
        second = store.append(target.draft(serial="A1"))
    assert (second.attempt, second.trace_id > first.trace_id) == (2, True)
    # And the backup goes on with the records in their new place.
    again = make_backup(target.url, target.images, tmp_path / "backup")
    assert (again.manifest.tree_size, again.brought) == (2, 2)
    assert verify_store(target.url, target.images).problems == ()


def test_a_backup_of_an_older_release_is_brought_to_this_one(target: Plant, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    old = Plant.on_sqlite(folder)
    digests = sorted(bytes.fromhex(old.images.put(data)) for data in images_of_0001())
    (folder / "images" / "incoming").rmdir()
    records_of_0001(folder / "records-old.db")
    with closing(sqlite3.connect(folder / "records-old.db")) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    contents = examine_records(folder / "records-old.db")
    manifest = Manifest(
        format="inspection-backup-1",
        made_at="2026-04-02T00:00:00.000Z",
        kept_in="sqlite",
        revision="0001",
        tree_size=contents.size,
        tree_root=contents.root,
        records=listed(folder / "records-old.db"),
        files=write_list(folder / "files-old.sha256", digests),
        images=len(digests),
        image_bytes=0,
        missing=(),
    )
    write_manifest(folder, manifest)
    assert put_back(folder, target).report.problems == ()
    assert schema_status(target.url).state == "current"
    with closing(open_records(target.url)) as store:
        assert len(store.part_history("knuckle", "0000000001")) == 5
    write_manifest(folder, replace(manifest, revision="9999"))
    with pytest.raises(ConfigurationError):
        restore(folder, data_dir=tmp_path / "b", url=f"sqlite:///{tmp_path / 'b' / 'records.db'}")


def test_what_was_missing_when_it_was_backed_up_is_said_again(
    target: Plant, tmp_path: Path
) -> None:
    plant = Plant.on_sqlite(tmp_path / "plant")
    lost, _ = plant.inspect(2)
    plant.images.path(lost.image_sha256).unlink()
    make_backup(plant.url, plant.images, tmp_path / "backup")
    done = put_back(tmp_path / "backup", target)
    assert len(done.report.problems) == 1
    assert lost.image_sha256 in done.report.problems[0]
    with closing(open_records(target.url)) as store:
        assert store.newest() == 2


# --- what is not restored ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["manifest", "records", "list", "image"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_backup_touches_nothing(
    backup: Path, tmp_path: Path, part: str, how: str
) -> None:
    place = tmp_path / "target"
    target = Plant(data_dir=place, url=f"sqlite:///{records_path(place)}")
    manifest = require_manifest(backup)
    path = {
        "manifest": backup / "manifest.json",
        "records": backup / manifest.records.name,
        "list": backup / manifest.files.name,
        "image": next(path for path in sorted((backup / "images").rglob("*")) if path.is_file()),
    }[part]
    data = path.read_bytes()
    path.unlink()
    if how == "changed":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises((RecordsDamaged, InputError)):
        put_back(backup, target)
    assert is_untouched(target)
    if part != "manifest":
        assert not check_backup(backup).ok


def test_a_manifest_that_agrees_with_false_records_does_not_help_them(
    backup: Path, target: Plant
) -> None:
    manifest = require_manifest(backup)
    records = backup / manifest.records.name
    with closing(sqlite3.connect(records)) as database, database:
        database.execute("DELETE FROM entries WHERE sequence = 10")
        database.execute("DELETE FROM tree_heads WHERE size = 10")
    write_manifest(backup, replace(manifest, records=listed(records)))
    with pytest.raises(RecordsDamaged) as caught:
        put_back(backup, target)
    assert "tree head" in str(caught.value)
    assert is_untouched(target)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "inspection-backup-9"},
        {"tree_size": -1},
        {"tree_root": "x" * 64},
        {"records": {"name": "../records.db", "size_bytes": 1, "sha256": "ab" * 32}},
        {"records": {"name": "a", "size_bytes": "1", "sha256": "ab" * 32}},
        {"more": 1},
    ],
)
def test_a_manifest_of_another_form_is_refused(backup: Path, change: dict[str, object]) -> None:
    text = json.dumps({**asdict(require_manifest(backup)), **change})
    (backup / "manifest.json").write_text(text)
    with pytest.raises(RecordsDamaged):
        read_manifest(backup)


def test_a_folder_without_backup_is_an_input_error(tmp_path: Path, target: Plant) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError) as caught:
            put_back(folder, target)
        assert "inspection backup" in caught.value.remedy


# --- where it is not restored to -----------------------------------------------------------------


def test_records_are_never_overwritten(backup: Path, plant: Plant) -> None:
    plant.inspect(1)
    before = plant.rows()
    for target in (plant, replace(plant, data_dir=plant.data_dir / "fresh")):
        with pytest.raises(InputError) as caught:
            put_back(backup, target)
        assert "not empty" in str(caught.value)
    assert plant.rows() == before
    assert not (plant.data_dir / MARKER).exists()


def test_images_are_never_mixed_with_others(backup: Path, target: Plant) -> None:
    target.data_dir.mkdir()
    target.images.put(b"somebody's")
    with pytest.raises(InputError):
        put_back(backup, target)
    assert len(list(target.images.digests())) == 1


@pytest.mark.parametrize("log", ["-wal", "-journal"])
def test_a_log_without_its_file_is_not_given_another(
    backup: Path, tmp_path: Path, log: str
) -> None:
    target = Plant.on_sqlite(tmp_path / "target")
    left = target.data_dir / f"records.db{log}"
    left.write_bytes(b"of other records")
    with pytest.raises(InputError):
        put_back(backup, target)
    assert [path.name for path in target.data_dir.iterdir()] == [left.name]


def test_a_database_of_other_things_is_left_alone(
    backup: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.empty()
    postgres.run("CREATE TABLE other (x int)", url.partition("?")[0].rpartition("/")[2])
    with pytest.raises(InputError):
        restore(backup, data_dir=tmp_path / "target", url=url)
    assert schema_status(url).state == "foreign"


@pytest.mark.parametrize(
    "at", ["_bring_images", "_place_records", "load_records", "shutil.copyfile", "verify_store"]
)
def test_a_restore_that_is_interrupted_can_be_done_again(
    backup: Path, target: Plant, monkeypatch: pytest.MonkeyPatch, at: str, tmp_path: Path
) -> None:
    if at == "load_records" and target.url.startswith("sqlite"):
        pytest.skip("a SQLite file is put in place by one rename")

    def interrupted(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"inspection.stores.restore.{at}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put_back(backup, target)
    assert (target.data_dir / MARKER).exists()
    other = Plant.on_sqlite(tmp_path / "another")
    other.inspect(1)
    make_backup(other.url, other.images, tmp_path / "another backup")
    with pytest.raises(InputError):
        put_back(tmp_path / "another backup", target)

    assert put_back(backup, target).report.problems == ()
    assert not (target.data_dir / MARKER).exists()
    with closing(open_records(target.url)) as store:
        assert store.newest() == 10
        store.append(make_draft())


def test_a_database_that_refuses_in_the_middle_is_left_without_tables(
    backup: Path, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.empty()
    monkeypatch.setattr(
        "inspection.stores.portable._in_order", lambda *_words: [("nothing", ["a"])]
    )
    with pytest.raises(RecordError):
        restore(backup, data_dir=tmp_path / "target", url=url)
    assert schema_status(url).state == "empty"


def test_a_read_only_backup_can_be_restored(backup: Path, target: Plant) -> None:
    # As from a DVD or a snapshot: nothing beside the records file may be needed.
    for path in (backup, *backup.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert put_back(backup, target).report.ok
    finally:
        for path in (backup, *backup.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
    shutil.rmtree(backup)
    assert verify_store(target.url, target.images).ok
