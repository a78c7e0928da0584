"""A person decides on what was seen: nothing is decided past a change, and nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.live_server import Live, serial
from tests.spot_model import part_png

if TYPE_CHECKING:
    import httpx

BAD = part_png("bad")
DECISION = {"disposition": "pass", "reason": "seen under the microscope"}


def made(live: Live, number: int) -> dict[str, Any]:
    answer = live.post(BAD, capture_id=f"rev-{number}", serial=serial(number), lot=f"L-{number}")
    found: dict[str, Any] = answer.json()
    return found


def decide(live: Live, inspection: dict[str, Any], match: str | None) -> httpx.Response:
    headers = {} if match is None else {"If-Match": match}
    place = f"{inspection['links']['self']}/reviews"
    answer: httpx.Response = live.http.post(place, json=DECISION, headers=headers)
    return answer


def tag_of(live: Live, inspection: dict[str, Any]) -> str:
    tag: str = live.http.get(inspection["links"]["self"]).headers["ETag"]
    return tag


def reviews(live: Live, inspection: dict[str, Any]) -> int:
    return len(live.http.get(inspection["links"]["self"]).json()["reviews"])


def test_a_decision_says_what_it_is_based_on(live: Live) -> None:
    inspection = made(live, 200)
    refused = decide(live, inspection, None)
    assert (refused.status_code, refused.json()["code"]) == (428, "if-match-missing")
    assert "If-Match" in refused.json()["remedy"]
    for wrong in ("abc", tag_of(live, inspection).strip('"')):
        assert decide(live, inspection, wrong).status_code == 422
    weak = decide(live, inspection, f"W/{tag_of(live, inspection)}")
    assert weak.status_code == 412, "a weak tag does not match strongly"
    assert reviews(live, inspection) == 0
    done = decide(live, inspection, f'"other", {tag_of(live, inspection)}')
    assert done.status_code == 201
    assert done.headers["Location"] == inspection["links"]["self"]


def test_a_decision_past_another_is_refused(live: Live) -> None:
    inspection = made(live, 201)
    seen = tag_of(live, inspection)
    assert decide(live, inspection, seen).status_code == 201
    late = decide(live, inspection, seen)
    assert (late.status_code, late.json()["code"]) == (412, "changed-meanwhile")
    assert reviews(live, inspection) == 1, "sending it again adds nothing"
    assert decide(live, inspection, "*").status_code == 201, "unless it is meant to be unseen"


def test_a_decision_past_a_hold_is_refused(live: Live) -> None:
    inspection = made(live, 202)
    seen = tag_of(live, inspection)
    fields = {"product": "KN-42", "scope": "lot", "value": "L-202", "reason": "look again"}
    assert live.add("/v1/holds", "rev-hold", **fields).status_code == 201
    assert decide(live, inspection, seen).status_code == 412


def test_of_many_decisions_at_once_one_counts(live: Live) -> None:
    inspection = made(live, 203)
    seen = tag_of(live, inspection)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: decide(live, inspection, seen), range(8)))
    assert sorted(each.status_code for each in answers) == [201] + [412] * 7
    assert reviews(live, inspection) == 1


def test_one_view_of_several_is_not_decided_on(live: Live) -> None:
    fields = {"station": "xray-1", "product": "KN-42", "views": ["a"], "serial": serial(204)}
    opened = live.add("/v1/view-sets", "rev-set", **fields).json()
    view = live.post(
        BAD, capture_id="rev-204", serial=serial(204), view_set=opened["id"], view="a"
    ).json()
    assert decide(live, view, "*").status_code == 409
    closed = live.http.post(f"/v1/view-sets/{opened['id']}/close").json()
    assert decide(live, closed, tag_of(live, closed)).status_code == 201


@pytest.mark.parametrize("match", ["*", '"x"'])
def test_a_decision_on_nothing_is_not_found(live: Live, match: str) -> None:
    answer = live.http.post(
        "/v1/inspections/nothing/reviews", json=DECISION, headers={"If-Match": match}
    )
    assert answer.status_code == 404


@pytest.mark.parametrize("reason", [" \n ", "a\x00b", "seen\x1b[2J", "x" * 2001])
def test_a_reason_that_is_blank_or_drives_a_terminal_is_refused(live: Live, reason: str) -> None:
    inspection = made(live, 290)
    place = f"{inspection['links']['self']}/reviews"
    fields = {"disposition": "pass", "reason": reason}
    answer = live.http.post(place, json=fields, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text
    assert "reason" in answer.json()["detail"]
    assert reviews(live, inspection) == 0


def test_a_reason_of_two_lines_is_kept_as_it_is(live: Live) -> None:
    inspection = made(live, 291)
    place = f"{inspection['links']['self']}/reviews"
    fields = {"disposition": "pass", "reason": "surface mark\r\nno shrinkage"}
    answer = live.http.post(place, json=fields, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["reason"]) == (201, "surface mark\nno shrinkage")
