"""A package comes to its engine: chosen, warm, and proved on the package's golden images.

    settings -> choose_engine ──────────────────────────────────┐
             -> Triton, and what stands in for it -> Standby ───┴-> batching -> warm -> golden

No engine judges before it has run every size of batch and answered as it did when its limits were
chosen. One on a Triton server that is away is proved when it comes, before it judges.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np

from inspection.engines.choice import choose_engine
from inspection.errors import EngineError
from inspection.golden import self_test
from serving.batching import BatchingEngine
from serving.standby import StandbyEngine
from serving.threads import stand_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.engine import Engine, Prediction
    from inspection.engines.choice import Wanted
    from inspection.package import ModelPackage
    from serving.settings import EngineSettings, Settings
    from serving.standby import RemoteEngine

log = logging.getLogger("serving")


def warm_engine(
    package: ModelPackage, settings: Settings, *, ran: Callable[[int], None] | None = None
) -> Engine:
    """The engine of a package, batching, every batch size run once, its golden images answered.

    Args:
        package: verified.
        settings: which engine, batches, and when a run counts as hung.
        ran: told how many images each run had, once it is warm and proved.

    Raises:
        ConfigurationError: the engine that was asked for is not installed or not here.
        EngineError: the network cannot be loaded or run, or its answer does not fit the package or
            is not what it was when the package was measured.
    """
    wanted = settings.engine
    remote = wanted.kind == "triton"
    engine = BatchingEngine(
        _with_standby(package, wanted) if remote else _chosen(package, wanted, wanted.kind),
        max_batch=wanted.max_batch,
        stuck_s=wanted.stuck_s,
    )
    try:
        if not remote:  # else each of the two was proved by itself
            recipe = package.recipe
            _prove(package, engine, engine.warm_up((recipe.channels, *recipe.input_size_px)))
    except BaseException:
        engine.close()
        raise
    if ran is not None:
        engine.tell(ran)
    return engine


def _chosen(package: ModelPackage, wanted: EngineSettings, kind: str) -> Engine:
    # The threads that a runtime starts stand where the one stands that made it.
    with ThreadPoolExecutor(1, "engine-maker", stand_back) as maker:
        choice = maker.submit(
            choose_engine,
            package,
            wanted=cast("Wanted", kind),
            device=wanted.device,
            precision=wanted.precision,
            threads=wanted.threads,
            max_batch=wanted.max_batch,
            tensorrt_cache=wanted.tensorrt_cache,
        ).result()
    log.info("engine chosen", extra={"model": package.reference, "detail": choice.why})
    return choice.engine


def _with_standby(package: ModelPackage, wanted: EngineSettings) -> StandbyEngine:
    """The package on Triton, and what judges while that is away; both proved before they judge."""
    fallback: Engine | None = None
    if wanted.fallback != "none":
        fallback = _proved(package, _chosen(package, wanted, wanted.fallback), wanted.max_batch)

    def make() -> RemoteEngine:
        choice = choose_engine(package, wanted="triton", remote=lambda one: _ask(one, wanted))
        return cast("RemoteEngine", _proved(package, choice.engine, wanted.max_batch))

    try:
        return StandbyEngine(make, fallback=fallback)
    except BaseException:
        if fallback is not None:
            fallback.close()
        raise


def _ask(package: ModelPackage, wanted: EngineSettings) -> Engine:
    from inspection.engines.triton import TritonEngine

    return TritonEngine.for_package(
        package,
        wanted.triton.url,
        protocol=wanted.triton.protocol,
        timeout_s=wanted.triton.timeout_s,
        shared_memory=wanted.triton.shared_memory == "auto",
        max_batch=wanted.max_batch,
    )


def _proved(package: ModelPackage, engine: Engine, max_batch: int) -> Engine:
    """The engine, when it has run every size of batch and answered the golden images; else closed.

    Raises:
        EngineError: it does not fit the package, or does not answer as it should.
    """
    recipe = package.recipe
    blank = np.zeros((recipe.channels, *recipe.input_size_px), dtype=np.float32)
    try:
        for size in range(2, max_batch + 1):
            engine.infer([blank] * size)
        _prove(package, engine, engine.infer([blank])[0])
    except BaseException:
        engine.close()
        raise
    return engine


def _prove(package: ModelPackage, engine: Engine, blank: Prediction) -> None:
    """Hold an engine against its package; `blank` is what it says of a blank image.

    Raises:
        EngineError: its answer does not fit the package, or is not what it was when measured.
    """
    if len(blank.scores) != len(package.recipe.classes):
        raise EngineError(
            f"the network of {package.reference} gives {len(blank.scores)} scores; "
            f"its recipe names {len(package.recipe.classes)} classes"
        )
    if not self_test(package, engine):
        log.warning("no golden images", extra={"model": package.reference})
