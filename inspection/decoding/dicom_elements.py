"""The elements of a DICOM file, walked once and strictly: no length is used unchecked.

    preamble, "DICM" -> group 0002: transfer syntax -> data set, inflated within a bound if deflated
      -> the wanted elements of the top level, and where the pixel data stands

PS3.5 sections 7.1 (elements), 7.5 (sequences) and A.5 (deflated), PS3.10 section 7.1 (file meta
information). Sequences are passed over: their items are followed only where their length is not
told. pydicom lends its dictionary, its UIDs and its character sets. Its own reader is not used on
what strangers send: it inflates without a bound, takes short values for whole ones, and warns.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from inspection.errors import ImageTooLarge, UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START: Final = 132
"""After the preamble and "DICM"."""
PIXEL_DATA: Final = 0x7FE00010
UNDEFINED: Final = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

MAX_ELEMENTS: Final = 20_000
"""Of all levels together. A radiograph has some hundreds."""
MAX_DEPTH: Final = 16
MAX_INFLATED: Final = 144 * 1024 * 1024
"""Bytes of a deflated data set: 64 megapixels of 16 bits, and what is said of them."""
MAX_VALUE: Final = 16_384
"""Bytes of a value that is kept."""

_LONG: Final = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"} | {
    *(b"UT", b"UV"),
}
"""Value representations with a length of 32 bits (PS3.5 table 7.1-1)."""
_SHORT: Final = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
    *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_ESCAPE: Final = re.compile(rb"\x1b[\x20-\x2f]*[\x30-\x7e]")
"""A switch of character sets (ISO 2022)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """What was wanted of a data set.

    Attributes:
        data: the data set's bytes; those of the file, or inflated.
        order: "<" or ">".
        syntax: the transfer syntax: a UID, as the file has it.
        values: of wanted elements by tag.
        pixels: (offset, length) of the pixel data in `data`; a length of `UNDEFINED` is that of
            encapsulated pixels. None where there are none.
    """

    data: bytes
    order: str
    syntax: str
    values: Mapping[int, bytes]
    pixels: tuple[int, int] | None

    def has(self, keyword: str) -> bool:
        """Whether the element is there, if empty."""
        return _tag(keyword) in self.values

    def text(self, keyword: str) -> str | None:
        """An element as text: its first line, printable; None when missing or empty."""
        value = self.values.get(_tag(keyword), b"")
        sets = self.values.get(_tag("SpecificCharacterSet"), b"").decode("ascii", "replace")
        name = sets.split("\\")[-1].strip(" \0")
        encoding = python_encoding.get(name, "latin-1") if name else "ascii"
        if not encoding.startswith("iso2022"):  # that codec reads the escapes itself
            value = _ESCAPE.sub(b"", value)
        text = value.decode(encoding, "replace").strip(" \0\r\n\t")
        lines = text.splitlines()
        shown = (
            "".join(each if each.isprintable() else "\ufffd" for each in lines[0]) if lines else ""
        )
        return shown or None

    def number(self, keyword: str) -> float | None:
        """An element as one number, finite; None when missing or none."""
        numbers = self.numbers(keyword)
        return numbers[0] if len(numbers) == 1 else None

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """An element's numbers, finite; empty when one of them is none."""
        value = self.values.get(_tag(keyword), b"")
        kind = dictionary_VR(_tag(keyword))
        try:
            if kind in ("DS", "IS"):
                found = [float(part) for part in value.decode("ascii").strip(" \0").split("\\")]
            else:
                form = {"US": "H", "UL": "I", "FD": "d", "FL": "f"}[kind]
                count, rest = divmod(len(value), struct.calcsize(form))
                found = [] if rest else list(struct.unpack(f"{self.order}{count}{form}", value))
        except ValueError:
            return ()
        return tuple(map(float, found)) if all(map(math.isfinite, found)) else ()

    def whole(self, keyword: str, default: int | None = None) -> int:
        """An element that the pixels cannot be read without.

        Raises:
            UnreadableImage: it is missing without a default, or no whole number.
        """
        if default is not None and not self.values.get(_tag(keyword), b"").strip(b" \0"):
            return default
        number = self.number(keyword)
        if number is None or not number.is_integer():
            raise UnreadableImage(f"the DICOM file has no {keyword}, or not one number of it")
        return int(number)


def read_elements(data: bytes, keywords: Iterable[str]) -> Elements:
    """Walk a DICOM file up to its pixel data.

    Args:
        data: the file, whole.
        keywords: of the elements wanted; the character set comes with them.

    Raises:
        UnreadableImage: truncated, a length that points out of the file, an element twice.
        UnsupportedImage: deeper or longer than any radiograph.
        ImageTooLarge: a deflated data set beyond `MAX_INFLATED`.
    """
    wanted = {_tag(keyword) for keyword in (*keywords, "SpecificCharacterSet")}
    meta = _Walk(data, START, order="<", implicit=False, wanted={_tag("TransferSyntaxUID")})
    meta.run(group=2)
    told = meta.values.get(_tag("TransferSyntaxUID"), b"").strip(b" \0").decode("ascii", "replace")
    if not told:
        raise UnreadableImage("the DICOM file is truncated, or names no transfer syntax")
    start = meta.position
    if told == DeflatedExplicitVRLittleEndian:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        data, start = inflating.decompress(data[start:], MAX_INFLATED), 0
        if inflating.unconsumed_tail:
            raise ImageTooLarge(f"the DICOM data set unpacks to more than {MAX_INFLATED} bytes")
        if not inflating.eof:
            raise UnreadableImage("the deflated DICOM data set is truncated")
    order = ">" if told == ExplicitVRBigEndian else "<"
    implicit = told == ImplicitVRLittleEndian
    walk = _Walk(data, start, order=order, implicit=implicit, wanted=wanted)
    pixels = walk.run(group=None)
    return Elements(data=data, order=order, syntax=told, values=walk.values, pixels=pixels)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


class _Walk:
    """One pass over the elements of a data set; `position` is always inside the bytes."""

    def __init__(
        self, data: bytes, position: int, *, order: str, implicit: bool, wanted: set[int]
    ) -> None:
        self.position = position
        self.values: dict[int, bytes] = {}
        self._data = data
        self._order = order
        self._implicit = implicit
        self._wanted = wanted
        self._count = 0

    def run(self, *, group: int | None) -> tuple[int, int] | None:
        """Read elements to the end, to the end of a group, or to the pixel data: where that is."""
        while self.position < len(self._data):
            here = self._data[self.position : self.position + 2]
            if group is not None and here != struct.pack(f"{self._order}H", group):
                return None
            tag, length, inside = self._head(implicit=self._implicit)
            if tag == PIXEL_DATA:
                if length != UNDEFINED and self.position + length > len(self._data):
                    raise UnreadableImage("the DICOM file is truncated inside its pixels")
                return self.position, length
            if length == UNDEFINED:
                self._pass_sequence(implicit=inside, depth=1)
                value = b""
            else:
                value = self._take(length, keep=tag in self._wanted)
            if tag in self._wanted:
                if tag in self.values:
                    raise UnreadableImage(f"the DICOM file has the element {tag:08X} twice")
                self.values[tag] = value
        return None

    def _head(self, *, implicit: bool) -> tuple[int, int, bool]:
        """Tag and length of the element that begins here, and whether what it holds is implicit."""
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise UnsupportedImage(f"the DICOM file has more than {MAX_ELEMENTS} elements")
        group, element = struct.unpack(f"{self._order}HH", self._take(4))
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, self._long(), implicit
        kind = self._take(2)
        if kind in _LONG:
            self._take(2)
            return tag, self._long(), kind == b"UN"  # section 6.2.2, note 2
        if kind not in _SHORT:
            raise UnreadableImage(f"the DICOM element {tag:08X} is of no known kind: {kind!r}")
        return tag, int(struct.unpack(f"{self._order}H", self._take(2))[0]), False

    def _pass_sequence(self, *, implicit: bool, depth: int) -> None:
        """Go behind the end of a sequence whose length is not told."""
        if depth > MAX_DEPTH:
            raise UnsupportedImage(f"the DICOM file nests deeper than {MAX_DEPTH} sequences")
        while True:
            tag, length, _ = self._head(implicit=implicit)
            if tag == SEQUENCE_END:
                return
            if tag != ITEM:
                raise UnreadableImage("a DICOM sequence holds what is no item")
            if length != UNDEFINED:
                self._take(length, keep=False)
                continue
            while True:
                tag, length, inside = self._head(implicit=implicit)
                if tag == ITEM_END:
                    break
                if length == UNDEFINED:
                    self._pass_sequence(implicit=inside, depth=depth + 1)
                else:
                    self._take(length, keep=False)

    def _long(self) -> int:
        return int(struct.unpack(f"{self._order}I", self._take(4))[0])

    def _take(self, length: int, *, keep: bool = True) -> bytes:
        """The next bytes; the first `MAX_VALUE` of them."""
        start, self.position = self.position, self.position + length
        if self.position > len(self._data):
            raise UnreadableImage("the DICOM file is truncated, or an element's length lies")
        return self._data[start : start + min(length, MAX_VALUE)] if keep else b""
