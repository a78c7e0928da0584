"""Parts by any of their names, and inspections by trace ID."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from inspection.errors import InputError, NotFound
from inspection.genealogy import DEEPEST, DEPTH, genealogy_of
from inspection.lives import lives_of
from inspection.names import normalise_trace_id
from inspection.trace import LONGEST_WINDOW_MIN, WINDOW_MIN, trace_part
from serving.admission import read_json, refused
from serving.auth import Reader
from serving.conditional import IF_NONE_MATCH, UNCHANGED, answered, plain
from serving.identities import life_of, written_name
from serving.part_schemas import (
    MOST_LOOKED_UP,
    Genealogy,
    Lookup,
    LookupItem,
    LookupResult,
    Part,
    PartSummary,
    PartTrace,
)
from serving.routes.documenting import problems, sample
from serving.routes.inspections import detail_of
from serving.schemas import InspectionDetail
from serving.state import Server, server_of
from serving.statement_schemas import ItemProblem
from serving.submitting import taking
from serving.wire import Mark, Name, Wire

router = APIRouter(prefix="/v1", tags=["Parts"])

Text = Annotated[Name, Path()]
Marked = Annotated[Mark, Path()]
LOOKUP_LIMIT_BYTES = 256 * 1024


# The longer paths come first: a serial may hold slashes, and takes whatever is left.
@router.get(
    "/parts/{product}/{serial:path}/genealogy",
    response_model=Genealogy,
    summary="Read what a part is made of and went into",
    responses=problems(404),
    openapi_extra=sample('curl "$SERVER/v1/parts/KN-42/KN42A00016/genealogy?depth=3"'),
)
def get_genealogy(
    request: Request,
    reader: Reader,
    product: Text,
    serial: Marked,
    depth: Annotated[int, Query(ge=1, le=DEEPEST, description="levels each way")] = DEPTH,
) -> Genealogy:
    """Components below the part and assemblies above it, level by level, each part once."""
    server = server_of(request)
    root = life_of(server, product, serial).names.root
    return Genealogy.of(genealogy_of(server.records, product, root, depth=depth))


@router.get(
    "/parts/{product}/{serial:path}/trace",
    response_model=PartTrace,
    summary="Trace a part",
    responses=problems(404),
    openapi_extra=sample('curl "$SERVER/v1/parts/KN-42/KN42A00016/trace?window_min=15"'),
)
def get_part_trace(
    request: Request,
    reader: Reader,
    product: Text,
    serial: Marked,
    window_min: Annotated[
        int,
        Query(ge=0, le=LONGEST_WINDOW_MIN, description="minutes before and after it was made"),
    ] = WINDOW_MIN,
) -> PartTrace:
    """The part's whole life on one page.

    Process values of the part, and of its machine around the time at which it was cast (its event
    `cast`, else its first inspection); events, names, holds, every inspection and review; and how
    many first inspections of the same mould failed in the same hour.
    """
    server = server_of(request)
    name, misfit = written_name(server, product, serial)
    try:
        return PartTrace.of(trace_part(server.records, product, name, window_min=window_min))
    except NotFound:
        if misfit is not None:
            raise misfit from None
        raise


@router.get(
    "/parts/{product}/{serial:path}",
    response_model=Part,
    summary="Read a part's history",
    responses={**UNCHANGED, **problems(404)},
    openapi_extra={
        "parameters": [IF_NONE_MATCH],
        **sample('curl "$SERVER/v1/parts/KN-42/KN42A00016"'),
    },
)
def get_part(request: Request, reader: Reader, product: Text, serial: Marked) -> Response:
    """Everything on record about a part, oldest first, and the disposition in force.

    Any name that the part has ever had finds it, and gives the same answer. In force is the latest
    attempt that counts; a recheck never lifts a fail without a review. A part whose mark was not
    read is found under its provisional identity `unread:TRACE-ID`.
    """
    return answered(request, Part.of(life_of(server_of(request), product, serial)))


@router.post(
    "/parts:lookup",
    response_model=Lookup,
    summary="Look up many parts",
    responses=problems(413, 415),
    openapi_extra={
        **taking("LookupFields"),
        **sample(
            """
curl -X POST "$SERVER/v1/parts:lookup" -H "Content-Type: application/json" \\
  -d '{"items": [{"product": "KN-42", "serial": "KN42A00016"}]}'
"""
        ),
    },
)
async def lookup_parts(request: Request, reader: Reader) -> Response:
    """What is in force for each of up to 500 parts, and the holds on it.

    Each item has an answer of its own, in the order in which they were asked for: the part, or the
    problem with that item alone.
    """
    fields = await read_json(request, _Items, limit=LOOKUP_LIMIT_BYTES)
    return await run_in_threadpool(_look_up, server_of(request), fields.items)


class _Items(Wire):
    """Items are looked at one by one, so that one that is wrong does not take the others along."""

    items: list[Any] = Field(min_length=1, max_length=MOST_LOOKED_UP)


def _look_up(server: Server, items: list[Any]) -> Response:
    asked: dict[int, tuple[str, str]] = {}
    wrong: dict[int, InputError] = {}
    for number, item in enumerate(items):
        try:
            wanted = LookupItem.model_validate(item)
            name, misfit = written_name(server, wanted.product, wanted.serial)
        except ValidationError as error:
            wrong[number] = refused(error)
        except NotFound as error:
            wrong[number] = error
        else:
            asked[number] = (wanted.product, name)
            wrong[number] = misfit or NotFound(
                f"nothing is recorded of a part {name!r} of product {wanted.product!r}"
            )
    products = {product for product, _ in asked.values()}
    lives = {
        product: lives_of(
            server.records, product, sorted({name for of, name in asked.values() if of == product})
        )
        for product in products
    }
    results = []
    for number in range(len(items)):
        product, name = asked.get(number, ("", ""))
        life = lives.get(product, {}).get(name)
        results.append(
            LookupResult(
                item=number,
                part=PartSummary.of(life) if life else None,
                problem=None if life else ItemProblem.of(wrong[number]),
            )
        )
    return plain(Lookup(items=results))


@router.get(
    "/trace/{trace_id}",
    response_model=InspectionDetail,
    summary="Find the inspection behind a trace ID",
    responses={**UNCHANGED, **problems(404)},
    openapi_extra={
        "parameters": [IF_NONE_MATCH],
        **sample('curl "$SERVER/v1/trace/06AF-JB08-0ETGW"'),
    },
)
def get_trace(
    request: Request,
    reader: Reader,
    trace_id: Annotated[Name, Path()],
) -> Response:
    """As typed or read aloud: lower case and missing hyphens do no harm, nor O for 0, I for 1."""
    server = server_of(request)
    record = server.records.by_trace_id(normalise_trace_id(trace_id))
    return answered(request, detail_of(server, record))
