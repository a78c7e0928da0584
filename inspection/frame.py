"""From the bytes a station sent to pixels, with every bit they had.

    bytes -> sniff -> decoding/{png,jpeg,tiff,dicom}.py (limits first, from the header) -> Frame

16-bit files stay 16-bit, and what damage a decoder would pass over in silence is an error. What a
detector's file says of the exposure and the part comes along as its `Acquisition`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.decoding.acquisition import Acquisition
from inspection.decoding.contents import DecodeLimits
from inspection.decoding.jpeg import decode_jpeg
from inspection.decoding.png import SIGNATURE as PNG_SIGNATURE
from inspection.decoding.png import decode_png
from inspection.decoding.tiff import decode_tiff
from inspection.decoding.tiff_pages import SIGNATURES as TIFF_SIGNATURES
from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.decoding.contents import Decoded, Pixels

__all__ = ["MEDIA_TYPES", "Acquisition", "DecodeLimits", "Frame", "decode_image", "sniff"]

MEDIA_TYPES: Final = ("image/png", "image/tiff", "image/jpeg", "application/dicom")
DICOM_AT: Final = 128
"""Where a DICOM file says what it is (PS3.10 section 7.1); before it anything may stand."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded image.

    Attributes:
        pixels: (H, W) or (H, W, 3) in RGB order, uint8 or uint16, read-only.
        sha256: hex digest of the bytes it was decoded from.
        media_type: what those bytes were, not what somebody said they were.
        pitch_mm: size of a pixel on the part, when the file says it and can be trusted with it.
        acquisition: what the file says of the exposure and the part; None for a plain image.
    """

    pixels: Pixels
    sha256: str
    media_type: str
    pitch_mm: float | None = None
    acquisition: Acquisition | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype not in (np.uint8, np.uint16):
            raise UnsupportedImage(f"pixels are {dtype}; only 8 and 16 bits are accepted")
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise UnsupportedImage(f"pixels of shape {shape} are neither grey nor RGB")
        if len(self.sha256) != 64:
            raise UnreadableImage("a frame needs the digest of its bytes")
        self.pixels.setflags(write=False)

    @property
    def size_px(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.pixels.ndim == 2 else 3

    @property
    def bits(self) -> int:
        """8 or 16."""
        return 8 * self.pixels.dtype.itemsize


def decode_image(
    data: bytes,
    *,
    limits: DecodeLimits | None = None,
    declared: str | None = None,
    sha256: str | None = None,
) -> Frame:
    """Decode a PNG, TIFF, JPEG or DICOM file without losing a bit.

    Args:
        data: the file, whole.
        limits: enforced from the header, before any pixel is decoded.
        declared: the media type that came with the bytes; it must agree with them.
        sha256: of the bytes, in hex, where it is known; computed when absent.

    Raises:
        ImageTooLarge: past a limit.
        UnsupportedImage: a format, depth or layout outside the accepted ones.
        UnreadableImage: not an image, truncated or damaged.
    """
    limits = limits or DecodeLimits()
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"{len(data)} bytes; the limit is {limits.max_bytes}")
    media_type = sniff(data)
    if declared is not None and declared != media_type:
        raise UnreadableImage(
            f"declared as {declared}, but the bytes are {media_type}",
            remedy="Set Content-Type to what the file is.",
        )
    decoders: dict[str, Callable[[bytes, DecodeLimits], Decoded]] = {
        "image/png": decode_png,
        "image/jpeg": decode_jpeg,
        "image/tiff": decode_tiff,
        "application/dicom": _decode_dicom,
    }
    try:
        decoded = decoders[media_type](data, limits)
    except ImageError:
        raise
    except Exception as error:  # decoders raise what they like; here it becomes ours, once
        raise UnreadableImage(f"the {media_type} file is damaged: {error}") from error
    whole: Pixels = np.require(decoded.pixels, requirements=["C", "A"])
    return Frame(
        pixels=whole,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        media_type=media_type,
        pitch_mm=decoded.pitch_mm,
        acquisition=decoded.acquisition,
    )


def sniff(data: bytes) -> str:
    """The media type that the first bytes show.

    Raises:
        UnreadableImage: they are not the start of a PNG, TIFF, JPEG or DICOM file.
    """
    kinds = []
    if data.startswith(PNG_SIGNATURE):
        kinds.append("image/png")
    if data.startswith(b"\xff\xd8\xff"):
        kinds.append("image/jpeg")
    if data[DICOM_AT : DICOM_AT + 4] == b"DICM":
        kinds.append("application/dicom")
    elif data[:4] in TIFF_SIGNATURES:  # scanners put one into the preamble too, as PS3.10 allows
        kinds.append("image/tiff")
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise UnreadableImage(f"the file is {' and '.join(kinds)} at once: one image, two readings")
    what = "no bytes at all" if not data else "these bytes are not a PNG, TIFF, JPEG or DICOM file"
    raise UnreadableImage(f"not an image: {what}")


def _decode_dicom(data: bytes, limits: DecodeLimits) -> Decoded:
    from inspection.decoding.dicom import decode_dicom  # pydicom takes half a second to import

    return decode_dicom(data, limits)
