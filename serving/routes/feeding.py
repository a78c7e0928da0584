"""Everything that is added, in the order of commits: asked for, waited for, or as a stream."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from inspection.errors import NotAllowed, RecordError, RequestError
from serving.auth import Reader, authenticate
from serving.conditional import plain
from serving.feed_schemas import Change, Changes, ChangesQuery, form_of
from serving.routes.documenting import problems, sample
from serving.state import Server, server_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from inspection.store import Change as ChangeFound

router = APIRouter(prefix="/v1", tags=["Changes"])

NOW: Final = "now"
BATCH: Final = 100
HEARTBEAT_S: Final = 15.0
"""How often a silent stream shows that it lives, and whether its key still holds is looked at."""

RETRY_MS: Final = 2000
LAST_EVENT: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "`id` of the last event that was seen; browsers send it by themselves",
    "schema": {"type": "string", "maxLength": 200},
}


@router.get(
    "/changes",
    response_model=Changes,
    summary="Read what was added, in order",
    responses=problems(429),
    openapi_extra=sample('curl "$SERVER/v1/changes?after=$NEXT&wait=30"'),
)
async def list_changes(
    request: Request, reader: Reader, query: Annotated[ChangesQuery, Query()]
) -> Response:
    """Everything that was added, in the order of commits: each once, none missing.

    Keep `next`, and send it as `after`. With `wait` the answer comes as soon as there is something,
    and empty when the time is over.
    """
    server = server_of(request)
    after = await run_in_threadpool(_position, server, query.after)
    found = await run_in_threadpool(server.records.changes, after, limit=query.limit)
    if not found and query.wait:
        server.feed.check_room()
        with server.feed.place():
            await _news(request, server, after, query.wait)
        found = await run_in_threadpool(server.records.changes, after, limit=query.limit)
    items = [_change(server, each) for each in found]
    following = items[-1].cursor if items else server.cursors.of_change(after)
    return plain(Changes(items=items, next=following))


async def _news(request: Request, server: Server, after: int, wait_s: float) -> None:
    """Returns when there is something past `after`, the time is over or the caller has gone."""
    waiting = asyncio.ensure_future(server.feed.beyond(after, wait_s))
    leaving = asyncio.ensure_future(_gone(request))
    both: tuple[asyncio.Future[Any], ...] = (waiting, leaving)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
    finally:
        for each in both:
            each.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/events",
    response_class=StreamingResponse,
    summary="Follow what is added",
    responses={
        200: {
            "description": "Server-sent events: `id` is the cursor, `event` the kind, `data` the "
            "entry as JSON. A comment comes every 15 seconds while nothing else does",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "id: AAAAAAAAAAJoYXNoaGFzaA\nevent: review\n"
                    'data: {"id": "0199d3f4-1b02-7a11-8d21-5a6b7c8d9e0f", "...": "..."}\n\n',
                }
            },
        },
        **problems(429),
    },
    openapi_extra={
        "parameters": [LAST_EVENT],
        **sample('curl -N -H "Last-Event-ID: $NEXT" "$SERVER/v1/events"'),
    },
)
async def stream_events(
    request: Request,
    reader: Reader,
    after: Annotated[
        str | None,
        Query(max_length=200, description="as for /v1/changes; Last-Event-ID goes before it"),
    ] = None,
) -> StreamingResponse:
    """The same as /v1/changes as a stream that stays open.

    It goes on after Last-Event-ID or `after`; without either it begins with what comes next. It
    ends when the server stops or the key is revoked: connect again with the last `id`.
    """
    server = server_of(request)
    server.feed.check_room()
    start = request.headers.get("last-event-id") or after or NOW
    position = await run_in_threadpool(_position, server, start)
    return StreamingResponse(
        _stream(request, server, position),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _stream(request: Request, server: Server, after: int) -> AsyncIterator[str]:
    checked = time.monotonic()
    with server.feed.place():
        # An `id` without data: whoever is cut off before the first event knows where to go on.
        yield f"retry: {RETRY_MS}\nid: {server.cursors.of_change(after)}\n\n"
        try:
            while not server.feed.stopping:
                found = await run_in_threadpool(server.records.changes, after, limit=BATCH)
                if found:
                    yield _events(server, found)
                    after = found[-1].sequence
                else:
                    newest = await server.feed.beyond(after, HEARTBEAT_S)
                    if newest <= after and not server.feed.stopping:
                        yield ": nothing new\n\n"
                if time.monotonic() - checked >= HEARTBEAT_S:
                    await run_in_threadpool(_check_key, request)
                    checked = time.monotonic()
            yield ": the server is stopping\n\n"
        except NotAllowed:
            yield ": the access key does not hold any more\n\n"
        except RecordError:
            yield ": the records cannot be read now\n\n"


def _check_key(request: Request) -> None:
    if not authenticate(request).may("read"):
        raise NotAllowed("the key may not read")


def _position(server: Server, text: str | None) -> int:
    """The sequence that a caller has seen.

    Raises:
        RequestError: it is no cursor of this log, or lies past its end.
    """
    if text is None:
        return 0
    newest = server.records.newest()
    if text == NOW:
        return newest
    after = server.cursors.change(text)
    if after > newest:
        raise RequestError(
            "the cursor lies past the last change: the records are an older copy of themselves",
            remedy="Begin again without a cursor, and compare what you have by `id`.",
        )
    return after


def _change(server: Server, found: ChangeFound) -> Change:
    return Change(
        sequence=found.sequence,
        cursor=server.cursors.of_change(found.sequence),
        kind=found.kind,
        entry=form_of(found.entry),
    )


def _events(server: Server, found: Sequence[ChangeFound]) -> str:
    """Server-sent events (HTML, section 9.2.5), in ASCII.

    Some clients end a line at characters at which the standard does not, such as U+2028.
    """
    return "".join(
        f"id: {server.cursors.of_change(each.sequence)}\nevent: {each.kind}\n"
        f"data: {json.dumps(form_of(each.entry))}\n\n"
        for each in found
    )
