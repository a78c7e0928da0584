"""What every decoder is told and what it gives back: `DecodeLimits` and `Decoded`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import ImageTooLarge, UnreadableImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.decoding.acquisition import Acquisition

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """What an image may be at most.

    Attributes:
        max_bytes: of the file.
        max_pixels: width times height.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """What a file holds.

    Attributes:
        pixels: (H, W) or (H, W, 3) in RGB order, uint8 or uint16.
        pitch_mm: size of a pixel on the part in millimetres, where the file says it and a rule of
            its decoder trusts it.
        acquisition: what the file says of the exposure and of the part.
    """

    pixels: Pixels
    pitch_mm: float | None = None
    acquisition: Acquisition | None = None


def check_pixels(height: int, width: int, limits: DecodeLimits) -> None:
    """Refuse a size before anything of that size is made.

    Raises:
        UnreadableImage: no pixel at all. ImageTooLarge: past the limit.
    """
    if height < 1 or width < 1:
        raise UnreadableImage(f"the header says {width} x {height} pixels")
    if height * width > limits.max_pixels:
        raise ImageTooLarge(
            f"the header says {width} x {height} pixels; the limit is {limits.max_pixels} in all"
        )
