"""/docs: the document as a page. No script, no request to elsewhere, readable without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup, escape

from serving.auth import allow
from serving.openapi.document import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

STYLE_PATH = "/docs/style.css"

router = APIRouter(dependencies=[Depends(allow("read-own"))], include_in_schema=False)


@router.get("/openapi.json")
def openapi_json(request: Request) -> Response:
    """The OpenAPI document."""
    text = json.dumps(request.app.state.document, ensure_ascii=False, indent=1)
    return Response(text, media_type="application/json")


@router.get("/docs")
def docs(request: Request) -> Response:
    """The API page."""
    return Response(render(request.app.state.document), media_type="text/html; charset=utf-8")


@router.get(STYLE_PATH)
def style() -> Response:
    """The page's style sheet."""
    text = resources.files("serving.openapi").joinpath("style.css").read_text(encoding="utf-8")
    return Response(
        text,
        media_type="text/css; charset=utf-8",
        headers={"Cache-Control": "private, max-age=3600"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One row of a table: a parameter, a field of a body."""

    name: str
    place: str
    form: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation, ready to be written down."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    tag: str
    fields: tuple[Field, ...]
    bodies: tuple[str, ...]
    samples: tuple[str, ...]
    answers: tuple[tuple[str, str, str], ...]
    example: str | None


def render(document: Mapping[str, Any]) -> str:
    """The document as one HTML page."""
    calls = [
        _call(document, path, method, operations[method])
        for path, operations in document["paths"].items()
        for method in METHODS
        if method in operations
    ]
    tags = [(tag, [call for call in calls if call.tag == tag["name"]]) for tag in document["tags"]]
    schemas = [
        (name, form.get("description", ""), _fields(document, form))
        for name, form in sorted(document["components"]["schemas"].items())
        if form.get("type") == "object"
    ]
    return _template().render(document=document, tags=tags, schemas=schemas, style=STYLE_PATH)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("serving.openapi"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = words
    return environment.get_template("api.html")


def words(text: str) -> Markup:
    """A sentence of the document as HTML: escaped, and what is in backticks as code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece)
        for number, piece in enumerate(pieces)
    )


def _call(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> Call:
    fields = [
        Field(
            name=each["name"],
            place=each["in"],
            form=describe_form(each["schema"]),
            required=each.get("required", False),
            description=each.get("description", ""),
        )
        for each in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    for media_type, body in content.items():
        if media_type == "application/json":
            form = _resolved(document, body["schema"])
            fields += _fields(document, form, place="body")
    answers, example = [], None
    for status, response in sorted(operation["responses"].items()):
        kinds = response.get("content", {})
        answers.append((status, response["description"], ", ".join(kinds)))
        json_form = _resolved(document, kinds.get("application/json", {}).get("schema", {}))
        if status.startswith("2") and example is None and json_form.get("examples"):
            example = json.dumps(json_form["examples"][0], ensure_ascii=False, indent=2)
    return Call(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        tag=operation["tags"][0],
        fields=tuple(fields),
        bodies=tuple(content),
        samples=tuple(each["source"] for each in operation.get("x-codeSamples", [])),
        answers=tuple(answers),
        example=example,
    )


def _fields(
    document: Mapping[str, Any], form: Mapping[str, Any], place: str = ""
) -> tuple[Field, ...]:
    form = _resolved(document, form)
    return tuple(
        Field(
            name=name,
            place=place,
            form=describe_form(each),
            required=name in form.get("required", []),
            description=each.get("description", ""),
        )
        for name, each in form.get("properties", {}).items()
    )


def describe_form(form: Mapping[str, Any]) -> str:
    """A JSON schema in a few words: `string (date-time) or null`, `list of Finding`."""
    if "$ref" in form:
        return str(form["$ref"]).rpartition("/")[2]
    if "anyOf" in form:
        return " or ".join(describe_form(each) for each in form["anyOf"])
    if "const" in form:
        return json.dumps(form["const"])
    if "enum" in form:
        return " | ".join(str(each) for each in form["enum"])
    kind = str(form.get("type", "anything"))
    if kind == "array":
        return f"list of {describe_form(form.get('items', {}))}"
    if kind == "object" and isinstance(form.get("additionalProperties"), dict):
        return f"object of {describe_form(form['additionalProperties'])}"
    limits = [
        f"{word} {form[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("maxLength", "at most"),
        )
        if key in form
    ]
    notes = [str(form["format"])] if "format" in form else []
    notes += [f"default {form['default']}"] if form.get("default") is not None else []
    notes += [" ".join(limits)] if limits else []
    return f"{kind} ({', '.join(notes)})" if notes else kind


def _resolved(document: Mapping[str, Any], form: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in form:
        name = str(form["$ref"]).rpartition("/")[2]
        found: Mapping[str, Any] = document["components"]["schemas"][name]
        return found
    return form
