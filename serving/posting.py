"""POST /v1/inspections, from its headers to its answer.

    headers -> who? -> can it be kept? -> Gate -> fields, body -> InFlightGuard
            -> a worker thread: sent before? -> inspect_part -> holds -> JSON
            -> 201, or 200 with the stored answer

`Door` is plain ASGI beside the framework, because matching routes and solving dependencies
took as long as all the rest of the server's own work; the route in `routes/inspections.py` has the
call's place in the document. A request changes threads twice, to a worker and back; what waits for
the engine and for the record writer waits on that worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from inspection.errors import ConfigurationError, InspectionError
from inspection.lives import holds_of
from inspection.pipeline import inspect_part
from serving.admission import admit
from serving.auth import allow
from serving.connections import peer_of
from serving.errors import BodyTooSlow, Overloaded
from serving.gate import deadline_of
from serving.schemas import Inspection
from serving.state import server_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive, Scope, Send

    from inspection.record import InspectionRecord
    from serving.admission import Arrival
    from serving.auth import Principal
    from serving.gate import Entry
    from serving.state import Server

PATH: Final = "/v1/inspections"

_poster = allow("post")


class Door:
    """Answers POST /v1/inspections: an ASGI application.

    Args:
        route: of the call, for figures and refusals.
    """

    def __init__(self, route: object) -> None:
        self._route = route

    @staticmethod
    def takes(scope: Scope) -> bool:
        """Whether it is this call."""
        return scope["type"] == "http" and scope["path"] == PATH and bool(scope["method"] == "POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await answer(request)
        except InspectionError as error:
            if type(error) is Overloaded:
                scope["state"]["in_bulk"] = True
                response = server_of(request).in_bulk.answer(error)
            else:
                response = await request.app.exception_handlers[InspectionError](request, error)
        except HTTPException as error:
            response = await request.app.exception_handlers[HTTPException](request, error)
        await response(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What a worker made of an arrival: the record, and its wire form."""

    record: InspectionRecord
    replayed: bool
    body: bytes


async def answer(request: Request) -> Response:
    """The answer to a posted image, once image and record are durable.

    Raises:
        InspectionError: it is refused, or could not be judged or recorded; nothing is on record.
    """
    server = server_of(request)
    poster = await _poster(request)
    server.keeping.require()
    entry = server.gate.enter(deadline_of(request, server.settings.server.deadline_s))
    peer = peer_of(request.scope)
    peer.when_gone(entry.caller_gone)
    try:
        reading = admit(request, server)
        limit_s = server.settings.server.body_s
        arrival = await (in_time(reading, limit_s) if peer.sending else reading)
        arrived = time.perf_counter()
        poster.check_place(product=arrival.request.product, station=arrival.request.station)
        entry.arrived()
        done = await _worked_on(server, arrival, poster, entry)
    finally:
        entry.leave()
    record = done.record
    if not done.replayed and record.view is None:  # of several views, their sum is counted
        server.metrics.inspected(record, total_s=time.perf_counter() - arrived)
    request.state.noted = {
        "trace_id": record.trace_id,
        "station": record.station,
        "product": record.product,
        "disposition": record.disposition,
        "replayed": done.replayed,
        "timings_ms": record.timings_ms,
    }
    headers = {"Location": f"{PATH}/{record.id}"}
    if done.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(done.body, 200 if done.replayed else 201, headers, "application/json")


async def in_time(reading: Awaitable[Arrival], limit_s: float) -> Arrival:
    """What was read of a body, within its time.

    Raises:
        BodyTooSlow: it had not come whole by then.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await reading
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not come within {limit_s:g} s") from error


async def _worked_on(server: Server, arrival: Arrival, poster: Principal, entry: Entry) -> _Done:
    """What a worker thread makes of an arrival. What it has begun it finishes."""
    try:
        return await _given_to_a_worker(server, arrival, poster, entry)
    finally:
        entry.caller_gone()  # a stopping server cancels this; what has not begun is not begun then


def _given_to_a_worker(
    server: Server, arrival: Arrival, poster: Principal, entry: Entry
) -> asyncio.Future[_Done]:
    """What will come of it. Nobody keeps this in a variable: see `without_frames`."""
    held = server.in_flight.hold(arrival.request)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Done] = loop.create_future()

    def work() -> None:
        made: _Done | BaseException
        try:
            made = _work(server, arrival, poster, entry)
        except InspectionError as error:
            made = without_frames(error)
        except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
            made = error
        # The names go back when the thread is done, which a cancelled request does not wait for.
        held.release()
        with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            loop.call_soon_threadsafe(_tell, done, made)

    try:
        server.workers.submit(work)
    except RuntimeError as error:
        held.release()
        raise ConfigurationError(
            "the server is stopping", remedy="Send it again in a moment."
        ) from error
    return done


def without_frames(error: InspectionError) -> InspectionError:
    """The error alone.

    The frames that an error came through hold all that was in their hands, here an image and what
    was unpacked of it. One of them holds the error, so that only the collector, much later, would
    find them.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _tell(waiting: asyncio.Future[_Done], made: _Done | BaseException) -> None:
    if waiting.done():
        return  # nobody waits any more
    if isinstance(made, BaseException):
        waiting.set_exception(made)
    else:
        waiting.set_result(made)


def _work(server: Server, arrival: Arrival, poster: Principal, entry: Entry) -> _Done:
    """On a worker thread: the record of an arrival, made now or before, as it is sent."""
    entry.begin()
    request = arrival.request
    image_sha256 = hashlib.sha256(arrival.data).hexdigest()
    record = server.records.replay(
        request.station,
        request.idempotency_key,
        request.capture_id,
        request.digest(image_sha256),
    )
    replayed = record is not None  # an answer once given stands, whatever became of the product
    if record is None:
        if request.view_set is not None:  # a set is filled and closed by whoever opened it
            poster.check_own(server.records.view_set(request.view_set).opened.by)
        with server.lines.use(request.product) as line:
            record = inspect_part(
                arrival.data,
                request,
                line,
                declared=arrival.declared,
                sha256=image_sha256,
                received_at=arrival.received_at,
                principal=poster.key,
            )
    wire = Inspection.with_holds(record, holds_of(server.records, [record])[record.id])
    return _Done(
        record=record, replayed=replayed, body=wire.model_dump_json(by_alias=True).encode()
    )
