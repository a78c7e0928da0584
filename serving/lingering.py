"""Connections after their last answer, whose callers may still be sending (RFC 9112, section 9.6).

    last answer -> nothing more is sent (FIN) -> what comes is thrown away -> the caller closes

Closed at once, the kernel would answer the next byte with a reset, and a reset takes from many a
caller what it has not read yet: the refusal of an upload, where all of it is sent before reading.
All of them together are given 50 MiB a second: whoever sends what nobody wants waits, and takes
little from those whose parts are judged.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Final

LINGER_S: Final = 30.0
"""After that whoever is still sending has not looked for an answer."""

MOST: Final = 64
TURN_S: Final = 0.005
TURN_BYTES: Final = 256 * 1024

_NOWHERE: Final = memoryview(bytearray(TURN_BYTES))
_FLAGS: Final = socket.MSG_TRUNC if sys.platform == "linux" else 0
"""On Linux nothing is copied: tcp(7) throws away what is received with this."""


class Lingering:
    """All connections of a server that linger. Used on its event loop only."""

    def __init__(self) -> None:
        self._ends: dict[socket.socket, float] = {}
        self._turn: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ends)

    def add(self, sock: socket.socket) -> None:
        """Let one linger, and own it from now on; beyond MOST the oldest is closed.

        Args:
            sock: connected, non-blocking; all that is to be sent was given to the system.
        """
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the caller has hung up
            sock.close()
            return
        if len(self._ends) >= MOST:
            self.drop()
        self._ends[sock] = time.monotonic() + LINGER_S
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_later(TURN_S, self._take_turn)

    def drop(self) -> None:
        """Close the one that has lingered for longest."""
        self._close(next(iter(self._ends)))

    def close(self) -> None:
        """Close them all."""
        while self._ends:
            self.drop()

    def _take_turn(self) -> None:
        left, now = TURN_BYTES, time.monotonic()
        for sock, ends in list(self._ends.items()):
            try:
                count = sock.recv_into(_NOWHERE, 0, _FLAGS)
            except BlockingIOError:
                count = -1
            except OSError:
                count = 0
            if count == 0 or now > ends:
                self._close(sock)
            elif count > 0:
                left -= count
                if left <= 0:
                    break
        self._turn = None
        if self._ends:
            self._turn = asyncio.get_running_loop().call_later(TURN_S, self._take_turn)

    def _close(self, sock: socket.socket) -> None:
        del self._ends[sock]
        sock.close()
