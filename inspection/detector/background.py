"""The slow part of a radiograph taken away: walls, ramps and scatter; small contrast stays.

    grey levels -> ln -> edge-preserving local mean (guided filter) -> the difference

In the logarithm of the beam's law a pore of d mm is a difference of mu d whatever the thickness
around it, so one window holds for thin and thick zones. A Gaussian local mean would draw a bright
and a dark line along every wall; the guided filter of K. He, J. Sun and X. Tang (IEEE TPAMI 35,
2013) follows what changes more than `contrast` over a wide share of its window (a wall) and passes
over what is small there (a pore); across a straight ramp it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

from inspection.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DARKEST: Final = 1.0
"""Grey levels below it, where hardly any quanta arrive, count as it: the logarithm stays finite."""

WIDEST: Final = 12.0
"""More than the logarithm of any two 16-bit levels apart: what a window may span at most."""

CELLS: Final = 16
"""Pixels a window of the reduced image: enough that its steps do not show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """How the local background is found.

    Attributes:
        method: "guided", the one there is; its name is kept so that another may join it.
        size_px: side of the square over which the background is local, in pixels of the frame.
        contrast: differences of the logarithm well above it are walls, well below it defects.
    """

    method: Literal["guided"] = "guided"
    size_px: int = 13
    contrast: float = 0.02

    def __post_init__(self) -> None:
        if not 5 <= self.size_px <= 1025:
            raise RecipeError(f"background: size_px {self.size_px} is out of range 5..1025")
        if not 1e-4 <= self.contrast <= WIDEST:
            raise RecipeError(f"background: contrast {self.contrast} is out of range 0.0001..12")


def remove_background(
    pixels: NDArray[np.float32], background: Background, *, scale: tuple[float, float]
) -> NDArray[np.float32]:
    """(H, W) or (H, W, 3) grey levels to the same shape in contrast, float32 around 0.

    The filter's coefficients are slow by construction, so they are found on an image reduced to
    at most `CELLS` pixels a window (K. He, J. Sun, "Fast guided filter", arXiv 1505.00996) and
    applied at full size. Beyond its edges the image is taken to go on as it leads there (odd
    reflection).

    Args:
        pixels: grey levels, in proportion to the beam.
        background: how.
        scale: (vertical, horizontal) pixels of `pixels` to one of the frame.
    """
    levels = np.log(np.maximum(pixels, np.float32(DARKEST)))
    levels -= np.float32(levels.mean())  # squares of small numbers keep their digits
    if levels.ndim == 3:
        planes = [_against_local(levels[..., k], background, scale) for k in range(3)]
        return np.stack(planes, axis=-1)
    return _against_local(levels, background, scale)


def _against_local(
    levels: NDArray[np.float32], background: Background, scale: tuple[float, float]
) -> NDArray[np.float32]:
    height, width = levels.shape
    windows = [max(3.0, background.size_px * each) for each in scale]
    small_height, small_width = (
        max(1, round(side / max(1.0, window / CELLS)))
        for side, window in zip((height, width), windows, strict=True)
    )
    small = cv2.resize(levels, (small_width, small_height), interpolation=cv2.INTER_AREA)
    cells = (
        round(windows[0] * small_height / height) // 2,
        round(windows[1] * small_width / width) // 2,
    )
    a, b = _coefficients(np.asarray(small, dtype=np.float32), cells, background.contrast)
    if small.shape != levels.shape:
        full = (width, height)
        a = np.asarray(cv2.resize(a, full, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
        b = np.asarray(cv2.resize(b, full, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return np.asarray(levels - (a * levels + b), dtype=np.float32)


def _coefficients(
    small: NDArray[np.float32], cells: tuple[int, int], contrast: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(a, b) of He, Sun and Tang, eq. 5, 6 and 8: the local mean is a times the image plus b.

    Args:
        small: (h, w) logarithms.
        cells: (vertical, horizontal) half sides of the window, in its pixels.
        contrast: eq. 5's epsilon is its square.
    """
    down, across = cells
    size = (2 * across + 1, 2 * down + 1)
    margin = ((2 * down, 2 * down), (2 * across, 2 * across))
    wide = np.pad(small, margin, mode="reflect", reflect_type="odd")
    mean = cv2.blur(wide, size)
    variance = np.maximum(cv2.blur(wide * wide, size) - mean * mean, np.float32(0))
    a = variance / (variance + np.float32(contrast**2))
    b = (1 - a) * mean
    height, width = small.shape
    inner = (slice(2 * down, 2 * down + height), slice(2 * across, 2 * across + width))
    return (
        np.asarray(cv2.blur(a, size)[inner], dtype=np.float32),
        np.asarray(cv2.blur(b, size)[inner], dtype=np.float32),
    )
