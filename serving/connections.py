"""What a connection may do before there is a request: be slow, be vague, send without end.

    connection -> a head within HEAD_S and HEAD_BYTES -> request -> ... -> the next head likewise
               -> no HTTP at all                      -> 400, as a problem like every other
    more than MOST connections -> the one that has said nothing for longest makes room

uvicorn waits for ever for the head of a request, and tells what is wrong in plain text.
"""

from __future__ import annotations

import asyncio
import resource
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from serving import problems

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_S: Final = 5.0
HEAD_BYTES: Final = 64 * 1024
MOST: Final = 1000
_DESCRIPTORS_KEPT: Final = 128
"""For records, images, engines and logs, where the system allows few open files."""

_ONCE: Final = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization"}
)
_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 431: "Header Fields Too Large"}


def ambiguous(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """What two servers in a row could read in two ways; None when there is nothing.

    Both Content-Length and Transfer-Encoding, or one of a few headers twice: RFC 9112, section
    6.3, and RFC 9110, section 5.3.
    """
    seen = set[bytes]()
    for name, _ in headers:
        if name in _ONCE:
            if name in seen:
                return f"the header {name.decode()} comes twice"
            seen.add(name)
    if b"content-length" in seen and b"transfer-encoding" in seen:
        return "both Content-Length and Transfer-Encoding say how long the body is"
    return None


def guarded_protocol() -> type[asyncio.Protocol]:
    """uvicorn's protocol, the quicker one where it is installed, with these limits around it."""
    quick = find_spec("httptools") is not None
    module = import_module(f"uvicorn.protocols.http.{'httptools' if quick else 'h11'}_impl")
    base: Any = module.HttpToolsProtocol if quick else module.H11Protocol

    class Guarded(base):  # type: ignore[misc]  # the base is chosen at run time
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            self._waiting_since: float | None = time.monotonic()
            self._head_bytes = 0
            super().connection_made(transport)
            self._timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._slow)
            if len(self.connections) > most_connections():
                _make_room(self.connections)

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            waiting = before is None or before.response_complete
            if waiting and self._timer is None:
                self._waiting_since = time.monotonic()
                self._timer = self.loop.call_later(HEAD_S, self._slow)
            super().data_received(data)
            if self.cycle is not before:
                self._disarm()
                self._waiting_since, self._head_bytes = None, 0
            elif waiting and not self.transport.is_closing():
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._refuse(431, f"the head of the request is longer than {HEAD_BYTES} bytes")

        def on_response_complete(self) -> None:
            self._waiting_since = time.monotonic()
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "that is no HTTP request")

        def _slow(self) -> None:
            self._timer = None
            if not self._head_bytes:
                self.transport.close()  # nobody asked for anything
            else:
                self._refuse(408, f"the head of the request did not come within {HEAD_S:g} s")

        def _refuse(self, status: int, detail: str) -> None:
            self._disarm()
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True  # whoever reads the body learns that it will not come
                cycle.message_event.set()
                if cycle.response_started:
                    self.transport.abort()  # an answer is half out: nothing can be put after it
                    return
            self.transport.write(_raw(status, detail))
            self.transport.close()

        def _disarm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Guarded


def most_connections() -> int:
    """How many connections are open at a time, at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MOST, soft - _DESCRIPTORS_KEPT))


def _make_room(connections: Iterable[Any]) -> None:
    idle = [each for each in connections if each._waiting_since is not None]
    if idle:
        min(idle, key=lambda each: each._waiting_since).transport.abort()


def _raw(status: int, detail: str) -> bytes:
    """A problem as it goes over the wire, for where no request is there to be answered."""
    from serving.envelope import HEADERS

    answer = problems.malformed(status, detail).response()
    headers = {**HEADERS, **dict(answer.headers), "connection": "close"}
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(answer.body)
