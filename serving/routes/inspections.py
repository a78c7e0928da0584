"""Posting an image, and reading what was made of it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection.errors import ConfigurationError
from inspection.frame import MEDIA_TYPES
from inspection.lives import holds_of
from inspection.pipeline import inspect_part
from inspection.record import InspectionRecord
from inspection.store import Filter
from serving.admission import IMAGE_FIELD, MULTIPART, admit
from serving.auth import OwnReader, Poster, Principal, Reader
from serving.conditional import IF_NONE_MATCH, UNCHANGED, answered, plain
from serving.errors import BodyTooSlow
from serving.gate import HEADER, deadline_of
from serving.routes.documenting import problems, sample
from serving.schemas import (
    FilterQuery,
    Inspection,
    InspectionDetail,
    InspectionFields,
    InspectionList,
    ListQuery,
)
from serving.state import server_of
from serving.wire import Name

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from serving.admission import Arrival
    from serving.gate import Entry
    from serving.state import Server

router = APIRouter(prefix="/v1/inspections", tags=["Inspections"])

InspectionId = Annotated[Name, Path(description="`id`")]


def _posting() -> dict[str, Any]:
    """The part of the document that FastAPI cannot know: a raw body with fields in the query."""
    schema = InspectionFields.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    parameters = []
    for name, form in fields.items():
        kept = {key: value for key, value in form.items() if key not in ("title", "default")}
        described = kept.pop("description", None)
        if name in schema["required"]:  # but not here, where the body is a form
            described = f"{described}; required, in the query or in the form"
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": kept}
        if described:
            parameter["description"] = described
        parameters.append(parameter)
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "one fresh value for each capture, kept for its retries",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    deadline = {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "how long you wait for the answer, in milliseconds; `Prefer: wait=5` says "
        "it in seconds. What would come later is refused at once with 429",
        "schema": {"type": "integer", "minimum": 1, "maximum": 600_000},
    }
    raw: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {**fields, IMAGE_FIELD: {"type": "string", "format": "binary"}},
        "required": [*schema["required"], IMAGE_FIELD],
        "additionalProperties": False,
    }
    return {
        "parameters": [key, deadline, *parameters],
        "requestBody": {
            "required": True,
            "description": "the file as camera or detector wrote it; with multipart the fields "
            "are parts of the form and the query is empty",
            "content": {**dict.fromkeys(MEDIA_TYPES, raw), MULTIPART: {"schema": form}},
        },
        **sample(
            """
curl -X POST "$SERVER/v1/inspections?station=xray-1&product=KN-42&capture_id=c-000017\\
&serial=KN42A00016&lot=L-2026-47" \\
  -H "Idempotency-Key: xray-1-c-000017" -H "Content-Type: image/png" \\
  --data-binary @part.png
"""
        ),
    }


@router.post(
    "",
    status_code=201,
    response_model=Inspection,
    summary="Judge an image",
    response_description="Judged and recorded; image and record are durable",
    responses={
        200: {
            "model": Inspection,
            "description": "This very request was answered before: the stored answer, "
            "with `Idempotent-Replayed: true`",
        },
        **problems(400, 404, 408, 409, 413, 415, 429, 504),
    },
    openapi_extra=_posting(),
)
async def post_inspection(request: Request, poster: Poster) -> Response:
    """Send one image of one part; get pass, fail or review, and a trace ID.

    An image that can be decoded is always recorded, as a review when it cannot be judged. What is
    refused leaves no record. Two requests are the same when station, fields and image agree,
    whatever the encoding; sending the same again under the same key gives the stored answer.
    """
    server = server_of(request)
    entry = server.gate.enter(deadline_of(request, server.settings.server.deadline_s))
    try:
        arrival = await in_time(admit(request, server), server.settings.server.body_s)
        entry.arrived()
        record, replayed = await _judge(server, arrival, poster, entry, request)
    finally:
        entry.leave()
    holds = await run_in_threadpool(holds_of, server.records, [record])
    if not replayed and record.view is None:  # of several views, their sum is counted
        server.metrics.inspected(record)
    request.state.noted = {
        "trace_id": record.trace_id,
        "station": record.station,
        "product": record.product,
        "disposition": record.disposition,
        "replayed": replayed,
    }
    headers = {"Location": f"/v1/inspections/{record.id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(
        Inspection.with_holds(record, holds[record.id]).model_dump_json(by_alias=True),
        200 if replayed else 201,
        headers,
        "application/json",
    )


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


async def _judge(
    server: Server, arrival: Arrival, poster: Principal, entry: Entry, posted: Request
) -> tuple[InspectionRecord, bool]:
    """The record of an arrival, and whether it was there before. Works on a worker thread."""

    def work() -> tuple[InspectionRecord, bool]:
        entry.begin()
        request = arrival.request
        known = server.records.replay(
            request.station,
            request.idempotency_key,
            request.capture_id,
            request.digest(hashlib.sha256(arrival.data).hexdigest()),
        )
        if known is not None:  # an answer once given stands, whatever became of the product
            return known, True
        if request.view_set is not None:  # a set is filled and closed by whoever opened it
            poster.check_own(server.records.view_set(request.view_set).opened.by)
        with server.lines.use(request.product) as line:
            record = inspect_part(
                arrival.data,
                request,
                line,
                declared=arrival.declared,
                received_at=arrival.received_at,
                principal=poster.key,
            )
        return record, False

    held = server.in_flight.hold(arrival.request)
    try:
        future = server.workers.submit(work)
    except RuntimeError as error:
        held.release()
        raise ConfigurationError(
            "the server is stopping", remedy="Send it again in a moment."
        ) from error
    # The names go back when the thread is done, which a cancelled request does not wait for.
    future.add_done_callback(lambda _: held.release())
    answer = asyncio.wrap_future(future)
    leaving = asyncio.ensure_future(_gone(posted))
    both: tuple[asyncio.Future[Any], ...] = (answer, leaving)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():  # what a worker has begun is finished: a record may be promised already
            entry.caller_gone()
        return await answer
    finally:
        entry.caller_gone()  # a stopping server cancels this; what has not begun is not begun then
        leaving.cancel()


async def _gone(posted: Request) -> None:
    """Returns when the caller has hung up."""
    while (await posted.receive())["type"] != "http.disconnect":
        pass


@router.get(
    "",
    response_model=InspectionList,
    summary="List inspections, newest first",
    responses=problems(),
    openapi_extra=sample('curl "$SERVER/v1/inspections?product=KN-42&disposition=fail&limit=20"'),
)
def list_inspections(
    request: Request, reader: Reader, query: Annotated[ListQuery, Query()]
) -> Response:
    """Page through inspections by any of the filters together.

    While new ones arrive, following `next_cursor` neither skips nor repeats one. Times need a zone;
    write the `+` of one as `%2B`. Single views of a set are not listed; their sum is.
    """
    server = server_of(request)
    wanted = filter_of(server, query, limit=query.limit)
    before = server.cursors.page(query.cursor, wanted) if query.cursor is not None else None
    page = server.records.find(replace(wanted, before_sequence=before))
    following = page.next_before
    holds = holds_of(server.records, page.records)
    answer = InspectionList(
        items=[Inspection.with_holds(record, holds[record.id]) for record in page.records],
        next_cursor=None if following is None else server.cursors.of_page(following, wanted),
        truncated=page.truncated,
    )
    return plain(answer)


def filter_of(server: Server, query: FilterQuery, *, limit: int) -> Filter:
    """What a query asks for, as the records are asked.

    Raises:
        SerialError: the serial does not fit the marks of the product that is asked for.
    """
    serial = query.serial
    if serial is not None:
        serial = server.written_serial(serial, query.product)
    return Filter(
        serial=serial,
        station=query.station,
        product=query.product,
        lot=query.lot,
        machine=query.machine,
        mould=query.mould,
        disposition=query.disposition,
        defect_class=query.class_,
        reason=query.reason,
        received_from=query.from_,
        received_before=query.to,
        limit=limit,
    )


@router.get(
    "/{inspection_id}",
    response_model=InspectionDetail,
    summary="Read one inspection",
    responses={**UNCHANGED, **problems(404)},
    openapi_extra={
        "parameters": [IF_NONE_MATCH],
        **sample('curl -i "$SERVER/v1/inspections/$ID"'),
    },
)
def get_inspection(request: Request, reader: OwnReader, inspection_id: InspectionId) -> Response:
    """The record as it was made, with every review of it and the holds that stand on it.

    Its ETag is what a review sends as If-Match.
    """
    server = server_of(request)
    record = server.records.get(inspection_id)
    reader.check_own(record.principal)
    return answered(request, detail_of(server, record))


def detail_of(server: Server, record: InspectionRecord) -> InspectionDetail:
    """An inspection with its reviews and holds as they are now."""
    reviews = server.records.reviews(record.id)
    return InspectionDetail.with_reviews(
        record, reviews, holds_of(server.records, [record])[record.id]
    )
