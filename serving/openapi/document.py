"""The OpenAPI 3.1 document: FastAPI's, with what it cannot know put right."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from inspection.errors import RequestError
from serving.admission import MULTIPART, refuse_unknown
from serving.model_schemas import PromotionFields
from serving.part_schemas import LookupFields
from serving.schemas import Problem, ReviewFields
from serving.statement_schemas import (
    ComponentFields,
    EventFields,
    HoldFields,
    NameFields,
    ProcessValuesFields,
    ReleaseFields,
    ViewSetFields,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

OPEN = ("/livez", "/healthz", "/readyz")
METHODS = ("post", "get", "put", "patch", "delete")

ABOUT = """\
Judges images of parts, and keeps a history of every part that nobody can quietly change.

Every refusal is an RFC 9457 problem (`application/problem+json`) with a stable `code`, a `detail`
and a `remedy`. While there is no access key, only this machine may call; as soon as there is one,
every call but the health checks needs one: `Authorization: Bearer KEY`. Its scope says how far it
reaches: `station` posts and reads what it posted; `mes` reads everything, and reports events,
components and process values; `qa` reads everything, reviews, holds and names parts, and promotes
models; `admin` may do everything. A station's key may be bound to stations and products, and any
key may have limits: 429 when it sends too much. For GET a browser may send the key as the password
of `Basic`.

Whatever is added needs an `Idempotency-Key`: the same request under the same key adds nothing, and
is answered as before with 200 and `Idempotent-Replayed: true`. Times have a zone. What a call does
not know is refused: fields, filters, units.
"""

UNNAMED: Final[tuple[type[BaseModel], ...]] = (
    Problem, ReviewFields, LookupFields, EventFields, NameFields, ComponentFields, HoldFields,
    ReleaseFields, ViewSetFields, ProcessValuesFields, PromotionFields,
)  # fmt: skip
"""Schemas that no signature names: what is refused, and bodies that are read by hand."""

REFERENCE: Final = "#/components/schemas/{model}"


def build_document(app: FastAPI) -> dict[str, Any]:
    """The document of everything that `app` has in its schema."""
    document = get_openapi(
        title="inspection",
        version=version("inspection"),
        summary="One call from a station, one verdict with a trace ID",
        description=ABOUT,
        routes=app.routes,
        openapi_version="3.1.0",
        servers=[{"url": "/"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        tags=[
            {"name": "Inspections", "description": "Posting, reading, reviewing."},
            {"name": "Parts", "description": "A part's life by any of its names."},
            {"name": "Holds", "description": "What must not go on."},
            {"name": "Process values", "description": "What machines measured."},
            {"name": "Changes", "description": "Everything that is added, in order."},
            {"name": "Models", "description": "What judges."},
            {"name": "Detectors", "description": "What the images are taken with."},
            {"name": "Health", "description": "For probes; open to everybody."},
        ],
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # What FastAPI answers to a bad field by itself is not what leaves here.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in UNNAMED:
        form = model.model_json_schema(ref_template=REFERENCE)
        for name, each in form.pop("$defs", {}).items():
            schemas.setdefault(name, each)
        schemas[model.__name__] = form
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "an access key"},
        "browser": {"type": "http", "scheme": "basic", "description": "the key as password; GET"},
    }
    for path, operations in document["paths"].items():
        for method in METHODS:
            operation = operations.get(method)
            if operation is None:
                continue
            keys: list[dict[str, list[str]]] = [{"key": []}]
            if method == "get":
                keys.append({"browser": []})
            operation["security"] = [] if path in OPEN else [*keys, {}]
            _put_right(operation)
    return document


def _put_right(operation: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = operation["responses"]
    refused = responses.get("422")
    if refused is not None and "application/json" in refused.get("content", {}):
        responses["422"] = {"description": "A parameter cannot be used", "content": problem}


def parameters_known(request: Request) -> None:
    """A dependency that refuses query parameters which the document does not name.

    Raises:
        RequestError: names the parameter and the nearest that the call takes.
    """
    operation = operation_of(request)
    if MULTIPART in operation.get("requestBody", {}).get("content", {}):
        return  # admission looks at these fields itself, in the query or in a form
    known = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    refuse_unknown((name for name, _ in request.query_params.multi_items()), known)


def operation_of(request: Request) -> dict[str, Any]:
    """The document's entry for the call that a request makes."""
    path = request.scope["route"].path_format
    try:
        operation: dict[str, Any] = request.app.state.document["paths"][path][
            request.method.lower()
        ]
    except KeyError:
        raise RequestError(f"{request.method} {path} is not in the document") from None
    return operation
