"""What is around every answer: security headers, a line in the log, and no way out for a fault."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from serving import problems
from serving.auth import leave
from serving.connections import ambiguous, peer_of
from serving.tracing import names_of, parent_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer that does not say otherwise itself."""

_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

_written = json.JSONEncoder(ensure_ascii=False, default=str).encode

log = logging.getLogger("serving")


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status: int | None = None
        held: Message | None = None
        peer = peer_of(scope)

        async def sending(message: Message) -> None:
            nonlocal status, held
            if message["type"] == "http.response.start":
                peer.answering()
                said = {name for name, _ in message["headers"]}
                added = [each for each in _RAW if each[0] not in said]
                message = {**message, "headers": [*message["headers"], *added]}
                # What has a length goes out with its body: two writes wake the caller twice.
                if b"content-length" in said and scope["method"] != "HEAD":
                    held = message
                    return
                status = message["status"]
            elif held is not None:
                begun, held = held, None
                if not message.get("more_body"):
                    peer.answer(begun["status"], begun["headers"], message["body"])
                    status = begun["status"]
                    return
                status = begun["status"]
                await send(begun)
            await send(message)

        try:
            if (twofold := ambiguous(scope["headers"])) is not None:
                await problems.malformed(400, twofold).response()(scope, receive, sending)
                return
            await self.app(scope, receive, sending)
        except ClientDisconnect:
            pass  # nobody is there to be answered; nothing had been begun for them
        except Exception:
            log.exception("fault", extra={"path": scope["path"]})
            if status is not None:
                raise  # half an answer is out: let the connection break, so that it shows
            await problems.unexpected().response()(scope, receive, sending)
        finally:
            leave(scope)
            self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int | None, seconds: float) -> None:
        server = getattr(scope["app"].state, "server", None) if "app" in scope else None
        noted = scope["state"].get("noted", {})
        if server is not None and status is not None:
            route = getattr(scope.get("route"), "path", "none")
            server.metrics.answered(route, status, seconds)
            if server.tracer is not None:
                server.tracer.told(
                    method=scope["method"],
                    route=route,
                    status=status,
                    seconds=seconds,
                    parent=parent_of(scope["headers"]),
                    noted=noted,
                )
        if scope["state"].get("in_bulk"):
            return  # `InBulk` tells of it
        extra = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 1),
            **names_of(scope["headers"]),
            **noted,
        }
        log.info("request", extra=extra)


class JsonLines(logging.Formatter):
    """A log record as one JSON object a line: time, level, event, and what came with it."""

    _own = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in self._own},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _written(line)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the server's own log lines, and uvicorn's warnings, to stderr as JSON lines."""
    # What no line says is not looked up: see "Optimization" in the manual of `logging`.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, its_level in (("serving", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(its_level)
        logger.propagate = False
