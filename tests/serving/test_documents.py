"""The API in writing agrees with the API: document, page, problems, headers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.openapi.models import OpenAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from inspection import errors
from serving import (
    detector_schemas,
    feed_schemas,
    model_schemas,
    part_schemas,
    problems,
    schemas,
    statement_schemas,
)
from serving import (
    errors as serving_errors,
)
from serving.calling import error_of
from tests.live_server import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("get", "post", "put", "delete", "patch")


def classes(kind: type[errors.InspectionError]) -> Iterator[type[errors.InspectionError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


def ours() -> list[type[errors.InspectionError]]:
    """Every error class of the product; tests may define their own, which do not count."""
    rooms = ("inspection", "serving")
    found = set(classes(errors.InspectionError))
    return sorted(
        (kind for kind in found if kind.__module__.partition(".")[0] in rooms),
        key=lambda kind: kind.__name__,
    )


# --- problems --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ours(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_own_entry_and_code(kind: type[errors.InspectionError]) -> None:
    assert kind in problems.KINDS, f"serving/problems.py has no status for {kind.__name__}"
    assert 400 <= problems.KINDS[kind].status <= 599
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert "code" in kind.__dict__, "a class without a code of its own cannot be told apart"
    problem = problems.problem_of(kind("what is wrong"))
    assert (problem.detail, problem.code) == ("what is wrong", kind.code)
    assert problem.remedy


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ours()]
    assert len(set(codes)) == len(codes)


def test_the_table_has_no_entry_that_is_not_in_the_tree() -> None:
    assert set(problems.KINDS) == set(ours())


def test_a_class_that_comes_later_is_answered_like_the_one_above_it() -> None:
    class Later(errors.SerialError):
        code = "later"

    assert problems.kind_of(Later("x")) == problems.KINDS[errors.SerialError]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.KeyMissing, 400),
        (serving_errors.KeyRequired, 401),
        (serving_errors.ScopeMissing, 403),
        (errors.UnknownProduct, 404),
        (errors.InFlight, 409),
        (errors.CaptureConflict, 409),
        (errors.ImageTooLarge, 413),
        (errors.UnsupportedImage, 415),
        (errors.UnreadableImage, 422),
        (errors.KeyReused, 422),
        (errors.SerialFormatError, 422),
        (errors.NoPromotedModel, 503),
        (errors.EngineError, 503),
        (errors.RecordError, 503),
    ],
)
def test_statuses_that_are_part_of_the_interface(
    kind: type[errors.InspectionError], status: int
) -> None:
    assert problems.KINDS[kind].status == status


def test_the_client_raises_what_the_server_raised(live: Live) -> None:
    answer = live.post(b"no image", capture_id="client")
    error = error_of(answer)
    assert type(error) is errors.UnreadableImage
    assert str(error) == answer.json()["detail"]
    assert error.remedy == answer.json()["remedy"]


# --- the document ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(live: Live) -> dict[str, Any]:
    loaded: dict[str, Any] = live.http.get("/openapi.json").json()
    return loaded


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, entry in document["paths"].items():
        for method in METHODS:
            if method in entry:
                yield path, method, entry[method]


def nodes(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from nodes(each)


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPI.model_validate(document)
    for node in nodes(document):
        reference = node.get("$ref")
        if reference is not None:
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
        assert "nullable" not in node, "that was OpenAPI 3.0"
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_call_of_the_interface_is_documented(document: dict[str, Any]) -> None:
    assert {(method, path) for path, method, _ in operations(document)} == {
        ("post", "/v1/inspections"),
        ("get", "/v1/inspections"),
        ("get", "/v1/inspections:export"),
        ("get", "/v1/counts"),
        ("get", "/v1/inspections/{inspection_id}"),
        ("get", "/v1/inspections/{inspection_id}/image"),
        ("get", "/v1/inspections/{inspection_id}/heatmap"),
        ("post", "/v1/inspections/{inspection_id}/reviews"),
        ("post", "/v1/view-sets"),
        ("get", "/v1/view-sets/{view_set_id}"),
        ("post", "/v1/view-sets/{view_set_id}/close"),
        ("get", "/v1/parts/{product}/{serial}"),
        ("get", "/v1/parts/{product}/{serial}/genealogy"),
        ("get", "/v1/parts/{product}/{serial}/trace"),
        ("post", "/v1/parts/{product}/{serial}/events"),
        ("post", "/v1/parts/{product}/{serial}/names"),
        ("post", "/v1/parts/{product}/{serial}/components"),
        ("post", "/v1/parts:lookup"),
        ("post", "/v1/holds"),
        ("get", "/v1/holds"),
        ("post", "/v1/holds/{hold_id}/release"),
        ("post", "/v1/process-values"),
        ("get", "/v1/changes"),
        ("get", "/v1/events"),
        ("get", "/v1/trace/{trace_id}"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{product}/promotions"),
        ("post", "/v1/models/{product}/promotions"),
        ("get", "/v1/detectors"),
        ("get", "/livez"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }


def test_every_call_says_what_it_answers_and_how_it_is_made(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert any(status.startswith("2") for status in operation["responses"])
        if path.startswith("/v1"):
            assert {"401", "403", "422", "500", "503"} <= set(operation["responses"])
            (sample,) = operation["x-codeSamples"]
            assert path.partition("{")[0] in sample["source"].replace(" \\\n  -H ", " -H ")
            assert ("-X POST" in sample["source"]) == (method == "post")
        for status, response in operation["responses"].items():
            if status >= "400" and path.startswith("/v1"):
                assert list(response["content"]) == ["application/problem+json"], (path, status)


MODELS = [
    model
    for module in (
        *(schemas, statement_schemas, part_schemas, feed_schemas, model_schemas),
        detector_schemas,
    )
    for model in vars(module).values()
    if isinstance(model, type)
    and issubclass(model, BaseModel)
    and model.__module__ == module.__name__
    and model.model_json_schema().get("examples")
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_examples_are_true(model: type[Any]) -> None:
    request = model.__name__.endswith("Fields")  # where what is left out stays out
    for example in model.model_json_schema(by_alias=True)["examples"]:
        again = model.model_validate(example)
        said = again.model_dump(mode="json", by_alias=True, exclude_unset=request)
        assert said == example, "an answer has every field, and none that is not there"


def test_every_request_and_every_answer_has_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answers = [r for status, r in operation["responses"].items() if status.startswith("2")]
        for each in [*answers, operation.get("requestBody", {})]:
            form = each.get("content", {}).get("application/json", {}).get("schema")
            if form is None or not path.startswith("/v1"):
                continue
            named = document["components"]["schemas"][form["$ref"].rpartition("/")[2]]
            assert named["examples"], (method, path)


def test_parameters_of_the_document_are_those_that_are_taken(
    live: Live, document: dict[str, Any]
) -> None:
    """What the document names is not refused as unknown; anything else is."""
    operation = document["paths"]["/v1/inspections"]["post"]
    named = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    assert named == set(schemas.InspectionFields.model_fields)
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == named | {"image"}
    for path, method, _ in operations(document):
        if method == "get" and "{" not in path:  # a stream is refused before it begins
            answer = live.http.get(path, params={"surely-unknown": "1"})
            assert answer.status_code == 422, path


def test_schemas_need_no_web_framework() -> None:
    code = (
        "import sys\n"
        "for name in ('fastapi', 'starlette', 'uvicorn', 'sqlalchemy'):\n"
        "    sys.modules[name] = None\n"
        "import serving.schemas, serving.part_schemas, serving.feed_schemas\n"
        "import serving.statement_schemas, serving.model_schemas, serving.detector_schemas\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the page --------------------------------------------------------------------------------


class Page(HTMLParser):
    """Everything in a page that could fetch or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.attributes: set[str] = set()
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "srcset", "action") or (tag == "link" and name == "href"):
                self.fetched.append(value or "")
            if name == "id":
                self.anchors.add(value or "")
            if tag == "a" and name == "href":
                self.links.append(value or "")


def test_the_api_page_works_offline_and_under_the_strict_policy(
    live: Live, document: dict[str, Any]
) -> None:
    answer = live.http.get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = Page()
    page.feed(answer.text)
    assert page.fetched == ["/docs/style.css"]
    assert not page.tags & {"script", "style", "iframe", "object", "form", "base", "img"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    for link in page.links:
        assert link.startswith(("#", "/")), link
        if link.startswith("#"):
            assert link[1:] in page.anchors
    style = live.http.get("/docs/style.css")
    assert style.headers["Content-Type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text
    for path, _, operation in operations(document):
        assert path in answer.text
        assert operation["operationId"] in page.anchors


def test_the_api_page_says_nothing_unescaped(document: dict[str, Any]) -> None:
    from serving.openapi.page import render

    hostile = json.loads(json.dumps(document))
    hostile["info"]["description"] = "<script>alert(1)</script>"
    assert "<script>" not in render(hostile)


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/v1/models", "/livez", "/nothing", "/v1/inspections?x=1"]
)
def test_every_answer_carries_the_security_headers(live: Live, path: str) -> None:
    headers = live.http.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "server" not in headers


def test_the_framework_pages_from_elsewhere_are_off(live: Live) -> None:
    assert live.http.get("/redoc").status_code == 404
    assert "swagger" not in live.http.get("/docs").text.lower()


def test_requests_are_strict_about_their_types() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(schemas.InspectionFields).validate_python({"station": 1})
