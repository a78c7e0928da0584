"""Is the process alive; can parts be judged; figures. Probes carry no keys; figures want one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from inspection.errors import RegistryError, UnknownProduct
from inspection.pipeline import Line
from serving.auth import Reader
from serving.batching import BatchingEngine
from serving.lines import complaint_of
from serving.metrics import MEDIA_TYPE
from serving.model_schemas import Check, Life, Readiness
from serving.problems import without_places
from serving.routes.documenting import problems, sample
from serving.routes.models import newer_promotion, not_at_work, promotions_of
from serving.state import Server, server_of

router = APIRouter(tags=["Health"])

_LINES: Final[dict[str, Any]] = {"text/plain": {"schema": {"type": "string"}}}


@router.get("/healthz", response_model=Life, name="healthz", summary="The same as /livez")
@router.get(
    "/livez",
    response_model=Life,
    summary="Is the process alive",
    openapi_extra=sample('curl "$SERVER/livez"'),
)
async def livez() -> Life:
    """The process answers; nothing else is looked at."""
    return Life()


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Can parts be judged and recorded",
    responses={
        200: {"description": "Every check holds", "content": _LINES},
        **problems(404),
        503: {"model": Readiness, "description": "One does not", "content": _LINES},
    },
    openapi_extra=sample('curl "$SERVER/readyz?verbose&product=KN-42"'),
)
def readyz(
    request: Request,
    verbose: Annotated[
        str | None, Query(description="one line of plain text for each check")
    ] = None,
    product: Annotated[str | None, Query(description="look at this product only")] = None,
) -> Response:
    """Every listed product can be judged, and records can be written. Machines read the status."""
    checks = checks_of(server_of(request), product)
    ready = all(check.ok for check in checks)
    headers = {} if ready else {"Retry-After": "5"}
    if verbose is not None and verbose.lower() not in ("0", "false"):
        lines = [f"[{'ok' if c.ok else 'FAIL'}] {c.name}: {c.detail}" for c in checks]
        text = "\n".join([*lines, "ready" if ready else "not ready", ""])
        return Response(text, 200 if ready else 503, headers, "text/plain")
    answer = Readiness(status="ready" if ready else "not ready", checks=checks)
    return Response(answer.model_dump_json(), 200 if ready else 503, headers, "application/json")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format", "content": _LINES},
        **problems(),
    },
    openapi_extra=sample('curl "$SERVER/metrics"'),
)
def metrics(request: Request, reader: Reader) -> Response:
    """Counts, durations, queue, models and disk."""
    return Response(server_of(request).metrics.text(), media_type=MEDIA_TYPE)


def checks_of(server: Server, product: str | None = None) -> list[Check]:
    """What must hold before parts can be judged, and whether it does.

    Raises:
        UnknownProduct: a product is asked for that is not listed.
    """
    if product is not None and product not in server.lines:
        raise UnknownProduct(f"this server does not list a product {product!r}")
    checks = [*_stopping(server), *_kept(server), *_unread_log(server)]
    promoted = promotions_of(server)
    for name, line in sorted(server.lines.items()):
        if product is not None and name != product:
            continue
        check = f"product {name}"
        wrong = complaint_of(line)
        if wrong is not None or not isinstance(line, Line):
            detail = without_places(str(wrong), server.settings)
            checks.append(Check(name=check, ok=False, detail=detail))
        else:
            detail = f"{line.package.reference} is warm"
            if isinstance(line.engine, BatchingEngine) and line.engine.away is not None:
                detail += f"; judged by {line.engine.description}: {line.engine.away}"
            if newer_promotion(line, promoted.get(name)):
                detail += f"; {promoted[name].reference} {not_at_work(server, promoted[name])}"
            checks.append(Check(name=check, ok=True, detail=detail))
    return [*checks, *_checkpoints(server)]


def _checkpoints(server: Server) -> list[Check]:
    """Told, but no reason to refuse parts: the records hold without a witness, and prove less."""
    keeper = server.checkpoints
    if keeper is None:
        return []
    detail = "none yet" if keeper.size is None else f"the last is over {keeper.size:,} records"
    if failing := keeper.failing:
        # Probes carry no key, and names of witnesses are places: /metrics and the log have them.
        witnesses = sum(name in failing for name in keeper.witnesses)
        detail += (
            f"; {witnesses} of {len(keeper.witnesses)} witnesses do not have it"
            if witnesses
            else "; a newer one could not be made"
        )
    return [Check(name="checkpoints", ok=True, detail=detail)]


def _unread_log(server: Server) -> list[Check]:
    """A log of promotions that cannot be read hides a retirement: nobody may call that ready."""
    try:
        server.registry.current()
    except RegistryError as error:
        return [
            Check(name="promotions", ok=False, detail=without_places(str(error), server.settings))
        ]
    return []


def _stopping(server: Server) -> list[Check]:
    """Whoever still has a connection is not told that it may go on using it."""
    if not server.feed.stopping:
        return []
    return [Check(name="stopping", ok=False, detail="what was begun is finished, no more")]


def _kept(server: Server) -> list[Check]:
    """As it was found within the last second: a probe, whoever sends it, costs nothing."""
    well = {"records": "can be written", "disk": _room(server), "images": "can be written"}
    return [
        Check(name=name, ok=True, detail=well[name])
        if trouble is None
        else Check(name=name, ok=False, detail=without_places(str(trouble), server.settings))
        for name, trouble in server.keeping.causes().items()
    ]


def _room(server: Server) -> str:
    free = min((free for _, free in server.keeping.free_bytes()), default=0)
    return f"{free // 2**20:,} MiB are free"
