"""A flat panel of one's own making: what it answers is known, so what is found can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from inspection.detector.calibrating import Series, calibrate, sum_up
from inspection.frame import Frame

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.decoding.acquisition import Acquisition
    from inspection.detector.calibration import Calibration

MADE_AT = "2026-11-22T06:00:00.000Z"
DAY_S = 86_400.0


def frame_of(pixels: NDArray[np.uint16], acquisition: Acquisition | None = None) -> Frame:
    """A frame that nobody had to decode."""
    return Frame(pixels=pixels, sha256="0" * 64, media_type="image/tiff", acquisition=acquisition)


@dataclass(kw_only=True)
class Panel:
    """A detector with a pattern of 2 % in its gain and of 30 levels in its offset.

    Attributes:
        noise: relative, of the open beam; and 10 levels without any.
        stuck: (row, column) of pixels that always answer 0.
    """

    size_px: tuple[int, int] = (96, 128)
    level: float = 40_000.0
    noise: float = 0.003
    stuck: tuple[tuple[int, int], ...] = ()
    seed: int = 1
    gain: NDArray[np.float64] = field(init=False)
    offset: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        rows, columns = np.mgrid[: self.size_px[0], : self.size_px[1]] / 40
        wide = 0.02 * np.sin(rows) * np.cos(columns)
        self.gain = self.level * (1 + wide + 0.01 * self._rng.standard_normal(self.size_px))
        self.offset = 1500 + 30 * self._rng.standard_normal(self.size_px)

    def image(self, signal: NDArray[np.float64] | float) -> NDArray[np.uint16]:
        """(H, W) uint16 of a signal that is relative to the open beam."""
        arriving = np.broadcast_to(np.asarray(signal, dtype=np.float64), self.size_px)
        noisy = arriving + self.noise * np.sqrt(arriving) * self._rng.standard_normal(self.size_px)
        levels = self.offset + self.gain * noisy + 10 * self._rng.standard_normal(self.size_px)
        for place in self.stuck:
            levels[place] = 0
        return np.clip(np.rint(levels), 0, 65_535).astype(np.uint16)

    def frames(
        self, signal: float, count: int = 16, acquisition: Acquisition | None = None
    ) -> list[tuple[str, Frame]]:
        """`count` frames of an even signal, with names."""
        return [(f"{n:02d}.tif", frame_of(self.image(signal), acquisition)) for n in range(count)]

    def series(self, count: int = 16, *, beam: float = 1.0) -> tuple[Series, Series]:
        """Dark and open frames, summed up."""
        dark = sum_up(self.frames(0, count), kind="dark")
        return dark, sum_up(self.frames(beam, count), kind="open", offset=dark.mean)

    def calibration(
        self, *, station: str = "xray-1", made_at: str = MADE_AT, max_age_s: float = 7 * DAY_S
    ) -> Calibration:
        """A calibration of 16 frames of each kind."""
        dark, beam = self.series()
        return calibrate(dark, beam, station=station, made_at=made_at, max_age_s=max_age_s)

    def write(self, folder: Path, signal: float, count: int = 16, name: str = "frame") -> str:
        """Write frames as TIFF; the pattern that names them."""
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(count):
            tifffile.imwrite(folder / f"{name}-{n:02d}.tif", self.image(signal), metadata=None)
        return str(folder / f"{name}-*.tif")
