"""X-rays through aluminium onto a flat detector, in the order in which it happens.

    thickness, mm -> transmission (polychromatic) -> + scatter -> focal spot -> quanta
      -> detector blur -> gain, offset, bad pixels, electronics -> 16 bits

Signals are relative to the open beam (1.0) until the detector turns them into grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]

DENSITY_G_CM3: Final = 2.699
"""Of aluminium."""

# Mass attenuation of aluminium, cm2/g, by photon energy in keV: NIST XCOM / NISTIR 5632, table 3.
_ATTENUATION: Final = np.array(
    [
        (10.0, 26.23),
        (15.0, 7.955),
        (20.0, 3.441),
        (30.0, 1.128),
        (40.0, 0.5685),
        (50.0, 0.3681),
        (60.0, 0.2778),
        (80.0, 0.2018),
        (100.0, 0.1704),
        (150.0, 0.1378),
        (200.0, 0.1223),
        (300.0, 0.1042),
    ]
)
THICKEST_MM: Final = 150.0


def attenuation_per_mm(energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear attenuation of aluminium, 1/mm, at photon energies in keV from 10 to 300."""
    log_e, log_mu = np.log(_ATTENUATION).T
    mass: NDArray[np.float64] = np.exp(np.interp(np.log(energy_kev), log_e, log_mu))
    return mass * DENSITY_G_CM3 / 10.0


@dataclass(frozen=True, kw_only=True)
class Beam:
    """What leaves the tube and reaches the open detector.

    Attributes:
        tube_kv: tube voltage, 40 to 300 kV.
        filter_mm: of aluminium, before the part.
        quanta: absorbed quanta a pixel in the open beam, over the whole exposure: it grows with
            current, time and averaged frames.
        focal_blur_mm: standard deviation of the geometric unsharpness, at the part.
        scatter: single-scatter strength c in c mu t T, see `scattered`.
        scatter_mm: how far scattered radiation spreads, standard deviation at the part.
    """

    tube_kv: float = 120.0
    filter_mm: float = 3.0
    quanta: float = 60_000.0
    focal_blur_mm: float = 0.05
    scatter: float = 0.15
    scatter_mm: float = 12.0

    def __post_init__(self) -> None:
        if not 40 <= self.tube_kv <= 300:
            raise RequestError("tube_kv lies between 40 and 300")
        if self.quanta <= 0 or min(self.filter_mm, self.focal_blur_mm, self.scatter) < 0:
            raise RequestError("quanta is above 0; filter, blur and scatter are not negative")

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(thickness in mm, -ln of transmission) on a fine grid."""
        energy = np.arange(15.0, self.tube_kv, 1.0)
        # Kramers 1923: photons of energy E are as (kV / E - 1); the detector adds up energies.
        weight = (self.tube_kv / energy - 1.0) * energy
        mu = attenuation_per_mm(energy)
        weight = weight * np.exp(-mu * self.filter_mm)
        thickness = np.linspace(0.0, THICKEST_MM, 3001)
        through = np.exp(-np.outer(thickness, mu)) @ weight / weight.sum()
        return thickness, -np.log(through / through[0])

    def transmission(self, thickness_mm: NDArray[np.floating]) -> Map:
        """Share of the open signal behind so much aluminium: Beer-Lambert over the spectrum."""
        grid, exponent = self._table
        found: Map = np.exp(-np.interp(thickness_mm, grid, exponent)).astype(np.float32)
        return found

    def effective_attenuation(self, thickness_mm: float) -> float:
        """-ln(T) / t in 1/mm: it falls with thickness, because soft quanta go first."""
        grid, exponent = self._table
        return float(np.interp(thickness_mm, grid, exponent) / thickness_mm)

    def scattered(self, thickness_mm: Map, primary: Map, pitch_mm: float) -> Map:
        """Radiation scattered once: as mu t T where it arises, spread over `scatter_mm`."""
        if self.scatter == 0:
            return np.zeros_like(primary)
        grid, exponent = self._table
        height, width = primary.shape
        small = (max(width // 16, 8), max(height // 16, 8))
        path = cv2.resize(thickness_mm, small, interpolation=cv2.INTER_AREA)
        through = cv2.resize(primary, small, interpolation=cv2.INTER_AREA)
        source = np.interp(path, grid, exponent).astype(np.float32) * through
        spread = cv2.GaussianBlur(
            source,
            (0, 0),
            self.scatter_mm / (pitch_mm * width / small[0]),
            borderType=cv2.BORDER_REPLICATE,
        )
        wide = cv2.resize(spread, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(self.scatter * wide, dtype=np.float32)

    def signal(self, thickness_mm: Map, pitch_mm: float) -> Map:
        """What arrives at the detector, noise-free, relative to the open beam."""
        primary = self.transmission(thickness_mm)
        arriving = primary + self.scattered(thickness_mm, primary, pitch_mm)
        return blur(arriving, self.focal_blur_mm / pitch_mm)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A flat panel, as it was built.

    Attributes:
        size_px: (height, width).
        pitch_mm: of a pixel, at the part.
        blur_mm: standard deviation of the line spread, at the part.
        open_level: grey levels that the open beam adds to the offset.
        offset_level: grey levels without radiation.
        electronics: noise without radiation, grey levels rms.
        gain_spread, offset_spread: standard deviations of the fixed patterns, relative and in
            grey levels.
        bad_share: share of pixels that do not answer, or answer wrongly.
        serial: names the panel; its patterns follow from it.
    """

    size_px: tuple[int, int] = (1024, 1024)
    pitch_mm: float = 0.1
    blur_mm: float = 0.06
    open_level: float = 52_000.0
    offset_level: float = 1_500.0
    electronics: float = 12.0
    gain_spread: float = 0.015
    offset_spread: float = 20.0
    bad_share: float = 2e-5
    serial: int = 1

    def __post_init__(self) -> None:
        if self.open_level + self.offset_level > 65_535:
            raise RequestError("the open beam does not fit 16 bits")
        if self.pitch_mm <= 0 or not 0 <= self.bad_share < 0.5:
            raise RequestError("pitch_mm is above 0, bad_share below one half")

    @cached_property
    def _patterns(self) -> tuple[Map, Map, NDArray[np.int64], NDArray[np.float32]]:
        rng = np.random.default_rng([self.serial, 7])
        fine = rng.standard_normal(self.size_px, dtype=np.float32)
        coarse = rng.standard_normal((9, 9), dtype=np.float32)
        height, width = self.size_px
        wide = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        gain = 1.0 + self.gain_spread * (0.6 * fine + 0.8 * wide)
        columns = rng.standard_normal((1, width), dtype=np.float32)
        offset = self.offset_spread * (
            0.8 * rng.standard_normal(self.size_px, dtype=np.float32) + 0.6 * columns
        )
        count = round(self.bad_share * height * width)
        where = rng.choice(height * width, size=count, replace=False)
        stuck = rng.choice(np.array([0, 65_535], dtype=np.float32), size=count)
        return gain.astype(np.float32), offset.astype(np.float32), where, stuck

    @property
    def gain(self) -> Map:
        """(H, W) answer of each pixel, around 1."""
        return self._patterns[0]

    @property
    def bad_pixels(self) -> NDArray[np.int64]:
        """Flat indices of the pixels that do not answer."""
        return self._patterns[2]

    def expose(
        self, signal: Map, quanta: float, rng: np.random.Generator, *, drift: float = 0.0
    ) -> NDArray[np.uint16]:
        """One image of an arriving signal.

        Quanta are many (thousands a pixel), so their Poisson noise is drawn as normal with the
        same variance. The detector blurs them together with the signal; electronics do not blur.

        Args:
            signal: (H, W) relative to the open beam, noise-free.
            quanta: absorbed in a pixel of the open beam.
            rng: where the noise comes from.
            drift: grey levels that the offset has moved since it was calibrated.
        """
        gain, offset, where, stuck = self._patterns
        noise = rng.standard_normal(self.size_px, dtype=np.float32)
        noisy = signal + noise * np.sqrt(signal / np.float32(quanta))
        seen = blur(noisy, self.blur_mm / self.pitch_mm)
        levels = seen * gain * np.float32(self.open_level)
        levels += offset + np.float32(self.offset_level + drift)
        levels += np.float32(self.electronics) * rng.standard_normal(self.size_px, dtype=np.float32)
        levels.reshape(-1)[where] = stuck
        return np.asarray(np.clip(np.rint(levels), 0, 65_535), dtype=np.uint16)

    def noise_of(self, signal: float, quanta: float) -> float:
        """Expected standard deviation after flat-fielding, relative to the open beam.

        White noise through a Gaussian of s pixels keeps 1 / (4 pi s^2) of its variance when s is
        large; here the sum over pixels is taken, which holds for any s.
        """
        quantum = signal / quanta * kept_variance(self.blur_mm / self.pitch_mm)
        return float(np.sqrt(quantum + (self.electronics / self.open_level) ** 2))


def kept_variance(sigma_px: float) -> float:
    """What white noise keeps of its variance in `blur`: the sum of the squared weights."""
    if sigma_px < LEAST_BLUR_PX:
        return 1.0
    size = 2 * int(4 * sigma_px + 0.5) + 1
    weights = cv2.getGaussianKernel(size, sigma_px).ravel()
    return float((weights**2).sum() ** 2)


LEAST_BLUR_PX: Final = 0.05


def blur(image: Map, sigma_px: float) -> Map:
    """Gaussian blur; nothing below LEAST_BLUR_PX. Its MTF is exp(-2 pi^2 s^2 f^2)."""
    if sigma_px < LEAST_BLUR_PX:
        return image
    size = 2 * int(4 * sigma_px + 0.5) + 1
    found = cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32)
