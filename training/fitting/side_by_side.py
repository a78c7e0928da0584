"""Many images through a package, one a request and several at once.

    images -> one engine a core, each with one thread -> answers, in order

Evaluation judges each image alone, as a station's is. With one engine on all cores these wait for
each other in every layer; with an engine a core they do not. The answers are those of the serving
engine to the last bit: the first image's are compared, and where they differ the serving engine
answers all of them by itself.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from inspection.engines.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage

AHEAD = 2  # images waiting for each engine: bounds the memory


def infer_each(
    package: ModelPackage,
    serving: Engine,
    images: Iterable[NDArray[np.float32]],
    *,
    cores: int | None = None,
) -> Iterator[Prediction]:
    """`serving`'s answer to each image alone, in order.

    Args:
        package: that `serving` runs.
        serving: whose answers count.
        images: (C, H, W) float32 each, as `prepare()` returns them.
        cores: how many engines; one for each of this process's cores when absent.

    Raises:
        EngineError: the network failed.
    """
    count = cores or len(os.sched_getaffinity(0))
    waiting = iter(images)
    first = next(waiting, None)
    if first is None:
        return
    answer = serving.infer([first])[0]
    yield answer
    engines = [OpenVinoEngine.for_package(package, threads=1) for _ in range(count)]
    try:
        if count < 2 or not all(same(one.infer([first])[0], answer) for one in engines):
            for image in waiting:
                yield from serving.infer([image])
            return
        yield from _in_turn(engines, waiting)
    finally:
        for one in engines:
            one.close()


def same(one: Prediction, other: Prediction) -> bool:
    """Whether two answers agree to the last bit."""
    return (
        one.novelty == other.novelty
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.evidence, other.evidence)
    )


def _in_turn(
    engines: list[OpenVinoEngine], images: Iterator[NDArray[np.float32]]
) -> Iterator[Prediction]:
    """Answers in order, whichever engine is free giving each."""
    free: SimpleQueue[OpenVinoEngine] = SimpleQueue()
    for one in engines:
        free.put(one)

    def judge(image: NDArray[np.float32]) -> Prediction:
        engine = free.get()
        try:
            return engine.infer([image])[0]
        finally:
            free.put(engine)

    asked: deque[Future[Prediction]] = deque()
    with ThreadPoolExecutor(len(engines)) as pool:
        try:
            for image in images:
                asked.append(pool.submit(judge, image))
                if len(asked) >= AHEAD * len(engines):
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()
        finally:
            for future in asked:
                future.cancel()
