"""Which arithmetic the engine should use: float32, or what OpenVINO picks by itself.

    answers in f32 -> verdicts in the other -> changes (`.agreement`), times -> the choice

float32 serves, so that a package does not depend on how busy the machine was that made it; the
study only tells what the other arithmetic would have done. With `--precision auto` the other one
serves where it is quicker by more than a tenth on this machine and no verdict of the whole test
side flips. Both are judged with the calibration and limits fitted in float32.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from inspection.engines.openvino import OpenVinoEngine
from inspection.package import Precision
from training.data.images import PreparedImages
from training.evaluate import predict
from training.measuring.agreement import GOOD_SAMPLE, changes, judge, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from training.evaluate import Predicted
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

TIMED = 24
WORTH_IT = 0.9  # the other arithmetic must take less than this share of float32's time


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionStudy:
    """Float32 against the engine's own choice.

    Attributes:
        engine_choice: what OpenVINO picks by itself on this machine.
        chosen: what the package will be served in.
        parts: how many parts were judged in both; 0 when there is nothing to compare.
        whole: whether these were all test parts.
        flips: how many verdicts changed, by kind, such as "pass -> fail".
        bad_to_pass: how many bad parts pass in one of the two only.
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
        whole: judge all test parts; otherwise all bad ones and the good ones nearest to a limit,
            unless the study is to choose.
    """
    other = OpenVinoEngine(package.folder / "model.onnx", precision=None)
    try:
        if other.precision == "f32" or other.precision not in get_args(Precision):
            return _nothing_to_compare(other.precision)
        precision: Precision = "bf16" if other.precision == "bf16" else "f16"
        images = PreparedImages(manifest, package.recipe, predicted.rows)
        ms = {"f32": _time(engine, images), precision: _time(other, images)}
        quicker = ms[precision] < WORTH_IT * ms["f32"]
        choosing = wanted == "auto" and quicker
        good_parts = None if whole or choosing else GOOD_SAMPLE
        first = sample(package, manifest, predicted, good_parts=good_parts)
        second = predict(
            other, manifest, package.recipe, first.rows, progress, stage=f"judge in {precision}"
        )
    finally:
        other.close()
    found = changes(judge(package, manifest, first), judge(package, manifest, second))
    faster = ms["f32"] / ms[precision]
    flipped = f"{precision} flips {found.flipped} of {found.parts} verdicts"
    if wanted == "f32":
        reason = f"the default; {flipped} at {faster:.2f} times f32's speed"
    elif not quicker:
        reason = f"{precision} is not quicker here ({faster:.2f} times f32's speed)"
    elif found.flips:
        reason = flipped
    else:
        reason = f"{precision} is {faster:.2f} times as quick; no verdict flips"
    chosen: Precision = precision if choosing and not found.flips else "f32"
    return PrecisionStudy(
        engine_choice=precision,
        chosen=chosen,
        parts=found.parts,
        whole=len(first.rows) == len(predicted.rows),
        flips=found.flips,
        bad_to_pass=found.bad_to_pass,
        largest_difference=found.largest_difference,
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
