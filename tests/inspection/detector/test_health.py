"""A check finds what has changed in a detector since it was calibrated, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inspection.detector.checks import CHECKS_NAME, Check, add_check, read_checks
from inspection.detector.health import (
    LIMITS_NAME,
    Limits,
    complaints_of,
    contrast_sensitivity,
    lag,
    measure,
    read_limits,
)
from inspection.errors import ConfigurationError, DataError
from tests.panels import Panel, frame_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection.detector.calibration import Calibration


@pytest.fixture(scope="module")
def panel() -> Panel:
    return Panel(stuck=((9, 9),))


@pytest.fixture(scope="module")
def made(panel: Panel) -> Calibration:
    return panel.calibration()


def aged(panel: Panel, change: Callable[[Panel], None]) -> Panel:
    """The same panel, later."""
    later = Panel(stuck=panel.stuck)
    change(later)
    return later


def test_a_panel_that_has_not_changed_is_fit(panel: Panel, made: Calibration) -> None:
    figures = measure(made, *panel.series(8))
    assert complaints_of(figures, Limits()) == ()
    assert figures.snr_ratio == pytest.approx(1, abs=0.02)
    assert figures.bad_pixels == 1
    assert figures.new_bad_ppm == figures.new_blind == 0
    assert figures.offset_drift_percent < 0.05
    assert figures.gain_drift_percent < 0.2


def hotter(panel: Panel) -> None:
    panel.offset += 400


def patchy(panel: Panel) -> None:
    panel.gain[:48] *= 1.03


def noisier(panel: Panel) -> None:
    panel.noise *= 1.5


def dimmer(panel: Panel) -> None:
    panel.gain *= 0.7


def blinder(panel: Panel) -> None:
    panel.stuck = (*panel.stuck, *((r, c) for r in (60, 61, 62) for c in (70, 71, 72)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (hotter, "offset drift is 1%"),
        (patchy, "gain drift is"),
        (noisier, "signal to noise is 0.6"),
        (dimmer, "change of the open beam is 30%"),
        (blinder, "new bad pixels is"),
        (blinder, "1 new squares of bad pixels could hide a defect"),
    ],
)
def test_what_has_changed_is_named(
    panel: Panel, made: Calibration, change: Callable[[Panel], None], said: str
) -> None:
    figures = measure(made, *aged(panel, change).series(8))
    assert any(line.startswith(said) for line in complaints_of(figures, Limits()))


def test_a_darker_beam_alone_leaves_the_normalised_snr(panel: Panel, made: Calibration) -> None:
    """Quantum noise falls as the root of the signal; the figure is brought to the same beam."""
    figures = measure(made, *Panel(stuck=panel.stuck).series(16, beam=0.85))
    assert figures.snr_ratio == pytest.approx(1, abs=0.03)


def test_lag_and_contrast_sensitivity_are_what_was_planted(panel: Panel, made: Calibration) -> None:
    dark, _ = panel.series(8)
    assert lag(made, dark, frame_of(panel.image(0.02))) == pytest.approx(2, abs=0.05)
    plate = np.full(panel.size_px, 0.4)
    plate[:, 64:] *= 0.99  # a step that takes 1 % of the signal, by 2 % of the thickness
    base, step = (10, 4, 80, 50), (10, 70, 80, 50)
    frame = frame_of(panel.image(plate))
    found = contrast_sensitivity(made, frame, base=base, step=step, step_percent=2)
    corrected = made.flat.correct(frame)
    noise = corrected[10:90, 4:54].std() / corrected[10:90, 4:54].mean()
    assert found == pytest.approx(2 * noise / 0.01, rel=0.05)
    assert noise == pytest.approx(panel.noise / np.sqrt(0.4), rel=0.1)
    with pytest.raises(DataError, match="box step lies outside"):
        contrast_sensitivity(made, frame, base=base, step=(90, 70, 80, 50), step_percent=2)
    with pytest.raises(DataError, match="no step"):
        contrast_sensitivity(made, frame, base=base, step=base, step_percent=2)
    limits = Limits(most_lag_percent=1, most_contrast_sensitivity_percent=1)
    figures = replace(
        measure(made, *panel.series(8)), lag_percent=2.0, contrast_sensitivity_percent=1.5
    )
    assert [line.split(" is ")[0] for line in complaints_of(figures, limits)] == [
        "contrast sensitivity",
        "lag",
    ]


def test_frames_of_another_panel_are_no_check(panel: Panel, made: Calibration) -> None:
    with pytest.raises(DataError, match="not of the size"):
        measure(made, *Panel(size_px=(64, 64)).series(8))
    dark, beam = panel.series(8)
    named = replace(made, flat=replace(made.flat, detector="A"))
    with pytest.raises(DataError, match="of detector B, the calibration is of A"):
        measure(named, dark, replace(beam, detector="B"))


def test_limits_are_read_or_refused_never_guessed(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits()
    (tmp_path / LIMITS_NAME).write_text("most_lag_percent = 0.5\ncheck_every_h = 24\n")
    assert read_limits(tmp_path) == Limits(most_lag_percent=0.5, check_every_h=24)
    for text, said in (
        ("most_lagg_percent = 1\n", "most_lagg_percent"),
        ("most_lag_percent = -1\n", "most_lag_percent"),
        ("most_lag_percent = nan\n", "most_lag_percent"),
        ("= 3", "TOML|Invalid"),
    ):
        (tmp_path / LIMITS_NAME).write_text(text)
        with pytest.raises(ConfigurationError, match=said):
            read_limits(tmp_path)


def test_checks_are_only_added_and_a_torn_one_counts_as_damage(
    tmp_path: Path, panel: Panel, made: Calibration
) -> None:
    check = Check(
        checked_at="2026-11-22T06:10:00Z",
        detector=None,
        calibration=made.flat.digest,
        dark_frames=8,
        open_frames=8,
        figures=measure(made, *panel.series(8)),
        complaints=(),
    )
    assert read_checks(tmp_path).last is None
    add_check(tmp_path, check)
    second = replace(check, complaints=("lag is 2%",))
    add_check(tmp_path, second)
    assert read_checks(tmp_path).checks == (check, second)
    assert not read_checks(tmp_path).checks[-1].fit
    path = tmp_path / CHECKS_NAME
    path.write_bytes(path.read_bytes()[:-30])
    torn = read_checks(tmp_path)
    assert torn.damaged
    assert torn.checks == (check,)
    add_check(tmp_path, check)
    healed = read_checks(tmp_path)
    assert not healed.damaged
    assert healed.checks == (check, check)
