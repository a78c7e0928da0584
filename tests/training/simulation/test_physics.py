"""The simulator agrees with the formulae that it is made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspection.errors import RequestError
from training.simulation.physics import (
    Beam,
    Detector,
    attenuation_per_mm,
    blur,
    kept_variance,
)

PLAIN = Detector(size_px=(256, 256), gain_spread=0.0, offset_spread=0.0, bad_share=0.0)


def test_attenuation_is_that_of_the_tables() -> None:
    # NIST XCOM: 0.2018 cm2/g at 80 keV, times 2.699 g/cm3.
    (found,) = attenuation_per_mm(np.array([80.0]))
    assert found == pytest.approx(0.2018 * 2.699 / 10, rel=1e-6)


def test_a_step_wedge_transmits_as_beer_and_lambert_say() -> None:
    beam = Beam(tube_kv=120, filter_mm=3)
    steps = np.array([0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0])
    energy = np.linspace(15.0, 120.0, 20_001)[:-1]
    mu = attenuation_per_mm(energy)
    weight = (120 / energy - 1) * energy * np.exp(-3 * mu)
    wanted = [np.sum(weight * np.exp(-mu * t)) / np.sum(weight) for t in steps]
    np.testing.assert_allclose(beam.transmission(steps), wanted, rtol=0.01)


def test_one_energy_falls_off_exponentially_and_a_spectrum_hardens() -> None:
    beam = Beam()
    thin, thick = beam.effective_attenuation(1.0), beam.effective_attenuation(40.0)
    hardest = attenuation_per_mm(np.array([120.0]))[0]
    assert thin > thick > hardest
    # Behind much aluminium what is left is nearly of one energy: equal steps, equal shares.
    deep = beam.transmission(np.array([100.0, 110.0, 120.0])).astype(float)
    assert deep[1] / deep[0] == pytest.approx(deep[2] / deep[1], rel=0.01)


@pytest.mark.parametrize("quanta", [10_000.0, 40_000.0])
def test_snr_grows_with_the_root_of_the_exposure(quanta: float) -> None:
    signal = np.full(PLAIN.size_px, 0.4, dtype=np.float32)
    image = PLAIN.expose(signal, quanta, np.random.default_rng(3)).astype(float)
    inner = image[8:-8, 8:-8] - PLAIN.offset_level
    wanted = 0.4 / PLAIN.noise_of(0.4, quanta)
    assert inner.mean() / inner.std() == pytest.approx(wanted, rel=0.02)
    unblurred = Detector(
        size_px=(256, 256), gain_spread=0, offset_spread=0, bad_share=0, blur_mm=0, electronics=0
    )
    image = unblurred.expose(signal, quanta, np.random.default_rng(3)).astype(float)
    snr = (image.mean() - unblurred.offset_level) / image.std()
    assert snr == pytest.approx(np.sqrt(0.4 * quanta), rel=0.02)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_the_blur_has_the_transfer_function_of_a_gaussian(sigma: float) -> None:
    impulse = np.zeros((65, 257), dtype=np.float32)
    impulse[:, 128] = 1.0
    spread = blur(impulse, sigma)[32].astype(float)
    found = np.abs(np.fft.rfft(spread))
    frequency = np.fft.rfftfreq(257)
    low = frequency < 0.2 / sigma  # a sampled Gaussian is none where its spectrum folds
    wanted = np.exp(-2 * np.pi**2 * sigma**2 * frequency**2)
    np.testing.assert_allclose(found[low], wanted[low], atol=0.01)


@pytest.mark.parametrize("sigma", [0.0, 0.6, 2.0])
def test_blurred_noise_keeps_the_variance_that_is_computed(sigma: float) -> None:
    noise = np.random.default_rng(1).standard_normal((600, 600), dtype=np.float32)
    assert blur(noise, sigma)[20:-20, 20:-20].var() == pytest.approx(kept_variance(sigma), rel=0.02)
    if sigma >= 2:
        assert kept_variance(sigma) == pytest.approx(1 / (4 * np.pi * sigma**2), rel=0.01)


def test_scatter_fills_shadows_and_is_nothing_without_a_part() -> None:
    beam = Beam()
    air = np.zeros((128, 128), dtype=np.float32)
    assert beam.scattered(air, beam.transmission(air), 0.5).max() == 0
    slab = air + 20
    primary = beam.transmission(slab)
    scattered = beam.scattered(slab, primary, 0.5)
    # A wide even slab: c mu t T everywhere.
    wanted = beam.scatter * beam.effective_attenuation(20.0) * 20 * primary[0, 0]
    assert scattered[64, 64] == pytest.approx(wanted, rel=0.01)


def test_a_detector_has_its_own_patterns_and_bad_pixels_for_ever() -> None:
    one, same, other = (Detector(size_px=(128, 128), bad_share=1e-3, serial=n) for n in (1, 1, 2))
    assert np.array_equal(one.gain, same.gain)
    assert not np.array_equal(one.gain, other.gain)
    flat = np.ones((128, 128), dtype=np.float32)
    image = one.expose(flat, 1e6, np.random.default_rng(0)).reshape(-1)
    assert len(one.bad_pixels) == round(1e-3 * 128 * 128)
    assert set(image[one.bad_pixels]) <= {0, 65_535}


def test_what_cannot_be_built_is_refused() -> None:
    beams: list[dict[str, Any]] = [{"tube_kv": 20}, {"quanta": 0}, {"scatter": -1}]
    for wrong in beams:
        with pytest.raises(RequestError):
            Beam(**wrong)
    panels: list[dict[str, Any]] = [{"open_level": 65e3}, {"pitch_mm": 0.0}, {"bad_share": 0.5}]
    for wrong in panels:
        with pytest.raises(RequestError):
            Detector(**wrong)
