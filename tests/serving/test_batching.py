"""Batching: order is kept, nobody waits for company, one bad image fails alone, nothing hangs."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.engine import Prediction
from inspection.errors import EngineError
from serving.batching import BatchingEngine, _Job
from serving.settings import Settings
from serving.threads import NICENESS
from serving.warming import warm_engine
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHAPE = (1, 2, 2)
BAD = -1.0
FATAL = -2.0


def image(value: float) -> NDArray[np.float32]:
    return np.full(SHAPE, value, dtype=np.float32)


def prediction(value: float) -> Prediction:
    return Prediction(
        scores=np.array([value], np.float32),
        evidence=np.full((1, 1, 1), value, np.float32),
        novelty=0.0,
    )


class EchoEngine:
    """Answers with what an image holds. Opens when its gate is; refuses a batch with a bad one."""

    description = "echo"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Semaphore(0)
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.closed = False

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        self.busy.release()
        self.gate.wait()
        values = [float(each[0, 0, 0]) for each in images]
        if FATAL in values:
            raise SystemExit("the worker's thread dies")
        if BAD in values:
            raise RuntimeError("driver says no")
        return [prediction(value) for value in values]

    def close(self) -> None:
        self.closed = True


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 999), max_size=5), min_size=1, max_size=12),
    st.integers(1, 7),
)
def test_everybody_gets_the_answers_to_their_own_images_in_order(
    requests: list[list[int]], max_batch: int
) -> None:
    inner = EchoEngine()
    engine = BatchingEngine(inner, max_batch=max_batch)
    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(lambda r: engine.infer([image(v) for v in r]), requests))
    engine.close()
    assert [[float(p.scores[0]) for p in each] for each in answers] == requests
    assert max(inner.batches, default=0) <= max_batch
    assert sum(inner.batches) == sum(map(len, requests)), "each image runs once"
    assert len(inner.threads) <= 1, "one thread owns the engine"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=10))
def test_a_bad_image_fails_alone(good: list[bool]) -> None:
    inner = EchoEngine()
    inner.gate.clear()
    engine = BatchingEngine(inner, max_batch=10)
    with ThreadPoolExecutor(len(good) + 1) as callers:
        first = callers.submit(engine.infer, [image(0)])
        inner.busy.acquire()  # the engine is busy: the others wait and make one batch
        waiting = [
            callers.submit(engine.infer, [image(n if fine else BAD)]) for n, fine in enumerate(good)
        ]
        inner.gate.set()
        assert float(first.result()[0].scores[0]) == 0
        for n, (fine, each) in enumerate(zip(good, waiting, strict=True)):
            if fine:
                assert float(each.result()[0].scores[0]) == n
            else:
                with pytest.raises(EngineError, match="driver says no"):
                    each.result()
    engine.close()


def test_an_idle_engine_starts_at_once_and_a_busy_one_takes_everything_that_waits() -> None:
    inner = EchoEngine()
    inner.gate.clear()
    engine = BatchingEngine(inner, max_batch=4)
    with ThreadPoolExecutor(8) as callers:
        first = callers.submit(engine.infer, [image(0)])
        assert inner.busy.acquire(timeout=30), "a lone image does not wait for company"
        assert inner.batches == [1]
        # One call of six images waits as six; a batch takes four of them.
        waiting = callers.submit(engine.infer, [image(n) for n in range(6)])
        while engine.queued != 6:
            threading.Event().wait(0.001)
        inner.gate.set()
        first.result()
        waiting.result()
    engine.close()
    assert inner.batches == [1, 4, 2]


@pytest.mark.parametrize("how", ["few", "many"])
def test_an_engine_that_answers_another_number_of_times_fails(how: str) -> None:
    class Miscounting(EchoEngine):
        def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
            answers = super().infer(images)
            return answers[1:] if how == "few" else [*answers, *answers]

    engine = BatchingEngine(Miscounting(), max_batch=3)
    with pytest.raises(EngineError, match="answers for 1 images"):
        engine.infer([image(1)])
    assert engine.complaint is None
    engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_engine_dies_everybody_who_waits_is_told() -> None:
    inner = EchoEngine()
    inner.gate.clear()
    engine = BatchingEngine(inner, max_batch=2)
    with ThreadPoolExecutor(6) as callers:
        first = callers.submit(engine.infer, [image(FATAL)])
        inner.busy.acquire()
        waiting = [callers.submit(engine.infer, [image(n)]) for n in range(5)]
        inner.gate.set()
        for each in (first, *waiting):
            with pytest.raises(EngineError):
                each.result(timeout=30)
    assert engine.complaint == "its engine has stopped"
    with pytest.raises(EngineError, match="closed"):
        engine.infer([image(1)])
    engine.close()


def test_closing_answers_what_waits_and_refuses_what_comes_later() -> None:
    inner = EchoEngine()
    inner.gate.clear()
    engine = BatchingEngine(inner, max_batch=1)
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(engine.infer, [image(1)])
        inner.busy.acquire()
        second = callers.submit(engine.infer, [image(2)])
        while engine.queued != 1:
            threading.Event().wait(0.001)
        closing = callers.submit(engine.close)
        while engine.complaint is None:
            threading.Event().wait(0.001)
        with pytest.raises(EngineError, match="closed"):
            engine.infer([image(3)])
        inner.gate.set()
        closing.result(timeout=30)
        assert [float(each.result()[0].scores[0]) for each in (first, second)] == [1, 2]
    assert inner.closed


def test_warm_up_runs_every_size_once() -> None:
    inner = EchoEngine()
    engine = BatchingEngine(inner, max_batch=5)
    assert float(engine.warm_up(SHAPE).scores[0]) == 0
    engine.close()
    assert inner.batches == [1, 2, 3, 4, 5]
    with pytest.raises(EngineError, match="closed"):
        engine.warm_up(SHAPE)


def test_warm_up_refuses_an_engine_that_does_not_give_finite_numbers() -> None:
    class Unsound(EchoEngine):
        def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
            answers = super().infer(images)
            for each in answers:
                each.scores[0] = np.nan  # behind the back of the type, which refuses it
            return answers

    engine = BatchingEngine(Unsound(), max_batch=2)
    with pytest.raises(EngineError, match="not finite"):
        engine.warm_up(SHAPE)
    engine.close()


def test_a_batch_holds_at_least_one() -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        BatchingEngine(EchoEngine(), max_batch=0)


@pytest.mark.parametrize("asked", ["infer", "warm_up"])
def test_a_run_that_hangs_lets_go_whoever_waits_though_nobody_else_watches(asked: str) -> None:
    inner = EchoEngine()
    inner.gate.clear()
    engine = BatchingEngine(inner, max_batch=2, stuck_s=0.2)
    with pytest.raises(EngineError, match="has not answered"):
        engine.infer([image(0)]) if asked == "infer" else engine.warm_up(SHAPE)
    engine.close()  # does not wait for it either
    assert not inner.closed
    inner.gate.set()
    engine._worker.join(30)
    assert inner.closed


def test_images_that_run_again_alone_have_each_their_own_time() -> None:
    class Slow(EchoEngine):
        def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
            threading.Event().wait(0.15)
            return super().infer(images)

    engine = BatchingEngine(Slow(), max_batch=8, stuck_s=0.6)
    with engine._changed:  # all in one batch
        answers = [_Job(image=image(BAD)) for _ in range(8)]
        engine._waiting.extend(answers)
        engine._changed.notify()
    for job in answers:
        with pytest.raises(EngineError, match="driver says no"):
            engine._answer_of(job)
    assert engine.complaint is None
    engine.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux has it a thread")
def test_all_threads_of_an_engine_stand_behind_those_that_answer_callers(tmp_path: Path) -> None:
    before = set(Path("/proc/self/task").iterdir())
    engine = warm_engine(write_spot_package(tmp_path), Settings())
    try:
        made = set(Path("/proc/self/task").iterdir()) - before
        assert made
        assert {os.getpriority(os.PRIO_PROCESS, int(each.name)) for each in made} == {NICENESS}
    finally:
        engine.close()
