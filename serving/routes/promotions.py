"""Putting a model in force for a product, by whoever has a key for it.

    GET  -> the log's lines on the product, under their ETag
    POST -> If-Match: the lines are those that were seen -> Registry.promote, which looks once more
         -> what is promoted now, and what judges until it is warm

A risk is accepted at the command line only, and there alone is a model rolled back or retired.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from inspection.errors import NotAllowed, UnknownProduct
from serving.admission import read_json
from serving.auth import Promoter, Reader
from serving.conditional import (
    IF_MATCH,
    IF_NONE_MATCH,
    UNCHANGED,
    answered,
    body_of,
    check_match,
    tag_of,
)
from serving.model_schemas import (
    MOST_DECISIONS,
    Decision,
    DecisionList,
    PromotionFields,
    ServedProduct,
)
from serving.routes.documenting import problems, sample
from serving.routes.models import served_product
from serving.state import server_of
from serving.submitting import taking
from serving.wire import Name

if TYPE_CHECKING:
    from inspection.registry import Promotion
    from serving.state import Server

router = APIRouter(prefix="/v1/models/{product}/promotions", tags=["Models"])

Product = Annotated[Name, Path(description="one of GET /v1/models")]


@router.get(
    "",
    response_model=DecisionList,
    summary="List the decisions on a product's models",
    responses={**UNCHANGED, **problems(404)},
    openapi_extra={
        "parameters": [IF_NONE_MATCH],
        **sample('curl -i "$SERVER/v1/models/KN-42/promotions"'),
    },
)
def list_promotions(request: Request, reader: Reader, product: Product) -> Response:
    """What was promoted, rolled back to or retired, by whom and why; the last one first.

    Its ETag is what a promotion sends as If-Match.
    """
    return answered(request, _listed(_lines_on(server_of(request), product)))


@router.post(
    "",
    status_code=201,
    response_model=ServedProduct,
    summary="Promote a model",
    response_description="In the log; it judges as soon as it is warm",
    responses=problems(404, 409, 412, 413, 415, 428),
    openapi_extra={
        "parameters": [IF_MATCH],
        **taking("PromotionFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/models/KN-42/promotions" -H "Authorization: Bearer $KEY" \\
  -H "If-Match: $ETAG" -H "Content-Type: application/json" \\
  -d '{"model": "knuckle", "version": 3, "reason": "six weeks in the shadow of 2"}'
"""
        ),
    },
)
async def post_promotion(request: Request, promoter: Promoter, product: Product) -> Response:
    """Put a package of this server's box in force: `promotion` shows it, `model` what judges now.

    The server takes it up within a second and judges with it once it is warm: `pending` is false
    then. If-Match carries the ETag of the decisions as they were read; when somebody else has
    decided meanwhile it is refused with 412, so sending it twice promotes nothing twice. A package
    that stands against its limits, or that was retired, is refused with 409. The log names the
    access key, so there must be one.
    """
    if promoter.key is None:
        raise NotAllowed(
            "a promotion over HTTP needs an access key, so that the log says who decided it",
            remedy="Create one: inspection keys create NAME --scope qa",
        )
    fields = await read_json(request, PromotionFields)
    server = server_of(request)

    def decide() -> ServedProduct:
        lines = _lines_on(server, product)
        bound = check_match(request, tag_of(body_of(_listed(lines))), f"what judges {product}")
        # The registry counts the lines once more as it adds this one: two cannot pass together.
        promotion = server.registry.promote(
            f"{fields.model}@{fields.version}",
            by=f"{promoter.name} over HTTP",
            reason=fields.reason,
            product=product,
            seen=len(lines) if bound else None,
        )
        return served_product(server, product, server.lines[product], promotion)

    answer = await run_in_threadpool(decide)
    return Response(body_of(answer), 201, media_type="application/json")


def _lines_on(server: Server, product: str) -> list[Promotion]:
    """The log's lines on a listed product, oldest first."""
    if product not in server.lines:
        raise UnknownProduct(f"this server does not list a product {product!r}")
    return [line for line in server.registry.history() if line.product == product]


def _listed(lines: list[Promotion]) -> DecisionList:
    known = [asdict(line) for line in reversed(lines[-MOST_DECISIONS:])]
    return DecisionList(
        items=[Decision(**{name: each[name] for name in Decision.model_fields}) for each in known]
    )
