"""What a connection may do before there is a request, and how a request and its answer pass it.

    connection -> a head within HEAD_S and HEAD_BYTES -> request -> ... -> the next head likewise
               -> no HTTP at all                      -> 400, as a problem like every other
    more than MOST connections -> the one that has said nothing for longest makes room

    request -> Peer.whole_body: past the parser into one piece of memory (filling.py)
            -> Peer.answer: in one write; before the body is in, the end of the connection, which
               lingers (lingering.py)

uvicorn waits for ever for the head of a request, and tells what is wrong in plain text.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from typing import TYPE_CHECKING, Any, Final, cast

from httptools import HttpRequestParser
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving import problems
from serving.filling import Filling
from serving.lingering import Lingering

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from starlette.types import Scope

HEAD_S: Final = 5.0
HEAD_BYTES: Final = 64 * 1024
MOST: Final = 1000
READ_BYTES: Final = 64 * 1024
_DESCRIPTORS_KEPT: Final = 128
"""For records, images, engines and logs, where the system allows few open files."""

PEER: Final = "inspection.peer"
"""The ASGI extension under which a request finds its `Peer`."""

_ONCE: Final = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization"}
)
_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 431: "Header Fields Too Large"}
_CLOSE: Final = (b"connection", b"close")
_FORGED: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


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


class Guarded(HttpToolsProtocol, asyncio.BufferedProtocol):
    """uvicorn's protocol with these limits around it: one connection.

    Attributes:
        scratch: what is read goes here first, unless it is a body that somebody waits for.
        lingering: the connections whose last answer is out.
        most: how many are open at a time. All three are shared by a server's connections.
    """

    scratch: memoryview
    lingering: Lingering
    most: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._waiting_since: float | None = time.monotonic()
        self._head_bytes = 0
        self._heads = 0
        self._in_body = False
        self._refused = False
        self._filling: Filling | None = None
        self._gone: Callable[[], None] | None = None
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._slow)
        if len(self.connections) + len(self.lingering) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if exc is None and (self._refused or self._answered_early()):
            sock: socket.socket = self.transport.get_extra_info("socket")
            self.lingering.add(sock.dup())
        if self._filling is not None and not self._filling.done.done():
            self._filling.done.set_exception(ClientDisconnect())
        self._filling = None
        if self._gone is not None:
            self._gone()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.scratch if self._filling is None else self._filling.room()

    def buffer_updated(self, nbytes: int) -> None:
        filling = self._filling
        if filling is None:
            self.data_received(cast("bytes", self.scratch[:nbytes]))
        elif filling.add(nbytes):
            self._filling = None
            self.parser = HttpRequestParser(self)  # the one before still waits for this body
            self.on_message_complete()
            if not filling.done.done():
                filling.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        heads, cycle = self._heads, cast("Any", self.cycle)  # None before the first head
        waiting = not self._in_body and (cycle is None or cycle.response_complete)
        if waiting and self._timer is None:
            self._waiting_since = time.monotonic()
            self._timer = self.loop.call_later(HEAD_S, self._slow)
        super().data_received(data)
        if waiting and self._heads == heads and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, f"the head of the request is longer than {HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._disarm()
        self._waiting_since, self._head_bytes = None, 0
        self._heads += 1
        self._in_body = True
        super().on_headers_complete()
        extensions: dict[str, Any] = {PEER: Peer(self, self.cycle)}
        self.scope["extensions"] = extensions

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._waiting_since = time.monotonic()
        self._gone = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "that is no HTTP request")

    def _answered_early(self) -> bool:
        return self._in_body and self.cycle.response_complete

    def _slow(self) -> None:
        self._timer = None
        if not self._head_bytes:
            self.transport.close()  # nobody asked for anything
        else:
            self._refuse(408, f"the head of the request did not come within {HEAD_S:g} s")

    def _refuse(self, status: int, detail: str) -> None:
        self._disarm()
        cycle = cast("Any", self.cycle)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whoever reads the body learns that it will not come
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()  # an answer is half out: nothing can be put after it
                return
        self._refused = True
        self.transport.write(_raw(status, detail))
        self.transport.close()

    def _make_room(self) -> None:
        if self.lingering:
            self.lingering.drop()
            return
        idle = [each for each in self.connections if each._waiting_since is not None]  # type: ignore[union-attr]
        if idle:
            min(idle, key=lambda each: each._waiting_since).transport.abort()  # type: ignore[union-attr]

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Peer:
    """Whoever sent a request, as far as ASGI does not reach. Used on the event loop only."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: Guarded, cycle: Any) -> None:
        self._protocol = protocol
        self._cycle = cycle

    @property
    def sending(self) -> bool:
        """Whether more of the request's body is to come."""
        return bool(self._cycle.more_body)

    async def whole_body(self, length: int) -> bytes:
        """The body, whole.

        Args:
            length: as Content-Length says it.

        Raises:
            ClientDisconnect: it will not come.
        """
        cycle, protocol = self._cycle, self._protocol
        if cycle.disconnected:
            raise ClientDisconnect
        protocol.flow.resume_reading()
        here, cycle.body = bytes(cycle.body), bytearray()
        if not cycle.more_body:
            return here
        if cycle.waiting_for_100_continue:
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        done = asyncio.get_running_loop().create_future()
        filling = protocol._filling = Filling(here, length, done)
        try:
            await done
        finally:
            if protocol._filling is filling:  # given up: nobody knows any more where it ends
                protocol._filling, cycle.keep_alive = None, False
                protocol.flow.pause_reading()
        return filling.whole()

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` should the connection end before the answer is out."""
        if self._cycle.disconnected:
            tell()
        else:
            self._protocol._gone = tell

    def answering(self) -> None:
        """An answer begins; one that leaves before the request's body is in ends the connection."""
        if self._cycle.more_body:
            self._cycle.keep_alive = False

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer, in one write.

        Raises:
            ValueError: a header holds what would end it.
        """
        cycle = self._cycle
        if cycle.disconnected:
            return
        lines = [b"%b: %b\r\n" % each for each in (*cycle.default_headers, *headers)]
        if any(_FORGED.search(line, 0, len(line) - 2) for line in lines):
            raise ValueError("a header holds a control character")
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            lines.append(b"%b: %b\r\n" % _CLOSE)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def peer_of(scope: Scope) -> Peer:
    """Who sent a request."""
    peer: Peer = scope["extensions"][PEER]
    return peer


def guarded_protocol() -> type[Guarded]:
    """The protocol of all connections of one server."""

    class Ours(Guarded):
        scratch = memoryview(bytearray(READ_BYTES))
        lingering = Lingering()
        most = most_connections()

    return Ours


def most_connections() -> int:
    """How many connections are open at a time, at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MOST, soft - _DESCRIPTORS_KEPT))


def _raw(status: int, detail: str) -> bytes:
    """A problem as it goes over the wire, for where no request is there to be answered."""
    from serving.envelope import HEADERS

    answer = problems.malformed(status, detail).response()
    headers = {**HEADERS, **dict(answer.headers), "connection": "close"}
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(answer.body)
