"""The MES lists inspections: newest first, by any filter, page by page without gaps or repeats."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RequestError
from inspection.store import Filter
from serving.cursors import Cursors
from serving.wire import normalised_instant
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = {kind: part_png(kind) for kind in ("good", "bad")}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, list[dict[str, Any]]]]:
    """A server with twelve inspections of two products, oldest first."""
    site = tmp_path_factory.mktemp("listed")
    promoted_spot(site / "weights", "KN-42")
    promoted_spot(site / "weights", "KN-43")
    with running(settings_in(site)) as live:
        posted = []
        for number in range(12):
            answer = live.post(
                IMAGES["bad" if number % 3 == 0 else "good"],
                station=f"s{number % 2}",
                product="KN-43" if number % 4 == 0 else "KN-42",
                capture_id=f"c{number}",
                serial=serial(number % 5),
                lot=f"L{number % 3}",
                machine=f"M{number % 2}",
                mould=f"F{number % 4}",
            )
            assert answer.status_code == 201
            posted.append(answer.json())
        yield live, posted


def pages(live: Live, **query: str) -> Iterator[list[dict[str, Any]]]:
    cursor = None
    while True:
        answer = live.http.get(
            "/v1/inspections", params=query | ({"cursor": cursor} if cursor else {})
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


@pytest.mark.parametrize("limit", [1, 5, 12, 1000])
def test_pages_hold_everything_once_newest_first(
    listed: tuple[Live, list[dict[str, Any]]], limit: int
) -> None:
    live, posted = listed
    walked = [item for page in pages(live, limit=str(limit)) for item in page]
    assert walked == posted[::-1]


@pytest.mark.parametrize(
    ("query", "of"),
    [
        ({"station": "s1"}, lambda i: i["station"] == "s1"),
        ({"product": "KN-43"}, lambda i: i["product"] == "KN-43"),
        ({"lot": "L1"}, lambda i: i["lot"] == "L1"),
        ({"machine": "M0"}, lambda i: i["machine"] == "M0"),
        ({"mould": "F2"}, lambda i: i["mould"] == "F2"),
        ({"disposition": "fail"}, lambda i: i["disposition"] == "fail"),
        ({"serial": serial(3).lower()}, lambda i: i["serial"] == serial(3)),
        (
            {"product": "KN-42", "serial": serial(3), "station": "s1"},
            lambda i: (i["product"], i["serial"], i["station"]) == ("KN-42", serial(3), "s1"),
        ),
        ({"lot": "nothing"}, lambda _: False),
    ],
)
def test_each_filter_restricts(
    listed: tuple[Live, list[dict[str, Any]]], query: dict[str, str], of: Any
) -> None:
    live, posted = listed
    walked = [item for page in pages(live, limit="2", **query) for item in page]
    assert walked == [item for item in posted[::-1] if of(item)]


def test_from_is_included_and_to_is_not(listed: tuple[Live, list[dict[str, Any]]]) -> None:
    live, posted = listed
    start, end = posted[3]["received_at"], posted[9]["received_at"]
    walked = [i for page in pages(live, **{"from": start, "to": end}) for i in page]
    assert walked == [i for i in posted[::-1] if start <= i["received_at"] < end]
    unescaped = live.http.get(f"/v1/inspections?from={start[:-1]}+00:00")
    assert unescaped.status_code == 200, "a + that nobody escaped can only be a +"


def test_while_new_ones_arrive_nothing_is_skipped_or_repeated(
    listed: tuple[Live, list[dict[str, Any]]],
) -> None:
    live, posted = listed
    walked = []
    for number, page in enumerate(pages(live, limit="5", lot="L1")):
        walked += page
        newer = live.post(IMAGES["good"], capture_id=f"late-{number}", lot="L1")
        assert newer.status_code == 201
    names = [item["id"] for item in walked]
    assert len(set(names)) == len(names)
    assert {i["id"] for i in posted if i["lot"] == "L1"} <= set(names)


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": ""},
        {"cursor": "!!!!"},
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "many"},
        {"from": "yesterday"},
        {"from": "2026-11-21"},
        {"to": "2026-11-21T10:00:00"},
        {"disposition": "maybe"},
        {"offset": "3"},
        {"serial": "!", "product": "KN-42"},
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    listed: tuple[Live, list[dict[str, Any]]], query: dict[str, str]
) -> None:
    answer = listed[0].http.get("/v1/inspections", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_cursor_belongs_to_its_filters(listed: tuple[Live, list[dict[str, Any]]]) -> None:
    live, _ = listed
    first = live.http.get("/v1/inspections", params={"limit": "2", "lot": "L1"}).json()
    other = live.http.get("/v1/inspections", params={"lot": "L2", "cursor": first["next_cursor"]})
    assert other.status_code == 422
    larger = live.http.get(
        "/v1/inspections", params={"lot": "L1", "limit": "9", "cursor": first["next_cursor"]}
    )
    assert larger.status_code == 200, "the size of a page may change on the way"


@given(st.integers(0, 2**63 - 1), st.integers(0, 31), st.sampled_from("ABCxyz019-_= "))
def test_a_cursor_comes_back_and_is_refused_when_altered(
    sequence: int, place: int, symbol: str
) -> None:
    cursors, wanted = Cursors(bytes(32)), Filter(lot="L1")
    page, change = cursors.of_page(sequence, wanted), cursors.of_change(sequence)
    assert cursors.page(page, wanted) == cursors.change(change) == sequence
    for cursor, read in ((page, lambda text: cursors.page(text, wanted)), (change, cursors.change)):
        altered = cursor[:place] + symbol + cursor[place + 1 :]
        if altered != cursor:
            with pytest.raises(RequestError):
                read(altered)
        for cut in (cursor[:-1], cursor + "AAAA", ""):
            with pytest.raises(RequestError):
                read(cut)


def test_a_cursor_is_of_one_list_and_one_installation() -> None:
    ours, theirs = Cursors(b"a" * 32), Cursors(b"b" * 32)
    wanted = Filter(lot="L1", reason="audit", defect_class="crack")
    cursor = ours.of_page(7, wanted)
    for other in (
        replace(wanted, reason="recheck"),
        replace(wanted, defect_class=None),
        replace(wanted, received_from="2026-11-21T00:00:00Z"),
    ):
        with pytest.raises(RequestError):
            ours.page(cursor, other)
    assert ours.page(cursor, replace(wanted, limit=9)) == 7, "the size of a page may change"
    with pytest.raises(RequestError):
        theirs.page(cursor, wanted)
    with pytest.raises(RequestError):
        ours.change(cursor)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00.000Z"),
        ("2026-11-21T10:00:00.1239Z", "2026-11-21T10:00:00.123Z"),
        ("2026-11-21t10:00:00z", "2026-11-21T10:00:00.000Z"),
        ("2026-11-21T00:30:00+09:00", "2026-11-20T15:30:00.000Z"),
        ("2026-11-21 10:00:00 09:00", "2026-11-21T01:00:00.000Z"),
        ("2026-11-21T10:00:00-05:30", "2026-11-21T15:30:00.000Z"),
    ],
)
def test_times_are_brought_to_utc(text: str, wanted: str) -> None:
    assert normalised_instant(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "17", "2026-11-21T10:00:00", "2026-11-21T10:00Z", "2026-02-30T10:00:00Z",
     "2026-11-21T10:00:00+25:00", "٢٠٢٦-11-21T10:00:00Z", "0001-01-01T00:00:00+09:00"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        normalised_instant(text)
