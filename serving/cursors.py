"""Cursors: opaque, bound to what they continue, refused when altered.

    purpose, sequence, filters -> HMAC-SHA256 under the server's secret -> number + 16 bytes of it

The secret lies with the records, so every server on them takes the cursors of every other. Who does
not have it can make no cursor: an altered or made-up one would skip entries without a word.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import rfc8785

from inspection.errors import RequestError

if TYPE_CHECKING:
    from inspection.store import Filter

KEY: Final = "cursors"
"""The name of the secret in the records."""

NUMBER_BYTES: Final = 8
CHECK_BYTES: Final = 16


class Cursors:
    """Makes and reads the cursors of one installation."""

    def __init__(self, secret: bytes) -> None:
        """Args:
        secret: 32 random bytes, `records.secret(KEY)`.
        """
        if len(secret) != 32:
            raise ValueError("the secret of cursors is 32 bytes")
        self._secret = secret

    def of_page(self, sequence: int, wanted: Filter) -> str:
        """The cursor that continues a list below `sequence`."""
        return self._encode(sequence, _list_of(wanted))

    def page(self, text: str, wanted: Filter) -> int:
        """Where a list goes on.

        Raises:
            RequestError: the cursor is not one that this list gave.
        """
        found = self._decode(text, _list_of(wanted))
        if found is None:
            raise RequestError(
                "`cursor` was altered, or belongs to a list with other filters",
                remedy="Send `next_cursor` as it came, with the same filters; or begin without it.",
            )
        return found

    def of_change(self, sequence: int) -> str:
        """The cursor of the changes after `sequence`."""
        return self._encode(sequence, b"changes")

    def change(self, text: str) -> int:
        """After which sequence the changes go on.

        Raises:
            RequestError: the cursor is not one that the changes gave.
        """
        found = self._decode(text, b"changes")
        if found is None:
            raise RequestError(
                "`after` was altered, or is no cursor of these changes",
                remedy="Send the cursor as it came; without one the changes begin at the first.",
            )
        return found

    def _encode(self, sequence: int, bound_to: bytes) -> str:
        number = sequence.to_bytes(NUMBER_BYTES)
        raw = number + self._check(number, bound_to)
        return base64.urlsafe_b64encode(raw).decode()

    def _decode(self, text: str, bound_to: bytes) -> int | None:
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.urlsafe_b64encode(raw).decode() != text:
            return None  # padding that nobody wrote
        number, check = raw[:NUMBER_BYTES], raw[NUMBER_BYTES:]
        if not hmac.compare_digest(check, self._check(number, bound_to)):
            return None
        return int.from_bytes(number)

    def _check(self, number: bytes, bound_to: bytes) -> bytes:
        signed = hmac.new(self._secret, number + bound_to, hashlib.sha256)
        return signed.digest()[:CHECK_BYTES]


def _list_of(wanted: Filter) -> bytes:
    # The size of a page may change on the way; what is listed may not.
    filters = asdict(replace(wanted, before_sequence=None, limit=1))
    return b"list:" + rfc8785.dumps(filters)
