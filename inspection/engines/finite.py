"""Weights of an ONNX graph must be numbers.

A ReLU may make an ordinary number of NaN, so that no answer would show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import EngineError

if TYPE_CHECKING:
    from onnx import ModelProto


def require_finite(model: ModelProto) -> None:
    """Refuse a graph that holds NaN or infinity, as a weight or as a constant.

    Raises:
        EngineError: it does; names the first.
    """
    from onnx import numpy_helper

    weights = [(tensor.name, tensor) for tensor in model.graph.initializer]
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    weights += [(node.output[0], each.t) for node in constants for each in node.attribute]
    for name, tensor in weights:
        held = numpy_helper.to_array(tensor) if tensor.data_type else np.zeros(0)
        if held.dtype.kind == "f" and not np.isfinite(held).all():
            raise EngineError(
                f"the graph's {name} holds a weight that is not a finite number",
                remedy="Train the model again; this one never gave answers.",
            )
