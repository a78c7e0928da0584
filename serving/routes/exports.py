"""Everything that a filter finds, as one stream."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from serving.auth import Reader
from serving.routes.documenting import problems, sample
from serving.routes.inspections import filter_of
from serving.schemas import ExportQuery
from serving.state import server_of
from serving.tables import PAGE, csv_lines, ndjson_lines

router = APIRouter(prefix="/v1", tags=["Inspections"])

FORMS: Final = {
    "csv": ("text/csv; charset=utf-8; header=present", csv_lines),
    "ndjson": ("application/x-ndjson", ndjson_lines),
}


@router.get(
    "/inspections:export",
    response_class=StreamingResponse,
    summary="Export inspections",
    responses={
        200: {
            "description": "One inspection a line, newest first. The last line says that it is "
            "complete, and how many there were; without it the stream was cut",
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"id": "0199d3f0-52e7-7c3a-9f6e-0c6b1d2e3f40", "...": "..."}\n'
                    '{"complete": true, "count": 1}\n',
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "id,trace_id,product\r\n0199d3f0-52e7-7c3a-9f6e-0c6b1d2e3f40,"
                    "06AF-JB08-0ETGW,KN-42\r\n#complete,1,\r\n",
                },
            },
        },
        **problems(),
    },
    openapi_extra=sample(
        'curl -o week.csv "$SERVER/v1/inspections:export?format=csv&product=KN-42"'
    ),
)
def export_inspections(
    request: Request, reader: Reader, query: Annotated[ExportQuery, Query()]
) -> StreamingResponse:
    """All of them, however many: a stream as CSV or NDJSON, with the filters of the list.

    In CSV a cell that a spreadsheet would take for a formula has an apostrophe in front.
    """
    server = server_of(request)
    media_type, lines = FORMS[query.format]
    return StreamingResponse(
        lines(server.records, filter_of(server, query, limit=PAGE)),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="inspections.{query.format}"'},
    )
