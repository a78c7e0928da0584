"""Others keep themselves up to date: asked for, waited for, or as a stream; nothing is missed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inspection.entries import TYPES, EntryKind
from inspection.errors import RecordError
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from inspection.stores.sql import SqlRecordStore
from serving.feed_schemas import FORMS
from serving.routes import feeding
from tests.contracts.drafts import make_review
from tests.live_server import Live, running, serial, settings_in, start_process
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = part_png("good")
EVENT = {"event": "shipped", "at": "2026-11-21T10:00:00Z"}


def add(live: Live, number: int, **more: Any) -> dict[str, Any]:
    place = f"/v1/parts/KN-42/{serial(number)}/events"
    answer = live.add(place, f"change-{number}", **EVENT, **more)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def changes(live: Live, **query: Any) -> dict[str, Any]:
    answer = live.http.get("/v1/changes", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class Stream:
    """A client of the stream: reads one message after the other."""

    def __init__(self, server: Live | str, **headers: str) -> None:
        address = server if isinstance(server, str) else server.address
        self._client = httpx.Client(base_url=address, timeout=10, trust_env=False)
        request = self._client.build_request("GET", "/v1/events", headers=headers)
        self.answer = self._client.send(request, stream=True)
        self._lines = self.answer.iter_lines()

    def message(self) -> dict[str, str]:
        """The next message, a comment under the name ""."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line:
                return fields
            name, _, value = line.partition(": ")
            fields[name.rstrip(":")] = value
        raise EOFError

    def rest(self) -> list[dict[str, str]]:
        """Everything up to the end."""
        found = []
        try:
            while True:
                found.append(self.message())
        except EOFError:
            return found

    def close(self) -> None:
        self.answer.close()
        self._client.close()


@pytest.fixture
def stream(live: Live) -> Iterator[Stream]:
    opened = Stream(live)
    yield opened
    opened.close()


# --- asked for -------------------------------------------------------------------------------


def test_everything_comes_once_in_order_and_none_is_missing(live: Live) -> None:
    start = changes(live, after="now")
    assert start["items"] == []
    posted = live.post(GOOD, capture_id="ch-500", serial=serial(500)).json()
    event = add(live, 500, note="two\nlines")
    review = live.review(posted["id"]).json()
    first = changes(live, after=start["next"], limit=2)
    rest = changes(live, after=first["next"])
    items = first["items"] + rest["items"]
    assert [each["kind"] for each in items] == ["inspection", "event", "review"]
    sequences = [each["sequence"] for each in items]
    assert sequences == list(range(sequences[0], sequences[0] + 3))
    assert items[0]["entry"]["id"] == posted["id"]
    assert items[1]["entry"] == event
    assert items[2]["entry"] == review
    assert changes(live, after=items[-1]["cursor"]) == {"items": [], "next": items[-1]["cursor"]}
    every = changes(live, limit=1000)["items"]
    assert [each["sequence"] for each in every] == list(range(1, len(every) + 1))


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_kind_of_entry_goes_over_the_wire_whole(kind: EntryKind) -> None:
    kept = {field.name for field in fields(TYPES[kind])}
    shown = set(FORMS[kind].model_fields)
    if kind == "inspection":
        # What only the store and the pictures need, and the names that a station gave its request.
        assert kept - shown == {
            *("image_media_type", "image_size_px", "evidence"),
            *("idempotency_key", "request_sha256", "principal"),
        }
        shown -= {"links"}
    assert shown <= kept
    assert kind == "inspection" or shown == kept


@pytest.mark.parametrize(
    "query",
    [{"after": "x"}, {"after": "!"}, {"limit": "0"}, {"limit": "1001"}, {"wait": "61"},
     {"wait": "-1"}, {"wait": "soon"}, {"since": "1"}],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(live: Live, query: dict[str, str]) -> None:
    assert live.http.get("/v1/changes", params=query).status_code == 422


def test_an_altered_cursor_and_one_from_the_future_are_refused(live: Live) -> None:
    cursor = changes(live, after="now")["next"]
    other = "B" if cursor[3] != "B" else "C"
    altered = live.http.get("/v1/changes", params={"after": cursor[:3] + other + cursor[4:]})
    assert altered.status_code == 422
    ahead = live.server.cursors.of_change(10**9)
    refused = live.http.get("/v1/changes", params={"after": ahead})
    assert refused.status_code == 422
    assert "older copy" in refused.json()["detail"]
    page = live.server.cursors.of_change(1)
    assert live.http.get("/v1/inspections", params={"cursor": page}).status_code == 422


# --- waited for ------------------------------------------------------------------------------


def test_a_long_poll_is_answered_when_something_comes(live: Live) -> None:
    start = changes(live, after="now")["next"]
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(changes, live, after=start, wait=20)
        time.sleep(0.3)
        event = add(live, 501)
        found = waiting.result()
    assert time.monotonic() - began < 10
    assert [each["entry"] for each in found["items"]] == [event]


def test_a_long_poll_ends_empty_when_nothing_comes(live: Live) -> None:
    start = changes(live, after="now")["next"]
    began = time.monotonic()
    assert changes(live, after=start, wait=1) == {"items": [], "next": start}
    assert 0.9 < time.monotonic() - began < 5


def test_those_who_wait_take_no_thread_each(live: Live) -> None:
    start = changes(live, after="now")["next"]
    waiters = 60  # more than the threads that serve requests
    with ThreadPoolExecutor(waiters) as pool:
        limits = httpx.Limits(max_connections=waiters)
        with httpx.Client(
            base_url=live.address, limits=limits, timeout=30, trust_env=False
        ) as many:
            query = {"after": start, "wait": "20"}
            waiting = [pool.submit(many.get, "/v1/changes", params=query) for _ in range(waiters)]
            until = time.monotonic() + 10
            while live.server.feed.inside < waiters and time.monotonic() < until:
                time.sleep(0.05)
            assert live.server.feed.inside == waiters
            began = time.monotonic()
            assert live.http.get("/livez").status_code == 200
            event = add(live, 502)
            answers = [each.result() for each in waiting]
            assert time.monotonic() - began < 10
    assert [[item["entry"] for item in each.json()["items"]] for each in answers] == [
        [event]
    ] * waiters


def test_a_caller_who_hangs_up_waits_no_longer(live: Live) -> None:
    start = changes(live, after="now")["next"]
    with pytest.raises(httpx.ReadTimeout):
        live.http.get("/v1/changes", params={"after": start, "wait": "30"}, timeout=0.5)
    until = time.monotonic() + 5
    while live.server.feed.inside and time.monotonic() < until:
        time.sleep(0.05)
    assert live.server.feed.inside == 0


# --- as a stream -----------------------------------------------------------------------------


def test_a_stream_shows_what_comes_and_goes_on_where_it_was_cut(live: Live, stream: Stream) -> None:
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.answer.headers["Cache-Control"] == "no-store"
    start = stream.message()
    assert set(start) == {"retry", "id"}, "a cursor without an event: nothing is lost from here on"
    first, second = add(live, 510), add(live, 511)
    seen = [stream.message(), stream.message()]
    assert [each["event"] for each in seen] == ["event", "event"]
    assert [httpx.Response(200, text=each["data"]).json() for each in seen] == [first, second]
    stream.close()
    third = add(live, 512)
    for since, expected in ((seen[0]["id"], [second, third]), (start["id"], [first, second])):
        later = Stream(live, **{"Last-Event-ID": since})
        later.message()
        data = [httpx.Response(200, text=later.message()["data"]).json() for _ in expected]
        assert data == expected
        later.close()


def test_no_text_breaks_a_stream(live: Live, stream: Stream) -> None:
    posted = live.post(GOOD, capture_id="ch-513", serial=serial(513)).json()
    reason = "a\u2028b\x85c\r\nid: 7\n\ndata: 한글"
    assert live.review(posted["id"], reason=reason).status_code == 422
    # Releases before took such a reason, so it may be on record.
    live.server.records.append_review(make_review(posted["id"], reason=reason))
    assert set(stream.message()) == {"retry", "id"}
    assert stream.message()["event"] == "inspection"
    seen = stream.message()
    assert set(seen) == {"id", "event", "data"}
    assert httpx.Response(200, text=seen["data"]).json()["reason"] == reason


def test_a_silent_stream_shows_that_it_lives(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "HEARTBEAT_S", 0.2)
    quiet = Stream(live)
    quiet.message()
    assert quiet.message() == {"": "nothing new"}
    quiet.close()


def test_a_stream_from_nowhere_is_refused(live: Live) -> None:
    for cursor in (b"x", "é".encode("latin-1")):
        headers = {b"Last-Event-ID": cursor}
        assert live.http.get("/v1/events", headers=headers).status_code == 422
    assert live.http.get("/v1/events", params={"after": "x"}).status_code == 422


def test_the_number_of_streams_is_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.server.feed, "_most", 1)
    first = Stream(live)
    first.message()
    refused = live.http.get("/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert refused.headers["Retry-After"]
    start = changes(live, after="now")["next"]
    assert live.http.get("/v1/changes", params={"after": start, "wait": 5}).status_code == 429
    first.close()
    until = time.monotonic() + 5
    while live.server.feed.inside and time.monotonic() < until:
        time.sleep(0.05)
    assert live.server.feed.inside == 0, "a stream that was closed gives its place back"


def test_a_stopping_server_ends_its_streams_at_once(site: Path) -> None:
    ended: list[list[dict[str, str]]] = []
    polled: list[int] = []
    with running(settings_in(site)) as own:
        open_stream = Stream(own)
        open_stream.message()
        start = changes(own, after="now")["next"]
        poll = httpx.Client(base_url=own.address, timeout=30, trust_env=False)
        query = {"after": start, "wait": "30"}
        threads = [
            threading.Thread(target=lambda: ended.append(open_stream.rest())),
            threading.Thread(
                target=lambda: polled.append(poll.get("/v1/changes", params=query).status_code)
            ),
        ]
        for each in threads:
            each.start()
        until = time.monotonic() + 5
        while own.server.feed.inside < 2 and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
    stopped = time.monotonic() - began
    for each in threads:
        each.join()
    open_stream.close()
    poll.close()
    assert stopped < 8, "it does not wait for its streams until they are cut"
    assert ended == [[{"": "the server is stopping"}]]
    assert polled == [200]


def test_a_process_that_is_told_to_stop_ends_its_streams(site: Path) -> None:
    process = start_process(site)
    stream = Stream(process.address)
    stream.message()
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 15, "half of what it gives requests to finish"
    assert stream.rest() == [{"": "the server is stopping"}]
    stream.close()


def test_a_stream_ends_when_its_key_is_revoked_or_the_records_cannot_be_read(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "HEARTBEAT_S", 0.2)
    (site / "var").mkdir()
    keys = AccessKeys(records_url(site / "var"))
    text, key = keys.create("mes", "mes")
    keys.create("admin", "admin")
    station, _ = keys.create("line", "station")
    with running(settings_in(site)) as own:
        refused = own.http.get("/v1/events", headers={"Authorization": f"Bearer {station}"})
        assert refused.status_code == 403
        one, two = (Stream(own, Authorization=f"Bearer {text}") for _ in range(2))
        one.message()
        keys.revoke(key.id)
        assert one.rest()[-1] == {"": "the access key does not hold any more"}
        two.rest()
        other, _ = keys.create("mes", "mes")
        three = Stream(own, Authorization=f"Bearer {other}")
        three.message()

        def broken(*_: object, **__: object) -> int:
            raise RecordError("the disk is gone")

        monkeypatch.setattr(SqlRecordStore, "wait_beyond", broken)
        assert three.rest()[-1] == {"": "the records cannot be read now"}
        for each in (one, two, three):
            each.close()
    keys.close()
