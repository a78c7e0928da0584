"""TIFF: 8 to 16 bits, grey or RGB, raw, LZW or Deflate, in strips or tiles, classic or BigTIFF.

    headers (tiff_pages.py) -> the one page by rule -> its layout -> each strip or tile -> pixels

The rule for several pages: all but one are flagged as reduced copies or masks of it (NewSubfileType
bits 0 and 2, or SubfileType 2); anything else is refused, for which page shows the part is not ours
to guess. White-is-zero is turned round within BitsPerSample. No strip or tile is unpacked beyond
the size that the layout gives it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np

from inspection.decoding.contents import Decoded, check_pixels
from inspection.decoding.tiff_pages import pages_of, segments_of
from inspection.errors import ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.decoding.contents import DecodeLimits, Pixels
    from inspection.decoding.tiff_pages import Page

RAW, LZW, DEFLATE, OLD_DEFLATE = 1, 5, 8, 32946
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
REDUCED, MASK = 1, 4
"""Bits of NewSubfileType (TIFF 6.0, section 8)."""

_PHOTOMETRIC: Final = {3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_IMAGEJ_MM: Final = {
    "mm": 1.0,
    "cm": 10.0,
    "um": 1e-3,
    "µm": 1e-3,
    "\\u00B5m": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
}
CENTIMETRE: Final = 3
PITCH_MM: Final = (1e-4, 10.0)
"""What a pixel of an inspection image can measure; a tag outside it was meant otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a page's pixels lie in the file.

    Attributes:
        cell: (height, width) of a strip or tile; the last ones may stick out.
        grid: strips or tiles (down, across).
        planes: how many times the grid follows itself: 3 where R, G and B lie apart.
        samples: values of one pixel that lie together.
    """

    height: int
    width: int
    bits: int
    order: str
    compression: int
    predicted: bool
    inverted: bool
    tiled: bool
    cell: tuple[int, int]
    grid: tuple[int, int]
    planes: int
    samples: int

    @property
    def row_bytes(self) -> int:
        """Of one row of a strip or tile; packed values fill whole bytes in each row."""
        return (self.cell[1] * self.samples * self.bits + 7) // 8

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Of the pixels."""
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype(np.uint16)


def decode_tiff(data: bytes, limits: DecodeLimits) -> Decoded:
    """Decode the one full-resolution page.

    Raises:
        ImageTooLarge: past the limit of pixels. UnsupportedImage: a form outside the accepted ones.
        UnreadableImage: truncated, damaged, or headers that contradict themselves.
    """
    page = _the_page(pages_of(data))
    layout = _layout_of(page, limits)
    segments = list(segments_of(page, len(data)))
    wanted = layout.grid[0] * layout.grid[1] * layout.planes
    if len(segments) != wanted:
        raise UnreadableImage(f"the TIFF lists {len(segments)} strips or tiles, not {wanted}")
    whole = np.empty((layout.height, layout.width, layout.planes * layout.samples), layout.dtype)
    for number, (offset, length) in enumerate(segments):
        plane, cell = divmod(number, layout.grid[0] * layout.grid[1])
        row, column = divmod(cell, layout.grid[1])
        place = whole[
            row * layout.cell[0] : (row + 1) * layout.cell[0],
            column * layout.cell[1] : (column + 1) * layout.cell[1],
            plane * layout.samples : (plane + 1) * layout.samples,
        ]
        rows = layout.cell[0] if layout.tiled else place.shape[0]
        block = _unpacked(data[offset : offset + length], rows, layout)
        place[...] = block[: place.shape[0], : place.shape[1]]
    pixels: Pixels = whole[..., 0] if whole.shape[2] == 1 else whole
    if layout.inverted:
        top_level = layout.dtype.type(2**layout.bits - 1)
        pixels = np.subtract(top_level, pixels, out=pixels)
    return Decoded(pixels=pixels, pitch_mm=_pitch_mm(page))


def _the_page(pages: list[Page]) -> Page:
    """The one page that is neither a reduced copy nor a mask of another."""
    whole = [page for page in pages if not _is_derived(page)]
    if len(whole) != 1:
        flagged = len(pages) - len(whole)
        rest = f", {flagged} of them flagged as reduced copies or masks" if flagged else ""
        raise UnsupportedImage(
            f"the TIFF holds {len(pages)} pages{rest}; which one is the part is not ours to guess",
            remedy="Send one page in a file, or flag all others as reduced (NewSubfileType 1).",
        )
    size = whole[0].number("ImageLength") * whole[0].number("ImageWidth")
    for page in pages:
        if page.number("ImageLength") * page.number("ImageWidth") > size:
            raise UnsupportedImage(
                "a page of the TIFF is flagged as a reduced copy or mask, yet it is the largest",
                remedy="Send one page in a file.",
            )
    return whole[0]


def _is_derived(page: Page) -> bool:
    return bool(page.number("NewSubfileType", 0) & (REDUCED | MASK)) or (
        page.number("SubfileType", 1) == 2
    )


def _layout_of(page: Page, limits: DecodeLimits) -> _Layout:
    height, width = page.number("ImageLength"), page.number("ImageWidth")
    check_pixels(height, width, limits)
    compression = page.number("Compression", RAW)
    if compression not in (RAW, LZW, DEFLATE, OLD_DEFLATE):
        raise UnsupportedImage(f"TIFF compression {compression} is not accepted")
    photometric = page.number("PhotometricInterpretation")
    samples = page.number("SamplesPerPixel", 1)
    if {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3}.get(photometric) != samples:
        kind = _PHOTOMETRIC.get(photometric, f"photometric {photometric}")
        raise UnsupportedImage(f"a TIFF of {kind} with {samples} samples is neither grey nor RGB")
    bits = page.number("BitsPerSample", 1)
    form = page.number("SampleFormat", 1)
    if form != 1 or not 8 <= bits <= 16 or (bits not in (8, 16) and samples != 1):
        what = {1: "unsigned", 2: "signed", 3: "floating point"}.get(form, f"of form {form}")
        raise UnsupportedImage(f"TIFF pixels of {bits} bits, {what}, not 8 to 16 unsigned")
    predictor = page.number("Predictor", 1)
    if predictor != 1 and (predictor != 2 or bits not in (8, 16) or compression == RAW):
        raise UnsupportedImage(
            f"TIFF predictor {predictor} for {bits} bits under compression {compression}"
        )
    if page.number("FillOrder", 1) != 1 or page.number("ImageDepth", 1) != 1:
        raise UnsupportedImage("a TIFF of reversed bits, or of several layers, is not accepted")
    planar = page.number("PlanarConfiguration", 1)
    if planar not in (1, 2):
        raise UnreadableImage(f"the TIFF's PlanarConfiguration is {planar}")
    tiled = "TileWidth" in page.integers
    if tiled:
        cell = (page.number("TileLength"), page.number("TileWidth"))
        if cell[0] < 1 or cell[1] < 1 or cell[0] % 16 or cell[1] % 16:
            raise UnreadableImage(
                f"the TIFF's tiles are {cell[1]} x {cell[0]}, not multiples of 16"
            )
    else:
        rows = min(page.number("RowsPerStrip", height), height)
        if rows < 1:
            raise UnreadableImage("the TIFF's strips have no rows")
        cell = (rows, width)
    grid = (-(-height // cell[0]), -(-width // cell[1]))
    if tiled and grid[0] * grid[1] * cell[0] * cell[1] > 2 * height * width + 2**22:
        raise ImageTooLarge(f"tiles of {cell[1]} x {cell[0]} stick out too far over the image")
    return _Layout(
        height=height,
        width=width,
        bits=bits,
        order=page.order,
        compression=compression,
        predicted=predictor == 2,
        inverted=photometric == WHITE_IS_ZERO,
        tiled=tiled,
        cell=cell,
        grid=grid,
        planes=samples if planar == 2 else 1,
        samples=1 if planar == 2 else samples,
    )


def _unpacked(packed: bytes, rows: int, layout: _Layout) -> Pixels:
    """One strip or tile as (rows, width of the cell, samples), in this machine's byte order."""
    size = rows * layout.row_bytes
    capacity = layout.cell[0] * layout.row_bytes  # a last strip may be written whole
    if layout.compression == RAW:
        raw: bytes | bytearray = packed
    elif layout.compression == LZW:
        raw = imagecodecs.lzw_decode(packed, out=capacity)
    else:
        raw = imagecodecs.deflate_decode(packed, out=capacity)
    if len(raw) < size:
        raise UnreadableImage(f"the TIFF is truncated: {len(raw)} bytes where {size} are due")
    shape = (rows, layout.cell[1], layout.samples)
    if layout.bits not in (8, 16):
        values = imagecodecs.packints_decode(
            raw[:size], np.uint16, layout.bits, runlen=layout.cell[1]
        )
        return np.asarray(values, np.uint16).reshape(shape)
    stored = np.dtype(f"{layout.order}u{layout.bits // 8}")
    values = np.frombuffer(raw, stored, rows * layout.cell[1] * layout.samples)
    pixels: NDArray[Any] = values.astype(layout.dtype, copy=False).reshape(shape)
    if layout.predicted:  # horizontal differencing, TIFF 6.0 section 14; sums wrap round
        return np.add.accumulate(pixels, axis=1, dtype=layout.dtype)
    return pixels


def _pitch_mm(page: Page) -> float | None:
    """Size of a pixel, where the file can be trusted with it.

    Trusted: pixels per centimetre, or ImageJ's own unit of length in the description. Not trusted:
    pixels per inch, which nearly every writer fills in with the resolution of a print.
    """
    if page.resolution is None:
        return None
    across, down = page.resolution
    if abs(across - down) > 1e-3 * across:
        return None
    unit = page.number("ResolutionUnit", 2)
    millimetres = 10.0 if unit == CENTIMETRE else None
    if page.description.startswith("ImageJ="):
        told = re.search(r"^unit=(\S+)", page.description, re.MULTILINE)
        millimetres = _IMAGEJ_MM.get(told[1]) if told else None
    if millimetres is None:
        return None
    pitch = millimetres / across
    return pitch if PITCH_MM[0] <= pitch <= PITCH_MM[1] else None
