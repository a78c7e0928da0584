"""Batching is an Engine: many callers, one thread that owns the network.

    infer() -> waiting -> worker: everything that waits, up to max_batch -> Engine.infer -> callers

Work-conserving: an idle engine starts at once with what is there; a busy one takes everything that
has come meanwhile. There is no timer and no polling, so a lone image never waits for company. A
batch that fails is run again image by image, so one bad image fails alone. A run that does not end
is noticed by whoever waits for it: `complaint` says it, `abandon` lets everybody go.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.engine import Prediction
from inspection.errors import EngineError
from serving.standby import StandbyEngine
from serving.threads import stand_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.engine import Engine


LOOKS: Final = 4
"""How often whoever waits looks at a run, in the time after which it counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """One image that waits, and where its answer goes."""

    image: NDArray[np.float32]
    answer: Future[Prediction] = field(default_factory=Future)


class BatchingEngine:
    """Runs another engine in batches, on a thread of its own. Owns that engine.

    Args:
        engine: what runs the batches; only this class's thread calls it.
        max_batch: the most images in one run.
        stuck_s: how long one run may take before the engine counts as hung.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int,
        stuck_s: float = 10.0,
    ) -> None:
        if max_batch < 1:
            raise ValueError("max_batch counts from 1")
        self._engine = engine
        self._max_batch = max_batch
        self._stuck_s = stuck_s
        self._ran: Callable[[int], None] | None = None
        self._running: list[_Job] = []
        self._running_since: float | None = None
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._why = ""
        self._worker = threading.Thread(target=self._run, name="engine", daemon=True)
        self._worker.start()

    @property
    def description(self) -> str:
        """The engine's own, and the size of its batches."""
        return f"{self._engine.description}, batches up to {self._max_batch}"

    @property
    def complaint(self) -> str | None:
        """Why it is of no use any more, in words; None while it is well."""
        return (self._why or "its engine has stopped") if self._closing else self._hung()

    @property
    def away(self) -> str | None:
        """Why what it runs on another server is not there; None while it is, or runs here."""
        return self._engine.away if isinstance(self._engine, StandbyEngine) else None

    @property
    def unable(self) -> str | None:
        """Why nothing can be judged, though waiting may help; None while something judges."""
        return self._engine.complaint if isinstance(self._engine, StandbyEngine) else None

    def tell(self, ran: Callable[[int], None]) -> None:
        """From now on `ran` is told how many images each run had: not of those that warmed it."""
        self._ran = ran

    def _hung(self) -> str | None:
        since = self._running_since
        if since is not None and (spent := time.monotonic() - since) > self._stuck_s:
            return f"its engine has not answered for {spent:.0f} s"
        return None

    @property
    def queued(self) -> int:
        """How many images wait for the engine."""
        return len(self._waiting)

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each image, in order; blocks until the last is there.

        Raises:
            EngineError: it failed for one of them, or the engine is closed, hangs or has died.
        """
        jobs = [_Job(image=image) for image in images]
        with self._changed:
            if self._closing:
                raise EngineError("the engine is closed")
            self._waiting.extend(jobs)
            self._changed.notify()
        return [self._answer_of(job) for job in jobs]

    def warm_up(self, shape: tuple[int, int, int]) -> Prediction:
        """Run every batch size once with (C, H, W) images, so that no request pays for the first.

        Returns the prediction for one image, for the caller to compare with its package.

        Raises:
            EngineError: the engine failed or hangs, or an answer is not finite.
        """
        image = np.zeros(shape, dtype=np.float32)
        first: Prediction | None = None
        for size in range(1, self._max_batch + 1):
            with self._changed:  # nobody else is let in between the images of one warm-up batch
                answers = [_Job(image=image) for _ in range(size)]
                if self._closing:
                    raise EngineError("the engine is closed")
                self._waiting.extend(answers)
                self._changed.notify()
            for job in answers:
                prediction = self._answer_of(job)
                numbers = (prediction.scores, prediction.evidence, np.asarray(prediction.novelty))
                if not all(np.isfinite(each).all() for each in numbers):
                    raise EngineError("the network's answer to a blank image is not finite")
                first = first or prediction
        assert first is not None  # noqa: S101  max_batch is at least 1
        return first

    def close(self) -> None:
        """Finish what waits, then stop the thread and the engine; one that hangs is abandoned."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        while self._worker.is_alive() and not self._abandoned:
            self._worker.join(self._stuck_s / LOOKS)
            self._give_up_if_hung()

    def abandon(self, why: str) -> None:
        """Let everybody go who waits, without waiting for a run that may never end.

        The thread that hangs is left behind; should its run end after all, nobody hears of it, and
        the engine is closed then.
        """
        with self._changed:
            self._closing = True
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            self._changed.notify()
            self._abandoned = True
            self._why = why
        _fail(left, why)

    def _answer_of(self, job: _Job) -> Prediction:
        """Blocks until it is there; nobody else need be watching for a run that never ends."""
        while True:
            try:
                return job.answer.result(self._stuck_s / LOOKS)
            except TimeoutError:  # of the waiting: what an engine raises comes as an EngineError
                self._give_up_if_hung()

    def _give_up_if_hung(self) -> None:
        if (complaint := self._hung()) is not None:
            self.abandon(complaint)

    def _run(self) -> None:
        stand_back()
        try:
            while batch := self._next_batch():
                self._running = batch
                self._answer(batch)
                self._running, self._running_since = [], None
                if self._ran is not None:
                    self._ran(len(batch))
        finally:  # however this thread ends, nobody is left waiting
            with self._changed:
                self._closing = True
                left = [*self._running, *self._waiting]
                self._waiting.clear()
            _fail(left, "the engine stopped while images waited")
            self._engine.close()

    def _next_batch(self) -> list[_Job]:
        """What waits now, or, when nothing does, what comes next; empty when it is time to stop."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            count = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft() for _ in range(count)]

    def _answer(self, batch: list[_Job]) -> None:
        self._running_since = time.monotonic()
        try:
            predictions = self._engine.infer([job.image for job in batch])
            if len(predictions) != len(batch):
                raise EngineError(f"{len(predictions)} answers for {len(batch)} images")
        except Exception as error:  # noqa: BLE001  whatever an engine raises becomes ours, here
            if len(batch) > 1:
                for job in batch:
                    self._answer([job])
                return
            failure = error if isinstance(error, EngineError) else EngineError(_in_words(error))
            failure.__cause__ = None if failure is error else error
            with suppress(InvalidStateError):  # abandoned meanwhile
                batch[0].answer.set_exception(failure)
            return
        for job, prediction in zip(batch, predictions, strict=True):
            with suppress(InvalidStateError):
                job.answer.set_result(prediction)


def _fail(jobs: Sequence[_Job], why: str) -> None:
    for job in jobs:
        with suppress(InvalidStateError):  # it has its answer
            job.answer.set_exception(EngineError(why))


def _in_words(error: Exception) -> str:
    return f"the engine failed: {type(error).__name__}: {error}"
