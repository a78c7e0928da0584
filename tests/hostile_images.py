"""Files that were made to do harm, and files that only look so: what every door must withstand.

    hostile_images() -> name -> Hostile(data, refused with which error, or decoded)

Nothing here is stored: every file is made, so that each says which bytes of it lie.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from tests.hostile_dicoms import hostile_dicoms
from tests.hostile_tiffs import hostile_tiffs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

Case = tuple[bytes, type[ImageError] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One file.

    Attributes:
        data: its bytes; few, whatever its headers claim.
        media_type: what it is sent as.
        refused: the error that the default limits meet it with; None for one that is decoded.
    """

    data: bytes
    media_type: str
    refused: type[ImageError] | None


@cache
def hostile_images() -> Mapping[str, Hostile]:
    """Every file of the corpus by its name, such as `tiff-pages-in-a-circle`."""
    kinds = {
        "image/png": ("png", _pngs()),
        "image/jpeg": ("jpeg", _jpegs()),
        "image/tiff": ("tiff", hostile_tiffs()),
        "application/dicom": ("dicom", hostile_dicoms()),
    }
    found = {
        f"{prefix}-{name}": Hostile(data=data, media_type=media_type, refused=refused)
        for media_type, (prefix, cases) in kinds.items()
        for name, (data, refused) in cases
    }
    for name, data in _no_images():
        found[f"other-{name}"] = Hostile(data=data, media_type="image/png", refused=UnreadableImage)
    return MappingProxyType(found)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(header: tuple[int, ...], packed: bytes, *extra: bytes) -> bytes:
    """A PNG of (width, height, bits, colour) and compressed rows, with chunks in between."""
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    return start + b"".join(extra) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def _pngs() -> Iterator[tuple[str, Case]]:
    grey = np.random.default_rng(4).integers(0, 65536, (24, 31), np.uint16)
    good = _encoded(".png", grey)
    rows = zlib.compress(bytes(25 * 25))
    yield "good", (good, None)
    yield "one-pixel", (_encoded(".png", grey[:1, :1]), None)
    yield "one-row", (_encoded(".png", grey[:1]), None)
    yield "followed-by-a-zip", (good + b"PK\x03\x04" + bytes(100), None)
    yield "signature-only", (good[:8], UnreadableImage)
    yield "half", (good[: len(good) // 2], UnreadableImage)
    yield "without-end", (good[:-12], UnreadableImage)
    yield "flipped-checksum", (good[:-20] + bytes([good[-20] ^ 1]) + good[-19:], UnreadableImage)
    yield "bomb-of-gigabytes", (png_of((60_000, 60_000, 16, 2), rows), ImageTooLarge)
    yield "sides-of-2-to-the-31", (png_of((2**31 - 1, 2**31 - 1, 8, 0), rows), ImageTooLarge)
    yield "no-width", (png_of((0, 25, 8, 0), rows), UnreadableImage)
    yield "few-rows", (png_of((24, 25, 8, 0), zlib.compress(bytes(25 * 10))), UnreadableImage)
    yield "bits-of-3", (png_of((24, 25, 3, 0), rows), UnreadableImage)
    yield "colour-of-9", (png_of((24, 25, 8, 9), rows), UnreadableImage)
    yield "palette-missing", (png_of((24, 25, 8, 3), rows), UnreadableImage)
    frames = png_chunk(b"acTL", struct.pack(">II", 9, 0))
    yield "animated", (png_of((24, 25, 8, 0), rows, frames), UnsupportedImage)
    yield (
        "chunk-beyond-the-end",
        (
            good[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + good[33:],
            UnreadableImage,
        ),
    )
    text = png_chunk(b"zTXt", b"bomb\x00\x00" + zlib.compress(bytes(20_000_000), 9))
    yield "text-that-unpacks", (png_of((24, 25, 8, 0), rows, text), None)
    profile = png_chunk(b"iCCP", b"bomb\x00\x00" + zlib.compress(bytes(20_000_000), 9))
    yield "profile-that-unpacks", (png_of((24, 25, 8, 0), rows, profile), None)
    many = png_chunk(b"tEXt", b"") * 300_000
    yield "chunks-without-number", (png_of((24, 25, 8, 0), rows, many), UnsupportedImage)
    clear = np.dstack([np.full((8, 8, 3), 90, np.uint8), np.zeros((8, 8), np.uint8)])
    yield "transparent", (_encoded(".png", clear), UnsupportedImage)
    both = b"\x89PNG\r\n\x1a\n" + bytes(120) + b"DICM" + bytes(200)
    yield "and-dicom-at-once", (both, UnreadableImage)


def _jpegs() -> Iterator[tuple[str, Case]]:
    smooth = cv2.GaussianBlur(
        np.random.default_rng(4).integers(0, 256, (40, 48), np.uint8), (0, 0), 4
    )
    good = _encoded(".jpg", smooth)
    frame = good.index(b"\xff\xc0")
    sides = slice(frame + 5, frame + 9)
    yield "good", (good, None)
    yield "signature-only", (good[:3], UnreadableImage)
    yield "half", (good[: len(good) // 2], UnreadableImage)
    yield "without-end", (good[:-2], UnreadableImage)
    yield "huge", (_put(good, sides, b"\xea\x60\xea\x60"), ImageTooLarge)
    yield "taller-than-its-data", (_put(good, sides, b"\x10\x00\x00\x30"), UnreadableImage)
    yield "no-height", (_put(good, sides, b"\x00\x00\x00\x30"), UnreadableImage)
    yield "twelve-bits", (_put(good, slice(frame + 4, frame + 5), b"\x0c"), UnreadableImage)
    yield (
        "arithmetic-lossless",
        (
            _put(good, slice(frame, frame + 2), b"\xff\xcb"),
            UnreadableImage,
        ),
    )
    yield "zeros-behind", (good[: frame + 20] + bytes(5000), UnreadableImage)
    scans = good.index(b"\xff\xda")
    yield "scan-twice", (good[:-2] + good[scans:], UnreadableImage)


def _no_images() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "zeros", bytes(4096)
    yield "text", b"hello"
    yield "bmp", b"BM" + bytes(60)
    yield "gif", b"GIF89a" + bytes(60)
    yield "pdf", b"%PDF-1.7\n" + bytes(60)
    yield "zip", b"PK\x03\x04" + bytes(60)
    yield "html", b"<html><script>alert(1)</script></html>"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "numpy", _npy()
    yield "pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4), np.uint16))
    return buffer.getvalue()


def _encoded(suffix: str, pixels: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return bytes(data)


def _put(data: bytes, place: slice, what: bytes) -> bytes:
    changed = bytearray(data)
    changed[place] = what
    return bytes(changed)
