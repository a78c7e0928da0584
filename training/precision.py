"""Which arithmetic the engine should use: float32, or what OpenVINO picks by itself.

    test images -> verdicts in f32 and in the other -> flips, differences, times -> the choice

float32 serves, so that a package does not depend on how busy the machine was that made it; the
study only tells what the other arithmetic would have done. With `--precision auto` the other one
serves where it is quicker by more than a tenth on this machine and no verdict of the whole test
side flips. Both are judged with the calibration and limits fitted in float32.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from inspection.engines.openvino import OpenVinoEngine
from inspection.package import Precision
from training.evaluate import Predicted, judge_parts, predict
from training.images import PreparedImages

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

SAMPLE = 100
TIMED = 24
WORTH_IT = 0.9  # the other arithmetic must take less than this share of float32's time
BUDGET_S = 8.0  # the whole test side is judged when it should take no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionStudy:
    """Float32 against the engine's own choice.

    Attributes:
        engine_choice: what OpenVINO picks by itself on this machine.
        chosen: what the package will be served in.
        parts: how many parts were judged in both; 0 when there is nothing to compare.
        whole: whether these were all test parts.
        flips: how many verdicts changed, by kind, such as "pass -> fail".
        bad_to_pass: how many bad parts passed in the other arithmetic only.
        largest_difference: of a calibrated probability.
        ms_per_image: of one image at a time, by precision.
        reason: why, in a sentence.
    """

    engine_choice: str
    chosen: Precision
    parts: int
    whole: bool
    flips: dict[str, int]
    bad_to_pass: int
    largest_difference: float
    ms_per_image: dict[str, float]
    reason: str


def study_precision(
    package: ModelPackage,
    engine: Engine,
    manifest: Manifest,
    predicted: Predicted,
    *,
    progress: Progress,
    wanted: Literal["f32", "auto"] = "f32",
    whole: bool = False,
) -> PrecisionStudy:
    """Compare float32 with what OpenVINO picks by itself.

    Args:
        package: with its calibration and limits, fitted in float32.
        engine: runs the package in float32.
        manifest: the set.
        predicted: the engine's answers for all test rows.
        progress: called with (stage, done, total).
        wanted: "f32" keeps float32 whatever the study finds; "auto" lets it choose.
        whole: judge all test rows even when that takes long.
    """
    other = OpenVinoEngine(package.folder / "model.onnx", precision=None)
    try:
        if other.precision == "f32" or other.precision not in get_args(Precision):
            return _nothing_to_compare(other.precision)
        precision: Precision = "bf16" if other.precision == "bf16" else "f16"
        images = PreparedImages(manifest, package.recipe, predicted.rows)
        ms = {"f32": _time(engine, images), precision: _time(other, images)}
        quicker = ms[precision] < WORTH_IT * ms["f32"]
        total = len(predicted.rows)
        choosing = wanted == "auto" and quicker
        if not (whole or choosing) and total * ms[precision] / 1000 > BUDGET_S and total > SAMPLE:
            picked = np.linspace(0, total - 1, SAMPLE).astype(np.int64)
        else:
            picked = np.arange(total)
        first = _subset(predicted, picked)
        second = predict(
            other, manifest, package.recipe, first.rows, progress, stage=f"judge in {precision}"
        )
    finally:
        other.close()
    flips: Counter[str] = Counter()
    bad_to_pass, largest = 0, 0.0
    document = package.document
    before, after = (
        judge_parts(
            answers, manifest, document.calibration, document.operating_point, package.recipe
        )
        for answers in (first, second)
    )
    for one, two in zip(before, after, strict=True):
        largest = max(
            largest,
            *(abs(a - b) for a, b in zip(one.probabilities, two.probabilities, strict=True)),
        )
        if one.disposition != two.disposition:
            flips[f"{one.disposition} -> {two.disposition}"] += 1
            bad_to_pass += one.bad and two.disposition == "pass"
    faster = ms["f32"] / ms[precision]
    flipped = f"{precision} flips {sum(flips.values())} of {len(before)} verdicts"
    if wanted == "f32":
        reason = f"the default; {flipped} at {faster:.2f} times f32's speed"
    elif not quicker:
        reason = f"{precision} is not quicker here ({faster:.2f} times f32's speed)"
    elif flips:
        reason = flipped
    else:
        reason = f"{precision} is {faster:.2f} times as quick; no verdict flips"
    chosen: Precision = precision if choosing and not flips else "f32"
    return PrecisionStudy(
        engine_choice=precision,
        chosen=chosen,
        parts=len(before),
        whole=len(picked) == total,
        flips=dict(sorted(flips.items())),
        bad_to_pass=bad_to_pass,
        largest_difference=largest,
        ms_per_image={name: round(value, 2) for name, value in ms.items()},
        reason=reason,
    )


def _time(engine: Engine, images: PreparedImages) -> float:
    """Milliseconds for one image alone: the median of a few."""
    image = images[0]
    for _ in range(3):
        engine.infer([image])
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        engine.infer([image])
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def _subset(predicted: Predicted, picked: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Predicted:
    return Predicted(
        rows=predicted.rows[picked],
        predictions=tuple(predicted.predictions[i] for i in picked.tolist()),
        frame_sizes_px=tuple(predicted.frame_sizes_px[i] for i in picked.tolist()),
    )


def _nothing_to_compare(choice: str) -> PrecisionStudy:
    return PrecisionStudy(
        engine_choice=choice,
        chosen="f32",
        parts=0,
        whole=False,
        flips={},
        bad_to_pass=0,
        largest_difference=0.0,
        ms_per_image={},
        reason=f"OpenVINO picks {choice} by itself here",
    )
