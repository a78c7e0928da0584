"""The newest calibration is in force, or nothing is and the reason is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from inspection.decoding.acquisition import Acquisition
from inspection.detector import book as book_module
from inspection.detector.book import DetectorBook, folder_name
from inspection.detector.calibrating import calibrate
from inspection.detector.calibration import write_calibration
from inspection.detector.checks import CHECKS_NAME, Check, add_check
from inspection.detector.health import LIMITS_NAME, measure
from inspection.errors import Unjudgeable
from tests.panels import MADE_AT, Panel

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.detector.calibration import Calibration

MADE = datetime.fromisoformat(MADE_AT)
PANEL = Panel(size_px=(40, 48))


class Clock:
    def __init__(self) -> None:
        self.now = MADE + timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def made() -> Calibration:
    return PANEL.calibration(max_age_s=8 * 3600.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(book_module, "LOOK_EVERY_S", 0.0)
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> DetectorBook:
    return DetectorBook(tmp_path / "detectors", now=clock)


def check_of(made: Calibration, hours: float, *complaints: str) -> Check:
    at = MADE.astimezone(UTC) + timedelta(hours=hours)
    return Check(
        checked_at=at.isoformat(),
        detector=None,
        calibration=made.flat.digest,
        dark_frames=8,
        open_frames=8,
        figures=measure(made, *PANEL.series(8)),
        complaints=complaints,
    )


def why(book: DetectorBook, station: str = "xray-1", said: str | None = None) -> tuple[str, str]:
    acquisition = None if said is None else Acquisition(detector=said)
    with pytest.raises(Unjudgeable) as caught:
        book.flat_field(station, acquisition)
    return caught.value.reason, str(caught.value)


def test_without_a_calibration_nothing_is_judged(book: DetectorBook) -> None:
    code, words = why(book)
    assert code == "calibration-missing"
    assert "inspection detector calibrate --station xray-1" in words
    assert book.stations() == ()
    for name in ("..", "../../etc", "a/b", ".", "x" * 190 + "\N{SNOWMAN}" * 10):
        assert why(book, name)[0] == "calibration-missing"


def test_the_newest_is_in_force_and_taken_up_while_it_runs(
    book: DetectorBook, made: Calibration
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    assert book.flat_field("xray-1", None).digest == made.flat.digest
    assert book.flat_field("xray-1", None) is book.flat_field("xray-1", None)
    newer = PANEL.calibration(made_at="2026-11-22T06:30:00.000Z")
    write_calibration(newer, folder)
    assert book.flat_field("xray-1", None).digest == newer.flat.digest
    add_check(folder, check_of(newer, 0.9))
    flat = book.flat_field("xray-1", None)
    assert (flat.digest, flat.checked_at) == (newer.flat.digest, check_of(newer, 0.9).checked_at)
    assert [each.station for each in book.stations()] == ["xray-1"]


def test_an_old_one_and_one_of_tomorrow_are_stale(
    book: DetectorBook, clock: Clock, made: Calibration
) -> None:
    write_calibration(made, book.folder("xray-1"))
    clock.now = MADE + timedelta(hours=8, seconds=1)
    code, words = why(book)
    assert code == "calibration-stale"
    assert "older than 8 h" in words
    clock.now = MADE - timedelta(hours=1)
    assert "yet to come" in why(book)[1]
    clock.now = MADE - timedelta(minutes=1)
    book.flat_field("xray-1", None)


def test_another_detector_and_another_station_are_foreign(
    book: DetectorBook, made: Calibration
) -> None:
    write_calibration(made, book.folder("xray-2"))
    assert why(book, "xray-2")[0] == "calibration-foreign"
    mine = calibrate(
        *PANEL.series(), station="xray-1", made_at=MADE_AT, max_age_s=1e5, detector="A"
    )
    write_calibration(mine, book.folder("xray-1"))
    assert book.flat_field("xray-1", Acquisition(detector="A")).detector == "A"
    code, words = why(book, said="B")
    assert code == "calibration-foreign"
    assert "of detector B, the calibration of xray-1 is of A" in words


def test_another_tube_voltage_is_foreign(book: DetectorBook) -> None:
    dark, beam = PANEL.series()
    mine = calibrate(
        dark, replace(beam, kv=120.0), station="xray-1", made_at=MADE_AT, max_age_s=1e5
    )
    write_calibration(mine, book.folder("xray-1"))
    for said in (None, 118.0, 126.0):
        assert book.flat_field("xray-1", Acquisition(kv=said)).station == "xray-1"
    with pytest.raises(Unjudgeable, match=r"taken at 100 kV, .* at 120 kV") as caught:
        book.flat_field("xray-1", Acquisition(kv=100.0))
    assert caught.value.reason == "calibration-foreign"


def test_a_damaged_newest_one_is_not_replaced_by_the_one_before(
    book: DetectorBook, made: Calibration
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    newer = write_calibration(PANEL.calibration(made_at="2026-11-22T06:30:00.000Z"), folder)
    newer.write_bytes(newer.read_bytes()[:-100])
    code, words = why(book)
    assert code == "calibration-missing"
    assert f"{newer.name} is damaged" in words
    newer.unlink()
    assert book.flat_field("xray-1", None).digest == made.flat.digest
    (folder / LIMITS_NAME).write_text("lagg = 1")
    assert "lagg" in why(book)[1]


def test_an_unfit_detector_judges_nothing_until_a_check_finds_it_fit(
    book: DetectorBook, made: Calibration
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    add_check(folder, check_of(made, 0.2, "lag is 2%, at most 1% is allowed"))
    code, words = why(book)
    assert code == "detector-unfit"
    assert "lag is 2%" in words
    add_check(folder, check_of(made, 0.3))
    book.flat_field("xray-1", None)
    with (folder / CHECKS_NAME).open("ab") as file:
        file.write(b'{"torn')
    assert why(book)[0] == "detector-unfit"


def test_a_check_gets_too_old_where_the_station_says_so(
    book: DetectorBook, clock: Clock, made: Calibration
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    (folder / LIMITS_NAME).write_text("check_every_h = 2\n")
    code, words = why(book)
    assert code == "calibration-stale"
    assert "never checked" in words
    add_check(folder, check_of(made, 0.5))
    book.flat_field("xray-1", None)
    clock.now = MADE + timedelta(hours=3)
    assert "inspection detector check --station xray-1" in why(book)[1]


def test_a_check_of_the_calibration_before_says_nothing_of_the_new_one(
    book: DetectorBook, made: Calibration
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    add_check(folder, check_of(made, 0.4))
    write_calibration(PANEL.calibration(made_at="2026-11-22T06:30:00.000Z"), folder)
    assert book.flat_field("xray-1", None).checked_at is None
    (folder / LIMITS_NAME).write_text("check_every_h = 2\n")
    code, words = why(book)
    assert (code, "since it was calibrated" in words) == ("calibration-stale", True)


def test_names_of_stations_never_leave_the_folder() -> None:
    names = ["..", ".", "a/b", "../x", ".hidden", "x-ray 1", "Linie 3/Süd"]
    for name in names:
        folder = folder_name(name)
        assert "/" not in folder
        assert not folder.startswith(".")
    assert len({folder_name(name) for name in names}) == len(names)


def test_a_replaced_check_time_costs_no_new_reading(
    book: DetectorBook, made: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = book.folder("xray-1")
    write_calibration(made, folder)
    book.flat_field("xray-1", None)

    def read(path: Path) -> Calibration:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(book_module, "read_calibration", read)
    add_check(folder, replace(check_of(made, 0.5)))
    assert book.flat_field("xray-1", None).checked_at is not None
