"""`inspection detector` calibrates, checks and shows, and refuses with what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inspection.cli import main
from inspection.detector.calibration import read_calibration
from inspection.detector.checks import read_checks
from tests.panels import Panel

if TYPE_CHECKING:
    from pathlib import Path

    Run = Any


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("INSPECTION_DATA_DIR", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        status = main(["detector", *words, "--data-dir", str(tmp_path / "var")])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def frames(tmp_path: Path) -> tuple[str, ...]:
    """Options that name 16 dark and 16 open frames."""
    panel = Panel(size_px=(64, 80), stuck=((3, 3), (20, 20), (20, 21)))
    dark = panel.write(tmp_path / "dark", 0, name="d")
    beam = panel.write(tmp_path / "open", 1, name="o")
    return ("--station", "xray-1", "--dark", dark, "--open", beam)


def test_calibrate_check_and_show(run: Run, frames: tuple[str, ...], tmp_path: Path) -> None:
    status, out, err = run("calibrate", *frames, "--max-age", "8h", "--detector", "XRD-7")
    assert (status, err) == (0, "")
    folder = tmp_path / "var" / "detectors" / "xray-1"
    (path,) = folder.glob("*.npz")
    assert str(path) in out
    assert "3 (3 dead)" in out
    made = read_calibration(path)
    assert made.facts.max_age_s == 8 * 3600
    assert made.flat.detector == "XRD-7"
    assert {tuple(at) for at in np.argwhere(made.flat.bad)} == {(3, 3), (20, 20), (20, 21)}

    status, out, _ = run("check", *frames, "--lag", str(tmp_path / "dark" / "d-00.tif"))
    assert status == 0
    assert "yes" in out
    assert read_checks(folder).last is not None

    status, out, _ = run("show")
    assert status == 0
    assert "judges" in out
    assert made.flat.digest in out
    (shown,) = json.loads(run("show", "--station", "xray-1", "--format", "json")[1])
    assert shown["judges"] is True
    assert shown["calibration"]["digest"] == made.flat.digest
    assert shown["checks"][0]["fit"] is True
    assert shown["checks"][0]["figures"]["lag_percent"] == pytest.approx(0, abs=0.05)


def test_a_check_past_its_limits_exits_1_and_is_kept(
    run: Run, frames: tuple[str, ...], tmp_path: Path
) -> None:
    assert run("calibrate", *frames)[0] == 0
    folder = tmp_path / "var" / "detectors" / "xray-1"
    (folder / "limits.toml").write_text("most_lag_percent = 0.5\n")
    late = Panel(size_px=(64, 80)).write(tmp_path / "lag", 0.02, count=1)
    status, out, _ = run("check", *frames, "--lag", late.replace("*", "00"))
    assert status == 1
    assert "unfit: lag is" in out
    assert "does not judge" in run("show")[1]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--max-age", "soon"), 2, "30m, 8h or 7d"),
        (("--dark", "nothing/*.tif"), 3, "there are no dark frames at nothing"),
        (("--station", ""), 2, "1 to 200 printable"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    run: Run,
    frames: tuple[str, ...],
    tmp_path: Path,
    options: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    got, _, err = run("calibrate", *frames, *options)
    assert (got, said in err) == (status, True), err
    assert not (tmp_path / "var").exists()


def test_frames_named_twice_and_unreadable_ones_are_refused(
    run: Run, frames: tuple[str, ...], tmp_path: Path
) -> None:
    dark = str(tmp_path / "dark")
    status, _, err = run("calibrate", "--station", "x", "--dark", dark, "--open", dark)
    assert (status, "as a dark frame and as an open one" in err) == (3, True)
    (tmp_path / "open" / "o-07.tif").write_bytes(b"no image")
    status, _, err = run("calibrate", *frames)
    assert (status, "o-07.tif" in err) == (3, True)
    status, _, err = run("check", *frames)
    assert (status, "calibrate --station xray-1" in err) == (3, True)
    status, _, err = run("show")
    assert (status, "there is no calibration" in err) == (3, True)
