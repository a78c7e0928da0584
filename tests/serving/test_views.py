"""Several views of one part make one inspection: the worst view's, and it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.live_server import Live, serial
from tests.spot_model import part_png

if TYPE_CHECKING:
    import httpx

IMAGES = {kind: part_png(kind) for kind in ("good", "bad")}


def opened(live: Live, key: str, views: list[str], mark: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"station": "xray-1", "product": "KN-42", "views": views}
    answer = live.add("/v1/view-sets", key, **fields, serial=mark, mould="M-7")
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def view(live: Live, opened: dict[str, Any], name: str, kind: str, **more: str) -> httpx.Response:
    sent: dict[str, Any] = {"serial": opened["serial"] or "", "mould": "M-7", **more}
    capture = f"{opened['id']}-{name}-{kind}"
    answer: httpx.Response = live.post(
        IMAGES[kind], capture_id=capture, view_set=opened["id"], view=name, **sent
    )
    return answer


def close(live: Live, opened: dict[str, Any]) -> httpx.Response:
    answer: httpx.Response = live.http.post(f"/v1/view-sets/{opened['id']}/close")
    return answer


def test_the_worst_view_decides_and_the_inspection_says_so(live: Live) -> None:
    mark = serial(300)
    its = opened(live, "v-300", ["front", "side"], mark)
    front, side = view(live, its, "side", "good"), view(live, its, "front", "bad")
    assert (front.status_code, side.status_code) == (201, 201), (front.text, side.text)
    assert front.json()["attempt"] is None, "one view settles nothing"
    state = live.http.get(f"/v1/view-sets/{its['id']}").json()
    assert (state["missing"], state["closed"], len(state["views"])) == ([], None, 2)
    closed = close(live, its)
    assert closed.status_code == 201, closed.text
    inspection = closed.json()
    assert (inspection["disposition"], inspection["attempt"]) == ("fail", 1)
    assert {each["view"]: each["disposition"] for each in inspection["views"]} == {
        "front": "fail",
        "side": "pass",
    }
    assert any("front" in reason["detail"] for reason in inspection["reasons"])
    assert live.http.get(f"/v1/view-sets/{its['id']}").json()["closed"]["id"] == inspection["id"]
    listed = live.http.get("/v1/inspections", params={"serial": mark}).json()["items"]
    assert [each["id"] for each in listed] == [inspection["id"]]
    part = live.http.get(inspection["links"]["part"]).json()
    assert [each["id"] for each in part["inspections"]] == [inspection["id"]]
    assert len(part["views"]) == 2
    assert part["view_sets"][0]["id"] == its["id"]


def test_closing_again_gives_the_same_inspection(live: Live) -> None:
    its = opened(live, "v-301", ["front"], serial(301))
    assert close(live, its).status_code == 409, "there is no view yet"
    view(live, its, "front", "good")
    first, again = close(live, its), close(live, its)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert first.json()["disposition"] == "pass"
    late = view(live, its, "front", "bad")
    assert late.status_code == 409


def test_a_missing_view_is_a_review(live: Live) -> None:
    its = opened(live, "v-302", ["front", "side"], serial(302))
    view(live, its, "front", "good")
    assert live.http.get(f"/v1/view-sets/{its['id']}").json()["missing"] == ["side"]
    closed = close(live, its).json()
    assert closed["disposition"] == "review"
    assert "view-missing" in [each["code"] for each in closed["reasons"]]
    assert {"view": "side", "inspection_id": None, "disposition": None} in closed["views"]


def test_an_unread_set_is_one_part(live: Live) -> None:
    its = opened(live, "v-303", ["front", "side"], None)
    answers = [view(live, its, name, "good").json() for name in ("front", "side")]
    closed = close(live, its).json()
    assert {each["part"] for each in answers} == {its["part"], closed["part"]}
    assert closed["disposition"] == "review"


def test_opening_is_replayed_and_bounded(live: Live) -> None:
    its = opened(live, "v-304", ["front"], serial(304).lower())
    fields = {"station": "xray-1", "product": "KN-42", "views": ["front"], "mould": "M-7"}
    again = live.add("/v1/view-sets", "v-304", **fields, serial=serial(304))
    assert (again.status_code, again.json()) == (200, its)
    for views in (["a", "a"], [""], [f"v{number}" for number in range(33)], "front", []):
        answer = live.add("/v1/view-sets", "v-bad", **{**fields, "views": views})
        assert answer.status_code == 422, (views, answer.text)
    nameless = live.add("/v1/view-sets", "v-none", station="xray-1", product="KN-42")
    assert nameless.status_code == 422, "this recipe names no views"
    assert "Send `views`" in nameless.json()["remedy"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"view": "top"}, 409),
        ({"view_set": "nothing"}, 404),
        ({"view": ""}, 422),
        ({"serial": serial(306)}, 409),
        ({"product": "KN-16"}, 409),
    ],
)
def test_a_view_that_does_not_belong_is_refused(
    live: Live, change: dict[str, str], status: int
) -> None:
    its = opened(live, f"v-305-{sorted(change.items())}", ["front"], serial(305))
    sent = {"serial": serial(305), "view_set": its["id"], "view": "front", **change}
    answer = live.post(IMAGES["good"], capture_id=f"wrong-{change}"[:60], **sent)
    assert answer.status_code == status, answer.text
    assert live.http.get(f"/v1/view-sets/{its['id']}").json()["views"] == []
