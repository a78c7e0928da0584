"""From the bytes a station sent to pixels, with every bit they had.

    bytes -> sniff -> header (size, depth, pages: limits are enforced here) -> decode -> Frame

PNG and TIFF are decoded by imagecodecs and tifffile, JPEG by libjpeg-turbo in strict mode, because
these report damage that OpenCV decodes over in silence. 16-bit files stay 16-bit.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import simplejpeg
import tifffile

from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
TIFF_COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate"}
MEDIA_TYPES = ("image/png", "image/tiff", "image/jpeg")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """What an image may be at most. Sizes in bytes, pixels (width times height) and pages."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 64 * 1024 * 1024
    max_pages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded image.

    Attributes:
        pixels: (H, W) or (H, W, 3) in RGB order, uint8 or uint16, read-only.
        sha256: hex digest of the bytes it was decoded from.
        media_type: what those bytes were, not what somebody said they were.
        pitch_mm: size of a pixel on the part, when the file or the recipe says it.
    """

    pixels: Pixels
    sha256: str
    media_type: str
    pitch_mm: float | None = None

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
    data: bytes, *, limits: DecodeLimits | None = None, declared: str | None = None
) -> Frame:
    """Decode a PNG, TIFF or JPEG without losing a bit.

    Args:
        data: the file, whole.
        limits: enforced from the header, before any pixel is decoded.
        declared: the media type that came with the bytes; it must agree with them.

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
    decoders: dict[str, Callable[[bytes, DecodeLimits], Pixels]] = {
        "image/png": _decode_png,
        "image/jpeg": _decode_jpeg,
        "image/tiff": _decode_tiff,
    }
    try:
        pixels = decoders[media_type](data, limits)
    except ImageError:
        raise
    except Exception as error:  # decoders raise what they like; here it becomes ours, once
        raise UnreadableImage(f"the {media_type} file is damaged: {error}") from error
    whole: Pixels = np.require(pixels, requirements="C")
    return Frame(
        pixels=whole,
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=media_type,
    )


def sniff(data: bytes) -> str:
    """The media type that the first bytes show.

    Raises:
        UnreadableImage: they are not the start of a PNG, TIFF or JPEG.
    """
    if data.startswith(PNG_SIGNATURE):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] in TIFF_SIGNATURES:
        return "image/tiff"
    what = "no bytes at all" if not data else "these bytes are not a PNG, TIFF or JPEG"
    raise UnreadableImage(f"not an image: {what}")


def _check_pixels(height: int, width: int, limits: DecodeLimits) -> None:
    if height < 1 or width < 1:
        raise UnreadableImage(f"the header says {width} x {height} pixels")
    if height * width > limits.max_pixels:
        raise ImageTooLarge(
            f"the header says {width} x {height} pixels; the limit is {limits.max_pixels} in all"
        )


def _decode_png(data: bytes, limits: DecodeLimits) -> Pixels:
    """PNG: 8- or 16-bit grey or RGB; 1, 2 and 4 bits and palettes are widened, opaque alpha cut."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage("the PNG ends inside its header")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    _check_pixels(height, width, limits)
    position, ended = len(PNG_SIGNATURE), False
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"acTL":
            raise UnsupportedImage("an animated PNG holds more than one image")
        position += 12 + length
        if kind == b"IEND":
            ended = position <= len(data)
            break
    if not ended:
        raise UnreadableImage("the PNG is truncated")
    pixels = np.asarray(imagecodecs.png_decode(data))
    if pixels.shape[:2] != (height, width):
        raise UnreadableImage("the PNG's pixels do not agree with its header")
    if bits == 16 and pixels.dtype != np.uint16:
        raise UnreadableImage("the decoder lost bits of a 16-bit PNG")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        opaque = np.iinfo(pixels.dtype).max
        if int(pixels[..., -1].min()) != opaque:
            raise UnsupportedImage("the PNG has transparent pixels")
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if colour in (0, 4) and pixels.ndim == 3:
        pixels = pixels[..., 0]
    return pixels


def _decode_jpeg(data: bytes, limits: DecodeLimits) -> Pixels:
    """JPEG: 8-bit grey or colour; libjpeg-turbo's warnings (truncation, damage) are errors here."""
    height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
    _check_pixels(height, width, limits)
    if colourspace == "Gray":
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY"))[..., 0]
    if colourspace in ("CMYK", "YCCK"):
        raise UnsupportedImage(f"a JPEG in {colourspace} is neither grey nor RGB")
    return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"))


def _decode_tiff(data: bytes, limits: DecodeLimits) -> Pixels:
    """TIFF: one page, grey or RGB, 8 or 16 bits, raw, LZW or Deflate. White-is-zero is inverted."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = len(tiff.pages)
        if pages > limits.max_pages:
            raise UnsupportedImage(
                f"the TIFF holds {pages} pages; which one is the part is not ours to guess",
                remedy="Send one page in a file.",
            )
        page = tiff.pages.first
        _check_pixels(page.imagelength, page.imagewidth, limits)
        if int(page.compression) not in TIFF_COMPRESSIONS:
            raise UnsupportedImage(f"TIFF compression {page.compression!r} is not accepted")
        kinds = {0: 1, 1: 1, 2: 3}  # photometric: white is zero, black is zero, RGB
        samples = kinds.get(int(page.photometric))
        if samples is None or page.samplesperpixel != samples or page.imagedepth != 1:
            raise UnsupportedImage(
                f"a TIFF of kind {page.photometric!r} with {page.samplesperpixel} samples"
            )
        if page.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise UnsupportedImage(f"TIFF pixels are {page.dtype}, not 8 or 16 bits unsigned")
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if len(segments) != math.prod(page.chunked) or any(
            offset <= 0 or count <= 0 or offset + count > len(data) for offset, count in segments
        ):
            raise UnreadableImage("the TIFF is truncated")  # tifffile would fill in zeros
        pixels = np.asarray(page.asarray())
    if pixels.shape[:2] != (page.imagelength, page.imagewidth) and pixels.shape[0] == 3:
        pixels = np.moveaxis(pixels, 0, -1)  # planes one after the other
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if int(page.photometric) == 0:
        used_bits = page.bitspersample
        pixels = (2**used_bits - 1) - pixels
    return pixels
