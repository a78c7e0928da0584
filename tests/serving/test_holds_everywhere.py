"""A hold is seen in every answer about a part, wherever its lot or mould was told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from inspection.lives import LOOKED_AT
from tests.live_server import Live, serial
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = part_png("good")
AT = "2026-11-21T10:00:00Z"


def held(live: Live, scope: str, value: str) -> str:
    answer = live.add(
        "/v1/holds", f"{scope}-{value}", product="KN-42", scope=scope, value=value, reason="seen"
    )
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["id"]
    return name


def answers_about(live: Live, mark: str, inspection: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every answer that shows an inspection or its part, with its name."""
    http, place = live.http, f"/v1/parts/KN-42/{mark}"
    yield "inspection", http.get(f"/v1/inspections/{inspection['id']}").json()
    yield "trace ID", http.get(f"/v1/trace/{inspection['trace_id']}").json()
    listed = http.get("/v1/inspections", params={"limit": 1000}).json()["items"]
    yield "list", next(each for each in listed if each["id"] == inspection["id"])
    part = http.get(place).json()
    yield "part", part
    yield "part's inspection", part["inspections"][-1]
    yield "trace", http.get(f"{place}/trace").json()["part"]
    asked = {"items": [{"product": "KN-42", "serial": mark}]}
    yield "lookup", http.post("/v1/parts:lookup", json=asked).json()["items"][0]["part"]
    lines = http.get("/v1/inspections:export").text.splitlines()[:-1]
    exported = [json.loads(line) for line in lines]
    yield "export", next(each for each in exported if each["id"] == inspection["id"])


def test_a_mould_that_only_the_casting_named_is_held_everywhere(live: Live) -> None:
    mark = serial(900)
    live.add(f"/v1/parts/KN-42/{mark}/events", "h-900", event="cast", at=AT, mould="M-900")
    hold = held(live, "mould", "M-900")
    posted = live.post(GOOD, capture_id="h-900", serial=mark).json()
    assert [each["id"] for each in posted["holds"]] == [hold], "the station is told at once"
    for where, answer in answers_about(live, mark, posted):
        assert [each["id"] for each in answer["holds"]] == [hold], where


def test_a_lot_that_only_the_first_inspection_named_is_held_everywhere(live: Live) -> None:
    mark = serial(901)
    live.post(GOOD, capture_id="h-901-1", serial=mark, lot="L-901")
    hold = held(live, "lot", "L-901")
    again = live.post(GOOD, capture_id="h-901-2", serial=mark).json()
    for where, answer in answers_about(live, mark, again):
        assert [each["id"] for each in answer["holds"]] == [hold], where


def test_a_lot_that_only_the_views_or_the_set_named_is_held(live: Live) -> None:
    for number, (of_set, of_view) in enumerate((({"lot": "L-902"}, {}), ({}, {"lot": "L-903"}))):
        mark, lot = serial(902 + number), (of_set or of_view)["lot"]
        fields: dict[str, Any] = {"station": "xray-1", "product": "KN-42", "views": ["front"]}
        its = live.add("/v1/view-sets", f"h-{mark}", serial=mark, **fields, **of_set).json()
        sent = {"view_set": its["id"], "view": "front", "lot": of_view.get("lot", "")}
        live.post(GOOD, capture_id=f"h-{mark}", serial=mark, headers=None, **sent)
        hold = held(live, "lot", lot)
        closed = live.http.post(f"/v1/view-sets/{its['id']}/close").json()
        assert [each["id"] for each in closed["holds"]] == [hold]
        for where, answer in answers_about(live, mark, closed):
            assert [each["id"] for each in answer["holds"]] == [hold], where


def test_another_products_part_of_the_same_serial_and_lot_is_free(live: Live) -> None:
    mark = serial(901)
    other = live.post(GOOD, capture_id="h-16", product="KN-16", serial=mark, lot="L-901")
    assert (other.status_code, other.json()["holds"]) == (201, []), other.text


def test_a_hold_that_is_let_go_is_gone_everywhere(live: Live) -> None:
    mark = serial(905)
    live.post(GOOD, capture_id="h-905-1", serial=mark, mould="M-905")
    hold = held(live, "mould", "M-905")
    again = live.post(GOOD, capture_id="h-905-2", serial=mark).json()
    assert again["holds"]
    live.add(f"/v1/holds/{hold}/release", "h-905-r", reason="seen again")
    for where, answer in answers_about(live, mark, again):
        assert answer["holds"] == [], where


def test_among_many_holds_none_is_overlooked(live: Live) -> None:
    mark = serial(906)
    live.add(f"/v1/parts/KN-42/{mark}/events", "h-906", event="cast", at=AT, lot="L-906")
    hold = held(live, "lot", "L-906")
    for number in range(LOOKED_AT + 1):  # newer ones, on parts: the lot's comes behind them
        held(live, "part", serial(50_000 + number))
    found = live.post(GOOD, capture_id="h-906", serial=mark).json()
    assert [each["id"] for each in found["holds"]] == [hold]
