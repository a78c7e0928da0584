"""Posting an image, and reading what was made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from inspection.frame import MEDIA_TYPES
from inspection.lives import holds_of
from inspection.store import Filter
from serving.admission import IMAGE_FIELD, MULTIPART
from serving.auth import OwnReader, Reader
from serving.conditional import IF_NONE_MATCH, UNCHANGED, answered, plain
from serving.gate import HEADER
from serving.posting import answer
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
    from inspection.record import InspectionRecord
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
async def post_inspection(request: Request) -> Response:
    """Send one image of one part; get pass, fail or review, and a trace ID.

    An image that can be decoded is always recorded, as a review when it cannot be judged. What is
    refused leaves no record. Two requests are the same when station, fields and image agree,
    whatever the encoding; sending the same again under the same key gives the stored answer.
    """
    return await answer(request)


POSTING: Final = router.routes[-1]
"""The route above: what `posting.Door` answers in its place."""


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
