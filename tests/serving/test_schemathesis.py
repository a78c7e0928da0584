"""Whatever a program can make of the OpenAPI document, the answers are those of the document.

document -> calls that fit it, calls that do not, calls about what is on record -> answers
         -> status, content type and form are documented, and none is a fault of the server
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from inspection.stores.keys import AccessKeys, Scope
from inspection.stores.places import records_url
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.serving.test_access import bearer
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES: dict[Scope, int] = {"admin": 10, "qa": 3, "mes": 3, "station": 3}
ENDLESS = "/v1/events"


@pytest.fixture(scope="module")
def at_work(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Live, dict[str, str], dict[str, str]]]:
    """A server with something of each kind on record; keys by scope; what stands in paths."""
    site = tmp_path_factory.mktemp("fuzzed")
    promoted_spot(site / "weights")
    (site / "var").mkdir()
    with closing(AccessKeys(records_url(site / "var"))) as keys:
        texts: dict[str, str] = {each: keys.create(each, each)[0] for each in EXAMPLES}
        with running(settings_in(site)) as live:
            own = bearer(texts["station"])
            posted = live.post(part_png("bad"), serial=serial(1), headers=own).json()
            views = {"station": "xray-1", "product": "KN-42", "views": ["a"]}
            opened = live.add("/v1/view-sets", "set", headers=own, **views).json()
            held = {"product": "KN-42", "scope": "lot", "value": "L", "reason": "r"}
            hold = live.add("/v1/holds", "hold", headers=bearer(texts["qa"]), **held).json()
            yield (
                live,
                texts,
                {
                    "inspection_id": posted["id"],
                    "trace_id": posted["trace_id"],
                    "product": "KN-42",
                    "serial": serial(1),
                    "view_set_id": opened["id"],
                    "hold_id": hold["id"],
                },
            )


@pytest.mark.slow
@pytest.mark.parametrize("scope", EXAMPLES)
def test_no_call_has_an_answer_that_is_not_in_the_document(
    at_work: tuple[Live, dict[str, str], dict[str, str]], scope: Scope
) -> None:
    live, texts, known = at_work
    headers = bearer(texts[scope])
    document = live.http.get("/openapi.json", headers=headers).json()
    schema: Any = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=live.address)
    seen = Counter[int]()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS:
            continue  # test_changes.py follows it

        @settings(
            max_examples=EXAMPLES[scope],
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=calls(operation, known))
        def call(case: Any) -> None:
            answer = case.call(headers=headers, timeout=20)
            seen[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        call()
    wanted = {200, 201, 404, 422} if scope == "admin" else {200, 403, 422}
    assert wanted <= set(seen), "calls got as far as this"


def calls(operation: Any, known: dict[str, str]) -> SearchStrategy[Any]:
    """Calls that fit the document, calls that do not, and calls about what is on record."""
    kinds: list[SearchStrategy[Any]] = [
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    named = {name: known[name] for name in known if f"{{{name}}}" in operation.path}
    if named:
        kinds.append(operation.as_strategy(path_parameters=named))
    return one_of(kinds)


def test_an_answer_that_is_not_in_the_document_would_be_noticed(
    at_work: tuple[Live, dict[str, str], dict[str, str]],
) -> None:
    live, texts, _ = at_work
    headers = bearer(texts["admin"])
    document = live.http.get("/openapi.json", headers=headers).json()
    del document["paths"]["/v1/trace/{trace_id}"]["get"]["responses"]["404"]
    schema: Any = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=live.address)
    operation = schema["/v1/trace/{trace_id}"]["GET"]
    case = operation.Case(path_parameters={"trace_id": "06AG-TYS6-JB8EQ"})
    answer = case.call(headers=headers, timeout=20)
    assert answer.status_code == 404
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        case.validate_response(answer, checks=CHECKS)
