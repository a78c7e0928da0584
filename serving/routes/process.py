"""What machines measured while parts were made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from inspection.events import ProcessValue, ProcessValues
from inspection.names import new_inspection_id
from serving.admission import content_type_of, read_body
from serving.auth import Supplier
from serving.process_table import items_of_json, items_of_table, values_of
from serving.routes.documenting import problems, sample
from serving.state import server_of
from serving.statement_schemas import ItemProblem, ProcessValueReport, ProcessValuesReport
from serving.submitting import added, adding, replayed_too, submission_of
from serving.wire import now

if TYPE_CHECKING:
    from inspection.errors import InputError

router = APIRouter(prefix="/v1", tags=["Process values"])

LIMIT_BYTES: Final = 1024 * 1024
READERS: Final = {"application/json": items_of_json, "text/csv": items_of_table}


@router.post(
    "/process-values",
    status_code=201,
    response_model=ProcessValuesReport,
    summary="Report process values",
    response_description="The accepted ones are recorded; `items` says which were not, and why",
    responses={**replayed_too(ProcessValuesReport), **problems(400, 413, 415)},
    openapi_extra={
        **adding("ProcessValuesFields", "text/csv"),
        **sample(
            """
curl -X POST "$SERVER/v1/process-values" -H "Idempotency-Key: lp3-0912" \\
  -H "Content-Type: application/json" -d '{"values": [{"name": "melt-temperature",
  "value": 712.5, "unit": "degC", "at": "2026-11-21T09:12:40Z", "machine": "LP-3"}]}'
"""
        ),
    },
)
async def post_process_values(request: Request, supplier: Supplier) -> Response:
    """Up to 1,000 values at a time, each of a part (`product`, `serial`) or of a `machine`.

    Each is looked at alone: what cannot be used is refused with its problem, and what is accepted
    is one entry of the records. When none is, nothing is recorded, `id` is null and the status 200.
    As `text/csv` the first row names the columns, which are the fields of a value.
    """
    reader = READERS.get(content_type_of(request))
    if reader is None:
        raise HTTPException(415)
    body = await read_body(request, LIMIT_BYTES)
    server = server_of(request)

    def add() -> tuple[ProcessValuesReport, bool]:
        items = reader(body)
        submission = submission_of(request, supplier, "post_process_values", {}, _plain(items))
        outcomes = values_of(server, items)
        accepted = tuple(each for each in outcomes if isinstance(each, ProcessValue))
        if not accepted:
            return _report(None, outcomes, ()), True
        values = ProcessValues(
            id=new_inspection_id(), values=accepted, by=supplier.name, recorded_at=now()
        )
        kept = server.records.add(values, submission)
        assert isinstance(kept, ProcessValues)  # noqa: S101  the digest names the call
        return _report(kept.id, outcomes, kept.values), kept.id != values.id

    report, replayed = await run_in_threadpool(add)
    return added(report, replayed=replayed)


def _report(
    name: str | None, outcomes: list[ProcessValue | InputError], kept: tuple[ProcessValue, ...]
) -> ProcessValuesReport:
    """What became of each item, by what is on record: rules may have changed since a first sending.

    Args:
        name: of what is on record.
        outcomes: of each item, as it is judged now.
        kept: the values on record, in the order of their items.
    """
    remaining = list(kept)
    items = []
    for number, each in enumerate(outcomes):
        there = isinstance(each, ProcessValue) and remaining[:1] == [each]
        if there:
            del remaining[0]
        items.append(
            ProcessValueReport(
                item=number,
                status="accepted" if there else "refused",
                problem=None if isinstance(each, ProcessValue) else ItemProblem.of(each),
            )
        )
    accepted = sum(each.status == "accepted" for each in items)
    return ProcessValuesReport(
        id=name, accepted=accepted, refused=len(items) - accepted, items=items
    )


def _plain(items: list[Any]) -> list[str]:
    """Items as text, for the request's digest: some numbers of JSON have no canonical form."""
    return [json.dumps(each, sort_keys=True) for each in items]
