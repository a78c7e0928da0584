"""Calibrations and checks are backed up with the records that name them, and come back whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inspection.detector.book import DetectorBook
from inspection.detector.calibration import write_calibration
from inspection.detector.checks import Check, add_check
from inspection.detector.health import LIMITS_NAME, measure
from inspection.errors import InputError, RecordsDamaged
from inspection.stores.backup import make_backup
from inspection.stores.detector_files import DETECTORS, MOST_FILES, read_names
from inspection.stores.files import FileImageStore
from inspection.stores.manifest import NAME, require_manifest
from inspection.stores.places import detectors_dir, records_url
from inspection.stores.restore import MARKER, check_backup, restore
from tests.contracts.plants import Plant
from tests.panels import Panel

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.stores.backup import Backup

STATION = "x-ray/1"
PANEL = Panel(size_px=(32, 32))
FIRST = PANEL.calibration(station=STATION)
SECOND = PANEL.calibration(station=STATION, made_at="2026-11-22T14:00:00.000Z")
CHECK = Check(
    checked_at="2026-11-22T15:00:00.000Z",
    detector=None,
    calibration=SECOND.flat.digest,
    dark_frames=16,
    open_frames=16,
    figures=measure(SECOND, *PANEL.series()),
    complaints=(),
)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Records, two calibrations of a station, and a check."""
    made = Plant.on_sqlite(tmp_path / "plant")
    made.inspect(1)
    place = station_folder(made)
    for calibration in (FIRST, SECOND):
        write_calibration(calibration, place)
    add_check(place, CHECK)
    (place / LIMITS_NAME).write_text("check_every_h = 24.0\n")
    (place / "notes.txt").write_text("not the server's")
    return made


def nowhere(place: Path) -> Plant:
    """A place that is not there yet."""
    return Plant(data_dir=place, url=records_url(place))


def station_folder(plant: Plant) -> Path:
    return DetectorBook(detectors_dir(plant.data_dir)).folder(STATION)


def back_up(plant: Plant, folder: Path) -> Backup:
    return make_backup(plant.url, plant.images, folder, detectors=detectors_dir(plant.data_dir))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_the_server_knew_of_its_detectors_comes_back(plant: Plant, tmp_path: Path) -> None:
    folder, fresh = tmp_path / "backup", nowhere(tmp_path / "fresh")
    made = back_up(plant, folder)
    assert (made.problems, made.brought) == ((), 2 + 4)
    assert check_backup(folder).problems == ()
    assert restore(folder, data_dir=fresh.data_dir, url=fresh.url).report.problems == ()
    wanted = contents(station_folder(plant))
    del wanted["notes.txt"]
    assert contents(station_folder(fresh)) == wanted
    standing = DetectorBook(detectors_dir(fresh.data_dir)).standing(STATION)
    assert standing.calibration is not None
    assert standing.calibration.flat.digest == SECOND.flat.digest
    assert standing.trend.last == CHECK
    # What is checked from now on is not written into the backup.
    add_check(station_folder(fresh), replace(CHECK, checked_at="2026-11-22T16:00:00.000Z"))
    assert check_backup(folder).problems == ()


def test_the_next_backup_brings_what_is_new_and_keeps_what_was_measured(
    plant: Plant, tmp_path: Path
) -> None:
    folder, place = tmp_path / "backup", station_folder(plant)
    before = back_up(plant, folder)
    add_check(place, replace(CHECK, checked_at="2026-11-22T16:00:00.000Z"))
    (place / LIMITS_NAME).unlink()
    first = min(place.glob("*.npz"))
    first.unlink()
    made = back_up(plant, folder)
    assert (made.brought, made.problems) == (1, ())
    assert before.manifest.detectors is not None
    assert made.manifest.detectors is not None
    assert not (folder / before.manifest.detectors.name).exists()
    names = read_names(folder / made.manifest.detectors.name)
    assert {name.rpartition("/")[2] for name in names} == {*contents(place), first.name} - {
        "notes.txt"
    }
    kept = FileImageStore(folder / DETECTORS, read_only=True)
    assert set(kept.digests()) == set(names.values())
    assert check_backup(folder).problems == ()


def test_a_calibration_that_is_damaged_is_said_and_kept_as_it_is(
    plant: Plant, tmp_path: Path
) -> None:
    newest = max(station_folder(plant).glob("*.npz"))
    newest.write_bytes(newest.read_bytes()[:-100])
    made = back_up(plant, tmp_path / "backup")
    assert len(made.problems) == 1
    assert newest.name in made.problems[0]
    assert check_backup(tmp_path / "backup").ok


@pytest.mark.parametrize("how", ["gone", "altered", "no list"])
def test_a_backup_whose_calibrations_do_not_hold_is_not_restored(
    plant: Plant, tmp_path: Path, how: str
) -> None:
    folder, fresh = tmp_path / "backup", nowhere(tmp_path / "fresh")
    made = back_up(plant, folder)
    assert made.manifest.detectors is not None
    names = folder / made.manifest.detectors.name
    digest = next(each for name, each in read_names(names).items() if name.endswith(".npz"))
    path = FileImageStore(folder / DETECTORS, read_only=True).path(digest)
    data = path.read_bytes()
    (names if how == "no list" else path).unlink()
    if how == "altered":
        path.write_bytes(data[:-1] + b"!")
    with pytest.raises(RecordsDamaged):
        restore(folder, data_dir=fresh.data_dir, url=fresh.url)
    assert not fresh.data_dir.exists()


@pytest.mark.parametrize("name", ["../x.npz", "x/../y.npz", "/x.npz", "a/b/c.npz", "x", "", "x/é"])
def test_a_list_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "list").write_text(f"{'0' * 64}  x/y.npz\n{'0' * 64}  {name}\n")
    with pytest.raises(RecordsDamaged, match="names no file of a station"):
        read_names(tmp_path / "list")


def test_a_list_has_its_bounds(tmp_path: Path) -> None:
    lines = (f"{'0' * 64}  x/{number}.npz\n" for number in range(MOST_FILES + 1))
    (tmp_path / "list").write_text("".join(lines))
    with pytest.raises(RecordsDamaged):
        read_names(tmp_path / "list")


def test_calibrations_that_are_there_are_not_mixed_with_those_of_a_backup(
    plant: Plant, tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "backup", nowhere(tmp_path / "fresh")
    back_up(plant, folder)
    write_calibration(FIRST, station_folder(fresh))
    with pytest.raises(InputError, match="is not empty"):
        restore(folder, data_dir=fresh.data_dir, url=fresh.url)
    assert not (fresh.data_dir / MARKER).exists()


def test_a_restore_that_was_interrupted_goes_on(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, fresh = tmp_path / "backup", nowhere(tmp_path / "fresh")
    back_up(plant, folder)

    def interrupted(*_words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("inspection.stores.restore._place_records", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(folder, data_dir=fresh.data_dir, url=fresh.url)
    assert restore(folder, data_dir=fresh.data_dir, url=fresh.url).report.problems == ()
    assert len(contents(station_folder(fresh))) == 4


def test_a_backup_without_detectors_is_one_that_the_release_before_reads(tmp_path: Path) -> None:
    plant = Plant.on_sqlite(tmp_path / "plant")
    plant.inspect(1)
    made = back_up(plant, tmp_path / "backup")
    assert "detectors" not in (tmp_path / "backup" / NAME).read_text()
    assert require_manifest(tmp_path / "backup") == made.manifest
