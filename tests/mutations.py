"""Valid files of every accepted kind, and ways to damage them: what the fuzz runs are made of.

seed files -> flip | cut | splice | repeat | rewrite a number -> a file that nobody wrote
"""

from __future__ import annotations

import io
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import cv2
import imagecodecs
import numpy as np
import tifffile

from tests.hostile_dicoms import (
    DEFLATED,
    JPEG_2000,
    PIXELS,
    RLE,
    dicom_of,
    element,
    encapsulated,
    image_elements,
    rle_frame,
)
from tests.hostile_images import png_of

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from numpy.typing import NDArray

NUMBERS: Final = (0, 1, 2, 3, 7, 8, 15, 16, 17, 127, 128, 255, 256, 4095, 32767, 32768, 65535)
LARGE: Final = (65536, 2**24, 2**26, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
HEADERS: Final = 700
"""Bytes at either end of a file that hold most of what can lie."""


@cache
def seed_files() -> Mapping[str, bytes]:
    """One small valid file of every kind and layout that a decoder has a way for."""
    random = np.random.default_rng(12)
    grey = random.integers(0, 65536, (24, 40)).astype("<u2")
    colour = random.integers(0, 65536, (24, 40, 3)).astype("<u2")
    smooth = cv2.GaussianBlur((grey >> 8).astype(np.uint8), (0, 0), 2)
    tell = image_elements(24, 40)
    j2k = imagecodecs.jpeg2k_encode(grey, reversible=True, level=0, codecformat="j2k")
    raw = element(PIXELS, b"OW", grey.tobytes())
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    return {
        "png": png_of((40, 24, 16, 0), zlib.compress(rows)),
        "png-palette": bytes(cv2.imencode(".png", smooth)[1]),
        "jpeg": bytes(cv2.imencode(".jpg", smooth)[1]),
        "jpeg-progressive": bytes(
            cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
        ),
        "tiff": _tiff(grey),
        "tiff-lzw-tiles": _tiff(grey, compression="lzw", tile=(16, 16), predictor=True),
        "tiff-zlib-strips": _tiff(grey, compression="zlib", rowsperstrip=5, byteorder=">"),
        "tiff-big": _tiff(grey, bigtiff=True, compression="zlib"),
        "tiff-planes": _tiff(
            np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "dicom": dicom_of(tell, raw),
        "dicom-deflated": dicom_of(tell, raw, syntax=DEFLATED),
        "dicom-rle": dicom_of(tell, encapsulated(rle_frame(grey)), syntax=RLE),
        "dicom-jpeg-2000": dicom_of(tell, encapsulated(bytes(j2k)), syntax=JPEG_2000),
    }


def damaged(random: random.Random) -> tuple[str, bytes]:
    """The name of a seed file, and the file with one to six things wrong in it."""
    files = seed_files()
    name = random.choice(sorted(files))
    data = bytearray(files[name])
    for _ in range(random.randint(1, 6)):
        _damage(data, random, files)
    if name.startswith("png") and random.random() < 0.7:
        _mend(data)
    return name, bytes(data)


def _damage(data: bytearray, random: random.Random, files: Mapping[str, bytes]) -> None:
    place = _place(len(data), random)
    how = random.choice(("flip", "flip", "number", "number", "number", "cut", "splice", "repeat"))
    if how == "flip":
        data[place : place + 1] = bytes([random.randrange(256)])
    elif how == "number":
        width = random.choice((2, 4, 4, 8))
        number = random.choice(NUMBERS if width == 2 else (*NUMBERS, *LARGE))
        written = number.to_bytes(width, random.choice(("little", "big")))
        data[place : place + width] = written
    elif how == "cut":
        del data[place : place + random.choice((1, 2, 8, 100, len(data)))]
    elif how == "splice":
        other = files[random.choice(sorted(files))]
        start = _place(len(other), random)
        data[place:place] = other[start : start + random.choice((4, 12, 200))]
    else:
        data[place:place] = data[place : place + random.choice((2, 12, 64))] * random.randint(1, 50)


def _mend(data: bytearray) -> None:
    """Write the checksums of a PNG's chunks anew, so that damage gets as far as the decoder."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


def _place(length: int, random: random.Random) -> int:
    """Anywhere, but more often where the headers are."""
    where = random.choice(("start", "end", "anywhere"))
    low = max(0, length - HEADERS) if where == "end" else 0
    high = min(length, HEADERS) if where == "start" else length
    return random.randint(low, max(low, high - 1))


def _tiff(pixels: NDArray[np.uint16], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", **options})
    return buffer.getvalue()
