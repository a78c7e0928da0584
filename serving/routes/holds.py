"""Parts, lots and moulds that must not go on, until somebody lets them go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection import events
from inspection.names import new_inspection_id
from serving.admission import read_json
from serving.auth import Reader, Reviewer
from serving.identities import name_to_add_to
from serving.routes.documenting import problems, sample
from serving.state import server_of
from serving.statement_schemas import (
    Hold,
    HoldFields,
    HoldList,
    HoldState,
    Release,
    ReleaseFields,
)
from serving.submitting import added, adding, replayed_too, submission_of
from serving.wire import Name, now

router = APIRouter(prefix="/v1/holds", tags=["Holds"])

MOST = 999
"""Of one answer; the store is asked for one more, to know whether there are more."""


@router.post(
    "",
    status_code=201,
    response_model=Hold,
    summary="Hold a part, a lot or a mould",
    response_description="Recorded; every later answer about such a part shows it",
    responses={**replayed_too(Hold), **problems(400, 404, 413, 415)},
    openapi_extra={
        **adding("HoldFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/holds" -H "Idempotency-Key: qa-hold-3" \\
  -H "Content-Type: application/json" -d '{"product": "KN-42", "scope": "mould", "value": "M-12",
  "reason": "cooling line 2 was blocked"}'
"""
        ),
    },
)
async def post_hold(request: Request, holder: Reviewer) -> Response:
    """Say that something must not go on, and why. `legal` keeps its images from being deleted."""
    fields = await read_json(request, HoldFields)
    server = server_of(request)

    def add() -> tuple[events.Hold, bool]:
        value = fields.value.strip()
        if fields.scope == "part":
            value = name_to_add_to(server, fields.product, fields.value)
        hold = events.Hold(
            id=new_inspection_id(),
            product=fields.product,
            scope=fields.scope,
            value=value,
            reason=fields.reason.strip(),
            by=holder.name,
            recorded_at=now(),
            legal=fields.legal,
        )
        sent = {**fields.model_dump(mode="json"), "value": value}
        kept = server.records.add(hold, submission_of(request, holder, "post_hold", {}, sent))
        assert isinstance(kept, events.Hold)  # noqa: S101  the digest names the call
        return kept, kept.id != hold.id

    kept, replayed = await run_in_threadpool(add)
    return added(Hold.of(kept), replayed=replayed)


@router.get(
    "",
    response_model=HoldList,
    summary="List holds",
    responses=problems(),
    openapi_extra=sample('curl "$SERVER/v1/holds?product=KN-42"'),
)
def list_holds(
    request: Request,
    reader: Reader,
    product: Annotated[Name | None, Query()] = None,
    standing: Annotated[bool, Query(description="false: those that were released as well")] = True,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> HoldList:
    """Holds, newest first: those that stand, or all that there ever were."""
    found = server_of(request).records.holds(product=product, standing=standing, limit=limit + 1)
    return HoldList(
        items=[HoldState.of(each) for each in found[:limit]], truncated=len(found) > limit
    )


@router.post(
    "/{hold_id}/release",
    status_code=201,
    response_model=Release,
    summary="Release a hold",
    response_description="Recorded",
    responses={**replayed_too(Release), **problems(400, 404, 409, 413, 415)},
    openapi_extra={
        **adding("ReleaseFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/holds/$HOLD/release" -H "Idempotency-Key: qa-release-3" \\
  -H "Content-Type: application/json" -d '{"reason": "all 42 parts were X-rayed again"}'
"""
        ),
    },
)
async def release_hold(
    request: Request,
    holder: Reviewer,
    hold_id: Annotated[Name, Path()],
) -> Response:
    """Let it go on, and say why. The hold stays on record with its release beside it."""
    fields = await read_json(request, ReleaseFields)
    server = server_of(request)

    def add() -> tuple[events.Release, bool]:
        release = events.Release(
            id=new_inspection_id(),
            hold_id=hold_id,
            reason=fields.reason.strip(),
            by=holder.name,
            recorded_at=now(),
        )
        sent = fields.model_dump(mode="json")
        place = {"hold": hold_id}
        submission = submission_of(request, holder, "release_hold", place, sent)
        kept = server.records.add(release, submission)
        assert isinstance(kept, events.Release)  # noqa: S101  the digest names the call
        return kept, kept.id != release.id

    kept, replayed = await run_in_threadpool(add)
    return added(Release.of(kept), replayed=replayed)
