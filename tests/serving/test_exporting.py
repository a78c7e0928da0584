"""Everything that a filter finds as one stream whose end can be seen, and counts of it."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RecordError
from inspection.store import Filter
from inspection.stores.sql import SqlRecordStore
from serving import tables
from serving.tables import COLUMNS, MARK, defused
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMULAS = ("=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "＝1", "x;=1+1")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, list[dict[str, Any]]]]:
    """A server with twelve inspections of two products, newest first; lots hold formulas."""
    site = tmp_path_factory.mktemp("exported")
    promoted_spot(site / "weights", "KN-42")
    promoted_spot(site / "weights", "KN-43")
    images = {kind: part_png(kind) for kind in ("good", "bad")}
    with running(settings_in(site)) as live:
        posted = [
            live.post(
                images["bad" if number % 3 == 0 else "good"],
                product="KN-43" if number % 4 == 0 else "KN-42",
                capture_id=f"c{number}",
                serial=serial(number % 8),
                lot=FORMULAS[number % len(FORMULAS)],
                mould=f"M-{number % 2}",
            ).json()
            for number in range(12)
        ]
        yield live, posted[::-1]


def export(live: Live, **query: str) -> httpx.Response:
    answer: httpx.Response = live.http.get("/v1/inspections:export", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def test_an_export_is_the_list_and_says_that_it_is_complete(
    listed: tuple[Live, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, posted = listed
    monkeypatch.setattr(tables, "PAGE", 5)
    answer = export(live)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == [*posted, {"complete": True, "count": 12}]
    some = [json.loads(line) for line in export(live, product="KN-43").text.splitlines()]
    assert some[:-1] == [each for each in posted if each["product"] == "KN-43"]
    assert some[-1] == {"complete": True, "count": 3}
    nothing = export(live, lot="nothing").text
    assert json.loads(nothing) == {"complete": True, "count": 0}


def test_a_table_has_the_same_rows_and_no_formula(
    listed: tuple[Live, list[dict[str, Any]]],
) -> None:
    live, posted = listed
    answer = export(live, format="csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert 'filename="inspections.csv"' in answer.headers["Content-Disposition"]
    header, *rows, last = csv.reader(io.StringIO(answer.text, newline=""))
    assert tuple(header) == COLUMNS
    assert last[:2] == [MARK, "12"]
    assert {len(row) for row in (header, *rows, last)} == {len(COLUMNS)}
    places = {name: number for number, name in enumerate(header)}
    assert [row[places["id"]] for row in rows] == [each["id"] for each in posted]
    assert [row[places["disposition"]] for row in rows] == [each["disposition"] for each in posted]
    for row, each in zip(rows, posted, strict=True):
        cell = row[places["lot"]]
        assert cell.replace("'", "") == each["lot"]
        for piece in cell.split(";"):
            assert piece[0] not in "=+-@＝＋－＠"


@given(st.text(alphabet="=+-@\t\r\n＝'ab;, ", max_size=12))
def test_no_text_is_a_formula(text: str) -> None:
    done = defused(text)
    assert not done.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert done.replace("'", "") == text.replace("'", "")
    assert not any(piece.startswith(("=", "+", "-", "@")) for piece in done.split(";"))


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_stream_that_is_cut_shows_it(
    listed: tuple[Live, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    live, _ = listed
    monkeypatch.setattr(tables, "PAGE", 5)
    find, calls = SqlRecordStore.find, list[int]()

    def failing(self: SqlRecordStore, wanted: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise RecordError("the disk is gone")
        return find(self, wanted)

    monkeypatch.setattr(SqlRecordStore, "find", failing)
    received: list[bytes] = []
    stream = live.http.stream("GET", "/v1/inspections:export", params={"format": form})
    with stream as answer, pytest.raises(httpx.RemoteProtocolError):
        received.extend(answer.iter_bytes())
    assert b"complete" not in b"".join(received)


@pytest.mark.parametrize(
    "query",
    [{"format": "xlsx"}, {"limit": "5"}, {"cursor": "x"}, {"from": "yesterday"}, {"x": "1"},
     {"reason": "because"}, {"class": ""}],
)  # fmt: skip
def test_an_export_that_makes_no_sense_is_refused(
    listed: tuple[Live, list[dict[str, Any]]], query: dict[str, str]
) -> None:
    assert listed[0].http.get("/v1/inspections:export", params=query).status_code == 422


def test_only_a_page_is_in_memory_at_a_time(
    listed: tuple[Live, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, _ = listed
    monkeypatch.setattr(tables, "PAGE", 4)
    find, sizes = SqlRecordStore.find, list[int]()

    def counting(self: SqlRecordStore, wanted: Any) -> Any:
        page = find(self, wanted)
        sizes.append(len(page.records))
        return page

    monkeypatch.setattr(SqlRecordStore, "find", counting)
    lines = tables.ndjson_lines(live.server.records, Filter())
    assert next(lines).count("\n") == 4
    assert sizes == [4], "the next page is read when it is wanted"
    assert sum(line.count("\n") for line in lines) == 8 + 1


# --- the list's newer filters ----------------------------------------------------------------


def test_lists_are_filtered_by_class_reason_and_time(
    listed: tuple[Live, list[dict[str, Any]]],
) -> None:
    live, posted = listed

    def ids(**query: str) -> list[str]:
        answer = live.http.get("/v1/inspections", params={"limit": "100", **query})
        assert answer.status_code == 200, answer.text
        assert answer.json()["truncated"] is False
        return [each["id"] for each in answer.json()["items"]]

    spotted = [each["id"] for each in posted if each["findings"]]
    assert spotted
    assert ids(**{"class": "spot"}) == spotted
    assert ids(**{"class": "crack"}) == []
    rechecks = [each["id"] for each in posted if each["reason"] == "recheck"]
    assert ids(reason="recheck") == rechecks
    start = posted[6]["received_at"]
    since = [each["id"] for each in posted if each["received_at"] >= start]
    assert ids(**{"from": start}) == since
    both = {"class": "spot", "product": "KN-43", "from": start}
    assert ids(**both) == [
        each["id"] for each in posted[:7] if each["findings"] and each["product"] == "KN-43"
    ]


@pytest.mark.parametrize(
    "value", ["' OR 1=1 --", "%", "_", '"; DROP TABLE entries; --', "\\", "L'1", "a\x00b"]
)
@pytest.mark.parametrize("name", ["lot", "station", "mould", "class", "serial", "product"])
def test_what_is_sent_is_never_taken_for_sql(
    listed: tuple[Live, list[dict[str, Any]]], name: str, value: str
) -> None:
    live, _ = listed
    for path in ("/v1/inspections", "/v1/counts", "/v1/inspections:export"):
        answer = live.http.get(path, params={name: value})
        assert answer.status_code in (200, 422), (path, answer.text)
        if path == "/v1/inspections" and answer.is_success:
            assert answer.json()["items"] == []
        if path == "/v1/counts" and answer.is_success:
            assert sum(row["inspections"] for row in answer.json()["items"]) == 0
    found = live.http.get(f"/v1/parts/KN-42/{quote(value, safe='')}")
    assert found.status_code in (404, 422)


# --- counts ----------------------------------------------------------------------------------


def test_counts_agree_with_the_list(listed: tuple[Live, list[dict[str, Any]]]) -> None:
    live, posted = listed

    def counts(**query: str) -> list[dict[str, Any]]:
        answer = live.http.get("/v1/counts", params=query)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["items"]
        return rows

    (row,) = counts()
    first = [each for each in posted if each["attempt"] == 1]
    passed = sum(each["disposition"] == "pass" for each in first)
    assert (row["inspections"], row["first"], row["first_passed"]) == (12, len(first), passed)
    assert row["first_pass_yield"] == pytest.approx(passed / len(first))
    assert (row["start"], row["group"]) == (None, {})
    groups = {
        (row["group"]["product"], row["group"]["mould"]): row["inspections"]
        for row in counts(by="product, mould")
    }
    assert groups == {("KN-42", "M-0"): 3, ("KN-42", "M-1"): 6, ("KN-43", "M-0"): 3}
    assert [row["group"] for row in counts(by="class")] == [{"class": "spot"}]
    by_day = counts(bucket="day", product="KN-43")
    assert sum(row["inspections"] for row in by_day) == 3
    assert all(row["start"].endswith("T00:00:00Z") for row in by_day)
    failed = counts(disposition="fail")
    assert failed[0]["inspections"] == failed[0]["failed"]


@pytest.mark.parametrize(
    "query",
    [{"by": "colour"}, {"by": "lot,lot"}, {"by": "defect_class"}, {"bucket": "week"},
     {"limit": "3"}, {"to": "2026-11-21"}],
)  # fmt: skip
def test_counts_that_make_no_sense_are_refused(
    listed: tuple[Live, list[dict[str, Any]]], query: dict[str, str]
) -> None:
    assert listed[0].http.get("/v1/counts", params=query).status_code == 422
