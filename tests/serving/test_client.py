"""The typed client against a real server: what a station and an MES do on an ordinary day."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import httpx
import pytest

from inspection.errors import ChangedMeanwhile, InspectionError, NotFound, StateConflict
from serving.client import Client, StationClient, inspection_in
from serving.errors import ServerUnreachable
from serving.feed_schemas import Change
from serving.statement_schemas import (
    EventFields,
    HoldFields,
    ProcessValueFields,
    ViewSetFields,
)
from tests.live_server import Live, serial
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD, BAD = part_png("good"), part_png("bad")
PRODUCT = "KN-42"


@pytest.fixture
def mes(live: Live) -> Iterator[Client]:
    with Client(live.address) as client:
        yield client


@pytest.fixture
def station(live: Live) -> Iterator[StationClient]:
    with StationClient(live.address) as client:
        yield client


def post(station: StationClient, number: int, image: bytes = BAD, **fields: str) -> str:
    answer = station.inspect(
        image,
        station="xray-1",
        product=PRODUCT,
        capture_id=f"client-{number}-{fields.get('view', '')}",
        serial=serial(number),
        **fields,
    )
    return str(answer["id"])


def test_what_a_station_posts_an_mes_reads_finds_and_counts(
    mes: Client, station: StationClient
) -> None:
    ids = {post(station, number, lot="LOT-C") for number in range(100, 105)}
    seen = mes.inspection(min(ids))
    assert seen.value.disposition == "fail"
    assert mes.by_trace_id(seen.value.trace_id.lower()).id == seen.value.id
    assert {each.id for each in mes.find(lot="LOT-C", page=2)} == ids
    assert {each["id"] for each in mes.export(lot="LOT-C")} == ids
    (row,) = mes.counts(by=("defect_class",), lot="LOT-C")
    assert (row.inspections, row.failed) == (5, 5)
    with pytest.raises(NotFound):
        mes.inspection("nothing")


def test_a_review_is_of_what_was_seen(mes: Client, station: StationClient) -> None:
    inspection = post(station, 110)
    first, second = mes.inspection(inspection), mes.inspection(inspection)
    review = mes.review(first, "pass", "only a mark on the skin")
    assert review.disposition == "pass"
    with pytest.raises(ChangedMeanwhile):
        mes.review(second, "fail", "I had not seen that")
    assert [each.id for each in mes.inspection(inspection).value.reviews] == [review.id]


def test_a_parts_life_is_told_and_read(mes: Client, station: StationClient) -> None:
    post(station, 120, machine="LPC-1", mould="M1")
    at = "2026-03-02T06:00:00+09:00"
    event = EventFields(event="cast", at=at, machine="LPC-1", mould="M1")
    mes.report(PRODUCT, serial(120), event, key="cast-120")
    mes.report(PRODUCT, serial(120), event, key="cast-120")  # sent again
    named = mes.rename(PRODUCT, serial(120), serial(121), "marked anew after blasting")
    assert named.serial == serial(121)
    mes.fit(PRODUCT, serial(121), ("bush", "B-7"), at=at, position="bore")
    values = [
        ProcessValueFields(
            name="melt-temperature", value=703.5, unit="degC", at=at, machine="LPC-1"
        )
    ]
    (report,) = mes.send_process_values(values)
    assert (report.accepted, report.refused) == (1, 0)

    part = mes.part(PRODUCT, serial(120))
    assert part.names == [serial(120), serial(121)]
    assert [each.event for each in part.events] == ["cast"]
    traced = mes.trace_part(PRODUCT, serial(121))
    assert traced.origin is not None
    assert traced.origin.known_from == "cast"
    assert [each.value for each in traced.values] == [703.5]
    (fitted,) = mes.genealogy(PRODUCT, serial(120)).components
    assert fitted.component.part == "B-7"
    with pytest.raises(StateConflict):
        mes.rename(PRODUCT, serial(121), serial(120), "back again")


def test_holds_show_until_they_are_released(mes: Client, station: StationClient) -> None:
    post(station, 130, lot="LOT-H")
    hold = mes.hold(
        HoldFields(product=PRODUCT, scope="lot", value="LOT-H", reason="sponge in two parts")
    )
    assert [each.id for each in mes.part(PRODUCT, serial(130)).holds] == [hold.id]
    assert hold.id in {each.id for each in mes.holds(product=PRODUCT).items}
    mes.release(hold.id, "sorted out")
    assert mes.part(PRODUCT, serial(130)).holds == []
    with pytest.raises(StateConflict):
        mes.release(hold.id, "once more")


def test_many_parts_are_looked_up_at_once(mes: Client, station: StationClient) -> None:
    post(station, 140)
    wanted = [(PRODUCT, serial(number)) for number in range(141, 141 + 520)]
    found = mes.lookup([*wanted, (PRODUCT, serial(140))])
    assert [each.item for each in found] == list(range(521))
    assert found[-1].part is not None
    assert found[0].part is None
    assert found[0].problem is not None


def test_views_are_opened_added_and_closed(mes: Client, station: StationClient) -> None:
    opened = station.open_views(
        ViewSetFields(
            station="xray-1", product=PRODUCT, serial=serial(150), views=["front", "side"]
        )
    )
    post(station, 150, GOOD, view_set=opened.id, view="front")
    post(station, 150, BAD, view_set=opened.id, view="side")
    closed = station.close_views(opened.id)
    assert closed.disposition == "fail"
    assert station.close_views(opened.id) == closed
    state = mes.view_set(opened.id)
    assert {each.view for each in state.views} == {"front", "side"}


def test_the_feed_is_followed_from_where_one_was(mes: Client, station: StationClient) -> None:
    start = mes.changes("now").next
    got: list[Change] = []

    def follow() -> None:
        with Client(mes.http.base_url) as other:  # type: ignore[arg-type]
            got.extend(islice(other.follow(start), 3))

    thread = threading.Thread(target=follow)
    thread.start()
    ids = [post(station, number) for number in range(160, 163)]
    thread.join(timeout=30)
    assert not thread.is_alive()
    found = [each for change in got if (each := inspection_in(change)) is not None]
    assert [each.id for each in found] == ids
    assert [each.sequence for each in got] == sorted(each.sequence for each in got)
    again = mes.changes(got[0].cursor)
    assert [each.sequence for each in again.items[:2]] == [each.sequence for each in got[1:]]


def test_the_server_tells_of_itself(mes: Client) -> None:
    assert PRODUCT in {each.product for each in mes.models().items}
    assert mes.readiness().checks


def test_a_cut_export_is_noticed(mes: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = httpx.Response.iter_lines
    monkeypatch.setattr(httpx.Response, "iter_lines", lambda answer: list(whole(answer))[:-1])
    with pytest.raises(InspectionError, match="cut"):
        list(mes.export())


def test_a_server_that_is_away_is_an_error_after_all_tries() -> None:
    waits: list[float] = []
    with (
        Client("http://127.0.0.1:9", tries=3, sleep=waits.append) as client,
        pytest.raises(ServerUnreachable, match="3 tries"),
    ):
        client.models()
    assert waits == [0.1, 0.2]
    with pytest.raises(ValueError, match="tries"):
        Client("http://127.0.0.1:9", tries=0)
