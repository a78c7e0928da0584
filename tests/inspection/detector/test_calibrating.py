"""Frames become a calibration, or are refused with what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inspection.decoding.acquisition import Acquisition
from inspection.detector.bad_pixels import clusters_of
from inspection.detector.calibrating import calibrate, signal_to_noise, sum_up
from inspection.errors import DataError
from tests.panels import MADE_AT, Panel, frame_of

if TYPE_CHECKING:
    from inspection.frame import Frame

LIKE: dict[str, Any] = {"station": "xray-1", "made_at": MADE_AT, "max_age_s": 3600.0}


def test_offset_gain_and_noise_are_the_panels() -> None:
    panel = Panel()
    made = panel.calibration()
    assert np.abs(made.flat.offset - panel.offset).max() < 6 * 10 / 4
    assert np.abs(made.flat.gain / panel.gain - 1).max() < 6 * panel.noise / 4
    assert made.facts.open_level == pytest.approx(np.median(panel.gain), rel=1e-3)
    assert made.facts.dark_noise == pytest.approx(10, rel=0.05)
    expected = 1 / np.hypot(panel.noise, 10 / panel.level)
    assert made.facts.snr == pytest.approx(expected, rel=0.02)
    assert not made.flat.bad.any()


def test_a_tube_that_flickers_is_not_noise_of_the_pixels() -> None:
    panel = Panel()
    dark, _ = panel.series()
    frames = [(str(n), frame_of(panel.image(1 + 0.004 * (n % 2)))) for n in range(16)]
    beam = sum_up(frames, kind="open", offset=dark.mean)
    expected = 1 / np.hypot(panel.noise, 10 / panel.level)
    assert signal_to_noise(beam, np.zeros(panel.size_px, np.bool_)) == pytest.approx(
        expected, rel=0.02
    )


def test_every_kind_of_bad_pixel_is_found_and_no_other() -> None:
    panel = Panel(stuck=((5, 5), (50, 100)))
    panel.gain[20, 20] *= 0.05
    panel.gain[20, 40] *= 0.5
    panel.gain[20, 60] *= 1.4
    panel.offset[40, 40] += 20_000
    planted = {(5, 5), (50, 100), (20, 20), (20, 40), (20, 60), (40, 40), (70, 70), (80, 30)}
    rng = np.random.default_rng(5)

    def frames(signal: float) -> list[tuple[str, Frame]]:
        made = []
        for n in range(16):
            image = panel.image(signal).astype(np.int64)
            image[70, 70] += round(rng.normal(0, 3000))
            if signal and n % 2:
                image[80, 30] += 2500  # answers now more, now less
            made.append((str(n), frame_of(np.clip(image, 0, 65_535).astype(np.uint16))))
        return made

    dark = sum_up(frames(0), kind="dark")
    made = calibrate(dark, sum_up(frames(1), kind="open", offset=dark.mean), **LIKE)
    assert {(int(r), int(c)) for r, c in np.argwhere(made.flat.bad)} == planted
    assert made.facts.bad["dead"] == 3
    assert made.facts.bad["under"] == made.facts.bad["over"] == made.facts.bad["hot"] == 1
    assert made.facts.bad["noisy"] + made.facts.bad["uneven"] == 2
    assert sum(made.facts.bad.values()) == len(planted)


def test_clusters_are_told_from_single_pixels() -> None:
    bad = np.zeros((40, 40), np.bool_)
    bad[3, 3] = bad[10, 10] = bad[11, 11] = True
    bad[20:24, 20:23] = True
    found = clusters_of(bad)
    assert (found.count, found.largest_px, found.blind) == (2, 12, 2)
    assert found.kernel_px == 8  # all of the block but its corners
    assert clusters_of(np.zeros((9, 9), np.bool_)).largest_px == 0


@pytest.mark.parametrize(
    ("dark", "beam", "said"),
    [
        ((0, 7), (1, 16), "7 dark frames are too few"),
        ((0, 16), (1, 3), "3 open frames are too few"),
        ((0, 16), (0, 16), "brighter than the dark ones"),
        ((1, 16), (0, 16), "brighter than the dark ones"),
        ((0, 16), (1.65, 16), "saturated"),
    ],
    ids=["few dark", "few open", "no beam", "exchanged", "saturated"],
)
def test_frames_that_cannot_calibrate_are_refused(
    dark: tuple[float, int], beam: tuple[float, int], said: str
) -> None:
    panel = Panel()

    def attempt() -> None:
        first = sum_up(panel.frames(*dark), kind="dark")
        calibrate(first, sum_up(panel.frames(*beam), kind="open", offset=first.mean), **LIKE)

    with pytest.raises(DataError, match=said):
        attempt()


def test_drifting_frames_are_refused_by_name() -> None:
    panel = Panel()
    dark, _ = panel.series()
    frames = [(f"{n}.tif", frame_of(panel.image(1 - 0.002 * n))) for n in range(10)]
    beam = sum_up(frames, kind="open", offset=dark.mean)
    with pytest.raises(DataError, match=r"9\.tif is the darkest, 0\.tif the brightest"):
        calibrate(dark, beam, **LIKE)


def test_mixed_exposures_and_detectors_are_refused() -> None:
    panel = Panel()
    at_120 = panel.frames(1, 8, Acquisition(kv=120.0, detector="A"))
    at_160 = panel.frames(1, 8, Acquisition(kv=160.0, detector="A"))
    with pytest.raises(DataError, match=r"differ in kv: 120.0 and 160.0"):
        sum_up([*at_120, *at_160], kind="open")
    dark = sum_up(panel.frames(0), kind="dark")
    beam = sum_up(at_120, kind="open", offset=dark.mean)
    with pytest.raises(DataError, match="of detector A, not of B"):
        calibrate(dark, beam, detector="B", **LIKE)
    assert calibrate(dark, beam, **LIKE).facts.kv == 120.0
    with pytest.raises(DataError, match="differ in detector"):
        calibrate(replace(dark, detector="B"), beam, **LIKE)


def test_other_pictures_are_refused() -> None:
    panel = Panel()
    eight = [("a.png", frame_of(np.zeros((8, 8), np.uint8)))]
    with pytest.raises(DataError, match="not 16-bit grey"):
        sum_up(eight, kind="dark")
    other = Panel(size_px=(64, 64)).frames(0, 8)
    with pytest.raises(DataError, match="differ in size"):
        sum_up([*panel.frames(0, 8), *other], kind="dark")
    shaded = panel.image(0).astype(np.float64)
    dark, beam = panel.series()
    patchy = replace(beam, mean=np.where(np.indices(shaded.shape).sum(0) % 3 == 0, 9e4, beam.mean))
    with pytest.raises(DataError, match="these are not bad pixels"):
        calibrate(dark, patchy, **LIKE)
