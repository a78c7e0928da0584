"""Whether other engines judge the test parts as the one that serves does.

    its answers on all test rows -> which rows -> PyTorch, ONNX Runtime -> verdicts
                                                -> flips and differences of every two -> Agreement

Every engine's answers go through the same calibration, limits and rules, so what differs is what
the network said. A bad part can only turn to pass where there is a bad part, and a good one only
flips where it lies near a limit: a sample of all bad parts and the good ones nearest to a limit
misses little, and nothing that keeps a package from being promoted.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from inspection.agreement import Agreement, Changes, Pair
from inspection.engines.onnxruntime import OnnxRuntimeEngine
from inspection.engines.torch import TorchEngine
from training.evaluate import PartResult, Predicted, judge_parts, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from inspection.verdict import OperatingPoint
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]
    MakeEngine = Callable[[ModelPackage], Engine]

OTHERS: tuple[MakeEngine, ...] = (TorchEngine.for_package, OnnxRuntimeEngine.for_package)
GOOD_SAMPLE = 100
"""How many good parts a sample holds; a fixed number, so that it does not depend on the machine."""


def study_agreement(
    package: ModelPackage,
    manifest: Manifest,
    predicted: Predicted,
    *,
    served: str,
    progress: Progress,
    good_parts: int | None = None,
    others: Sequence[MakeEngine] = OTHERS,
) -> Agreement:
    """Judge the test parts with other engines, and count what differs.

    Args:
        package: with its calibration and limits.
        manifest: the set.
        predicted: the serving engine's answers for all test rows.
        served: that engine's description.
        progress: called with (stage, done, total).
        good_parts: how many good parts to compare, those nearest to a limit; all when absent.
            Bad parts are always all compared.
        others: what puts the package to work elsewhere.

    Raises:
        EngineError: one of the engines cannot run the package.
        DataError: an image cannot be used.
    """
    everywhere = judge(package, manifest, predicted)
    first = sample(package, manifest, predicted, good_parts=good_parts)
    verdicts = {served: judge(package, manifest, first)}
    for make in others:
        engine = make(package)
        try:
            stage = f"judge in {engine.description.split(' CPU')[0]}"
            again = predict(engine, manifest, package.recipe, first.rows, progress, stage=stage)
        finally:
            engine.close()
        verdicts[engine.description] = judge(package, manifest, again)
    return Agreement(
        serves=served,
        test_parts=len(everywhere),
        pairs=tuple(
            Pair(first=one, second=other, changes=changes(verdicts[one], verdicts[other]))
            for one, other in combinations(verdicts, 2)
        ),
    )


def changes(before: Sequence[PartResult], after: Sequence[PartResult]) -> Changes:
    """What differs between two engines' verdicts on the same parts, in the same order."""
    flips: Counter[str] = Counter()
    bad_to_pass, largest = 0, 0.0
    for one, two in zip(before, after, strict=True):
        apart = zip(one.probabilities, two.probabilities, strict=True)
        largest = max(largest, *(abs(a - b) for a, b in apart))
        if one.disposition != two.disposition:
            flips[f"{one.disposition} -> {two.disposition}"] += 1
            bad_to_pass += one.bad and "pass" in (one.disposition, two.disposition)
    return Changes(
        parts=len(before),
        bad_parts=sum(part.bad for part in before),
        flips=dict(sorted(flips.items())),
        bad_to_pass=bad_to_pass,
        largest_difference=largest,
    )


def sample(
    package: ModelPackage, manifest: Manifest, predicted: Predicted, *, good_parts: int | None
) -> Predicted:
    """The answers for all bad parts and for the good parts nearest to a limit, in their order.

    Args:
        package: its limits are those that a part can lie near.
        manifest: the set.
        predicted: answers for all test rows.
        good_parts: how many good ones; all when absent.
    """
    if good_parts is None:
        return predicted
    parts = judge(package, manifest, predicted)
    point = package.document.operating_point
    good = [part for part in parts if not part.bad]
    nearest = sorted(good, key=lambda part: distance_to_a_limit(part, point))[:good_parts]
    wanted = {part.part for part in (*nearest, *(part for part in parts if part.bad))}
    rows = predicted.rows.tolist()
    picked = np.array([i for i, row in enumerate(rows) if manifest.rows[row].part in wanted])
    return _subset(predicted, picked.astype(np.int64))


def distance_to_a_limit(part: PartResult, point: OperatingPoint) -> float:
    """How far a part is from another verdict: in probability, or in shares of the novelty limit."""
    limits = zip(part.probabilities, point.pass_below, point.fail_from, strict=True)
    away = [min(abs(value - low), abs(value - high)) for value, low, high in limits]
    novelty = abs(part.novelty - point.novelty_limit) / max(point.novelty_limit, 1e-9)
    return min(*away, novelty)


def judge(
    package: ModelPackage, manifest: Manifest, predicted: Predicted
) -> tuple[PartResult, ...]:
    """The package's verdicts on an engine's answers."""
    document = package.document
    return judge_parts(
        predicted,
        manifest,
        document.calibration,
        document.operating_point,
        package.recipe,
        views=package.views,
    )


def _subset(predicted: Predicted, picked: NDArray[np.int64]) -> Predicted:
    return Predicted(
        rows=predicted.rows[picked],
        predictions=tuple(predicted.predictions[i] for i in picked.tolist()),
        frame_sizes_px=tuple(predicted.frame_sizes_px[i] for i in picked.tolist()),
    )
