"""Where a part lies in a frame, and the way between its millimetres and the frame's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How the part in a frame lies against the reference view.

    Attributes:
        turn_deg: clockwise on the screen, about the pivot.
        shift_mm: (x, y) of the pivot in the frame, against the reference view.
        scale: size in the frame over size in the reference view.
        agreement: correlation of the aligned structure, -1 to 1.
        worst_agreement: the same in the tile of the view where it is least.
        pitch_mm: size of a pixel on the part.
        pivot_px: (x, y) of the middle of what was aligned, in pixels of the reference view.
        origin_px: (x, y) of the origin of part coordinates, the middle of the reference view.
        unseen: tiles of the view that show structure and lie outside the frame by half and more.
    """

    turn_deg: float
    shift_mm: tuple[float, float]
    scale: float
    agreement: float
    worst_agreement: float
    pitch_mm: float
    pivot_px: tuple[float, float]
    origin_px: tuple[float, float]
    unseen: int = 0

    def to_frame(self, part_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) part coordinates in mm to (n, 2) pixels (x, y) of the frame."""
        pivot = np.array(self.pivot_px)
        view = np.array(self.origin_px) + part_mm / self.pitch_mm
        shift = np.array(self.shift_mm) / self.pitch_mm
        return np.asarray((view - pivot) @ self._matrix().T + pivot + shift)

    def to_part(self, frame_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) pixels (x, y) of the frame to (n, 2) part coordinates in mm."""
        pivot = np.array(self.pivot_px)
        shift = np.array(self.shift_mm) / self.pitch_mm
        view = (frame_px - pivot - shift) @ np.linalg.inv(self._matrix()).T + pivot
        return np.asarray((view - np.array(self.origin_px)) * self.pitch_mm)

    def region_matrix(self, corner_px: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3) from pixels (x, y) of the view's judged region to those of the frame's.

        Args:
            corner_px: (x, y) of that region in both.
        """
        turn = self._matrix()
        pivot = np.array(self.pivot_px) - np.array(corner_px)
        moved = pivot + np.array(self.shift_mm) / self.pitch_mm - turn @ pivot
        return np.hstack([turn, moved[:, np.newaxis]])

    def in_words(self) -> str:
        """Its figures in a line."""
        x, y = self.shift_mm
        return (
            f"shift {math.hypot(x, y):.2f} mm ({x:+.2f}, {y:+.2f}), turn {self.turn_deg:+.2f} deg, "
            f"scale {self.scale:.4f}, agreement {self.agreement:.2f} "
            f"(worst tile {self.worst_agreement:.2f})"
        )

    def _matrix(self) -> NDArray[np.float64]:
        turn = math.radians(self.turn_deg)
        c, s = self.scale * math.cos(turn), self.scale * math.sin(turn)
        return np.array([[c, -s], [s, c]])
