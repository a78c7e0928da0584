"""More than can be done: what would come too late is refused at the door and leaves nothing."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.engines.openvino import OpenVinoEngine
from serving.batching import BatchingEngine
from serving.client import StationClient
from serving.errors import DeadlinePassed, Overloaded
from serving.gate import ENOUGH, QUEUE_SHARE, Gate
from serving.settings import Settings
from tests.live_server import Live, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage

GOOD = part_png("good")
PLACE_S = 0.1


class Slow:
    """A real engine that takes its time for every image, and can be held back altogether."""

    def __init__(self, package: ModelPackage, go_on: threading.Event) -> None:
        self._engine = OpenVinoEngine.for_package(package)
        self._go_on = go_on
        self.description = "slow"
        self.runs = 0

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        self.runs += 1
        self._go_on.wait(30)
        time.sleep(PLACE_S * len(images))
        return self._engine.infer(images)

    def close(self) -> None:
        self._engine.close()


class Site:
    """A server with one slow engine and few workers."""

    def __init__(self, live: Live, engines: list[Slow], go_on: threading.Event) -> None:
        self.live, self.engines, self.go_on = live, engines, go_on

    def post(self, number: int, **headers: str) -> httpx.Response:
        return self.live.post(
            GOOD, capture_id=f"c-{number}", serial=serial(number), headers=headers
        )


def slow_site(folder: Path, **changes: Any) -> Iterator[Site]:
    engines: list[Slow] = []
    go_on = threading.Event()
    go_on.set()

    def make(package: ModelPackage, _: Settings) -> Engine:
        engines.append(Slow(package, go_on))
        return BatchingEngine(engines[-1], max_batch=1, stuck_s=30)

    before = settings_in(folder, workers=2)
    settings = before.model_copy(update={"server": before.server.model_copy(update=changes)})
    with running(settings, make_engine=make) as live:
        yield Site(live, engines, go_on)
        go_on.set()


@pytest.fixture
def slow(site: Path) -> Iterator[Site]:
    yield from slow_site(site)


def test_what_would_come_too_late_is_refused_and_the_rest_is_in_time(slow: Site) -> None:
    for number in range(3):  # it measures itself
        assert slow.post(number).status_code == 201
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda n: slow.post(n, **{"X-Deadline-Ms": "450"}), range(100, 116))
        )
    kinds = {answer.status_code for answer in answers}
    assert kinds <= {201, 429, 504}
    judged = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert judged
    assert refused
    assert time.monotonic() - began < 16 * PLACE_S, "the refused ones took no engine's time"
    for answer in refused:
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] == "overloaded"
    assert slow.live.kept()[0] == 3 + len(judged)
    assert slow.live.server.gate.inside == 0


def test_a_station_keeps_what_was_refused_and_gets_it_judged(slow: Site) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        slow.go_on.set()
        while slow.live.server.gate.inside:
            time.sleep(0.01)

    slow.post(0)
    slow.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow.post, 1)
        while slow.live.server.gate.inside < 1:
            time.sleep(0.01)
        slow.live.server.gate._per_answer_s = 100.0
        slow.live.server.gate._timed = ENOUGH
        with StationClient(slow.live.address, sleep=sleep, first_wait_s=0.01) as station:
            judged = pool.submit(
                station.inspect, GOOD, station="s", product="KN-42", capture_id="kept"
            )
            assert judged.result(60)["capture_id"] == "kept"
        assert first.result().status_code == 201
    assert waits[0] >= 1, "Retry-After is obeyed"


def test_what_became_late_while_it_waited_is_dropped_and_can_be_sent_again(slow: Site) -> None:
    slow.go_on.clear()
    with ThreadPoolExecutor(4) as pool:
        running_now = [pool.submit(slow.post, number) for number in (1, 2)]
        while slow.live.server.gate.inside < 2:
            time.sleep(0.01)
        late = pool.submit(slow.post, 3, **{"X-Deadline-Ms": "50"})
        while slow.live.server.gate.inside < 3:
            time.sleep(0.01)
        time.sleep(0.2)
        slow.go_on.set()
        assert {answer.result().status_code for answer in running_now} == {201}
        assert late.result().status_code == 504
        assert late.result().json()["code"] == "deadline-passed"
    assert slow.live.kept()[0] == 2
    assert slow.post(3).status_code == 201


def test_work_whose_caller_has_gone_is_not_begun(slow: Site) -> None:
    assert slow.post(0).status_code == 201
    slow.go_on.clear()
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(slow.post, number) for number in (1, 2)]
        while slow.live.server.gate.inside < 2:
            time.sleep(0.01)
        with (
            httpx.Client(base_url=slow.live.address, timeout=0.3, trust_env=False) as gone,
            pytest.raises(httpx.ReadTimeout),
        ):
            gone.post(
                "/v1/inspections?station=s&product=KN-42&capture_id=gone",
                content=GOOD,
                headers={"Idempotency-Key": "gone", "Content-Type": "image/png"},
            )
        time.sleep(0.3)  # the server hears of it
        slow.go_on.set()
        assert {answer.result().status_code for answer in held} == {201}
    while slow.live.server.gate.inside:
        time.sleep(0.01)
    assert slow.engines[0].runs == 3
    assert slow.live.kept()[0] == 3


def test_the_queue_has_an_end_whatever_the_deadlines(site: Path) -> None:
    for slow in slow_site(site, queue=3):
        slow.go_on.clear()
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(slow.post, number) for number in range(6)]
            while sum(answer.done() for answer in answers) < 3:
                time.sleep(0.01)
            slow.go_on.set()
            statuses = sorted(answer.result().status_code for answer in answers)
        assert statuses == [201, 201, 201, 429, 429, 429]


def test_a_body_that_does_not_come_is_not_waited_for(site: Path) -> None:
    for slow in slow_site(site, body_s=0.3):
        host, port = slow.live.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as line:
            line.sendall(
                b"POST /v1/inspections?station=s&product=KN-42&capture_id=c HTTP/1.1\r\n"
                b"Host: 127.0.0.1\r\nIdempotency-Key: k\r\nContent-Type: image/png\r\n"
                b"Content-Length: 5000\r\n\r\n" + GOOD[:10]
            )
            answer = line.recv(65536).decode()
            assert answer.startswith("HTTP/1.1 408 ")
            assert "connection: close" in answer.lower()
        assert slow.live.server.gate.inside == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Deadline-Ms": "soon"},
        {"X-Deadline-Ms": "-5"},
        {"X-Deadline-Ms": "0"},
        {"X-Deadline-Ms": "nan"},
        {"X-Deadline-Ms": "600001"},
        {"Prefer": "wait=now"},
        {"Prefer": "respond-async, wait=0"},
    ],
)
def test_a_deadline_that_is_no_time_is_refused(slow: Site, headers: dict[str, str]) -> None:
    answer = slow.post(1, **headers)
    assert answer.status_code == 422
    assert "X-Deadline-Ms: 800" in answer.json()["remedy"]


def test_other_preferences_are_none_of_its_business(slow: Site) -> None:
    assert slow.post(1, Prefer="handling=lenient; await=2, wait=5").status_code == 201


@given(st.lists(st.floats(0.001, 100), max_size=30), st.integers(1, 20))
def test_whoever_comes_alone_is_let_in(deadlines: list[float], queue: int) -> None:
    gate = Gate(longest_queue=queue)
    entered, refused = [], []
    for seconds in deadlines:
        try:
            entered.append(gate.enter(time.monotonic() + seconds))
            entered[-1].arrived()
            with suppress(DeadlinePassed):  # the shortest may have passed by now
                entered[-1].begin()
        except Overloaded as error:
            refused.append((len(entered), error.retry_after_s or 0))
    assert all(inside and retry >= 1 for inside, retry in refused)
    assert gate.inside <= queue
    for entry in entered:
        entry.leave()
        entry.leave()
    assert gate.inside == 0
    gate.enter(time.monotonic() + 1e-6).leave()


def test_an_entry_that_is_late_does_not_begin() -> None:
    entry = Gate(longest_queue=1).enter(time.monotonic() - 1)
    with pytest.raises(DeadlinePassed, match="before work began"):
        entry.begin()


@pytest.mark.parametrize("beside", ["a body that trickles in", "refusals"])
def test_what_others_do_to_the_line_is_not_taken_for_slow_work(beside: str) -> None:
    """A station with a part every 0.1 s, and work of 1 ms: nothing of it comes too late."""
    gate = Gate(longest_queue=10)
    other = gate.enter(time.monotonic() + 10)
    for _ in range(5):
        time.sleep(0.1)
        if beside == "refusals":  # one is always at work, each of them done in a moment
            following = gate.enter(time.monotonic() + 10)
            following.arrived()
            following.begin()
            other.leave()
            other = following
        entry = gate.enter(time.monotonic() + 0.1 / QUEUE_SHARE)
        entry.arrived()
        entry.begin()
        time.sleep(0.001)
        entry.leave()
    assert gate.per_answer_s is not None
    assert gate.per_answer_s < 0.08
    other.leave()
    assert gate.inside == 0


def test_while_nothing_is_at_work_a_body_that_trickles_in_keeps_nobody_out() -> None:
    gate = Gate(longest_queue=10)
    gate._per_answer_s, gate._timed = 100.0, ENOUGH  # as an engine that hung leaves it
    slow = gate.enter(time.monotonic() + 10)
    quick = gate.enter(time.monotonic() + 10)
    quick.arrived()
    with pytest.raises(Overloaded):
        gate.enter(time.monotonic() + 10)
    slow.leave()
    quick.leave()
    assert gate.inside == 0


def test_one_answer_that_stalled_keeps_nobody_out() -> None:
    gate = Gate(longest_queue=100)
    stalled = gate.enter(time.monotonic() + 10)
    stalled.arrived()
    stalled.begin()
    time.sleep(0.2)
    stalled.leave()
    waiting = [gate.enter(time.monotonic() + 1) for _ in range(20)]  # 21 times 0.2 s is 4 s
    for each in waiting:
        each.arrived()
        each.begin()
        each.leave()
    assert gate.per_answer_s is not None
    assert gate.per_answer_s < 0.05
