"""A package's graph with the package's digest among its outputs.

    image ─┬─> the network ─> score, evidence, novelty       as they were, bit for bit
           └─> number of images ─> the digest, that often ─> package

Whoever runs the graph, every answer says which package it is of, so nobody has to trust a folder's
name or what a server said a moment ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inspection.engines.finite import require_finite
from inspection.engines.triton_names import ANSWERS, INPUT, STAMP, STAMP_BYTES, stamp_of
from inspection.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OLDEST_OPSET: Final = 15  # the first whose `Shape` takes `start` and `end`


@dataclass(frozen=True, slots=True, kw_only=True)
class StampedGraph:
    """An ONNX file that says which package it is of.

    Attributes:
        data: the file.
        shapes: of each input and output without its batch axis; () for one number an image.
    """

    data: bytes
    shapes: dict[str, tuple[int, ...]]


def stamped_graph(data: bytes, digest: str, image_shape: tuple[int, int, int]) -> StampedGraph:
    """The graph with the output `package`, (N, 32) float32.

    Args:
        data: a package's model.onnx.
        digest: the package's, in hexadecimal.
        image_shape: (C, H, W) of what is to be judged.

    Raises:
        EngineError: the graph is not one of ours, or holds a weight that is not finite.
    """
    try:
        model = onnx.load_from_string(data)
        opset = next(each.version for each in model.opset_import if not each.domain)
    except Exception as error:  # protobuf's own errors have no common base
        raise EngineError(f"model.onnx cannot be read: {error}") from error
    graph = model.graph
    if opset < OLDEST_OPSET or [each.name for each in graph.input] != [INPUT]:
        raise EngineError(f"model.onnx is not a graph of one `{INPUT}` in opset {OLDEST_OPSET}+")
    require_finite(model)
    outputs = {each.name: each for each in graph.output}
    if set(outputs) != set(ANSWERS):
        raise EngineError(f"the graph gives {sorted(outputs)}, not {ANSWERS}")
    shapes = {INPUT: image_shape, STAMP: (STAMP_BYTES,)}
    for name in ANSWERS:
        axes = outputs[name].type.tensor_type.shape.dim
        shapes[name] = tuple(axis.dim_value for axis in axes[1:])
        if not axes or axes[0].dim_value or 0 in shapes[name]:
            raise EngineError(f"`{name}` of the graph has no fixed size for any number of images")

    inside = f"{STAMP}/"  # before every name, so that none of the network's is taken
    constants: dict[str, NDArray[Any]] = {
        "digest": stamp_of(digest)[np.newaxis],
        "length": np.array([STAMP_BYTES], dtype=np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, inside + name) for name, value in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("Shape", [INPUT], [f"{inside}images"], start=0, end=1),
            helper.make_node(
                "Concat", [f"{inside}images", f"{inside}length"], [f"{inside}shape"], axis=0
            ),
            helper.make_node("Expand", [f"{inside}digest", f"{inside}shape"], [STAMP]),
        ]
    )
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    graph.output.append(
        helper.make_tensor_value_info(STAMP, TensorProto.FLOAT, [batch, STAMP_BYTES])
    )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the graph could not be stamped: {error}") from error
    return StampedGraph(data=bytes(model.SerializeToString(deterministic=True)), shapes=shapes)
