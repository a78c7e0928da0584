"""JPEG: 8-bit grey or colour; libjpeg-turbo's warnings (truncation, damage) are errors here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from inspection.decoding.contents import Decoded, check_pixels
from inspection.errors import UnsupportedImage

if TYPE_CHECKING:
    from inspection.decoding.contents import DecodeLimits


def decode_jpeg(data: bytes, limits: DecodeLimits) -> Decoded:
    """Decode the image.

    Raises:
        ImageTooLarge: past the limit of pixels. UnsupportedImage: neither grey nor RGB.
        ValueError: truncated or damaged.
    """
    height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
    check_pixels(height, width, limits)
    if colourspace == "Gray":
        return Decoded(pixels=np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY"))[..., 0])
    if colourspace in ("CMYK", "YCCK"):
        raise UnsupportedImage(f"a JPEG in {colourspace} is neither grey nor RGB")
    return Decoded(pixels=np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB")))
