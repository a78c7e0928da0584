"""Parts by serial, and inspections by trace ID."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from inspection.errors import NotFound, SerialError
from inspection.names import normalise_trace_id
from inspection.record import UNREAD
from inspection.standing import disposition_in_force
from serving.auth import Reader
from serving.routes.documenting import problems, sample
from serving.schemas import InspectionDetail, Part
from serving.state import Server, server_of

router = APIRouter(prefix="/v1", tags=["Parts"])

Text = Annotated[str, Path(min_length=1, max_length=200)]


@router.get(
    "/parts/{product}/{serial:path}",
    response_model=Part,
    summary="Read a part's history",
    responses=problems(404),
    openapi_extra=sample('curl "$SERVER/v1/parts/KN-42/KN42A00016"'),
)
def get_part(request: Request, reader: Reader, product: Text, serial: Text) -> Part:
    """Every inspection and review of a part, oldest first, and the disposition in force.

    In force is the latest attempt that counts; a recheck never lifts a fail without a review. A
    part whose mark was not read is found under its provisional identity `unread:TRACE-ID`.
    """
    return part_of(server_of(request), product, serial)


def part_of(server: Server, product: str, serial: str) -> Part:
    """A part's history.

    Raises:
        NotFound: nothing is recorded of such a part.
        SerialError: nothing is, and the serial does not fit the product's marks either.
    """
    refused: SerialError | None = None
    part = serial.strip()
    if part.lower().startswith(UNREAD):
        part = UNREAD + normalise_trace_id(part[len(UNREAD) :])
    else:
        try:
            part = server.written_serial(serial, product)
        except SerialError as error:
            refused = error  # it may still be on record from before the format was what it is
    entries = server.records.part_history(product, part)
    if not entries:
        if refused is not None:
            raise refused
        raise NotFound(f"nothing is recorded of a part {part!r} of product {product!r}")
    return Part.of(product, part, entries, disposition_in_force(entries))


@router.get(
    "/trace/{trace_id}",
    response_model=InspectionDetail,
    summary="Find the inspection behind a trace ID",
    responses=problems(404),
    openapi_extra=sample('curl "$SERVER/v1/trace/06AF-JB08-0ETGW"'),
)
def get_trace(
    request: Request,
    reader: Reader,
    trace_id: Annotated[str, Path(min_length=1, max_length=64)],
) -> InspectionDetail:
    """As typed or read aloud: lower case and missing hyphens do no harm, nor O for 0, I for 1."""
    server = server_of(request)
    record = server.records.by_trace_id(normalise_trace_id(trace_id))
    return InspectionDetail.with_reviews(record, server.records.reviews(record.id))
