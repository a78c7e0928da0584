"""Deciding as a person, on what was seen."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection.names import new_inspection_id
from inspection.record import ReviewRecord
from serving.admission import read_json
from serving.auth import Reviewer
from serving.conditional import IF_MATCH, body_of, check_match, tag_of
from serving.routes.documenting import problems, sample
from serving.routes.inspections import InspectionId, detail_of
from serving.schemas import Review, ReviewFields
from serving.state import server_of
from serving.submitting import taking
from serving.wire import now

router = APIRouter(prefix="/v1/inspections", tags=["Inspections"])


@router.post(
    "/{inspection_id}/reviews",
    status_code=201,
    response_model=Review,
    summary="Decide as a person",
    response_description="Recorded",
    responses=problems(404, 409, 412, 413, 415, 428),
    openapi_extra={
        "parameters": [IF_MATCH],
        **taking("ReviewFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/inspections/$ID/reviews" -H "If-Match: $ETAG" \\
  -H "Content-Type: application/json" \\
  -d '{"disposition": "pass", "reason": "surface mark, not shrinkage"}'
"""
        ),
    },
)
async def post_review(
    request: Request, reviewer: Reviewer, inspection_id: InspectionId
) -> Response:
    """Add a person's decision. Nothing is overwritten: the inspection stays as it was made.

    It is a decision on what the person has seen: If-Match carries the ETag of the inspection as it
    was read. When somebody else has decided meanwhile, or a hold has come or gone, it is refused
    with 412, so sending it twice adds nothing twice. The reviewer is the name on the access key;
    `local` where there are no keys.
    """
    fields = await read_json(request, ReviewFields)
    server = server_of(request)
    review = ReviewRecord(
        id=new_inspection_id(),
        inspection_id=inspection_id,
        disposition=fields.disposition,
        reason=fields.reason.strip(),
        reviewer=reviewer.name,
        reviewed_at=now(),
    )

    def decide() -> ReviewRecord:
        seen = detail_of(server, server.records.get(inspection_id))
        bound = check_match(request, tag_of(body_of(seen)))
        # The store counts the reviews once more as it adds this one: two cannot pass together.
        return server.records.append_review(review, seen=len(seen.reviews) if bound else None)

    answer = Review.of(await run_in_threadpool(decide))
    place = {"Location": f"/v1/inspections/{inspection_id}"}
    return Response(body_of(answer), 201, place, "application/json")
