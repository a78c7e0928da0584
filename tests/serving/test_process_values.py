"""What machines measured comes in bulk, as JSON or as a table, and each value is judged alone."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RequestError
from serving.process_table import COLUMNS, items_of_json, items_of_table
from tests.live_server import Live, serial
from tests.spot_model import part_png

AT = "2026-11-21T09:12:40+09:00"
MELT = {"name": "melt-temperature", "value": 712.5, "unit": "degC", "at": AT, "machine": "LP-3"}


def send(live: Live, key: str, values: object) -> httpx.Response:
    answer: httpx.Response = live.add("/v1/process-values", key, values=values)
    return answer


def table(live: Live, key: str, text: bytes | str) -> httpx.Response:
    headers = {"Content-Type": "text/csv; charset=utf-8", "Idempotency-Key": key}
    answer: httpx.Response = live.http.post("/v1/process-values", content=text, headers=headers)
    return answer


def test_each_value_is_accepted_or_refused_by_itself(live: Live) -> None:
    wrong: list[tuple[Any, str]] = [
        ({**MELT, "unit": "furlong"}, "invalid-request"),
        ({**MELT, "value": "712.5"}, "invalid-request"),
        ({**MELT, "value": True}, "invalid-request"),
        ({**MELT, "at": "2026-11-21T09:12:40"}, "invalid-request"),
        ({**MELT, "until": "2026-11-21T09:12:40+09:00"}, "invalid-request"),
        ({**MELT, "product": "KN-42", "serial": serial(400)}, "invalid-request"),
        ({**MELT, "machine": None}, "invalid-request"),
        ({**MELT, "machine": None, "serial": serial(400)}, "invalid-request"),
        ({**MELT, "machine": None, "product": "KN-42", "serial": "KN42A0001X"}, "serial-check"),
        ({**MELT, "pressure": 3}, "invalid-request"),
        (17, "invalid-request"),
    ]
    good = {"name": "cycle", "value": 84, "unit": "s", "at": AT}
    mine = {**good, "product": "KN-42", "serial": serial(400).lower()}
    answer = send(live, "p-400", [MELT, *(item for item, _ in wrong), mine])
    assert answer.status_code == 201, answer.text
    report = answer.json()
    assert (report["accepted"], report["refused"]) == (2, len(wrong))
    codes = [each["problem"] and each["problem"]["code"] for each in report["items"]]
    assert codes == [None, *(code for _, code in wrong), None]
    assert all(each["problem"]["remedy"] for each in report["items"] if each["problem"])
    again = send(live, "p-400", [MELT, *(item for item, _ in wrong), mine])
    assert (again.status_code, again.json()) == (200, report)
    assert send(live, "p-400", [MELT]).status_code == 422
    kept = live.server.records.process_values(product="KN-42", part=serial(400))
    assert [(value.name, value.value, value.at) for value in kept] == [
        ("cycle", 84.0, "2026-11-21T00:12:40.000Z")
    ]


def test_when_nothing_can_be_used_nothing_is_recorded(live: Live) -> None:
    before = live.server.records.newest()
    answer = send(live, "p-none", [{**MELT, "unit": "furlong"}])
    assert (answer.status_code, answer.json()["id"], answer.json()["accepted"]) == (200, None, 0)
    assert live.server.records.newest() == before


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"values": 3}', b'{"values": []}', b'{"value": [1]}', b"[" * 100_000,
     json.dumps({"values": [MELT] * 1001}).encode()],
    ids=lambda body: body[:20].decode(),
)  # fmt: skip
def test_a_body_that_is_none_is_refused(live: Live, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "p-body"}
    answer = live.http.post("/v1/process-values", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_only_json_and_tables_of_bearable_size_are_read(live: Live) -> None:
    headers = {"Content-Type": "text/plain", "Idempotency-Key": "p-kind"}
    answer = live.http.post("/v1/process-values", content=b"x", headers=headers)
    assert answer.status_code == 415
    assert table(live, "p-large", b"name\n" + b"x" * 2_000_000).status_code == 413


def test_a_table_says_the_same_as_json(live: Live) -> None:
    rows = (
        "\ufeffname,value,unit,at,until,machine,product,serial\r\n"
        f'"melt, top",712.5,degC,{AT},,LP-3,,\r\n'
        f"cycle,84,s,{AT},,,KN-42,{serial(401)}\r\n"
        f"cycle,soon,s,{AT},,LP-3,,\r\n"
        f"cycle,84,s,{AT},LP-3\r\n"
        f"cycle,nan,s,{AT},,LP-3,,\r\n"
    )
    answer = table(live, "p-401", rows)
    assert answer.status_code == 201, answer.text
    assert [each["status"] for each in answer.json()["items"]] == [
        *("accepted", "accepted", "refused", "refused", "refused")
    ]
    assert table(live, "p-401", rows.encode()).status_code == 200
    (value,) = live.server.records.process_values(product="KN-42", part=serial(401))
    assert value.value == 84.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column"),
        ("value,unit,at\n1,s,x", "no column `name`"),
        ("name,value,unit,at,colour\n", "no field `colour`"),
        ("name,value,unit,at,at\n", "comes 2 times"),
        ("name,value,unit,at\n", "0 values"),
        ('name,value,unit,at\n"broken', "breaks off"),
        (b"name,value,unit,at\n\xff", "UTF-8"),
    ],
)
def test_a_table_that_is_none_is_refused(live: Live, text: str | bytes, said: str) -> None:
    answer = table(live, "p-table", text)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert said in answer.json()["detail"]


def test_a_parts_trace_has_its_machines_values_and_its_siblings(live: Live) -> None:
    mark, mould = serial(410), "M-410"
    place = f"/v1/parts/KN-42/{mark}"
    cast = {"event": "cast", "at": "2026-11-21T00:12:00Z", "machine": "LP-410", "mould": mould}
    live.add(f"{place}/events", "t-410", **cast)
    near, far = "2026-11-21T00:20:00Z", "2026-11-21T02:00:00Z"
    values = [{**MELT, "machine": "LP-410", "at": at} for at in (near, far)]
    own = {"name": "weight", "value": 4.2, "unit": "kg", "at": far}
    values.append({**own, "product": "KN-42", "serial": mark})
    assert send(live, "t-410-v", values).json()["accepted"] == 3
    for number, kind in ((410, "bad"), (411, "good"), (412, "good"), (413, "bad")):
        image = part_png(kind)
        live.post(image, capture_id=f"t-{number}", serial=serial(number), mould=mould)
    trace = live.http.get(f"{place}/trace").json()
    assert trace["origin"]["known_from"] == "cast"
    assert [each["name"] for each in trace["values"]] == ["melt-temperature", "weight"]
    assert trace["part"] == live.http.get(place).json()
    assert trace["siblings"]["inspections"] == 4
    assert trace["siblings"]["defect_rate"] == 0.5
    wide = live.http.get(f"{place}/trace", params={"window_min": 120}).json()
    assert len(wide["values"]) == 3
    for window in ("-1", "1441", "long"):
        answer = live.http.get(f"{place}/trace", params={"window_min": window})
        assert answer.status_code == 422
    assert live.http.get(f"/v1/parts/KN-42/{serial(499)}/trace").status_code == 404
    misread = live.http.get("/v1/parts/KN-42/KN42A0001X/trace")
    assert misread.json()["code"] == "serial-check"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(body: bytes) -> None:
    for read in (items_of_table, items_of_json):
        try:
            items = read(body)
        except RequestError as error:
            assert str(error)  # noqa: PT017  any input may be refused; none may break it
        else:
            assert 1 <= len(items) <= 1000


@given(st.lists(st.text(max_size=20), min_size=8, max_size=8))
def test_a_row_comes_back_as_it_was_written(cells: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, cells])
    (row,) = items_of_table(text.getvalue().encode())
    for name, cell in zip(COLUMNS, cells, strict=True):
        if name != "value":
            assert row.get(name, "") == (cell if cell.strip() else "")


@pytest.mark.parametrize("cell", ["1_000", "１２", "0x10", "1e", "inf", '"1,5"'])
def test_a_cell_that_only_looks_like_a_number_is_refused(live: Live, cell: str) -> None:
    answer = table(
        live, f"p-cell-{ord(cell[1])}", f"name,value,unit,at,machine\ncycle,{cell},s,{AT},LP-9\n"
    )
    assert (answer.status_code, answer.json()["accepted"]) == (200, 0), answer.text
    assert "value" in answer.json()["items"][0]["problem"]["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (rb'{"values": [{"name": "a"}], "\ud800": 1}', "no field"),
        (rb'{"values": [{"name": "a", "\ud800": 1, "\ud800": 2}]}', "comes 2 times"),
        (b'{"values": [], "values": []}', "comes 2 times"),
        (b'{"values": [{"name": "a", "value": 1, "value": 2}]}', "comes 2 times"),
    ],
)
def test_a_body_that_two_parsers_read_differently_is_refused(
    live: Live, body: bytes, said: str
) -> None:
    headers = {"Idempotency-Key": "p-parsers", "Content-Type": "application/json"}
    answer = live.http.post("/v1/process-values", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_part_cast_at_the_calendars_end_is_traced(live: Live, year: str) -> None:
    place = f"/v1/parts/KN-42/{serial(int(year) + 40_000)}"
    day = "01-01" if year == "0001" else "12-31"
    at = f"{year}-{day}T00:00:00Z"
    cast = live.add(f"{place}/events", f"p-year-{year}", event="cast", at=at, machine="LP-9")
    assert cast.status_code == 201, cast.text
    answer = live.http.get(f"{place}/trace", params={"window_min": 1440})
    assert answer.status_code == 200, answer.text
    assert answer.json()["origin"]["at"].startswith(year)


def test_a_serial_that_was_used_again_says_so(live: Live) -> None:
    place = f"/v1/parts/KN-42/{serial(420)}"
    for number, at in enumerate(("2026-01-21T10:00:00Z", "2026-01-21T10:00:00Z", AT)):
        live.add(f"{place}/events", f"p-again-{number}", event="cast", at=at, mould=f"M-{number}")
    origin = live.http.get(f"{place}/trace").json()["origin"]
    assert (origin["castings"], origin["mould"]) == (2, "M-0"), "one was only told twice"


def test_an_audit_before_the_first_inspection_gives_no_siblings(live: Live) -> None:
    mark = serial(421)
    live.post(part_png("good"), capture_id="p-421", serial=mark, mould="M-421", reason="audit")
    place = f"/v1/parts/KN-42/{mark}/trace"
    assert live.http.get(place).json()["siblings"] is None
    live.post(part_png("good"), capture_id="p-421-1", serial=mark, mould="M-421")
    assert live.http.get(place).json()["siblings"]["inspections"] == 1
