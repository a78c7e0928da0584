"""Flat-fielding takes the detector out of the image, and makes nothing up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inspection.detector.flat_field import OPEN_LEVEL, FlatField
from inspection.errors import ConfigurationError, Unjudgeable
from tests.panels import Panel, frame_of

SIZE = (64, 80)


def flat_with(bad: np.ndarray) -> FlatField:
    return FlatField(
        station="xray-1",
        detector=None,
        offset=np.full(SIZE, 1500, np.float32),
        gain=np.full(SIZE, 40_000, np.float32),
        bad=bad,
        made_at="2026-11-22T06:00:00Z",
        digest="0" * 64,
    )


def test_the_pattern_goes_and_what_stays_is_noise() -> None:
    panel = Panel()
    flat = panel.calibration().flat
    before, after = panel.image(0.4).astype(np.float64), flat.correct(frame_of(panel.image(0.4)))
    assert after.dtype == np.float32
    assert after.mean() == pytest.approx(0.4 * OPEN_LEVEL, rel=1e-3)
    # A pixel's own noise, and what the means of 16 frames have left of theirs.
    quantum, electronic = panel.noise * np.sqrt(0.4), 10 / panel.level
    own = np.hypot(quantum, electronic)
    carried = np.hypot(0.4 * panel.noise, electronic) / 4
    expected = np.hypot(own, carried) * OPEN_LEVEL
    assert after.std() == pytest.approx(expected, rel=0.05)
    assert before.std() / panel.level > 3 * after.std() / OPEN_LEVEL


def test_bad_pixels_are_the_mean_of_good_ones_around_them() -> None:
    bad = np.zeros(SIZE, np.bool_)
    for place in ((0, 0), (20, 30), (40, 40), (40, 41), (63, 79)):
        bad[place] = True
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    raw = (1500 + 100 * rows + 50 * columns).astype(np.uint16)
    raw[bad] = 65_535
    found = flat_with(bad).correct(frame_of(raw))
    slope = OPEN_LEVEL / 40_000
    assert found[20, 30] == pytest.approx(slope * (100 * 20 + 50 * 30), rel=1e-5)
    truth = slope * (100 * rows + 50 * columns)
    assert np.abs(found - truth).max() < slope * 200  # at most the step to the next good pixels


def test_one_blind_square_stops_the_judgement_only_where_it_lies() -> None:
    bad = np.zeros(SIZE, np.bool_)
    bad[10:13, 20:23] = True
    flat = flat_with(bad)
    frame = frame_of(np.full(SIZE, 20_000, np.uint16))
    with pytest.raises(Unjudgeable, match="a defect could hide") as caught:
        flat.correct(frame)
    assert caught.value.reason == "detector-unfit"
    assert np.isfinite(flat.correct(frame, within=(14, 0, 50, 80))).all()
    with pytest.raises(Unjudgeable):
        flat.correct(frame, within=(5, 15, 20, 20))


def test_a_dead_line_two_pixels_wide_hides_nothing_four_pixels_wide() -> None:
    bad = np.zeros(SIZE, np.bool_)
    bad[:, 30:32] = True
    found = flat_with(bad).correct(frame_of(np.full(SIZE, 21_500, np.uint16)))
    np.testing.assert_allclose(found, 25_000, rtol=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 81), np.uint16),
        np.zeros((64, 80), np.uint8),
        np.zeros((64, 80, 3), np.uint16),
    ],
    ids=["size", "depth", "colour"],
)
def test_a_frame_of_another_detector_is_unjudgeable(pixels: np.ndarray) -> None:
    with pytest.raises(Unjudgeable, match="80 x 64 of 16-bit grey") as caught:
        flat_with(np.zeros(SIZE, np.bool_)).correct(frame_of(pixels))
    assert caught.value.reason == "calibration-foreign"


@pytest.mark.parametrize(
    "change",
    [
        {"gain": np.zeros(SIZE, np.float32)},
        {"gain": np.full((3, 3), 1, np.float32)},
        {"offset": np.full(SIZE, np.nan, np.float32)},
        {"bad": np.ones(SIZE, np.bool_)},
        {"level": 0.0},
        {"made_at": "2026-11-22T06:00:00"},
    ],
)
def test_a_calibration_that_makes_no_sense_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(flat_with(np.zeros(SIZE, np.bool_)), **change)
