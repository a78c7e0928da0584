"""multipart/form-data (RFC 7578) into memory: few parts, small fields, one file that may be large.

Starlette's own reader spools files to disk; here nothing of a request that may yet be refused
touches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inspection.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_PARTS: Final = 30
MAX_FIELD_BYTES: Final = 4096


@dataclass(slots=True, kw_only=True)
class Part:
    """One part of a form: a file when it has a file name, otherwise a field."""

    name: str = ""
    is_file: bool = False
    media_type: str = ""
    data: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        """A field's value.

        Raises:
            RequestError: it is not UTF-8.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise RequestError(f"field `{self.name[:80]}` is not UTF-8") from None


async def read_form(content_type: str, body: AsyncIterator[bytes]) -> list[Part]:
    """The parts of a form, in order.

    Args:
        content_type: the request's header, with its boundary.
        body: the request's body; whoever gives it counts it.

    Raises:
        RequestError: it is no form, is cut off, or has too many parts or too long a field.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _broken("its Content-Type has no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.part_begins,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_ends,
                "on_headers_finished": reader.headers_end,
                "on_part_data": reader.data,
                "on_end": reader.ends,
            },
        )
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise _broken("it is not well formed") from error
    if not reader.complete:
        raise _broken("it ends before its last boundary")
    return reader.parts


class _Reader:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}

    def part_begins(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        self.parts.append(Part())
        self._headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_end(self) -> None:
        part = self.parts[-1]
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise _broken("a part has no name")
        part.name = options[b"name"].decode("utf-8", "replace")
        part.is_file = b"filename" in options
        kind = self._headers.get(b"content-type", b"").decode("latin-1")
        part.media_type = kind.partition(";")[0].strip().lower()

    def data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if not part.is_file and len(part.data) + end - start > MAX_FIELD_BYTES:
            raise _broken(f"field `{part.name[:80]}` is longer than {MAX_FIELD_BYTES} bytes")
        part.data += data[start:end]

    def ends(self) -> None:
        self.complete = True


def _broken(what: str) -> RequestError:
    return RequestError(
        f"the multipart body cannot be read: {what}",
        remedy="Send the fields as parts of the form, and one file called `image`.",
    )
