"""A part by any of its names: what happened to it, what it is made of, its life on one page."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.live_server import Live, serial
from tests.spot_model import part_png

GOOD, BAD = part_png("good"), part_png("bad")
AT = "2026-11-21T10:00:00+09:00"


def place(mark: str, product: str = "KN-42") -> str:
    return f"/v1/parts/{product}/{quote(mark, safe=':')}"


def part(live: Live, mark: str) -> dict[str, Any]:
    answer = live.http.get(place(mark))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- events ----------------------------------------------------------------------------------


def test_a_casting_is_known_before_anything_was_inspected(live: Live) -> None:
    mark = serial(100)
    made = live.add(f"{place(mark.lower())}/events", "e-100", event="cast", at=AT, machine="LP-3")
    assert made.status_code == 201, made.text
    assert (made.json()["part"], made.json()["at"]) == (mark, "2026-11-21T01:00:00.000Z")
    assert made.json()["by"] == "local"
    found = part(live, mark)
    assert found["events"] == [made.json()]
    assert (found["inspections"], found["in_force"]) == ([], None)


def test_an_event_sent_twice_is_one_event(live: Live) -> None:
    where = f"{place(serial(101))}/events"
    first = live.add(where, "e-101", event="shipped", at=AT)
    again = live.add(where, "e-101", event="shipped", at="2026-11-21T01:00:00Z", note="")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    other = live.add(where, "e-101", event="returned", at=AT)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    elsewhere = live.add(f"{place(serial(102))}/events", "e-101", event="shipped", at=AT)
    assert elsewhere.status_code == 422
    assert len(part(live, serial(101))["events"]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "melted", "at": AT},
        {"event": "cast"},
        {"event": "cast", "at": "2026-11-21T10:00:00"},
        {"event": "cast", "at": AT, "by": "somebody else"},
        {"event": "cast", "at": AT, "lot": "L" * 201},
        {"event": "cast", "at": AT, "note": "a\x00b"},
        {"event": "cast", "at": AT, "lot": 7},
    ],
)
def test_an_event_that_makes_no_sense_is_refused(live: Live, fields: dict[str, Any]) -> None:
    before = live.server.records.newest()
    answer = live.add(f"{place(serial(103))}/events", f"bad-{len(str(fields))}", **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text
    assert live.server.records.newest() == before


def test_an_event_of_a_serial_that_cannot_be_is_refused(live: Live) -> None:
    for mark, code in (("KN42A0001X", "serial-check"), ("unread:06AF-JB08-0ETGW", "not-found")):
        answer = live.add(f"{place(mark)}/events", f"cannot-{code}", event="cast", at=AT)
        assert answer.json()["code"] == code, answer.text


# --- names -----------------------------------------------------------------------------------


def test_an_unread_part_is_bound_and_found_by_both_names(live: Live) -> None:
    mark = serial(110)
    unread = live.post(BAD, capture_id="n-110").json()["part"]
    bound = live.add(f"{place(unread)}/names", "n-110", serial=mark.lower(), reason="by hand")
    assert (bound.status_code, bound.json()["why"]) == (201, "bound"), bound.text
    recheck = live.post(GOOD, capture_id="n-110-2", serial=mark).json()
    assert recheck["attempt"] == 2, "attempts count over all names"
    first, second = live.http.get(place(mark)), live.http.get(place(unread))
    assert first.content == second.content
    found = first.json()
    assert (found["serial"], sorted(found["names"])) == (mark, sorted([mark, unread]))
    assert found["namings"] == [bound.json()]
    assert found["in_force"]["disposition"] == "fail"
    assert len(found["inspections"]) == 2


def test_a_part_marked_anew_keeps_its_history(live: Live) -> None:
    old, new, taken = serial(111), serial(112), serial(113)
    live.post(BAD, capture_id="n-111", serial=old)
    live.post(GOOD, capture_id="n-113", serial=taken)
    refused = live.add(f"{place(old)}/names", "n-112", serial=taken, reason="marked again")
    assert (refused.status_code, refused.json()["code"]) == (409, "state-conflict")
    assert "Retry-After" not in refused.headers, "waiting does not change it"
    named = live.add(f"{place(old)}/names", "n-113", serial=new, reason="marked again")
    assert (named.status_code, named.json()["why"]) == (201, "re-marked")
    assert part(live, new)["names"] == [old, new]
    assert part(live, new)["serial"] == new


@pytest.mark.parametrize("to", ["unread:06AF-JB08-0ETGW", "KN42A0001X", "=1+1", ""])
def test_a_part_is_named_only_what_it_can_be_called(live: Live, to: str) -> None:
    live.post(GOOD, capture_id="n-114", serial=serial(114))
    answer = live.add(f"{place(serial(114))}/names", f"n-{to}", serial=to, reason="x")
    assert answer.status_code == 422, answer.text
    assert part(live, serial(114))["names"] == [serial(114)]


# --- components ------------------------------------------------------------------------------


def fit(live: Live, above: str, below: str, key: str, **more: Any) -> None:
    fields = {"product": "KN-42", "serial": below, "at": AT, **more}
    answer = live.add(f"{place(above)}/components", key, **fields)
    assert answer.status_code == 201, answer.text


def test_genealogy_goes_down_and_up_and_cuts_cycles(live: Live) -> None:
    a, b, c, d = (serial(number) for number in range(120, 124))
    fit(live, a, b, "g-1", position="left")
    fit(live, b, c, "g-2")
    fit(live, c, a, "g-3")
    fit(live, a, d, "g-4")
    fit(live, a, d, "g-5", action="removed")
    down = live.http.get(f"{place(a)}/genealogy").json()
    links = [(e["depth"], e["component"]["part"], e["repeated"]) for e in down["components"]]
    assert links == [(1, b, False), (1, d, False), (2, c, False), (3, a, True)]
    assert down["components"][0]["position"] == "left"
    assert down["components"][1]["removed_at"] == "2026-11-21T01:00:00.000Z"
    assert [e["assembly"]["part"] for e in down["assemblies"]] == [c, b, a]
    assert not down["truncated"]
    shallow = live.http.get(f"{place(a)}/genealogy", params={"depth": 1}).json()
    assert (len(shallow["components"]), shallow["truncated"]) == (2, True)
    for depth in ("0", "21", "deep"):
        assert live.http.get(f"{place(a)}/genealogy", params={"depth": depth}).status_code == 422
    assert part(live, a)["components"][0]["component_part"] == b
    assert part(live, b)["assemblies"][0]["part"] == a


def test_a_part_is_not_its_own_component(live: Live) -> None:
    mark = serial(125)
    fields = {"product": "KN-42", "serial": mark, "at": AT}
    assert live.add(f"{place(mark)}/components", "g-self", **fields).status_code == 422
    assert live.http.get(place(mark)).status_code == 404


# --- many at once ----------------------------------------------------------------------------


def test_lookup_answers_each_item_by_itself(live: Live) -> None:
    mark = serial(130)
    posted = live.post(BAD, capture_id="l-130", serial=mark).json()
    asked = [
        {"product": "KN-42", "serial": mark.lower()},
        {"product": "KN-42", "serial": serial(131)},
        {"product": "KN-42", "serial": "KN42A0001X"},
        {"product": "KN-42"},
        "what",
        {"product": "KN-42", "serial": "unread:nothing"},
        {"product": "elsewhere", "serial": mark},
        {"product": "KN-42", "serial": mark, "lot": "L1"},
    ]
    answer = live.http.post("/v1/parts:lookup", json={"items": asked})
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [each["item"] for each in items] == list(range(len(asked)))
    assert items[0]["part"]["in_force"]["inspection_id"] == posted["id"]
    assert items[0]["part"]["latest"]["id"] == posted["id"]
    assert items[0]["part"]["link"] == posted["links"]["part"]
    codes = [each["problem"] and each["problem"]["code"] for each in items]
    assert codes == [
        *(None, "not-found", "serial-check", "invalid-request", "invalid-request"),
        *("not-found", "not-found", "invalid-request"),
    ]


@pytest.mark.parametrize("items", [[], None, "KN42", [{"product": "p", "serial": "s"}] * 501])
def test_lookup_is_bounded(live: Live, items: object) -> None:
    assert live.http.post("/v1/parts:lookup", json={"items": items}).status_code == 422


# --- holds -----------------------------------------------------------------------------------


def test_a_hold_is_shown_by_every_later_answer_and_released(live: Live) -> None:
    mark = serial(140)
    posted = live.post(BAD, capture_id="h-140", serial=mark, mould="M-140", lot="L-140").json()
    assert posted["holds"] == []
    seen = live.http.get(posted["links"]["self"]).headers["ETag"]
    kinds = [("part", mark.lower()), ("lot", "L-140"), ("mould", "M-140")]
    made = [
        live.add("/v1/holds", f"h-{scope}", product="KN-42", scope=scope, value=value, reason="r")
        for scope, value in kinds
    ]
    assert [each.status_code for each in made] == [201] * 3
    holds = [each.json() for each in made]
    assert holds[0]["value"] == mark
    listed = live.http.get("/v1/inspections", params={"lot": "L-140"}).json()["items"]
    detail = live.http.get(posted["links"]["self"])
    looked_up = {"items": [{"product": "KN-42", "serial": mark}]}
    summary = live.http.post("/v1/parts:lookup", json=looked_up).json()["items"][0]["part"]
    again = live.post(BAD, capture_id="h-140", serial=mark, mould="M-140", lot="L-140")
    for answer in (listed[0], detail.json(), part(live, mark), summary, again.json()):
        assert answer["holds"] == holds
    assert detail.headers["ETag"] != seen
    place_of = f"/v1/holds/{holds[0]['id']}/release"
    released = live.add(place_of, "r-140", reason="looked at")
    assert (released.status_code, released.json()["hold_id"]) == (201, holds[0]["id"])
    assert live.add(place_of, "r-140", reason="looked at").status_code == 200
    twice = live.add(place_of, "r-141", reason="once more")
    assert (twice.status_code, twice.json()["code"]) == (409, "state-conflict")
    assert part(live, mark)["holds"] == holds[1:]
    every = live.http.get("/v1/holds", params={"product": "KN-42", "standing": "false"}).json()
    ends = {each["id"]: each["released_by"] for each in every["items"]}
    assert ends[holds[0]["id"]] == released.json()["id"]
    standing = live.http.get("/v1/holds", params={"limit": "1"}).json()
    assert standing == {"items": [{**holds[2], "released_by": None}], "truncated": True}


def test_a_hold_stays_on_a_part_whatever_it_is_called(live: Live) -> None:
    old, new = serial(142), serial(143)
    live.post(GOOD, capture_id="h-142", serial=old)
    fields = {"product": "KN-42", "scope": "part", "reason": "r"}
    before = live.add("/v1/holds", "h-142", value=old, **fields).json()
    live.add(f"{place(old)}/names", "h-142-n", serial=new, reason="marked again")
    after = live.add("/v1/holds", "h-143", value=new, **fields).json()
    shown = live.post(GOOD, capture_id="h-143", serial=new).json()
    assert shown["holds"] == [before, after]
    first = live.http.get("/v1/inspections", params={"serial": old}).json()["items"][0]
    assert first["holds"] == [before, after]
    assert part(live, old)["holds"] == part(live, new)["holds"] == [before, after]


def test_holds_that_make_no_sense_are_refused(live: Live) -> None:
    good = {"product": "KN-42", "scope": "lot", "value": "L", "reason": "r"}
    for number, wrong in enumerate(
        ({"scope": "plant"}, {"value": ""}, {"reason": " "}, {"legal": "perhaps"}, {"until": AT})
    ):
        answer = live.add("/v1/holds", f"h-wrong-{number}", **{**good, **wrong})
        assert answer.status_code == 422, answer.text
    assert live.add("/v1/holds/nothing/release", "h-none", reason="r").status_code == 404
    for query in ({"limit": "0"}, {"limit": "1000"}, {"scope": "part"}, {"standing": "maybe"}):
        assert live.http.get("/v1/holds", params=query).status_code == 422


# --- copies ----------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_sent_again(live: Live) -> None:
    mark = serial(150)
    posted = live.post(BAD, capture_id="c-150", serial=mark).json()
    for path in (posted["links"]["self"], place(mark), posted["links"]["trace"]):
        first = live.http.get(path)
        tag = first.headers["ETag"]
        assert tag.startswith('"'), "strong"
        for known in (tag, f'"other", W/{tag}', "*"):
            same = live.http.get(path, headers={"If-None-Match": known})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["ETag"] == tag
        assert live.http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert live.review(posted["id"]).status_code == 201
        later = live.http.get(path, headers={"If-None-Match": tag})
        assert later.status_code == 200
        assert later.headers["ETag"] != tag
