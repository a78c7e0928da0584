"""A graph in OpenVINO, an image a core at a time: how a training looks through all its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection.errors import EngineError

if TYPE_CHECKING:
    import openvino as ov


def compiled(graph: bytes, threads: int) -> ov.CompiledModel:
    """The ONNX graph on so many cores, in float32.

    Raises:
        EngineError: OpenVINO cannot compile it.
    """
    import openvino as ov

    options = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        core = ov.Core()
        return core.compile_model(core.read_model(graph), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO could not compile the network: {error}") from error
