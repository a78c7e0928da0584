"""DICOM files element by element: `dicom_of` writes what it is told, lies too.

Written here and not by pydicom, which would not write most of these.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Case = tuple[bytes, type[ImageError] | None]

EXPLICIT, DEFLATED = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
RLE, JPEG_2000 = b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.90"
LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT"}
UNDEFINED = 0xFFFFFFFF
FRAMES, KIND, ROWS, COLUMNS = 0x00280008, 0x00280004, 0x00280010, 0x00280011
ALLOCATED, STORED, HIGH, SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
INTERCEPT, SLOPE, LOSSY, PIXELS = 0x00281052, 0x00281053, 0x00282110, 0x7FE00010

GREY = np.random.default_rng(8).integers(0, 65536, (24, 40)).astype("<u2")


def element(tag: int, kind: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One explicit little-endian element; its length as told, else that of its value."""
    value += (b" " if kind in (b"CS", b"DS", b"IS", b"LO", b"PN") else b"\0") * (len(value) % 2)
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind
    return head + (struct.pack("<HI", 0, size) if kind in LONG else struct.pack("<H", size)) + value


def image_elements(height: int, width: int) -> dict[int, tuple[bytes, bytes]]:
    """What a 16-bit grey radiograph says of itself, but for its pixels."""
    numbers = {0x00280002: 1, ROWS: height, COLUMNS: width, ALLOCATED: 16, STORED: 16, HIGH: 15}
    return {
        0x00080060: (b"CS", b"DX"),
        0x00100020: (b"LO", b"KN42A00016"),
        0x00180060: (b"DS", b"120"),
        KIND: (b"CS", b"MONOCHROME2"),
        **{tag: (b"US", struct.pack("<H", value)) for tag, value in numbers.items()},
        SIGNED: (b"US", bytes(2)),
    }


def dicom_of(
    elements: Mapping[int, tuple[bytes, bytes]],
    tail: bytes,
    *,
    syntax: bytes = EXPLICIT,
    group_length: int | None = None,
) -> bytes:
    """A file of elements, in ascending order, and whatever comes behind them: the pixels."""
    told = element(0x00020010, b"UI", syntax)
    size = struct.pack("<I", len(told) if group_length is None else group_length)
    body = b"".join(element(tag, *elements[tag]) for tag in sorted(elements)) + tail
    if syntax == DEFLATED:
        packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packing.compress(body) + packing.flush()
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", size) + told + body


def encapsulated(*fragments: bytes) -> bytes:
    """Pixel data of fragments behind an empty table of offsets."""
    items = [item(b""), *(item(each + b"\0" * (len(each) % 2)) for each in fragments)]
    return element(PIXELS, b"OB", b"", length=UNDEFINED) + b"".join(items) + end(0xE0DD)


def item(value: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value) if length is None else length) + value


def end(mark: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, mark, 0)


def rle_frame(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> bytes:
    """Both planes of 16-bit pixels as PackBits (PS3.5 annex G)."""
    planes = [
        imagecodecs.packbits_encode(np.ascontiguousarray(pixels >> 8).astype(np.uint8).tobytes()),
        imagecodecs.packbits_encode(np.ascontiguousarray(pixels & 255).astype(np.uint8).tobytes()),
    ]
    return struct.pack("<16I", 2, 64, 64 + len(planes[0]), *[0] * 13) + b"".join(planes)


def hostile_dicoms() -> Iterator[tuple[str, Case]]:
    """(name, (file, error)) of everything that a DICOM file can be made to say."""
    raw = element(PIXELS, b"OW", GREY.tobytes())
    good = dicom_of(image_elements(24, 40), raw)
    yield "good", (good, None)
    for length in (132, 140, 200, len(good) - 1000, len(good) - 2):
        yield f"cut-at-{length}", (good[:length], UnreadableImage)
    yield "trailing-script", (good + b"<script>alert(1)</script>", None)
    yield "preamble-of-a-tiff", (b"II*\x00" + good[4:], None)
    yield "preamble-of-a-program", (b"MZ" + good[2:], None)
    yield from _lying(raw)
    yield from _surprising(raw)
    yield from _compressed()
    yield from _nested(raw)
    yield from _texts(raw)


def _with(raw: bytes, **changes: tuple[bytes, bytes] | None) -> bytes:
    elements = dict(image_elements(24, 40))
    for name, what in changes.items():
        tag = int(name[1:], 16)
        if what is None:
            elements.pop(tag)
        else:
            elements[tag] = what
    return dicom_of(elements, raw)


def _us(value: int) -> tuple[bytes, bytes]:
    return b"US", struct.pack("<H", value)


def _lying(raw: bytes) -> Iterator[tuple[str, Case]]:
    yield "no-pixels", (dicom_of(image_elements(24, 40), b""), UnreadableImage)
    yield (
        "pixels-of-4-gigabytes",
        (
            dicom_of(image_elements(24, 40), element(PIXELS, b"OW", b"", length=2**32 - 2)),
            UnreadableImage,
        ),
    )
    yield (
        "pixels-too-few",
        (
            dicom_of(image_elements(24, 40), element(PIXELS, b"OW", bytes(100))),
            UnreadableImage,
        ),
    )
    yield (
        "pixels-too-many",
        (
            dicom_of(image_elements(24, 40), element(PIXELS, b"OW", bytes(5000))),
            UnreadableImage,
        ),
    )
    yield (
        "raw-pixels-in-fragments",
        (
            dicom_of(image_elements(24, 40), encapsulated(GREY.tobytes())),
            UnreadableImage,
        ),
    )
    yield (
        "a-value-beyond-the-end",
        (
            dicom_of({}, element(0x00080070, b"UT", b"x", length=2**31) + raw),
            UnreadableImage,
        ),
    )
    yield "a-kind-of-value-nobody-knows", (_with(raw, x00080070=(b"ZZ", b"x ")), UnreadableImage)
    one = element(ROWS, *_us(24))
    yield "rows-twice", (dicom_of({}, one + element(ROWS, *_us(12)) + raw), UnreadableImage)
    yield "no-rows", (_with(raw, x00280010=_us(0)), UnreadableImage)
    yield "rows-missing", (_with(raw, x00280010=None), UnreadableImage)
    yield "rows-in-words", (_with(raw, x00280010=(b"US", b"many!!")), UnreadableImage)
    yield "huge", (_with(raw, x00280010=_us(65535), x00280011=_us(65535)), ImageTooLarge)
    yield "frames-not-a-number", (_with(raw, x00280008=(b"IS", b"nan")), UnreadableImage)
    yield "frames-of-zero", (_with(raw, x00280008=(b"IS", b"0")), UnreadableImage)
    yield "frames-of-billions", (_with(raw, x00280008=(b"IS", b"2147483647")), UnsupportedImage)
    yield "frames-two", (_with(raw, x00280008=(b"IS", b"2")), UnsupportedImage)
    yield (
        "more-bits-than-stored",
        (
            _with(raw, x00280101=_us(12), x00280102=_us(11)),
            UnreadableImage,
        ),
    )
    yield "no-transfer-syntax", (bytes(128) + b"DICM" + raw, UnreadableImage)
    yield (
        "group-length-lies",
        (
            dicom_of(image_elements(24, 40), raw, group_length=2**31),
            None,  # groups end where another begins; their length is not used
        ),
    )


def _surprising(raw: bytes) -> Iterator[tuple[str, Case]]:
    yield "rgb", (_with(raw, x00280004=(b"CS", b"RGB")), UnsupportedImage)
    yield "palette", (_with(raw, x00280004=(b"CS", b"PALETTE COLOR")), UnsupportedImage)
    yield "kind-missing", (_with(raw, x00280004=None), UnsupportedImage)
    yield "three-samples", (_with(raw, x00280002=_us(3)), UnsupportedImage)
    yield "thirty-two-bits", (_with(raw, x00280100=_us(32)), UnsupportedImage)
    yield "one-bit", (_with(raw, x00280100=_us(1), x00280101=_us(1)), UnsupportedImage)
    yield "stored-above-allocated", (_with(raw, x00280101=_us(17)), UnsupportedImage)
    yield (
        "bits-at-the-upper-end",
        (
            _with(raw, x00280101=_us(12), x00280102=_us(15)),
            UnsupportedImage,
        ),
    )
    yield "signed-below-zero", (_with(raw, x00280103=_us(1)), UnsupportedImage)
    yield "signed-of-7", (_with(raw, x00280103=_us(7)), UnreadableImage)
    yield "once-lossy", (_with(raw, x00282110=(b"CS", b"01")), UnsupportedImage)
    for name, text in (
        *(("half", b"0.5"), ("zero", b"0"), ("below-zero", b"-1"), ("nan", b"nan")),
        *(("infinite", b"inf"), ("of-a-billion-digits", b"1e999999999"), ("words", b"steep")),
    ):
        yield f"slope-{name}", (_with(raw, x00281053=(b"DS", text)), UnsupportedImage)
    yield "rescaled-out-of-range", (_with(raw, x00281052=(b"DS", b"65535")), UnsupportedImage)
    yield "rescaled-below-zero", (_with(raw, x00281052=(b"DS", b"-65535")), UnsupportedImage)
    table = {**image_elements(24, 40), 0x00283000: (b"SQ", b"")}
    yield "modality-table", (dicom_of(table, raw), UnsupportedImage)
    for name, uid in (
        ("jpeg-baseline", b"1.2.840.10008.1.2.4.50"),
        ("jpeg-lossless", b"1.2.840.10008.1.2.4.70"),
        ("jpeg-ls", b"1.2.840.10008.1.2.4.80"),
        ("jpeg-ls-lossy", b"1.2.840.10008.1.2.4.81"),
        ("jpeg-2000-lossy", b"1.2.840.10008.1.2.4.91"),
        ("mpeg", b"1.2.840.10008.1.2.4.100"),
        ("unknown", b"1.2.3.4"),
        ("binary", b"\xff" * 60),
    ):
        yield (
            f"syntax-{name}",
            (
                dicom_of(image_elements(24, 40), raw, syntax=uid),
                UnsupportedImage,
            ),
        )


def _compressed() -> Iterator[tuple[str, Case]]:
    def file(syntax: bytes, *fragments: bytes | bytearray) -> bytes:
        pixels = encapsulated(*map(bytes, fragments))
        return dicom_of(image_elements(24, 40), pixels, syntax=syntax)

    rle = rle_frame(GREY)
    yield "rle", (file(RLE, rle), None)
    yield "rle-cut", (file(RLE, rle[: len(rle) // 2]), UnreadableImage)
    yield "rle-of-nothing", (file(RLE), UnreadableImage)
    yield "rle-header-only", (file(RLE, rle[:10]), UnreadableImage)
    yield "rle-of-15-planes", (file(RLE, struct.pack("<I", 15) + rle[4:]), UnreadableImage)
    yield "rle-offset-lies", (file(RLE, rle[:8] + b"\xff" * 4 + rle[12:]), UnreadableImage)
    yield "rle-bomb", (file(RLE, rle[:64] + b"\x81\x00" * 100_000), UnreadableImage)
    yield (
        "fragment-of-4-gigabytes",
        (
            dicom_of(
                image_elements(24, 40),
                element(PIXELS, b"OB", b"", length=UNDEFINED) + item(b"", length=2**32 - 2),
                syntax=RLE,
            ),
            UnreadableImage,
        ),
    )
    j2k = imagecodecs.jpeg2k_encode(GREY, reversible=True, level=0, codecformat="j2k")
    yield "jpeg-2000", (file(JPEG_2000, j2k), None)
    yield "jpeg-2000-cut", (file(JPEG_2000, j2k[: len(j2k) // 2]), UnreadableImage)
    lost = imagecodecs.jpeg2k_encode(GREY, reversible=False, level=60, codecformat="j2k")
    yield "jpeg-2000-that-lost", (file(JPEG_2000, lost), UnsupportedImage)
    tiles = j2k[:24] + struct.pack(">II", 1, 1) + j2k[32:]
    yield "jpeg-2000-of-tiny-tiles", (file(JPEG_2000, tiles), UnsupportedImage)
    wide = j2k[:8] + struct.pack(">II", 2**31, 2**31) + j2k[16:]
    yield "jpeg-2000-of-another-size", (file(JPEG_2000, wide), UnreadableImage)
    whole = dicom_of(
        image_elements(24, 40), element(PIXELS, b"OW", GREY.tobytes()), syntax=DEFLATED
    )
    yield "deflated", (whole, None)
    yield "deflated-cut", (whole[:-40], UnreadableImage)
    bomb = element(0x7FDF0010, b"OB", bytes(200_000_000)) + element(PIXELS, b"OW", GREY.tobytes())
    yield "deflated-bomb", (dicom_of(image_elements(24, 40), bomb, syntax=DEFLATED), ImageTooLarge)


def _nested(raw: bytes) -> Iterator[tuple[str, Case]]:
    def sequence(inside: bytes, close: bytes = end(0xE00D) + end(0xE0DD)) -> bytes:
        opened = element(0x00081140, b"SQ", b"", length=UNDEFINED)
        return opened + item(b"", length=UNDEFINED) + inside + close

    rest = b"".join(element(tag, *what) for tag, what in sorted(image_elements(24, 40).items()))
    yield (
        "a-sequence",
        (dicom_of({}, sequence(element(0x00080070, b"LO", b"x")) + rest + raw), None),
    )
    deep = b""
    for _ in range(5000):
        deep = sequence(deep)
    yield "sequences-5000-deep", (dicom_of({}, deep + rest + raw), UnsupportedImage)
    yield "a-sequence-without-end", (dicom_of({}, sequence(b"", b"") + rest + raw), UnreadableImage)
    many = item(b"") * 200_000
    opened = element(0x00081140, b"SQ", b"", length=UNDEFINED)
    yield (
        "items-without-number",
        (
            dicom_of({}, opened + many + end(0xE0DD) + rest + raw),
            UnsupportedImage,
        ),
    )
    empty = element(0x00091001, b"LO", b"") * 200_000
    yield "elements-without-number", (dicom_of({}, empty + rest + raw), UnsupportedImage)


def _texts(raw: bytes) -> Iterator[tuple[str, Case]]:
    """What the file says of itself never decides whether its pixels are read."""
    yield "kv-of-nan", (_with(raw, x00180060=(b"DS", b"nan")), None)
    yield "kv-of-many", (_with(raw, x00180060=(b"DS", b"1e308")), None)
    yield "serial-of-control-characters", (_with(raw, x00100020=(b"LO", b"KN\x00\x1b[2J")), None)
    yield "serial-of-formulas", (_with(raw, x00100020=(b"LO", b"=HYPERLINK(1)")), None)
    yield "serial-of-65000-letters", (_with(raw, x00100020=(b"LO", b"K" * 65_000)), None)
    yield "character-set-nobody-knows", (_with(raw, x00080005=(b"CS", b"ISO_IR 9999")), None)
    yield (
        "text-of-broken-utf-8",
        (
            _with(raw, x00080005=(b"CS", b"ISO_IR 192"), x00100010=(b"PN", b"\xff\xfe\xc3")),
            None,
        ),
    )
    yield "frames-averaged-absurd", (_with(raw, x00143012=(b"DS", b"1e300")), None)
