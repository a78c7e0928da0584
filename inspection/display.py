"""How an image is shown to people: an intensity window and a contrast, never for the evidence.

pixels -> grey levels between two percentiles -> high-pass or CLAHE where asked -> 8 bits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np
from pydantic import ConfigDict

from inspection.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """What people see of a frame; what the network sees does not depend on it.

    Attributes:
        low_percentile, high_percentile: of the grey levels, shown black and white.
        contrast: "none"; "clahe", equalised in tiles (K. Zuiderveld, Graphics Gems IV, 1994); or
            "high-pass", the local mean taken away.
        size_px: side of a tile, or width of the local mean, in pixels of the frame.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    low_percentile: float = 0.5
    high_percentile: float = 99.5
    contrast: Literal["none", "clahe", "high-pass"] = "none"
    size_px: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise RecipeError("display: percentiles lie in 0..100, the low one below the high one")
        if not 4 <= self.size_px <= 2048:
            raise RecipeError(f"display: size_px {self.size_px} is out of range 4..2048")


def shown(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], display: Display | None = None
) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) RGB grey levels as (H, W, 3) uint8 in OpenCV's channel order."""
    display = display or Display()
    levels = pixels.astype(np.float32)
    if display.contrast == "high-pass":
        levels -= cv2.GaussianBlur(levels, (0, 0), display.size_px / 2)
    low, high = np.percentile(levels, (display.low_percentile, display.high_percentile))
    span = max(float(high - low), 1e-6 if display.contrast == "high-pass" else 1.0)
    scaled = (np.clip((levels - low) / span, 0, 1) * 255).astype(np.uint8)
    if scaled.ndim == 2:
        grey = _equalised(scaled, display) if display.contrast == "clahe" else scaled
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    picture = cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR)
    if display.contrast == "clahe":
        lab = cv2.cvtColor(picture, cv2.COLOR_BGR2LAB)
        lab[..., 0] = _equalised(lab[..., 0], display)
        picture = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
    return np.asarray(picture, dtype=np.uint8)


def _equalised(grey: NDArray[np.uint8], display: Display) -> NDArray[np.uint8]:
    height, width = grey.shape
    tiles = (max(1, round(width / display.size_px)), max(1, round(height / display.size_px)))
    equal = cv2.createCLAHE(clipLimit=3.0, tileGridSize=tiles).apply(np.ascontiguousarray(grey))
    return np.asarray(equal, dtype=np.uint8)
