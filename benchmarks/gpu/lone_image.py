"""One image at a time, from its bytes in memory to its verdict: p50 and p99.

    python benchmarks/gpu/lone_image.py
    python benchmarks/gpu/lone_image.py --pixels 2048 --bits 16

The product's own steps, as `inspection.pipeline` takes them: decode_image, prepare, engine, decide.
They need more than PyTorch, timm, NumPy and OpenCV; where that is all there is, OpenCV decodes and
scales, and a comparison with the limits stands for `decide`: the script says which it was. Storing
the record is not in it: a disk does that (benchmarks/records). 3 ms at the median are wanted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from _common import EXERCISE, WINDOW, add_options, device_of, in_words, lite0

from inspection.engine import Prediction
from inspection.engines.served import KINDS
from inspection.engines.torch import TorchEngine

Steps = tuple[Callable[[bytes], object], Callable[[object], np.ndarray], Callable[..., object]]
STAGES: Final = ("decode", "prepare", "engine", "decide")


def part(pixels: int, bits: int) -> bytes:
    """A PNG of a grey slope with noise and a few spots, as a detector gives it."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:pixels, :pixels] / pixels
    image = 0.3 + 0.3 * rows + 0.1 * np.sin(9 * columns) + random.normal(0, 0.01, rows.shape)
    for row, column in random.integers(0, pixels, (5, 2)):
        image[row : row + pixels // 50, column : column + pixels // 50] += 0.2
    top = 2**bits - 1
    kind = np.uint8 if bits == 8 else np.uint16
    done, data = cv2.imencode(".png", np.clip(image * top, 0, top).astype(kind))
    assert done
    return data.tobytes()


def product_steps(size: int, bits: int) -> Steps:
    """The product's own; ImportError where a library of theirs is missing."""
    from inspection.frame import decode_image
    from inspection.recipe import Recipe, prepare
    from inspection.verdict import Calibration, Certificate, OperatingPoint, decide

    recipe = Recipe(
        product="KN-42",
        modality="x-ray",
        bits=8 if bits == 8 else 16,
        channels=1,
        input_size_px=(size, size),
        window=(0, 2**bits - 1),
        classes=("defect",),
    )
    calibration = Calibration(slope=(1.0,), intercept=(0.0,))
    point = OperatingPoint(
        pass_below=(0.2,),
        fail_from=(0.8,),
        novelty_limit=3.0,
        split_digest="0" * 64,
        certificate=Certificate(
            wanted_escape_rate=0.01,
            escape_bound=0.02,
            naive_escape_bound=0.02,
            confidence=0.95,
            bad_parts=300,
            groups=40,
            certified=False,
            more_bad_parts_needed=10,
        ),
    )

    def judge(prediction: Prediction, frame: object) -> object:
        return decide(prediction, calibration, point, recipe, frame.size_px)

    return decode_image, lambda frame: prepare(frame, recipe), judge


def opencv_steps(size: int) -> Steps:
    """Stand-ins of about the same work, with OpenCV and NumPy alone."""

    def decode(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)

    def prepare(pixels: np.ndarray) -> np.ndarray:
        scaled = cv2.resize(pixels.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        return scaled[np.newaxis]

    def judge(prediction: Prediction, _frame: object) -> str:
        probability = 1 / (1 + np.exp(-prediction.scores))
        if prediction.novelty > 3.0:
            return "review"
        return "fail" if (probability >= 0.8).any() else "pass"

    return decode, prepare, judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--size", type=int, default=224, help="of the network's input, pixels")
    parser.add_argument("--pixels", type=int, default=300, help="height and width of the image")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--precision", choices=tuple(KINDS), help="f16 on CUDA, f32 on a CPU")
    parser.add_argument("--count", type=int, default=2000, help="images")
    options = parser.parse_args()
    device = device_of(options)
    precision = options.precision or ("f16" if device.type == "cuda" else "f32")
    count = 40 if options.short else options.count
    print(f"{in_words(device)}; {precision}, {options.size} px")
    if device.type == "cpu":
        print(EXERCISE)
    try:
        decode, prepare, decide = product_steps(options.size, options.bits)
        whose = "the product's decode, prepare and decide"
    except ImportError as error:
        decode, prepare, decide = opencv_steps(options.size)
        whose = f"OpenCV in place of the product's decode, prepare and decide ({error})"
    network = lite0(options.size)
    if options.bits == 16:
        network.trunk.low, network.trunk.high = WINDOW[0], 2.0**16 - 1
    engine = TorchEngine(network, device=device.type, precision=precision, max_batch=1)
    data = part(options.pixels, options.bits)
    spent = np.zeros((count, len(STAGES)))
    for number in range(-10, count):
        marks = [time.perf_counter()]
        frame = decode(data)
        marks.append(time.perf_counter())
        image = prepare(frame)
        marks.append(time.perf_counter())
        (prediction,) = engine.infer([image])
        marks.append(time.perf_counter())
        decide(prediction, frame)
        marks.append(time.perf_counter())
        if number >= 0:
            spent[number] = 1000 * np.diff(marks)
    engine.close()
    print(
        f"{options.pixels} x {options.pixels} PNG of {options.bits} bits, {len(data):,} bytes; "
        f"{count} images; {whose}\n"
    )
    print("| | p50 ms | p99 ms |\n|---|--:|--:|")
    for name, column in zip(STAGES, spent.T, strict=True):
        print(f"| {name} | {np.median(column):.3f} | {np.percentile(column, 99):.3f} |")
    whole = spent.sum(axis=1)
    print(f"| bytes to verdict | {np.median(whole):.3f} | {np.percentile(whole, 99):.3f} |")


if __name__ == "__main__":
    main()
