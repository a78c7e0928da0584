"""TIFF files tag by tag: `tiff_of` writes what it is told, lies too; `hostile_tiffs` tells it."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHORT, LONG, RATIONAL, DOUBLE, LONG8 = 3, 4, 5, 12, 16
_FORMS = {1: "B", 2: "s", SHORT: "H", LONG: "I", RATIONAL: "II", DOUBLE: "d", LONG8: "Q"}

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
OFFSETS, SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
SUBFILE, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, FORM = 254, 322, 323, 324, 325, 339


def tiff_of(
    pages: Sequence[tuple[Mapping[int, tuple[int, Sequence[Any]]], Sequence[bytes]]],
    *,
    order: str = "<",
    last_next: int | None = None,
) -> bytes:
    """A classic TIFF of pages, each of tags and blocks (strips or tiles).

    Tags are written as they are given, in ascending order. The offsets and lengths of the blocks
    are added under StripOffsets and StripByteCounts (TileOffsets and TileByteCounts where there is
    a TileWidth), unless the tags themselves say something else.

    Args:
        pages: (tags, blocks): a tag has its type and values.
        order: "<" or ">".
        last_next: the offset that the last page has for the one behind it; 0 when absent.
    """
    data = bytearray((b"II*\x00" if order == "<" else b"MM\x00*") + bytes(4))
    link = 4
    for tags, blocks in pages:
        places = []
        for block in blocks:
            places.append(len(data))
            data += block
        tiled = TILE_WIDTH in tags
        own = {
            TILE_OFFSETS if tiled else OFFSETS: (LONG, places),
            TILE_COUNTS if tiled else COUNTS: (LONG, [len(block) for block in blocks]),
        }
        data += bytes(len(data) % 2)
        data[link : link + 4] = struct.pack(f"{order}I", len(data))
        link = _add_page(data, {**own, **tags}, order)
    data[link : link + 4] = struct.pack(f"{order}I", last_next or 0)
    return bytes(data)


def _add_page(data: bytearray, tags: Mapping[int, tuple[int, Sequence[Any]]], order: str) -> int:
    """Append a directory; where its link to the next one stands."""
    start = len(data)
    data += struct.pack(f"{order}H", len(tags)) + bytes(12 * len(tags) + 4)
    for number, (tag, (kind, values)) in enumerate(sorted(tags.items())):
        if kind == 2:
            packed, count = bytes(values), len(values)
        else:
            packed = b"".join(
                struct.pack(f"{order}{_FORMS[kind]}", *(v if kind == RATIONAL else (v,)))
                for v in values
            )
            count = len(values)
        place = start + 2 + 12 * number
        if len(packed) > 4:
            where, data_end = struct.pack(f"{order}I", len(data)), packed
            data += data_end
        else:
            where = packed.ljust(4, b"\x00")
        data[place : place + 12] = struct.pack(f"{order}HHI", tag, kind, count) + where
    return start + 2 + 12 * len(tags)


def grey_tags(height: int, width: int, **other: Any) -> dict[int, tuple[int, Sequence[Any]]]:
    """The tags of a 16-bit grey image in one raw strip."""
    return {
        WIDTH: (LONG, [width]),
        LENGTH: (LONG, [height]),
        BITS: (SHORT, [16]),
        COMPRESSION: (SHORT, [1]),
        PHOTOMETRIC: (SHORT, [1]),
        SAMPLES: (SHORT, [1]),
        ROWS: (LONG, [height]),
    }


PIXELS = np.random.default_rng(6).integers(0, 65536, (32, 48)).astype("<u2")
STRIP = PIXELS.tobytes()


def hostile_tiffs() -> Iterator[tuple[str, tuple[bytes, type[ImageError] | None]]]:
    """(name, (file, error)) of everything that a TIFF can be made to say."""
    good = tiff_of([(grey_tags(32, 48), [STRIP])])
    yield "good", (good, None)
    for length in (4, 8, 100, len(good) - 200, len(good) - 1):
        yield f"cut-at-{length}", (good[:length], UnreadableImage)
    yield "trailing-script", (good + b"<script>alert(1)</script>", None)
    yield "no-page", (b"II*\x00" + bytes(4), UnreadableImage)
    yield "first-page-beyond-the-end", (b"II*\x00\xff\xff\xff\xff" + bytes(50), UnreadableImage)
    yield "of-bytes-nobody-uses", (b"II+\x00\x04\x00\x00\x00" + bytes(50), UnreadableImage)
    yield from _lying()
    yield from _surprising()
    yield from _bombs()
    yield from _several_pages()
    both = bytearray(good)
    both[128:132] = b"DICM"
    yield "and-dicom-at-once", (bytes(both), UnreadableImage)


def _lying() -> Iterator[tuple[str, tuple[bytes, type[ImageError] | None]]]:
    """Headers whose offsets, counts or sizes do not hold."""

    cases: dict[str, tuple[dict[int, tuple[int, Sequence[Any]]], type[ImageError] | None]] = {
        "strip-beyond-the-end": ({OFFSETS: (LONG, [10**6])}, UnreadableImage),
        "strip-at-zero": ({OFFSETS: (LONG, [0])}, UnreadableImage),
        "strip-of-4-gigabytes": ({COUNTS: (LONG, [2**32 - 1])}, UnreadableImage),
        "strip-too-short": ({COUNTS: (LONG, [100])}, UnreadableImage),
        "strip-of-nothing": ({COUNTS: (LONG, [0])}, UnreadableImage),
        "offsets-without-lengths": ({OFFSETS: (LONG, [8, 9])}, UnreadableImage),
        "more-strips-than-rows": ({ROWS: (LONG, [1])}, UnreadableImage),
        "strips-without-rows": ({ROWS: (LONG, [0])}, UnreadableImage),
        "rows-beyond-the-image": ({ROWS: (LONG, [2**32 - 1])}, None),
        "no-width": ({WIDTH: (LONG, [0])}, UnreadableImage),
        "width-of-two-minds": ({WIDTH: (LONG, [48, 49])}, UnreadableImage),
        "width-as-a-fraction": ({WIDTH: (RATIONAL, [(48, 1)])}, UnreadableImage),
        "huge": ({WIDTH: (LONG, [2**32 - 1]), LENGTH: (LONG, [2**32 - 1])}, ImageTooLarge),
        "sides-of-64-bits": ({WIDTH: (LONG8, [2**63]), LENGTH: (LONG8, [2**63])}, ImageTooLarge),
        "a-strip-a-pixel": (
            {ROWS: (LONG, [1]), OFFSETS: (LONG, [8] * 300_000), COUNTS: (LONG, [2] * 300_000)},
            UnsupportedImage,
        ),
        "planes-of-9": ({PLANAR: (SHORT, [9])}, UnreadableImage),
        "resolution-over-zero": ({282: (RATIONAL, [(1, 0)]), 283: (RATIONAL, [(1, 0)])}, None),
        "resolution-not-a-number": (
            {282: (DOUBLE, [float("nan")]), 283: (DOUBLE, [float("nan")]), 296: (SHORT, [3])},
            None,
        ),
        "resolution-absurd": (
            {
                282: (RATIONAL, [(2**32 - 1, 1)]),
                283: (RATIONAL, [(2**32 - 1, 1)]),
                296: (SHORT, [3]),
            },
            None,
        ),
    }
    for name, (tags, refused) in cases.items():
        yield name, (tiff_of([({**grey_tags(32, 48), **tags}, [STRIP])]), refused)
    good = tiff_of([(grey_tags(32, 48), [STRIP])])
    (start,) = struct.unpack_from("<I", good, 4)
    claims = bytearray(good)
    struct.pack_into("<H", claims, start, 65_535)
    yield "tags-without-number", (bytes(claims), UnreadableImage)
    twice = bytearray(good)
    twice[start + 14 : start + 26] = twice[start + 2 : start + 14]
    yield "the-same-tag-twice", (bytes(twice), UnreadableImage)
    values = bytearray(good)
    struct.pack_into("<I", values, start + 2 + 12 * 2 + 4, 2**32 - 1)
    yield "a-tag-of-4-billion-values", (bytes(values), UnreadableImage)
    for name, missing in (("width", WIDTH), ("photometric", PHOTOMETRIC), ("bits", BITS)):
        left = {tag: value for tag, value in grey_tags(32, 48).items() if tag != missing}
        error = UnsupportedImage if missing == BITS else UnreadableImage
        yield f"without-{name}", (tiff_of([(left, [STRIP])]), error)


def _surprising() -> Iterator[tuple[str, tuple[bytes, type[ImageError] | None]]]:
    """Kinds of pixel that look like grey and are not."""
    cases: dict[str, dict[int, tuple[int, Sequence[Any]]]] = {
        "palette": {PHOTOMETRIC: (SHORT, [3])},
        "mask": {PHOTOMETRIC: (SHORT, [4])},
        "cmyk": {PHOTOMETRIC: (SHORT, [5])},
        "ycbcr": {PHOTOMETRIC: (SHORT, [6])},
        "filter-array": {PHOTOMETRIC: (SHORT, [32803])},
        "rgb-of-one-sample": {PHOTOMETRIC: (SHORT, [2])},
        "grey-with-alpha": {SAMPLES: (SHORT, [2]), 338: (SHORT, [1])},
        "signed": {FORM: (SHORT, [2])},
        "floating-point": {FORM: (SHORT, [3])},
        "complex": {FORM: (SHORT, [6])},
        "one-bit": {BITS: (SHORT, [1])},
        "four-bits": {BITS: (SHORT, [4])},
        "thirty-two-bits": {BITS: (SHORT, [32])},
        "reversed-bits": {266: (SHORT, [2])},
        "volume": {32997: (LONG, [7])},
        "jpeg-inside": {COMPRESSION: (SHORT, [7])},
        "old-jpeg-inside": {COMPRESSION: (SHORT, [6])},
        "fax": {COMPRESSION: (SHORT, [4])},
        "packbits": {COMPRESSION: (SHORT, [32773])},
        "zstandard": {COMPRESSION: (SHORT, [50000])},
        "lossy-webp": {COMPRESSION: (SHORT, [50001])},
        "jpeg-2000": {COMPRESSION: (SHORT, [34712])},
        "compression-of-the-future": {COMPRESSION: (SHORT, [65_000])},
        "predictor-for-raw": {PREDICTOR: (SHORT, [2])},
        "predictor-for-floats": {PREDICTOR: (SHORT, [3]), COMPRESSION: (SHORT, [8])},
    }
    for name, tags in cases.items():
        yield name, (tiff_of([({**grey_tags(32, 48), **tags}, [STRIP])]), UnsupportedImage)


def _bombs() -> Iterator[tuple[str, tuple[bytes, type[ImageError] | None]]]:
    """Small files that unpack to much, or make much work."""
    deflate = {**grey_tags(32, 48), COMPRESSION: (SHORT, [8])}
    gigabytes = zlib.compress(bytes(50_000_000), 9)
    yield "deflate-bomb", (tiff_of([(deflate, [gigabytes])]), UnreadableImage)
    yield "deflate-too-short", (tiff_of([(deflate, [zlib.compress(b"1" * 100)])]), UnreadableImage)
    yield "deflate-of-noise", (tiff_of([(deflate, [STRIP])]), UnreadableImage)
    lzw = {**grey_tags(32, 48), COMPRESSION: (SHORT, [5])}
    yield "lzw-of-noise", (tiff_of([(lzw, [STRIP])]), UnreadableImage)
    yield "lzw-of-zeros", (tiff_of([(lzw, [bytes(40)])]), UnreadableImage)
    tiles = {
        TILE_WIDTH: (LONG, [64]),
        TILE_LENGTH: (LONG, [32]),
        **{tag: value for tag, value in grey_tags(32, 48).items() if tag != ROWS},
    }
    tile = np.zeros((32, 64), "<u2")
    tile[:, :48] = PIXELS
    yield "tile-that-sticks-out", (tiff_of([(tiles, [tile.tobytes()])]), None)
    for name, sides, error in (
        ("tiles-of-two-billion", (2**31, 2**31), ImageTooLarge),
        ("tiles-of-no-width", (0, 32), UnreadableImage),
        ("tiles-of-17", (17, 17), UnreadableImage),
    ):
        lying = {**tiles, TILE_WIDTH: (LONG, [sides[0]]), TILE_LENGTH: (LONG, [sides[1]])}
        yield name, (tiff_of([(lying, [STRIP])]), error)
    outside = {**tiles, TILE_OFFSETS: (LONG, [10**8])}
    yield "tile-beyond-the-end", (tiff_of([(outside, [tile.tobytes()])]), UnreadableImage)
    thin = {**grey_tags(2**26, 1), ROWS: (LONG, [2**26]), COMPRESSION: (SHORT, [8])}
    yield "one-column-of-64-million", (tiff_of([(thin, [gigabytes])]), UnreadableImage)


def _several_pages() -> Iterator[tuple[str, tuple[bytes, type[ImageError] | None]]]:
    page = (grey_tags(32, 48), [STRIP])
    small = PIXELS[:16, :24].tobytes()

    def flagged(bits: int) -> tuple[dict[int, tuple[int, Sequence[Any]]], list[bytes]]:
        return {**grey_tags(16, 24), SUBFILE: (LONG, [bits])}, [small]

    yield "with-a-thumbnail", (tiff_of([page, flagged(1)]), None)
    yield "thumbnail-first", (tiff_of([flagged(1), page]), None)
    yield "with-a-mask", (tiff_of([page, flagged(4)]), None)
    yield "two-pages", (tiff_of([page, page]), UnsupportedImage)
    yield "two-pages-of-a-book", (tiff_of([page, flagged(2)]), UnsupportedImage)
    yield "thumbnail-alone", (tiff_of([flagged(1)]), UnsupportedImage)
    big = ({**grey_tags(32, 48), SUBFILE: (LONG, [1])}, [STRIP])
    yield (
        "thumbnail-larger-than-the-page",
        (
            tiff_of([(grey_tags(16, 24), [small]), big]),
            UnsupportedImage,
        ),
    )
    yield "a-hundred-pages", (tiff_of([page] + [flagged(1)] * 100), UnsupportedImage)
    good = tiff_of([page])
    (start,) = struct.unpack_from("<I", good, 4)
    yield "pages-in-a-circle", (tiff_of([page], last_next=start), UnreadableImage)
    yield "next-page-beyond-the-end", (tiff_of([page], last_next=2**31), UnreadableImage)
