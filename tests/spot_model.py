"""A real package with a tiny real network, built without torch: bright spots are defects.

The graph is a plain ONNX one: the window of the recipe, then average pooling to an 8 x 8 grid;
evidence is 40 * (brightness - 0.5), the score its maximum, novelty how far the mean brightness of
the image lies from 0.2. So a dark grey image (51 of 255) is good and known, a bright spot is a
defect, a bright image is both and novel.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inspection.agreement import Agreement, Changes, Pair
from inspection.package import (
    CONTENT,
    ModelPackage,
    PackageDocument,
    next_version,
    write_package,
)
from inspection.recipe import Recipe
from inspection.serials import SerialFormat
from inspection.verdict import Calibration, Certificate, OperatingPoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 64
SERIALS = SerialFormat(length=10)


AGREEING = Agreement(
    serves="OpenVINO CPU f32",
    test_parts=660,
    pairs=(
        Pair(
            first="OpenVINO CPU f32",
            second="ONNX Runtime CPU f32",
            changes=Changes(
                parts=660, bad_parts=330, flips={}, bad_to_pass=0, largest_difference=1e-5
            ),
        ),
    ),
)


def spot_graph(*, bits: int = 8, gain: float = 40.0) -> bytes:
    """The ONNX file: image (N, 1, 64, 64) -> score (N, 1), evidence (N, 1, 8, 8), novelty (N,)."""
    top = float(2**bits - 1)
    constants = {
        "scale": np.float32(1 / top),
        "half": np.float32(0.5),
        "gain": np.float32(gain),
        "usual": np.float32(0.2),
        "axes": np.array([1, 2, 3], dtype=np.int64),
        "map_axes": np.array([2, 3], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["unit"]),
        helper.make_node("AveragePool", ["unit"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Sub", ["cells", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["evidence"]),
        helper.make_node("ReduceMax", ["evidence", "map_axes"], ["score"], keepdims=0),
        helper.make_node("ReduceMean", ["unit", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "usual"], ["off"]),
        helper.make_node("Abs", ["off"], ["novelty"]),
    ]
    graph = helper.make_graph(
        nodes,
        "spot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["n", 1, 8, 8]),
            helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_spot_package(
    root: Path,
    *,
    product: str = "KN-42",
    model: str = "spot",
    bits: int = 8,
    gain: float = 40.0,
    certified: bool = True,
    agreement: Agreement | None = AGREEING,
    more: Mapping[str, bytes] | None = None,
    graph: bytes | None = None,
    flat_field: bool = False,
) -> ModelPackage:
    """Write the next version of the spot model under `root`; not promoted.

    With `more` it is a package of format 2: test.csv and so on, empty where they are not given.
    """
    bound = 0.009 if certified else 0.2
    document = PackageDocument(
        model=model,
        version=next_version(root, model),
        created_at="2026-11-21T00:00:00Z",
        code_version="0",
        backbone="none",
        preset="spot",
        precision="f32",
        data_digest="0" * 64,
        calibration=Calibration(slope=(1.0,), intercept=(0.0,)),
        operating_point=OperatingPoint(
            pass_below=(0.2,),
            fail_from=(0.8,),
            novelty_limit=0.3,
            split_digest="0" * 64,
            certificate=Certificate(
                wanted_escape_rate=0.01,
                escape_bound=bound,
                naive_escape_bound=0.009,
                confidence=0.95,
                bad_parts=330,
                groups=40,
                certified=certified,
                more_bad_parts_needed=0 if certified else 300,
            ),
        ),
        agreement=agreement,
    )
    recipe = Recipe(
        product=product,
        modality="x-ray",
        bits=8 if bits == 8 else 16,
        channels=1,
        input_size_px=(SIZE, SIZE),
        window=(0, 2**bits - 1),
        classes=("spot",),
        serial=SERIALS,
        flat_field=flat_field,
    )
    graph = graph or spot_graph(bits=bits, gain=gain)
    files: dict[str, bytes | Path] = {
        "model.onnx": graph,
        "model.safetensors": graph[::-1],
        "report.json": json.dumps({"format": 1}).encode(),
    }
    if more is not None:
        files |= dict.fromkeys(CONTENT[2][4:], b"") | dict(more)
    return write_package(root, document, recipe, files)


def part_image(kind: str, *, seed: int = 0, size: int = 128) -> NDArray[np.uint8]:
    """(size, size) uint8: "good", "bad" (one bright spot), "unsure" (a fainter one), "novel"."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size), 51.0) + rng.normal(0, 4, (size, size))
    spots = {"good": 51.0, "unsure": 128.0, "bad": 190.0, "novel": 51.0}
    cell = size // 8
    row, column = rng.integers(0, 8, 2) * cell
    image[row : row + cell, column : column + cell] = spots[kind]
    if kind == "novel":
        image += 150
    return np.clip(image, 0, 255).astype(np.uint8)


def part_png(kind: str, *, seed: int = 0, size: int = 128) -> bytes:
    """The same as a PNG file."""
    done, data = cv2.imencode(".png", part_image(kind, seed=seed, size=size))
    assert done
    return bytes(data)
