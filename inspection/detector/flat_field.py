"""What every pixel of a detector answers to no beam and to the open beam, and its use.

    raw (H, W) uint16 -> (raw - offset) / gain * OPEN_LEVEL -> bad pixels from their neighbours

Corrected grey levels are in proportion to what arrives: the open beam gives OPEN_LEVEL at every
station, so a network trained behind one detector sees the same levels behind another. A bad pixel
is the mean of the good ones around it. Where so many are bad that a defect could hide between them,
nothing is made up: such an image is unjudgeable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.errors import ConfigurationError, Unjudgeable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.frame import Frame

OPEN_LEVEL: Final = 50_000.0
"""Corrected grey level of the open beam, for all detectors and for ever: recipes count in it."""

ENOUGH_NEIGHBOURS: Final = 5
"""Good ones among the eight around a bad pixel that make it correctable (ASTM E2597: a pixel with
fewer is a cluster kernel pixel)."""

REACHES: Final = (1, 2, 3)
"""Half sides of the squares in which good neighbours are looked for, the smallest first."""

BLIND_PX: Final = 3
"""Side of the smallest square of bad pixels that hides a defect. The smallest rejectable defect
spans 4 pixels or more, so wherever no such square lies some pixels of the defect are seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Filling:
    """Bad pixels and what they are filled from: flat indices (n,), (n, k), and weights (n, k)."""

    where: NDArray[np.intp]
    neighbours: NDArray[np.intp]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatField:
    """The calibration of one detector; its arrays are read-only.

    Attributes:
        station: where the detector stands.
        detector: its serial, as its files say it; None when they do not.
        offset: (H, W) float32, mean grey levels without beam.
        gain: (H, W) float32, mean grey levels that the open beam adds; above 0.
        bad: (H, W) bool, pixels that are not to be believed.
        made_at: RFC 3339, UTC.
        digest: SHA-256, in hex, over all of this.
        level: corrected grey level of the open beam.
        checked_at: when the detector was last found fit; None when it was not checked.
    """

    station: str
    detector: str | None
    offset: NDArray[np.float32]
    gain: NDArray[np.float32]
    bad: NDArray[np.bool_]
    made_at: str
    digest: str
    level: float = OPEN_LEVEL
    checked_at: str | None = None
    blind: NDArray[np.intp] = field(init=False, repr=False)
    """(n, 2) rows and columns of the middles of the squares that hide a defect."""
    _fillings: tuple[_Filling, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = self.offset.shape
        if len(shape) != 2 or 0 in shape or self.gain.shape != shape or self.bad.shape != shape:
            raise ConfigurationError("offset, gain and bad pixels of a calibration differ in size")
        if self.bad.all():
            raise ConfigurationError("a calibration whose pixels are all bad corrects nothing")
        if not np.isfinite(self.offset).all() or not np.isfinite(self.gain).all():
            raise ConfigurationError("a calibration holds numbers that are not finite")
        if float(self.gain.min()) <= 0 or not self.level > 0:
            raise ConfigurationError("gain and level of a calibration are above 0")
        if datetime.fromisoformat(self.made_at).tzinfo is None:
            raise ConfigurationError("a calibration's time has no zone")
        for array in (self.offset, self.gain, self.bad):
            array.setflags(write=False)
        object.__setattr__(self, "blind", blind_squares(self.bad))
        object.__setattr__(self, "_fillings", tuple(_fillings(self.bad)))

    @property
    def size_px(self) -> tuple[int, int]:
        """(height, width) of the frames that it corrects."""
        return int(self.offset.shape[0]), int(self.offset.shape[1])

    def correct(
        self, frame: Frame, *, within: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.float32]:
        """(H, W) float32: the whole frame, in grey levels in proportion to the beam.

        Args:
            frame: 16-bit grey, of this detector.
            within: (top, left, height, width) of the frame that is judged; all of it when absent.

        Raises:
            Unjudgeable: `calibration-foreign` for a frame of another size or kind;
                `detector-unfit` when the judged part holds bad pixels that hide a defect.
        """
        if frame.size_px != self.size_px or frame.channels != 1 or frame.bits != 16:
            kind = "grey" if frame.channels == 1 else "colour"
            raise Unjudgeable(
                f"the frame is {_size(frame.size_px)} pixels of {frame.bits}-bit {kind}, the "
                f"calibration of {self.station} is for {_size(self.size_px)} of 16-bit grey: "
                "calibrate this detector, or set the station's binning back",
                reason="calibration-foreign",
            )
        hidden = self._hidden(within)
        if hidden:
            raise Unjudgeable(
                f"{hidden} squares of {BLIND_PX} x {BLIND_PX} bad pixels lie in the judged region, "
                f"and a defect could hide there: repair or replace the detector of {self.station}",
                reason="detector-unfit",
            )
        return self.corrected(frame.pixels)

    def corrected(self, raw: NDArray[np.uint16] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W) raw levels of this detector to (H, W) float32; asks no further."""
        levels = cv2.subtract(raw, self.offset, dtype=cv2.CV_32F)
        divided = cv2.divide(levels, self.gain, dst=levels, scale=self.level)
        found = np.asarray(divided, dtype=np.float32)
        line = found.reshape(-1)
        for each in self._fillings:
            line[each.where] = np.einsum("nk,nk->n", line[each.neighbours], each.weights)
        return found

    def _hidden(self, within: tuple[int, int, int, int] | None) -> int:
        """How many squares in which a defect could hide lie in this part of the frame."""
        if within is None or not len(self.blind):
            return len(self.blind)
        top, left, height, width = within
        rows, columns = self.blind.T
        inside = (rows >= top) & (rows < top + height) & (columns >= left)
        return int(np.count_nonzero(inside & (columns < left + width)))


def blind_squares(bad: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n, 2) rows and columns of the middles of all BLIND_PX squares of bad pixels."""
    kernel = np.ones((BLIND_PX, BLIND_PX), dtype=np.uint8)
    inner = cv2.erode(bad.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0.0)
    return np.argwhere(inner)


def good_neighbours(bad: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(H, W): how many of the eight pixels around each one are there and good."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    kernel[1, 1] = 0
    good = (~bad).astype(np.uint8)
    found = cv2.filter2D(good, cv2.CV_8U, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(found, dtype=np.uint8)


def _fillings(bad: NDArray[np.bool_]) -> list[_Filling]:
    """Every bad pixel's good neighbours in the smallest of the squares that holds enough of them.

    Weights fall with the distance. A pixel without any good one within the widest square is filled
    with 0; it lies in a blind square.
    """
    margin = max(REACHES)
    height, width = bad.shape
    good = np.pad(~bad, margin)
    rows, columns = np.nonzero(bad)
    found = []
    for reach in REACHES:
        steps = np.arange(-reach, reach + 1)
        down, across = (each.ravel() for each in np.meshgrid(steps, steps, indexing="ij"))
        distance = np.hypot(down, across)
        others = distance > 0
        down, across, distance = down[others], across[others], distance[others]
        beside = good[rows[:, None] + margin + down, columns[:, None] + margin + across]
        done = np.count_nonzero(beside, axis=1) >= ENOUGH_NEIGHBOURS
        if reach == margin:
            done[:] = True
        weights = beside[done] / distance
        total = weights.sum(axis=1, keepdims=True)
        around = np.clip(rows[done, None] + down, 0, height - 1) * width
        around += np.clip(columns[done, None] + across, 0, width - 1)
        found.append(
            _Filling(
                where=rows[done] * width + columns[done],
                # Without weight any pixel does, and a good one is finite.
                neighbours=np.where(beside[done], around, int(np.argmax(~bad))),
                weights=np.divide(
                    weights, total, where=total > 0, out=np.zeros_like(weights)
                ).astype(np.float32),
            )
        )
        rows, columns = rows[~done], columns[~done]
    return [each for each in found if each.where.size]


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[1]} x {size_px[0]}"
