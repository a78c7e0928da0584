"""How many inspections there were, and how many parts passed at first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from serving.auth import Reader
from serving.feed_schemas import CountQuery, CountRow, Counts
from serving.routes.documenting import problems, sample
from serving.routes.inspections import filter_of
from serving.state import server_of

router = APIRouter(prefix="/v1", tags=["Inspections"])


@router.get(
    "/counts",
    response_model=Counts,
    summary="Count inspections",
    responses=problems(),
    openapi_extra=sample('curl "$SERVER/v1/counts?by=product,mould&bucket=day"'),
)
def get_counts(request: Request, reader: Reader, query: Annotated[CountQuery, Query()]) -> Counts:
    """Inspections by any of the fields together, in time buckets, with the first-pass yield.

    First-pass figures count attempt 1 of each part only. By `class` an inspection counts once for
    each class that was found in it. At most 10,000 rows.
    """
    server = server_of(request)
    wanted = filter_of(server, query, limit=1)
    rows = server.records.counts(wanted, by=query.groups, bucket=query.bucket)
    return Counts(items=[CountRow.of(row) for row in rows])
