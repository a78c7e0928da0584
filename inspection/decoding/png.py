"""PNG: 8- or 16-bit grey or RGB; 1, 2 and 4 bits and palettes are widened, opaque alpha is cut.

    header -> chunks, their checksums verified -> image data unpacked: whole, of the right length
      -> libpng (in OpenCV) on a file of nothing else, stored as it is -> pixels

The data is unpacked here and not by libpng, because no decoder at hand says what was wrong:
OpenCV's keeps the rows before the damage, and imagecodecs' (2026.3.6) drops a reference to None
with each damaged file, until the process dies of it. So libpng gets only what it cannot refuse.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import cv2
import imagecodecs
import numpy as np

from inspection.decoding.contents import Decoded, check_pixels
from inspection.errors import UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.decoding.contents import DecodeLimits

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 2**16
"""64 MiB of image data in chunks of 1 KiB; encoders write 8 KiB and more."""
DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample by kind of colour (PNG, third edition, table 11.1)."""
SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
"""First row and column, and steps, of Adam7's passes; the last has every second row."""
LAST_PASS: Final = (1, 0, 2, 1)


def decode_png(data: bytes, limits: DecodeLimits) -> Decoded:
    """Decode the one image.

    Raises:
        ImageTooLarge: past the limit of pixels. UnsupportedImage: animated, or with transparency.
        UnreadableImage: truncated or damaged.
    """
    if len(data) < 33 or data[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise UnreadableImage("the PNG ends inside its header")
    width, height, bits, colour, packing, filtering, interlaced = struct.unpack_from(
        ">IIBBBBB", data, 16
    )
    check_pixels(height, width, limits)
    if bits not in DEPTHS.get(colour, ()) or packing or filtering or interlaced > 1:
        raise UnreadableImage(f"the PNG's header says {bits} bits of colour {colour}")
    chunks = _chunks(data)
    _check_palette(chunks, colour)
    passes = (*PASSES, LAST_PASS) if interlaced else ((0, 0, 1, 1),)
    sizes = [
        (-(-(height - top) // down), -(-(width - left) // across))
        for top, left, down, across in passes
        if height > top and width > left
    ]
    chunks[b"IDAT"] = zlib.compress(_rows(chunks[b"IDAT"], sizes, bits * SAMPLES[colour]), level=0)
    bare = _file_of(chunks)
    chunks.clear()  # the largest image would be in memory once more
    read = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED)
    dtype: type[np.uint8] | type[np.uint16] = np.uint16 if bits == 16 else np.uint8
    if read is None or read.shape[:2] != (height, width) or read.dtype != dtype:
        raise UnreadableImage("the decoder lost pixels or bits of the PNG")
    pixels: NDArray[Any] = np.asarray(read, dtype)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if int(pixels[..., 3].min()) != np.iinfo(dtype).max:
            raise UnsupportedImage("the PNG has transparent pixels")
        pixels = pixels[..., :3]
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if colour in (0, 4) else pixels[..., ::-1]
    return Decoded(pixels=pixels)


_ORDER: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""The chunks that pixels come from, as a file has them."""


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """What each kind of chunk holds that pixels come from: text and profiles are never unpacked.

    Raises:
        UnreadableImage: truncated, a wrong checksum, or a chunk twice that comes once.
        UnsupportedImage: several images, or chunks without number.
    """
    found: dict[bytes, list[bytes]] = {}
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            raise UnreadableImage("the PNG is truncated")
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"acTL":
            raise UnsupportedImage("an animated PNG holds more than one image")
        start, position = position + 8, position + 12 + length
        if position > len(data):
            raise UnreadableImage("the PNG is truncated")
        if kind in _ORDER:
            body = data[start : start + length]
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(
                data[position - 4 : position], "big"
            ):
                raise UnreadableImage(f"a checksum of the PNG is wrong in its {kind.decode()}")
            found.setdefault(kind, []).append(body)
        if kind == b"IEND":
            break
    else:
        raise UnsupportedImage(f"the PNG is cut into more than {MAX_CHUNKS} chunks")
    twice = [kind.decode() for kind, bodies in found.items() if kind != b"IDAT" and bodies[1:]]
    if twice or b"IDAT" not in found:
        raise UnreadableImage(f"the PNG has {', '.join(twice)} twice" if twice else "no pixels")
    return {kind: b"".join(bodies) for kind, bodies in found.items()}


def _check_palette(chunks: dict[bytes, bytes], colour: int) -> None:
    palette, clear = chunks.get(b"PLTE"), chunks.get(b"tRNS")
    if colour == 3 and palette is None:
        raise UnreadableImage("the PNG has no palette")
    if palette is not None and (
        colour in (0, 4) or len(palette) % 3 or not 3 <= len(palette) <= 768
    ):
        raise UnreadableImage("the PNG's palette makes no sense")
    if clear is not None:
        most = {0: 2, 2: 6, 3: len(palette or b"") // 3}.get(colour, 0)
        if not 0 < len(clear) <= most or (colour != 3 and len(clear) != most):
            raise UnreadableImage("the PNG's transparency makes no sense")


def _rows(packed: bytes, sizes: list[tuple[int, int]], bits: int) -> bytes:
    """The rows, still filtered, of (height, width) in each pass.

    Raises:
        UnreadableImage: damaged, too short or too long, or a row of an unknown filter.
    """
    rows = [(height, 1 + (width * bits + 7) // 8) for height, width in sizes]
    wanted = sum(height * length for height, length in rows)
    raw = bytes(imagecodecs.deflate_decode(packed, out=wanted))
    unpacked = np.frombuffer(raw, np.uint8)
    if unpacked.size != wanted:
        raise UnreadableImage(f"the PNG is truncated: {unpacked.size} bytes where {wanted} are due")
    start = 0
    for height, length in rows:
        if int(unpacked[start : start + height * length : length].max()) > 4:
            raise UnreadableImage("the PNG has a row of an unknown filter")
        start += height * length
    return raw


def _file_of(chunks: dict[bytes, bytes]) -> bytes:
    parts = [SIGNATURE]
    for kind in _ORDER:
        if (body := chunks.get(kind)) is not None:
            checksum = zlib.crc32(body, zlib.crc32(kind))
            parts += [struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)]
    return b"".join(parts)
