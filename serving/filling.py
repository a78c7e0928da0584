"""The body of one request on its way into memory, past parser and framework: copied once.

    the system -> recv_into -> room() -> ... -> whole()

An image of 8 MiB came through five copies and a hundred and thirty turns of the event loop.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

READ_BYTES: Final = 1024 * 1024
"""At a time; others wait meanwhile."""

AT_ONCE_BYTES: Final = 16 * 1024 * 1024
AHEAD: Final = 4
"""What is longer gets memory for so many times what has come: a claimed length takes none."""


class Filling:
    """Bytes to come, of a length that is known.

    Args:
        first: what is there already.
        length: of all of it.
        done: told when it is whole.
    """

    def __init__(self, first: bytes | bytearray, length: int, done: asyncio.Future[None]) -> None:
        self.done = done
        self._buffer = io.BytesIO()
        self._buffer.write(first)
        self._at, self._length = len(first), length
        self._made = 0
        self._view = self._given = memoryview(b"")
        self._make_room()

    def room(self) -> memoryview:
        """Where the next bytes go; never empty, and of no use after `add`."""
        self._given = self._view[self._at : self._at + READ_BYTES]
        return self._given

    def add(self, count: int) -> bool:
        """So many were put there. Whether that is all."""
        self._given.release()
        self._at += count
        if self._at == self._made < self._length:
            self._make_room()
        return self._at == self._length

    def whole(self) -> bytes:
        """All of it, not copied."""
        self._view.release()
        return self._buffer.getvalue()

    def _make_room(self) -> None:
        self._view.release()
        self._made = min(self._length, max(AT_ONCE_BYTES, AHEAD * self._at))
        if self._made > self._at:
            self._buffer.seek(self._made - 1)
            self._buffer.write(b"\0")
        self._view = self._buffer.getbuffer()
