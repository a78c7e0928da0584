"""A station may repeat itself: one capture is one record, however often and however it comes."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from inspection.engine import Prediction
from inspection.errors import EngineError, InFlight, RecordError
from inspection.record import InspectionDraft, InspectionRecord, InspectionRequest
from inspection.stores.sql import SqlRecordStore
from serving.client import StationClient
from serving.errors import ServerUnreachable
from serving.inflight import InFlightGuard
from serving.warming import warm_engine
from tests.live_server import Live, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from serving.app import MakeEngine
    from serving.settings import Settings

GOOD, BAD = part_png("good"), part_png("bad")


class GatedEngine:
    """A real engine behind a gate; counts who has come, and fails when told to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.gate = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.failure: Exception | None = None

    @property
    def description(self) -> str:
        return self._engine.description

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        self.arrived.release()
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self._engine.infer(images)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def gates() -> list[GatedEngine]:
    return []


@pytest.fixture
def make_gated(gates: list[GatedEngine]) -> MakeEngine:
    def make(package: ModelPackage, settings: Settings) -> Engine:
        gates.append(GatedEngine(warm_engine(package, settings)))
        return gates[-1]

    return make


def test_the_same_request_gets_the_stored_answer(live: Live) -> None:
    first = live.post(BAD, capture_id="same", serial=serial(1))
    again = live.post(BAD, capture_id="same", serial=serial(1).lower())
    assert (first.status_code, again.status_code) == (201, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.content == first.content
    assert live.http.get("/v1/inspections", params={"serial": serial(1)}).json()["items"] == [
        first.json()
    ]


def test_an_answer_once_given_stands_when_the_product_is_no_longer_served(site: Path) -> None:
    with running(settings_in(site)) as first:
        given = first.post(GOOD, capture_id="kept", serial=serial(3))
        assert given.status_code == 201
    with running(settings_in(site, products=("OTHER",))) as later:
        again = later.post(GOOD, capture_id="kept", serial=serial(3))
        assert (again.status_code, again.json()) == (200, given.json())
        assert later.post(GOOD, capture_id="new", serial=serial(3)).status_code == 404


def test_the_time_zone_does_not_make_another_request(live: Live) -> None:
    live.post(BAD, capture_id="zone", captured_at="2026-11-21T10:00:00Z")
    again = live.post(BAD, capture_id="zone", captured_at="2026-11-21T19:00:00+09:00")
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("image", "fields"),
    [(GOOD, {}), (BAD, {"lot": "other"}), (BAD, {"capture_id": "reuse-other"})],
)
def test_the_same_key_for_another_request_is_refused(
    live: Live, image: bytes, fields: dict[str, Any]
) -> None:
    live.post(BAD, capture_id="reuse", key="reused")
    before = live.kept()
    answer = live.post(image, **{"capture_id": "reuse", "key": "reused", **fields})
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency-key-reused"
    assert live.kept() == before


def test_a_capture_is_unique_for_ever(live: Live) -> None:
    first = live.post(BAD, capture_id="once", key="once-1")
    before = live.kept()
    other_image = live.post(GOOD, capture_id="once", key="once-2")
    assert other_image.status_code == 409
    assert other_image.json()["code"] == "capture-conflict"
    assert "Retry-After" not in other_image.headers, "waiting does not help"
    assert live.kept() == before
    # Keys expire or get lost; the same capture is still the same request.
    same = live.post(BAD, capture_id="once", key="once-3")
    assert same.status_code == 200
    assert same.json() == first.json()


def test_stations_do_not_share_keys_and_captures(live: Live) -> None:
    assert live.post(BAD, capture_id="mine", station="a", key="k").status_code == 201
    assert live.post(GOOD, capture_id="mine", station="b", key="k").status_code == 201


def test_while_the_first_is_running_others_are_told_to_wait(
    site: Path, gates: list[GatedEngine], make_gated: MakeEngine
) -> None:
    with (
        running(settings_in(site), make_engine=make_gated) as live,
        ThreadPoolExecutor(1) as station,
    ):
        (engine,) = gates
        first = station.submit(live.post, BAD, capture_id="slow", key="slow")
        assert engine.arrived.acquire(timeout=30)
        same = live.post(BAD, capture_id="slow", key="slow")
        other_key = live.post(BAD, capture_id="slow", key="fresh")
        other_capture = live.post(BAD, capture_id="new", key="slow")
        engine.gate.set()
        for answer in (same, other_key, other_capture):
            assert answer.status_code == 409
            assert answer.json()["code"] == "request-in-flight"
            assert answer.headers["Retry-After"] == "1"
        assert first.result().status_code == 201
        assert live.post(BAD, capture_id="slow", key="slow").status_code == 200
        assert live.kept()[0] == 1


def test_a_client_that_leaves_does_not_let_a_second_one_run_beside_it(
    site: Path, gates: list[GatedEngine], make_gated: MakeEngine
) -> None:
    with running(settings_in(site), make_engine=make_gated) as live:
        (engine,) = gates
        with pytest.raises(Exception, match="timed out"):
            live.http.post(
                "/v1/inspections?station=xray-1&product=KN-42&capture_id=left",
                content=BAD,
                headers={"Idempotency-Key": "key-left", "Content-Type": "image/png"},
                timeout=0.5,
            )
        assert engine.arrived.acquire(timeout=30)
        assert live.post(BAD, capture_id="left").status_code == 409
        engine.gate.set()
        with StationClient(live.address, tries=50, first_wait_s=0.01) as station:
            station.inspect(
                BAD,
                station="xray-1",
                product="KN-42",
                capture_id="left",
                idempotency_key="key-left",
            )
        assert live.kept()[0] == 1


def test_an_engine_failure_leaves_nothing_and_gives_the_names_back(
    site: Path, gates: list[GatedEngine], make_gated: MakeEngine
) -> None:
    with running(settings_in(site), make_engine=make_gated) as live:
        (engine,) = gates
        engine.gate.set()
        engine.failure = EngineError("the device was lost")
        failed = live.post(BAD, capture_id="e")
        assert failed.status_code == 503
        assert failed.json()["code"] == "engine-failed"
        assert "Retry-After" in failed.headers
        assert live.kept() == (0, frozenset())
        engine.failure = None
        assert live.post(BAD, capture_id="e").status_code == 201


def test_a_fault_of_ours_is_a_problem_without_internals(
    site: Path, gates: list[GatedEngine], make_gated: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with running(settings_in(site), make_engine=make_gated) as live:
        (engine,) = gates
        engine.gate.set()
        engine.failure = ZeroDivisionError("secret of the house")
        failed = live.post(BAD, capture_id="f")
        assert failed.status_code == 500
        assert failed.headers["Content-Type"] == "application/problem+json"
        assert failed.headers["X-Content-Type-Options"] == "nosniff"
        assert "secret" not in failed.text
        assert "ZeroDivisionError" not in failed.text
        assert "secret of the house" in caplog.text, "the log has it"
        engine.failure = None
        assert live.post(BAD, capture_id="f").status_code == 201


def test_without_a_durable_record_there_is_no_verdict(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    append = SqlRecordStore.append

    def refusing(self: SqlRecordStore, draft: InspectionDraft) -> InspectionRecord:
        if full:
            raise RecordError("no room on the disk")
        return append(self, draft)

    monkeypatch.setattr(SqlRecordStore, "append", refusing)
    with running(settings_in(site)) as live:
        failed = live.post(BAD, capture_id="r")
        assert failed.status_code == 503
        assert failed.json()["code"] == "record-failed"
        assert "disposition" not in failed.text
        assert live.kept()[0] == 0
        full = False
        assert live.post(BAD, capture_id="r").status_code == 201


def test_fifty_at_once(site: Path) -> None:
    """Good ones, bad ones, repeats and refused ones from many stations, all mixed."""
    kinds = ["good", "bad", "unsure", "novel"]
    images = [part_png(kinds[n % 4], seed=n) for n in range(20)]

    def send(live: Live, number: int) -> tuple[int, int, str | None]:
        capture = number % 20
        image = b"not an image" if number >= 45 else images[capture]
        name = f"wrong-{number}" if number >= 45 else f"c-{capture}"
        answer = live.post(image, station=f"s{capture % 3}", capture_id=name)
        return capture, answer.status_code, answer.json().get("id")

    with running(settings_in(site)) as live:
        with ThreadPoolExecutor(16) as stations:
            answers = list(stations.map(lambda n: send(live, n), range(50)))
        assert [status for _, status, _ in answers[45:]] == [422] * 5
        names: dict[int, set[str | None]] = {}
        for capture, status, name in answers[:45]:
            assert status in (200, 201, 409)
            if status != 409:
                names.setdefault(capture, set()).add(name)
        assert sum(status == 201 for _, status, _ in answers) == 20, "one record each"
        assert all(len(each) == 1 for each in names.values())
        assert live.kept()[0] == 20
        assert live.http.get("/readyz").status_code == 200


def test_the_client_repeats_the_same_key_until_it_is_answered(
    site: Path, gates: list[GatedEngine], make_gated: MakeEngine
) -> None:
    waits: list[float] = []
    with running(settings_in(site), make_engine=make_gated) as live:
        (engine,) = gates
        engine.gate.set()
        engine.failure = EngineError("the device was lost")

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                engine.failure = None

        with StationClient(live.address, sleep=wait) as station:
            answer = station.inspect(BAD, station="s", product="KN-42", capture_id="c", lot="L")
        assert answer["disposition"] == "fail"
        assert waits == [5.0, 5.0, 5.0], "as long as the server asks"
        assert live.kept()[0] == 1


def test_the_client_gives_up_after_its_tries_and_says_so() -> None:
    waits: list[float] = []
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        with (
            StationClient(address, tries=3, sleep=waits.append) as station,
            pytest.raises(ServerUnreachable, match="3 tries"),
        ):
            station.inspect(BAD, station="s", product="KN-42", capture_id="c")
    assert waits == [0.1, 0.2]


@pytest.mark.parametrize(
    ("taken", "asked"),
    [(("k", "c"), ("k", "d")), (("k", "c"), ("j", "c")), (("k", "c"), ("k", "c"))],
)
def test_the_guard_takes_both_names_or_neither(
    taken: tuple[str, str], asked: tuple[str, str]
) -> None:
    def named(names: tuple[str, str]) -> InspectionRequest:
        return InspectionRequest(
            station="s", product="p", idempotency_key=names[0], capture_id=names[1]
        )

    guard = InFlightGuard()
    held = guard.hold(named(taken))
    with pytest.raises(InFlight):
        guard.hold(named(asked))
    free = guard.hold(named(("free", "free")))
    held.release()
    guard.hold(named(asked)).release()
    free.release()
