"""Backups: made while writers go on, proven before they replace anything, small the next time."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inspection.errors import InputError, RecordError, RecordsDamaged
from inspection.stores.backup import make_backup
from inspection.stores.files import FileImageStore
from inspection.stores.manifest import IMAGES, read_manifest
from inspection.stores.places import records_path
from inspection.stores.portable import examine_records
from inspection.stores.restore import check_backup, restore
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from tests.contracts.plants import Plant

if TYPE_CHECKING:
    from inspection.record import InspectionRecord
    from inspection.stores.backup import Backup


@pytest.fixture
def plant(any_url: str, tmp_path: Path) -> Plant:
    return Plant(data_dir=tmp_path, url=any_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "away" / "backup"


def back_up(plant: Plant, folder: Path) -> Backup:
    return make_backup(plant.url, plant.images, folder)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_backup_holds_every_row_and_file_and_who_may_read_it(plant: Plant, folder: Path) -> None:
    plant.live()
    made = back_up(plant, folder)
    assert (made.problems, made.brought, made.manifest.images) == ((), 12, 12)
    assert made.manifest.tree_size == 10
    assert check_backup(folder).problems == ()
    # A records file is a store by itself.
    copy = Plant(data_dir=folder, url=f"sqlite:///{folder / made.manifest.records.name}")
    assert copy.rows() == plant.rows()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / made.manifest.records.name).stat().st_mode & 0o777 == 0o600


def test_an_empty_store_has_a_backup_too(plant: Plant, folder: Path) -> None:
    assert back_up(plant, folder).manifest.tree_size == 0
    assert check_backup(folder).ok


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_the_list_of_files_is_one_that_every_linux_can_check(plant: Plant, folder: Path) -> None:
    plant.inspect(2)
    made = back_up(plant, folder)
    command = ["sha256sum", "--check", "--strict", "--quiet", made.manifest.files.name]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0


def test_the_next_backup_brings_only_what_is_new(plant: Plant, folder: Path) -> None:
    plant.inspect(3)
    first = back_up(plant, folder)
    kept = {path: path.stat().st_ino for path in (folder / IMAGES).rglob("*") if path.is_file()}
    plant.inspect(1)
    second = back_up(plant, folder)
    assert (second.brought, second.manifest.images) == (2, 8)
    assert {path: path.stat().st_ino for path in kept} == kept
    assert not (folder / first.manifest.records.name).exists()
    assert not (folder / first.manifest.files.name).exists()
    assert check_backup(folder).problems == ()


def test_files_are_shared_on_one_disk_and_copied_to_another(plant: Plant, folder: Path) -> None:
    (record,) = plant.inspect(1)
    back_up(plant, folder)
    name = record.image_sha256
    ours = plant.images.path(name).stat()
    assert FileImageStore(folder / IMAGES).path(name).stat().st_ino == ours.st_ino
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == ours.st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=other) as place:
        back_up(plant, Path(place) / "backup")
        copy = FileImageStore(Path(place) / "backup" / IMAGES).path(name)
        assert copy.read_bytes() == plant.images.get(name)
        assert copy.stat().st_nlink == 1
        assert check_backup(Path(place) / "backup").ok


def test_a_disk_that_does_not_keep_what_was_linked_makes_no_backup(
    plant: Plant, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = plant.inspect(1)

    def refuse(_disk: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("inspection.stores.files.sync_disk", refuse)
        with pytest.raises(RecordError, match="could not be written"):
            back_up(plant, folder)
    assert not (folder / "manifest.json").exists()
    assert not FileImageStore(folder / IMAGES).path(record.image_sha256).exists()
    assert back_up(plant, folder).brought > 0


@pytest.mark.slow
def test_backups_under_load_are_consistent_and_hold_what_was_acknowledged(
    plant: Plant, folder: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    acknowledged: list[InspectionRecord] = []
    with closing(open_records(plant.url)) as store, ThreadPoolExecutor(3) as pool:

        def write() -> None:
            while not stop.is_set():
                acknowledged.append(store.append(plant.draft(serial=None)))

        writers = [pool.submit(write) for _ in range(3)]
        try:
            for _ in range(4):
                before = {record.id for record in acknowledged}
                made = back_up(plant, folder)
                assert made.problems == ()
                assert check_backup(folder).problems == ()
                with closing(sqlite3.connect(folder / made.manifest.records.name)) as copy:
                    rows = copy.execute("SELECT sequence, id FROM entries ORDER BY 1").fetchall()
                assert [sequence for sequence, _ in rows] == list(range(1, len(rows) + 1))
                assert before <= {name for _, name in rows}
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert len(acknowledged) > 4
    other = tmp_path / "other"
    done = restore(folder, data_dir=other, url=f"sqlite:///{records_path(other)}")
    assert done.report.problems == ()
    assert verify_store(plant.url, plant.images).problems == ()


def test_a_file_that_was_erased_goes_from_the_backup_too(plant: Plant, folder: Path) -> None:
    gone, stays = plant.inspect(2)
    back_up(plant, folder)
    plant.erase(gone.image_sha256)
    made = back_up(plant, folder)
    kept = FileImageStore(folder / IMAGES, read_only=True)
    assert (made.removed, made.problems) == (1, ())
    assert gone.image_sha256 not in set(kept.digests())
    assert stays.image_sha256 in set(kept.digests())
    assert check_backup(folder).problems == ()


def test_a_file_that_the_store_lost_stays_in_the_backup(plant: Plant, folder: Path) -> None:
    (lost,) = plant.inspect(1)
    back_up(plant, folder)
    plant.images.path(lost.image_sha256).unlink()
    made = back_up(plant, folder)
    assert (made.removed, made.problems) == (0, ())
    assert FileImageStore(folder / IMAGES).get(lost.image_sha256)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_store_that_lacks_a_file_is_backed_up_and_says_so(
    plant: Plant, folder: Path, how: str
) -> None:
    lost, _ = plant.inspect(2)
    path = plant.images.path(lost.image_sha256)
    path.unlink()
    if how == "damaged":
        path.write_bytes(b"other")
    made = back_up(plant, folder)
    assert len(made.problems) == 1
    assert lost.image_sha256 in made.problems[0]
    assert made.manifest.missing == (lost.image_sha256,)
    assert check_backup(folder).ok


def test_a_file_erased_while_the_backup_runs_is_not_missing(
    plant: Plant, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, _ = plant.inspect(2)
    get = FileImageStore.get
    erased: list[str] = []

    def erase_first(images: FileImageStore, sha256: str) -> bytes:
        if not erased:
            erased.append(gone.image_sha256)
            plant.erase(gone.image_sha256)
        return get(images, sha256)

    monkeypatch.setattr(FileImageStore, "get", erase_first)
    made = back_up(plant, folder)
    assert (made.problems, made.manifest.missing, made.manifest.tree_size) == ((), (), 3)
    assert check_backup(folder).ok


def test_history_that_was_rewritten_does_not_replace_the_true_one(
    folder: Path, tmp_path: Path
) -> None:
    true = Plant.on_sqlite(tmp_path / "true")
    true.inspect(3)
    back_up(true, folder)
    before = files_in(folder)
    other = Plant.on_sqlite(tmp_path / "other")
    other.inspect(4)
    shorter = Plant.on_sqlite(tmp_path / "shorter")
    shorter.inspect(1)
    for plant in (other, shorter):
        with pytest.raises(RecordsDamaged) as caught:
            back_up(plant, folder)
        assert "do not continue" in str(caught.value)
    assert files_in(folder) == before
    assert check_backup(folder).ok


def test_records_that_do_not_hold_are_not_backed_up(folder: Path, tmp_path: Path) -> None:
    plant = Plant.on_sqlite(tmp_path / "plant")
    plant.inspect(2)
    with closing(sqlite3.connect(records_path(plant.data_dir))) as database, database:
        database.execute("UPDATE entries SET body = replace(body, 'xray', 'xraz')")
    with pytest.raises(RecordsDamaged):
        back_up(plant, folder)
    assert files_in(folder) == set()


@pytest.mark.parametrize("at", ["examine_records", "bring_file", "write_list", "write_manifest"])
def test_a_backup_that_is_interrupted_leaves_the_one_before(
    plant: Plant, folder: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    plant.inspect(2)
    back_up(plant, folder)
    stands = read_manifest(folder)
    plant.inspect(2)

    def interrupted(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"inspection.stores.backup.{at}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            back_up(plant, folder)
    assert read_manifest(folder) == stands
    assert check_backup(folder).problems == ()
    made = back_up(plant, folder)
    assert made.manifest.tree_size == 4
    kept = {"manifest.json", made.manifest.records.name, made.manifest.files.name}
    assert {name for name in files_in(folder) if not name.startswith(IMAGES)} == kept
    assert check_backup(folder).problems == ()


def test_two_backups_to_one_folder_do_not_mix(
    plant: Plant, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.inspect(1)
    second: list[str] = []

    def examine(path: Path, *, earlier: int = 0) -> object:
        with pytest.raises(RecordError) as caught:
            back_up(plant, folder)
        second.append(str(caught.value))
        return examine_records(path, earlier=earlier)

    monkeypatch.setattr("inspection.stores.backup.examine_records", examine)
    back_up(plant, folder)
    assert "another backup" in second[0]


def test_a_folder_of_other_things_is_left_alone(plant: Plant, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        back_up(plant, folder)
    assert "thesis.txt" in str(caught.value)
    with pytest.raises(InputError):
        back_up(plant, folder / "thesis.txt")
    assert files_in(folder) == {"thesis.txt"}


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(plant: Plant) -> None:
    plant.inspect(1)
    with pytest.raises(RecordError) as caught:
        back_up(plant, Path("/proc/backup"))
    assert "right to write" in caught.value.remedy


def test_records_that_are_not_there_cannot_be_backed_up(tmp_path: Path, folder: Path) -> None:
    nothing = replace(Plant.on_sqlite(tmp_path), url=f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(InputError):
        back_up(nothing, folder)
    assert not folder.exists()


def test_the_backup_says_what_the_disk_refused(plant: Plant, folder: Path) -> None:
    plant.inspect(1)
    folder.mkdir(parents=True)
    (folder / IMAGES).write_text("in the way")
    with pytest.raises(RecordError):
        back_up(plant, folder)
    assert files_in(folder) == {IMAGES}
