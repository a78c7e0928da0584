"""Several views of one part that make one inspection: open the set, post its views, close it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection.errors import RequestError, UnknownProduct
from inspection.events import ViewSet as ViewSetRecord
from inspection.lives import holds_of
from inspection.names import new_inspection_id
from inspection.pipeline import Line
from inspection.store import ViewSetDraft
from serving.admission import read_json, refuse_body
from serving.auth import OwnReader, Poster
from serving.routes.documenting import problems, sample
from serving.schemas import Inspection, ViewSetState
from serving.state import Server, server_of
from serving.statement_schemas import ViewSet, ViewSetFields
from serving.submitting import added, adding, replayed_too, submission_of
from serving.wire import Name, now

router = APIRouter(prefix="/v1/view-sets", tags=["Inspections"])

ViewSetId = Annotated[Name, Path(description="`id` of the set")]


@router.post(
    "",
    status_code=201,
    response_model=ViewSet,
    summary="Open a set of views",
    response_description="Opened; post each view with `view_set` and `view`, then close it",
    responses={**replayed_too(ViewSet), **problems(400, 404, 409, 413, 415)},
    openapi_extra={
        **adding("ViewSetFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/view-sets" -H "Idempotency-Key: xray-1-set-17" \\
  -H "Content-Type: application/json" -d '{"station": "xray-1", "product": "KN-42",
  "serial": "KN42A00016", "views": ["front", "side"]}'
"""
        ),
    },
)
async def post_view_set(request: Request, poster: Poster) -> Response:
    """Say which views of a part will come. `views` left out: those that the recipe names.

    Each is then posted as an inspection with `view_set` and `view`, in any order, and judged and
    answered by itself. The set's inspection is made when it is closed.
    """
    server = server_of(request)
    fields = await read_json(request, ViewSetFields)
    poster.check_place(product=fields.product, station=fields.station)
    if fields.product not in server.lines:
        raise UnknownProduct(f"this server does not list a product {fields.product!r}")
    views = tuple(fields.views or _views_of(server, fields.product))
    values = fields.model_dump(mode="json", exclude={"views", "serial"})

    def add() -> tuple[ViewSetRecord, str]:
        serial = fields.serial and server.written_serial(fields.serial, fields.product)
        draft = ViewSetDraft(
            **values,
            id=new_inspection_id(),
            serial=serial,
            views=views,
            by=poster.name,
            recorded_at=now(),
        )
        sent = {**values, "serial": serial, "views": list(views)}
        submission = submission_of(request, poster, "post_view_set", {}, sent)
        return server.records.open_views(draft, submission), draft.id

    opened, fresh = await run_in_threadpool(add)
    return added(
        ViewSet.of(opened),
        replayed=opened.id != fresh,
        location=f"/v1/view-sets/{opened.id}",
    )


def _views_of(server: Server, product: str) -> tuple[str, ...]:
    """The views that the product's recipe names.

    Raises:
        RequestError: it names none.
    """
    line = server.lines.get(product)
    views = line.package.recipe.views if isinstance(line, Line) else None
    if not views:
        raise RequestError(
            f"the recipe of product {product!r} names no views",
            remedy="Send `views`: the names of the views that will come.",
        )
    return views


@router.get(
    "/{view_set_id}",
    response_model=ViewSetState,
    summary="Read a set of views",
    responses=problems(404),
    openapi_extra=sample('curl "$SERVER/v1/view-sets/$SET"'),
)
def get_view_set(request: Request, reader: OwnReader, view_set_id: ViewSetId) -> ViewSetState:
    """How it was opened, which views have come, which are missing, and what closed it."""
    state = server_of(request).records.view_set(view_set_id)
    reader.check_own(state.opened.by)
    return ViewSetState.of(state)


@router.post(
    "/{view_set_id}/close",
    status_code=201,
    response_model=Inspection,
    summary="Close a set of views",
    response_description="The inspection that sums the views up",
    responses={**replayed_too(Inspection), **problems(404, 409)},
    openapi_extra=sample('curl -X POST "$SERVER/v1/view-sets/$SET/close"'),
)
async def close_view_set(request: Request, poster: Poster, view_set_id: ViewSetId) -> Response:
    """Make one inspection of the views: its disposition is the worst view's, and it says so.

    A view that is missing makes it a review at least. Closing again gives the same inspection, so
    this call needs no Idempotency-Key, and it takes no body.
    """
    server = server_of(request)
    await refuse_body(request)

    def close() -> Response:
        state = server.records.view_set(view_set_id)
        poster.check_own(state.opened.by)
        record = server.records.close_views(view_set_id, by=poster.key, received_at=now())
        replayed = state.closed is not None
        if not replayed:
            server.metrics.inspected(record)
        holds = holds_of(server.records, [record])[record.id]
        return added(
            Inspection.with_holds(record, holds),
            replayed=replayed,
            location=f"/v1/inspections/{record.id}",
        )

    return await run_in_threadpool(close)
