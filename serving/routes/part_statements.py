"""What happens to a part besides inspections: events, new names, components."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection import events
from inspection.errors import RequestError
from inspection.names import new_inspection_id
from inspection.record import UNREAD
from serving.admission import read_json
from serving.auth import Reporter, Reviewer, Supplier
from serving.identities import name_to_add_to
from serving.routes.documenting import problems, sample
from serving.routes.parts import Marked, Text
from serving.state import server_of
from serving.statement_schemas import (
    Assembly,
    ComponentFields,
    EventFields,
    NameFields,
    Naming,
    PartEvent,
)
from serving.submitting import added, adding, replayed_too, submission_of
from serving.wire import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from serving.auth import Principal

router = APIRouter(prefix="/v1", tags=["Parts"])

Kept = TypeVar("Kept", events.PartEvent, events.Naming, events.Assembly)


@router.post(
    "/parts/{product}/{serial:path}/events",
    status_code=201,
    response_model=PartEvent,
    summary="Report what happened to a part",
    response_description="Recorded",
    responses={**replayed_too(PartEvent), **problems(400, 404, 413, 415)},
    openapi_extra={
        **adding("EventFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/parts/KN-42/KN42A00016/events" -H "Idempotency-Key: mes-4711" \\
  -H "Content-Type: application/json" \\
  -d '{"event": "cast", "at": "2026-11-21T09:12:40Z", "machine": "LP-3", "mould": "M-12"}'
"""
        ),
    },
)
async def post_event(
    request: Request, reporter: Reporter, product: Text, serial: Marked
) -> Response:
    """Cast, marked, reworked, shipped, returned or scrapped.

    The part need not be on record yet: a casting is an event before anything was inspected.
    """
    fields = await read_json(request, EventFields)
    reporter.check_place(product=product, station=fields.station)

    def make(part: str) -> events.PartEvent:
        return events.PartEvent(
            id=new_inspection_id(),
            product=product,
            part=part,
            by=reporter.name,
            recorded_at=now(),
            **fields.model_dump(mode="json"),
        )

    kept, replayed = await _add(request, reporter, "post_event", product, serial, fields, make)
    return added(PartEvent.of(kept), replayed=replayed)


@router.post(
    "/parts/{product}/{serial:path}/names",
    status_code=201,
    response_model=Naming,
    summary="Name a part",
    response_description="Recorded; from now on any of its names finds the part",
    responses={**replayed_too(Naming), **problems(400, 404, 409, 413, 415)},
    openapi_extra={
        **adding("NameFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/parts/KN-42/unread:06AF-JB08-0ETGW/names" \\
  -H "Idempotency-Key: bench-17" -H "Content-Type: application/json" \\
  -d '{"serial": "KN42A00016", "reason": "read by hand on the bench"}'
"""
        ),
    },
)
async def post_name(request: Request, namer: Reviewer, product: Text, serial: Marked) -> Response:
    """Bind an unread mark to the serial that it turned out to be, or mark a part anew.

    A part that is marked anew keeps its history, and its new serial must have none of its own.
    """
    fields = await read_json(request, NameFields)
    server = server_of(request)

    def make(part: str) -> events.Naming:
        if fields.serial.strip().lower().startswith(UNREAD):
            raise RequestError("a part is bound to a serial, not to another unread mark")
        return events.Naming(
            id=new_inspection_id(),
            product=product,
            part=part,
            serial=server.written_serial(fields.serial, product),
            why="bound" if part.startswith(UNREAD) else "re-marked",
            reason=fields.reason.strip(),
            by=namer.name,
            recorded_at=now(),
        )

    kept, replayed = await _add(request, namer, "post_name", product, serial, fields, make)
    return added(Naming.of(kept), replayed=replayed)


@router.post(
    "/parts/{product}/{serial:path}/components",
    status_code=201,
    response_model=Assembly,
    summary="Fit or remove a component",
    response_description="Recorded",
    responses={**replayed_too(Assembly), **problems(400, 404, 409, 413, 415)},
    openapi_extra={
        **adding("ComponentFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/parts/KN-42/KN42A00016/components" -H "Idempotency-Key: mes-4712" \\
  -H "Content-Type: application/json" -d '{"product": "BRG-7", "serial": "B7-00412",
  "action": "fitted", "at": "2026-11-21T12:00:00Z", "position": "left"}'
"""
        ),
    },
)
async def post_component(
    request: Request, supplier: Supplier, product: Text, serial: Marked
) -> Response:
    """Say which component went into the part, or came out of it.

    Neither needs to be on record yet, nor their products to be inspected here.
    """
    fields = await read_json(request, ComponentFields)
    server = server_of(request)

    def make(part: str) -> events.Assembly:
        return events.Assembly(
            id=new_inspection_id(),
            product=product,
            part=part,
            component_product=fields.product,
            component_part=name_to_add_to(server, fields.product, fields.serial),
            action=fields.action,
            at=fields.at,
            by=supplier.name,
            recorded_at=now(),
            position=fields.position,
        )

    kept, replayed = await _add(request, supplier, "post_component", product, serial, fields, make)
    return added(Assembly.of(kept), replayed=replayed)


async def _add(
    request: Request,
    by: Principal,
    call: str,
    product: str,
    serial: str,
    fields: BaseModel,
    make: Callable[[str], Kept],
) -> tuple[Kept, bool]:
    """The statement as it is on record, and whether it was before. Works on a worker thread."""
    server = server_of(request)

    def work() -> tuple[Kept, bool]:
        part = name_to_add_to(server, product, serial)
        statement = make(part)
        place = {"product": product, "part": part}
        sent = fields.model_dump(mode="json")
        kept = server.records.add(statement, submission_of(request, by, call, place, sent))
        assert isinstance(kept, type(statement))  # noqa: S101  the digest names the call
        return kept, kept.id != statement.id

    return await run_in_threadpool(work)
