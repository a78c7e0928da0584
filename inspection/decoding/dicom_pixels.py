"""The stored values of a DICOM image: raw, deflated, RLE or JPEG 2000, without loss.

    (offset, length) of the pixel data -> (height, width), as stored

Before a codec is asked, the stream's own header must agree with the data set's and say that nothing
was lost. Two compressions without loss are refused for want of a decoder that can be trusted with
what strangers send: of JPEG (1.2.840.10008.1.2.4.57 and .70) libjpeg fills up what is missing and
nothing tells us; of JPEG-LS (.80) a stream of 1 KB, cut in half, kept CharLS busy for seconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from inspection.decoding.dicom_elements import ITEM, SEQUENCE_END, UNDEFINED
from inspection.errors import UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from inspection.decoding.dicom_elements import Elements

    Stored = NDArray[np.uint8] | NDArray[np.uint16]

RAW: Final = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    DeflatedExplicitVRLittleEndian,
)
COMPRESSED: Final = (RLELossless, JPEG2000Lossless)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How the stored values lie: height and width, bits of a value, and those of them in use."""

    height: int
    width: int
    allocated: int
    stored: int


def check_syntax(elements: Elements) -> None:
    """Refuse what this module cannot read, or what lost bits.

    Raises:
        UnsupportedImage: so it is.
    """
    if elements.syntax not in (*RAW, *COMPRESSED):
        raise UnsupportedImage(
            f"the DICOM transfer syntax {elements.syntax[:64]!r} is not accepted",
            remedy="Write the file uncompressed, deflated, or as RLE or JPEG 2000 without loss.",
        )


def stored_values(elements: Elements, geometry: Geometry) -> Stored:
    """The image's stored values, (height, width), uint8 or uint16 as allocated.

    Raises:
        UnreadableImage: truncated, damaged or contradicting the data set.
        UnsupportedImage: a stream that lost bits.
    """
    if elements.pixels is None:
        raise UnreadableImage("the DICOM file holds no image")
    start, length = elements.pixels
    count = geometry.height * geometry.width
    values: NDArray[Any]
    if elements.syntax in RAW:
        size = count * geometry.allocated // 8
        if length not in (size, size + size % 2):
            raise UnreadableImage(f"the DICOM pixel data has {length} bytes where {size} are due")
        kind = np.dtype(f"{elements.order}u{geometry.allocated // 8}")
        raw = np.frombuffer(elements.data, kind, count, start)
        values = raw.reshape(geometry.height, geometry.width)
    elif length != UNDEFINED:
        raise UnreadableImage("compressed DICOM pixels are not encapsulated")
    else:
        stream = b"".join(_fragments(elements.data, start))
        values = (_rle if elements.syntax == RLELossless else _jpeg_2000)(stream, geometry)
    if values.shape != (geometry.height, geometry.width) or values.dtype.kind != "u":
        raise UnreadableImage("the compressed DICOM pixels do not agree with the header")
    if geometry.allocated == 8:
        return values.astype(np.uint8, copy=False)
    return values.astype(np.uint16, copy=False)


def _fragments(data: bytes, position: int) -> Iterator[bytes]:
    """What is encapsulated, behind the table of offsets (PS3.5 section A.4)."""
    first = True
    while True:
        if position + 8 > len(data):
            raise UnreadableImage("the DICOM file is truncated inside its pixels")
        group, element, length = struct.unpack_from("<HHI", data, position)
        tag = group << 16 | element
        position += 8
        if tag == SEQUENCE_END:
            return
        if tag != ITEM or length == UNDEFINED or position + length > len(data):
            raise UnreadableImage("the DICOM file is truncated, or a fragment's length lies")
        if not first:
            yield data[position : position + length]
        first, position = False, position + length


def _rle(fragment: bytes, geometry: Geometry) -> Stored:
    """PackBits, the planes of high and low bytes apart (PS3.5 annex G)."""
    planes = geometry.allocated // 8
    if len(fragment) < 64:
        raise UnreadableImage("a DICOM RLE frame ends inside its header")
    count, *offsets = struct.unpack_from("<16I", fragment)
    ends = [*offsets[1:planes], len(fragment)]
    if count != planes or any(
        not 64 <= start < end for start, end in zip(offsets[:planes], ends, strict=True)
    ):
        raise UnreadableImage(f"a DICOM RLE frame of {count} segments, not {planes}, or they lie")
    size = geometry.height * geometry.width
    values = np.empty((size, planes), np.uint8)
    for plane, (start, end) in enumerate(zip(offsets[:planes], ends, strict=True)):
        unpacked = imagecodecs.packbits_decode(fragment[start:end], out=size)
        if len(unpacked) != size:
            raise UnreadableImage("a DICOM RLE frame is truncated")
        values[:, planes - 1 - plane] = np.frombuffer(unpacked, np.uint8)
    return values.view(f"<u{planes}").astype(f"u{planes}").reshape(geometry.height, geometry.width)


def _jpeg_2000(fragment: bytes, geometry: Geometry) -> Stored:
    """JPEG 2000 (ITU-T T.800) of one component, by the reversible transform 5/3."""
    if fragment[:4] != b"\xff\x4f\xff\x51":
        raise UnreadableImage("a DICOM frame is no JPEG 2000 codestream")
    length, _, x, y, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = _at(
        ">HHIIIIIIIIH", fragment, 4
    )
    depth, step_x, step_y = _at(">BBB", fragment, 42)
    if depth & 0x80 or (x0, y0, tile_x0, tile_y0, step_x, step_y) != (0, 0, 0, 0, 1, 1):
        raise UnsupportedImage("the JPEG 2000 stream of the DICOM file is signed or subsampled")
    _check_agrees((y, x), depth + 1, components, geometry)
    if tile_x < x or tile_y < y:  # of a tile that is missing, the decoder says nothing
        raise UnsupportedImage("the JPEG 2000 stream of the DICOM file is cut into tiles")
    position = 4 + length
    while True:
        marker, length = _at(">HH", fragment, position)
        if marker == 0xFF52:
            (transform,) = _at(">B", fragment, position + 13)
            if transform != 1:
                raise UnsupportedImage("the JPEG 2000 stream of the DICOM file lost bits")
            return np.asarray(imagecodecs.jpeg2k_decode(fragment))
        if not 0xFF50 <= marker <= 0xFF6F or length < 2:
            raise UnreadableImage("the JPEG 2000 stream of the DICOM file has no coding style")
        position += 2 + length


def _check_agrees(size: tuple[int, int], bits: int, components: int, geometry: Geometry) -> None:
    wanted = (geometry.height, geometry.width)
    if size != wanted or components != 1 or not geometry.stored <= bits <= geometry.allocated:
        raise UnreadableImage(
            f"the compressed DICOM pixels are {size[1]} x {size[0]} of {bits} bits and "
            f"{components} samples; the header says {wanted[1]} x {wanted[0]} of {geometry.stored}"
        )


def _at(form: str, data: bytes, position: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, position)
    except struct.error as error:
        raise UnreadableImage("a compressed DICOM frame is truncated") from error
