"""Page cursors: opaque, bound to their filters, refused when altered."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import rfc8785

from inspection.errors import RequestError

if TYPE_CHECKING:
    from inspection.store import Filter

CHECK_BYTES: Final = 8


def encode_cursor(sequence: int, wanted: Filter) -> str:
    """The cursor that continues a list below `sequence`."""
    number = sequence.to_bytes(8)
    return base64.urlsafe_b64encode(number + _check(number, wanted)).rstrip(b"=").decode()


def decode_cursor(text: str, wanted: Filter) -> int:
    """Where the list goes on.

    The checksum is no secret and keeps nobody out: it catches cursors that were cut, altered or
    carried over to a list with other filters, which would skip rows without a word.

    Raises:
        RequestError: the cursor is not one that this list gave.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    number = raw[:8]
    if len(raw) != 8 + CHECK_BYTES or raw[8:] != _check(number, wanted):
        raise RequestError(
            "`cursor` was altered, or belongs to a list with other filters",
            remedy="Send `next_cursor` as it came, with the same filters; or begin without it.",
        )
    return int.from_bytes(number)


def _check(number: bytes, wanted: Filter) -> bytes:
    # The size of a page may change on the way; what is listed may not.
    filters = asdict(replace(wanted, before_sequence=None, limit=1))
    return hashlib.sha256(number + rfc8785.dumps(filters)).digest()[:CHECK_BYTES]
