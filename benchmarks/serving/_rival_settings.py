"""The other servers, and how each can be set up.

What is tried comes from the pages named beside each: the size of batches and how long one waits to
be filled, processes, threads, and which way in. On two cores the choice is between one network over
both and two of one thread each. `bench.py tune` tries them all and notes the best: the highest
product of the rates with 1, 8 and 32 requests at once. Where it was not run, the first is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """One way to set a rival up.

    Attributes:
        words: what is different about it.
        settings: as rivals/_judge.py reads them.
        form: how the image is sent: "raw", "form" (a file in multipart) or "v2" (base64 in JSON).
        path: where it is posted to.
    """

    words: str
    settings: dict[str, Any]
    form: str = "raw"
    path: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One of the others."""

    name: str
    tried: tuple[Tuning, ...]
    pages: tuple[str, ...]


def _lit(words: str, **settings: Any) -> Tuning:
    base = {"batch": 8, "wait_s": 0.005, "workers": 1, "fast_queue": True}
    return Tuning(words=words, settings=base | settings, path="/predict")


def _mosec(words: str, **settings: Any) -> Tuning:
    base = {"batch": 8, "wait_ms": 0, "workers": 1, "decoders": 1}
    return Tuning(words=words, settings=base | settings, path="/inference")


def _bento(words: str, form: str = "raw", **settings: Any) -> Tuning:
    base = {"batch": 8, "latency_ms": 10_000, "workers": 1, "worker_threads": 1}
    path = "/batched" if form == "form" else "/single"
    return Tuning(words=words, settings=base | settings, form=form, path=path)


def _mls(words: str, form: str = "raw", **settings: Any) -> Tuning:
    base = {"batch": 8, "wait_s": 0.005, "workers": 0}
    path = "/v2/models/judge/infer" if form == "v2" else "/judge"
    return Tuning(words=words, settings=base | settings, form=form, path=path)


RIVALS: Final = (
    Rival(
        name="litserve",
        tried=(
            _lit("batches of 8, 5 ms"),
            _lit("batches of 8, 1 ms", wait_s=0.001),
            _lit("no batches, 1 worker", batch=1, wait_s=0.0),
            _lit("no batches, 2 workers of 1 thread", batch=1, wait_s=0.0, workers=2, threads=1),
            _lit("batches of 8, 1 ms, 2 workers of 1 thread", wait_s=0.001, workers=2, threads=1),
        ),
        pages=(
            "lightning.ai/docs/litserve/features/batching",
            "lightning.ai/docs/litserve/how-tos/parallelism-types",
            "lightning.ai/docs/litserve/speed-up-serving-by-200x",
        ),
    ),
    Rival(
        name="bentoml",
        tried=(
            _bento("adaptive batches of 8", "form"),
            _bento("each by itself, 1 thread"),
            _bento("each by itself, 2 threads", worker_threads=2, threads=1),
            _bento("each by itself, 2 workers of 1 thread", workers=2, threads=1),
        ),
        pages=(
            "docs.bentoml.com/en/latest/get-started/adaptive-batching.html",
            "docs.bentoml.com/en/latest/guides/workers.html",
        ),
    ),
    Rival(
        name="mosec",
        tried=(
            _mosec("1 decoder, batches of 8"),
            _mosec("2 decoders, batches of 8", decoders=2),
            _mosec("1 decoder, batches of 8, 5 ms", wait_ms=5),
            _mosec("decoder and network in one, batches of 8", decoders=0),
            _mosec("2 workers of 1 thread, no batches", decoders=0, batch=1, workers=2, threads=1),
        ),
        pages=("mosecorg.github.io/mosec/reference/interface.html",),
    ),
    Rival(
        name="mlserver",
        tried=(
            _mls("adaptive batches of 8, 5 ms, in the server's process", "v2"),
            _mls("adaptive batches of 8, 5 ms, 1 worker", "v2", workers=1),
            _mls("adaptive batches of 4, 5 ms, 2 workers", "v2", workers=2, batch=4, threads=1),
            _mls("a handler of one's own, no batches"),
        ),
        pages=(
            "docs.seldon.ai/mlserver/user-guide/adaptive-batching",
            "docs.seldon.ai/mlserver/user-guide/parallel-inference",
        ),
    ),
)
