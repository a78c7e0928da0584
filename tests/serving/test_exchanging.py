"""A promotion is taken up while parts come in; what cannot be put to work changes nothing."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import EngineError, RegistryError
from inspection.golden import FILE_NAME, Golden
from inspection.pipeline import Line
from inspection.registry import LOG_NAME, Promotion, Registry
from serving.batching import BatchingEngine
from serving.warming import warm_engine
from tests.live_server import Live, promoted_spot, running, serial, settings_in, until
from tests.spot_model import part_png, spot_graph, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage
    from serving.settings import Settings

GOOD = part_png("good")


def promote_next(weights: Path) -> ModelPackage:
    package: ModelPackage = write_spot_package(weights, model="spot-kn-42")
    Registry(weights).promote(package.reference)
    return package


def product(live: Live, name: str = "KN-42") -> dict[str, Any]:
    items = live.http.get("/v1/models").json()["items"]
    found: dict[str, Any] = next(item for item in items if item["product"] == name)
    return found


def version(live: Live) -> int:
    number: int = product(live)["model"]["version"]
    return number


def until_version(live: Live, number: int) -> None:
    until(lambda: version(live) == number)


def complaint(line: Line) -> str | None:
    assert isinstance(line.engine, BatchingEngine)
    return line.engine.complaint


def ready(live: Live) -> tuple[int, str]:
    answer = live.http.get("/readyz?verbose")
    return answer.status_code, answer.text


def test_a_promotion_judges_while_parts_come_in_and_none_is_lost(site: Path) -> None:
    with running(settings_in(site)) as live:
        stop = threading.Event()
        answers: list[tuple[int, int]] = []

        def station(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                answer = live.post(
                    GOOD, station=name, capture_id=f"c-{number}", key=f"{name}-{number}"
                )
                answers.append((answer.status_code, answer.json()["model"]["version"]))

        with ThreadPoolExecutor(4) as pool:
            for name in ("a", "b", "c", "d"):
                pool.submit(station, name)
            try:
                until(lambda: (201, 1) in answers)
                for number in (2, 3, 4):
                    promote_next(site / "weights")
                    until_version(live, number)
                    assert ready(live)[0] == 200
                until(lambda: (201, 4) in answers)
            finally:
                stop.set()
        assert {status for status, _ in answers} == {201}
        assert {1, 4} <= {judged for _, judged in answers}
        assert live.post(GOOD, capture_id="last", serial=serial(1)).json()["model"]["version"] == 4


def test_a_package_that_does_not_work_leaves_the_old_one_judging(site: Path) -> None:
    weights = site / "weights"
    with running(settings_in(site)) as live:
        broken = promote_next(weights)
        graph = broken.folder / "model.onnx"
        whole = graph.read_bytes()
        graph.write_bytes(whole[:-1] + b"!")
        until(lambda: "cannot be put to work" in ready(live)[1])
        status, text = ready(live)
        assert status == 200, "the old one still judges"
        assert "spot-kn-42@1 is warm; spot-kn-42@2 is promoted and cannot be put to work" in text
        assert str(site) not in text
        shown = product(live)
        assert (shown["model"]["version"], shown["pending"]) == (1, True)
        assert live.post(GOOD, capture_id="old").json()["model"]["version"] == 1
        graph.write_bytes(whole)
        Registry(weights).promote(broken.reference)
        until(lambda: version(live) == 2)
        assert not product(live)["pending"]
        assert "cannot" not in ready(live)[1]


def test_a_model_that_answers_otherwise_than_it_was_measured_does_not_serve(site: Path) -> None:
    weights = site / "weights"
    image = np.full((1, 64, 64), 150, np.float32)  # near the middle, where the gain shows
    measured = OpenVinoEngine(spot_graph(gain=-5.0))
    golden = Golden.of([image], measured.infer([image])).as_bytes()
    with running(settings_in(site)) as live:
        wrong = write_spot_package(weights, model="spot-kn-42", more={FILE_NAME: golden})
        Registry(weights).promote(wrong.reference, accept_risk="as in a test")
        until(lambda: "does not answer golden image 1 of 1" in ready(live)[1])
        assert version(live) == 1
        assert live.post(GOOD, capture_id="old").json()["model"]["version"] == 1


def test_a_log_of_promotions_that_breaks_while_serving_is_not_ready(site: Path) -> None:
    with running(settings_in(site)) as live:
        assert ready(live)[0] == 200
        log = site / "weights" / LOG_NAME
        log.write_text('{"made": "up"}\n' + log.read_text())
        status, text = ready(live)
        assert status == 503
        assert "[FAIL] promotions: " in text
        assert live.post(GOOD, capture_id="goes-on").status_code == 201


def test_a_product_that_is_promoted_later_is_served_without_a_restart(site: Path) -> None:
    with running(settings_in(site)) as live:
        assert live.post(GOOD, product="KN-43").status_code == 404
        promoted_spot(site / "weights", "KN-43")
        until(lambda: live.post(GOOD, product="KN-43", capture_id="n").status_code in (200, 201))


def test_a_listed_product_alone_is_served(site: Path) -> None:
    with running(settings_in(site, products=("KN-42",))) as live:
        promoted_spot(site / "weights", "KN-43")
        promote_next(site / "weights")
        until(lambda: version(live) == 2)
        assert live.post(GOOD, product="KN-43").status_code == 404


def test_exchanged_engines_are_closed_and_let_go(site: Path) -> None:
    made: list[weakref.ref[BatchingEngine]] = []

    def make(package: ModelPackage, settings: Settings) -> Engine:
        engine = warm_engine(package, settings)
        assert isinstance(engine, BatchingEngine)
        made.append(weakref.ref(engine))
        return engine

    with running(settings_in(site), make_engine=make) as live:
        for number in range(2, 7):
            promote_next(site / "weights")
            until_version(live, number)
            live.post(GOOD, capture_id=f"c-{number}")

        def left() -> int:
            gc.collect()
            return sum(each() is not None for each in made)

        until(lambda: left() == 1)
        assert sum(t.name == "engine" for t in threading.enumerate()) == 1
        assert len(made) == 6


def test_a_line_in_use_is_not_closed_under_its_user(site: Path) -> None:
    with running(settings_in(site)) as live:
        lines = live.server.lines
        with lines.use("KN-42") as held:
            promote_next(site / "weights")
            until(lambda: version(live) == 2)
            assert complaint(held) is None
        assert complaint(held) == "its engine has stopped"
        now = lines["KN-42"]
        assert isinstance(now, Line)
        assert now is not held


class HangsOnce:
    """A real engine that does not come back from its first run until it is let go."""

    def __init__(self, package: ModelPackage, hang: threading.Event, let_go: threading.Event):
        self._engine = OpenVinoEngine.for_package(package)
        self._hang, self._let_go = hang, let_go
        self.description = "hangs once"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        if self._hang.is_set():
            self._hang.clear()
            self._let_go.wait(60)
        return self._engine.infer(images)

    def close(self) -> None:
        self._engine.close()


def test_an_engine_that_hangs_is_replaced_and_nobody_waits_for_it(site: Path) -> None:
    hang, let_go = threading.Event(), threading.Event()
    made: list[BatchingEngine] = []

    def make(package: ModelPackage, _: Settings) -> Engine:
        engine = BatchingEngine(HangsOnce(package, hang, let_go), max_batch=4, stuck_s=0.5)
        made.append(engine)
        return engine

    with running(settings_in(site), make_engine=make) as live:
        assert live.post(GOOD, capture_id="before").status_code == 201
        hang.set()
        refused = live.post(GOOD, capture_id="hung")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert "has not answered" in refused.json()["detail"]
        until(lambda: len(made) == 2)
        again = live.post(GOOD, capture_id="hung")
        assert again.status_code == 201, "the refused one left nothing behind"
        assert ready(live)[0] == 200
        let_go.set()
        until(lambda: sum(t.name == "engine" for t in threading.enumerate()) == 1)


def test_readiness_fails_while_an_engine_hangs() -> None:
    let_go = threading.Event()

    class Hangs:
        description = "hangs"

        def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
            let_go.wait(60)
            raise EngineError("let go")

        def close(self) -> None:
            pass

    engine = BatchingEngine(Hangs(), max_batch=1, stuck_s=30)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(engine.infer, [None])  # type: ignore[list-item]
        until(lambda: engine._running_since is not None)
        assert engine.complaint is None
        engine._stuck_s = 0.0
        assert "has not answered" in str(engine.complaint)
        engine.abandon("given up")
        with pytest.raises(EngineError, match="given up"):
            answer.result(10)
        let_go.set()
    engine.close()


def test_a_new_engine_that_hangs_as_it_warms_up_holds_up_nobody(site: Path) -> None:
    """Neither the model at work nor what is decided afterwards."""
    weights = site / "weights"
    let_go = threading.Event()

    def make(package: ModelPackage, _: Settings) -> Engine:
        hang = threading.Event()
        if package.document.version == 2:
            hang.set()
        engine = BatchingEngine(HangsOnce(package, hang, let_go), max_batch=2, stuck_s=0.3)
        try:
            engine.warm_up((1, 64, 64))
        except EngineError:
            engine.close()
            raise
        return engine

    with running(settings_in(site), make_engine=make) as live:
        promote_next(weights)
        until(lambda: "has not answered" in ready(live)[1])
        assert live.post(GOOD, capture_id="old").json()["model"]["version"] == 1
        promote_next(weights)
        until_version(live, 3)
        let_go.set()


@pytest.mark.parametrize("trouble", [EngineError("cannot"), RuntimeError("unforeseen")])
def test_a_retired_model_stops_though_nothing_can_take_its_place(
    site: Path, trouble: Exception
) -> None:
    weights = site / "weights"

    def make(package: ModelPackage, settings: Settings) -> Engine:
        if package.document.version == 2:
            raise trouble
        return warm_engine(package, settings)

    with running(settings_in(site), make_engine=make) as live:
        promoted_spot(weights, "ZZ-9")
        promote_next(weights)
        until(lambda: "cannot be put to work" in ready(live)[1])
        assert live.post(GOOD, capture_id="old").json()["model"]["version"] == 1
        until(lambda: live.post(GOOD, product="ZZ-9", capture_id="0").status_code in (200, 201))
        Registry(weights).retire("spot-kn-42@1", reason="misses cracks")
        until(lambda: product(live)["state"] == "refused")
        # The next one is tried first; until it has failed anew, the answer names the retirement.
        until(lambda: str(trouble) in live.post(GOOD, capture_id="new").json()["detail"])
        assert live.post(GOOD, capture_id="new").status_code == 503
        assert live.post(GOOD, capture_id="z", product="ZZ-9").status_code == 201


def test_a_log_that_could_not_be_read_for_a_moment_is_read_again(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_in(site)) as live:
        lines = live.server.lines
        failures = iter([RegistryError("too many open files")])
        history = Registry.history

        def fails_once(registry: Registry) -> list[Promotion]:
            if threading.current_thread().name == "models" and (error := next(failures, None)):
                raise error
            return history(registry)

        monkeypatch.setattr(Registry, "history", fails_once)
        promote_next(site / "weights")
        until_version(live, 2)
        assert next(failures, None) is None
        assert lines.refused("KN-42") is None
