"""The headers of a TIFF, read strictly: every offset and count is checked before it is followed.

    signature -> image file directories, in a chain -> Page: the tags that say how pixels lie

TIFF 6.0 (Adobe, 1992), sections 2 and 15, and BigTIFF (offsets of 64 bits). Only the tags that the
decoder needs are read, each with a bound on its count, so a header can make neither work nor memory
beyond the file's own size. Directories that lie in others (tag 330) are not pages and not read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inspection.errors import UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIGNATURES: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
MAX_PAGES: Final = 64
MAX_TAGS: Final = 1024
"""Of one page. The baseline has fewer than 40, and vendors add tens."""
MAX_SEGMENTS: Final = 2**18
"""Strips or tiles of one page: 64 megapixels in tiles of 16 x 16."""
MAX_TEXT: Final = 4096

_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_SIZES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value, by the number of its type."""
_NAMES: Final = {
    254: "NewSubfileType",
    255: "SubfileType",
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    266: "FillOrder",
    270: "ImageDescription",
    273: "StripOffsets",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    282: "XResolution",
    283: "YResolution",
    284: "PlanarConfiguration",
    296: "ResolutionUnit",
    317: "Predictor",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
    339: "SampleFormat",
    32997: "ImageDepth",
}
_LISTS: Final = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"}
_RATIONALS: Final = {"XResolution", "YResolution"}
_MAX_SAMPLES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One directory: its tags by name, as far as they are read.

    Attributes:
        order: "<" or ">", the byte order of numbers and pixels.
        integers: every integer tag; a single value has a tuple of one.
        resolution: pixels per unit across and down; None where it is not a positive number.
        description: the text of ImageDescription, cut at `MAX_TEXT`.
    """

    order: str
    integers: Mapping[str, tuple[int, ...]]
    resolution: tuple[float, float] | None
    description: str

    def number(self, name: str, default: int | None = None) -> int:
        """The one value of a tag.

        Raises:
            UnreadableImage: it is missing without a default, or has several values.
        """
        values = self.integers.get(name)
        if values is None:
            if default is None:
                raise UnreadableImage(f"the TIFF has no tag {name}")
            return default
        if len(set(values)) != 1:
            raise UnreadableImage(f"the TIFF's tag {name} has several values: {values[:8]}")
        return values[0]


def pages_of(data: bytes) -> list[Page]:
    """The pages in the file's own order.

    Raises:
        UnreadableImage: a header that ends, points out of the file or goes round in a circle.
        UnsupportedImage: more than `MAX_PAGES` pages, or more strips than `MAX_SEGMENTS`.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    if big:
        sizes, offset = _unpack(f"{order}HHQ", data, 4)[:2], _unpack(f"{order}Q", data, 8)[0]
        if sizes != (8, 0):
            raise UnreadableImage("the BigTIFF does not have offsets of 8 bytes")
    else:
        offset = _unpack(f"{order}I", data, 4)[0]
    pages: list[Page] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise UnreadableImage("the TIFF's pages go round in a circle")
        if len(pages) == MAX_PAGES:
            raise UnsupportedImage(
                f"the TIFF holds more than {MAX_PAGES} pages", remedy="Send one page in a file."
            )
        seen.add(offset)
        page, offset = _page_at(data, offset, order, big=big)
        pages.append(page)
    if not pages:
        raise UnreadableImage("the TIFF holds no page")
    return pages


def _page_at(data: bytes, start: int, order: str, *, big: bool) -> tuple[Page, int]:
    """The page at an offset, and the offset of the next one; 0 after the last."""
    count_form, entry_form, next_form = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    count = _unpack(f"{order}{count_form}", data, start)[0]
    if not 0 < count <= MAX_TAGS:
        raise UnreadableImage(f"a page of the TIFF claims {count} tags")
    place = start + struct.calcsize(count_form)
    field = 8 if big else 4
    integers: dict[str, tuple[int, ...]] = {}
    ratios: dict[str, float] = {}
    description = ""
    seen: set[int] = set()
    for _ in range(count):
        tag, kind, length = _unpack(f"{order}{entry_form}", data, place)
        value_at = place + struct.calcsize(f"={entry_form}")
        place = value_at + field
        name = _NAMES.get(tag)
        if name is None:
            continue
        if tag in seen:
            raise UnreadableImage(f"the TIFF has the tag {name} twice")
        seen.add(tag)
        size = _SIZES.get(kind, 0) * length
        if size > field:
            value_at = _unpack(f"{order}{next_form}", data, value_at)[0]
        if size > len(data) or value_at + size > len(data):
            raise UnreadableImage(f"the TIFF's tag {name} lies outside the file")
        if name == "ImageDescription":
            if kind in (1, 2, 7):
                text = data[value_at : value_at + min(size, MAX_TEXT)]
                description = text.split(b"\x00")[0].decode("utf-8", "replace")
        elif name in _RATIONALS:
            if kind == 5 and length == 1:
                above, below = _unpack(f"{order}II", data, value_at)
                ratios[name] = above / below if below else 0.0
        else:
            if kind not in _INTEGERS:
                raise UnreadableImage(f"the TIFF's tag {name} holds no whole numbers")
            most = MAX_SEGMENTS if name in _LISTS else _MAX_SAMPLES
            if length > most:
                raise UnsupportedImage(
                    f"the TIFF's tag {name} has {length} values; {most} are read",
                    remedy="Write the image with larger strips or tiles.",
                )
            if length:
                integers[name] = _unpack(f"{order}{length}{_INTEGERS[kind]}", data, value_at)
    across, down = ratios.get("XResolution", 0.0), ratios.get("YResolution", 0.0)
    page = Page(
        order=order,
        integers=integers,
        resolution=(across, down) if across > 0 and down > 0 else None,
        description=description,
    )
    return page, _unpack(f"{order}{next_form}", data, place)[0]


def _unpack(form: str, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, offset)
    except (struct.error, OverflowError) as error:
        raise UnreadableImage("the TIFF ends inside its headers") from error


def segments_of(page: Page, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of every strip or tile, each inside a file of `size` bytes.

    Raises:
        UnreadableImage: their lists differ in length, or one lies outside the file.
    """
    kind = "Tile" if "TileWidth" in page.integers else "Strip"
    offsets = page.integers.get(f"{kind}Offsets", ())
    lengths = page.integers.get(f"{kind}ByteCounts", ())
    if len(offsets) != len(lengths) or not offsets:
        raise UnreadableImage(
            f"the TIFF lists {len(offsets)} {kind.lower()}s and {len(lengths)} lengths of them"
        )
    for offset, length in zip(offsets, lengths, strict=True):
        if offset <= 0 or length <= 0 or offset + length > size:
            raise UnreadableImage(f"the TIFF is truncated: a {kind.lower()} lies outside the file")
        yield offset, length
