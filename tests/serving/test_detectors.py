"""Images are flat-fielded while serving; what forbids it becomes a review with its reason."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from inspection.detector.calibration import write_calibration
from inspection.detector.checks import Check, add_check
from inspection.detector.health import measure
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.panels import Panel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inspection.detector.calibration import Calibration

SIZE = (128, 128)
GREY = 0.2 * 65_535 / 50_000  # what the spot model takes for a good part, relative to the beam
PANEL = Panel(size_px=SIZE, stuck=((40, 40),))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose product flat-fields."""
    folder = tmp_path_factory.mktemp("flat")
    promoted_spot(folder / "weights", bits=16, flat_field=True)
    with running(settings_in(folder)) as server:
        yield server


def post(live: Live, station: str, number: int, signal: Any = GREY) -> dict[str, Any]:
    """The record of one image, as it stands in the store."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PANEL.image(signal), metadata=None)
    posted = live.post(
        buffer.getvalue(),
        station=station,
        capture_id=f"{station}-{number}",
        serial=serial(number),
        content_type="image/tiff",
    )
    assert posted.status_code == 201, posted.text
    read: dict[str, Any] = live.http.get(f"/v1/inspections/{posted.json()['id']}").json()
    return read


def stamp(hours_ago: float = 0.0) -> str:
    moment = datetime.now(UTC) - timedelta(hours=hours_ago)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def install(live: Live, made: Calibration) -> Path:
    folder = live.server.detectors.folder(made.facts.station)
    write_calibration(made, folder)
    return folder


def shown(live: Live, station: str) -> dict[str, Any]:
    items = live.http.get("/v1/detectors").json()["items"]
    found: dict[str, Any] = next(each for each in items if each["station"] == station)
    return found


def metric(live: Live, name: str, station: str) -> float:
    lines = live.http.get("/metrics").text.splitlines()
    (line,) = (each for each in lines if each.startswith(f'{name}{{station="{station}"}}'))
    return float(line.rpartition(" ")[2])


def test_a_calibration_makes_the_difference_and_the_record_names_it(flat: Live) -> None:
    missing = post(flat, "x-new", 1)
    assert missing["disposition"] == "review"
    (reason,) = missing["reasons"]
    assert reason["code"] == "calibration-missing"
    assert "inspection detector calibrate --station x-new" in reason["detail"]
    assert missing["detector"] is None
    made = PANEL.calibration(station="x-cal", made_at=stamp())
    folder = install(flat, made)
    good = post(flat, "x-cal", 2)
    assert good["disposition"] == "pass"
    assert good["detector"] == {
        "digest": made.flat.digest,
        "made_at": made.facts.made_at,
        "checked_at": None,
    }
    bright = np.full(SIZE, GREY)
    bright[32:48, 32:48] = 1.0
    assert post(flat, "x-cal", 3, bright)["disposition"] == "fail"
    state = shown(flat, "x-cal")
    assert state["judges"] is True
    assert state["calibration"]["bad"]["dead"] == 1
    assert metric(flat, "inspection_detector_fit", "x-cal") == 1
    made_at = datetime.fromisoformat(made.facts.made_at).timestamp()
    stamped = metric(flat, "inspection_detector_calibration_timestamp_seconds", "x-cal")
    assert stamped == pytest.approx(made_at)
    assert folder.is_dir()


def test_stale_and_foreign_go_to_review_with_their_reason(flat: Live) -> None:
    install(flat, PANEL.calibration(station="x-old", made_at=stamp(9), max_age_s=8 * 3600.0))
    stale = post(flat, "x-old", 11)
    assert [each["code"] for each in stale["reasons"]] == ["calibration-stale"]
    assert "older than 8 h" in stale["reasons"][0]["detail"]
    assert shown(flat, "x-old")["reason"]["code"] == "calibration-stale"
    assert metric(flat, "inspection_detector_fit", "x-old") == 0
    other = Panel(size_px=(64, 64)).calibration(station="x-other", made_at=stamp())
    install(flat, other)
    foreign = post(flat, "x-other", 12)
    assert [each["code"] for each in foreign["reasons"]] == ["calibration-foreign"]
    assert foreign["detector"]["digest"] == other.flat.digest
    assert flat.http.get("/readyz").status_code == 200


def test_a_calibration_and_a_check_count_while_the_server_runs(flat: Live) -> None:
    first = PANEL.calibration(station="x-live", made_at=stamp(1))
    folder = install(flat, first)
    assert post(flat, "x-live", 21)["detector"]["digest"] == first.flat.digest
    second = PANEL.calibration(station="x-live", made_at=stamp())
    install(flat, second)
    check = Check(
        checked_at=stamp(),
        detector=None,
        calibration=second.flat.digest,
        dark_frames=8,
        open_frames=8,
        figures=measure(second, *PANEL.series(8)),
        complaints=(),
    )
    add_check(folder, check)
    number = 22
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while (record := post(flat, "x-live", number))["detector"]["checked_at"] is None:
        assert datetime.now(UTC) < deadline
        number += 1
    assert record["detector"]["digest"] == second.flat.digest
    assert record["detector"]["checked_at"] == check.checked_at
    add_check(folder, replace(check, complaints=("lag is 2%, at most 1% is allowed",)))
    while (record := post(flat, "x-live", number + 1))["disposition"] == "pass":
        assert datetime.now(UTC) < deadline
        number += 1
    assert [each["code"] for each in record["reasons"]] == ["detector-unfit"]
    assert "lag is 2%" in record["reasons"][0]["detail"]
    assert [each["fit"] for each in shown(flat, "x-live")["checks"]] == [True, False]
    assert metric(flat, "inspection_detector_snr_ratio", "x-live") == pytest.approx(1, abs=0.1)
