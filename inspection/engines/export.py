"""Torch modules as ONNX files: one file, weights inside, the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from inspection.engines.network import InspectionNetwork

OPSET = 18
OUTPUTS = ("score", "evidence", "novelty")


def export_onnx(
    network: InspectionNetwork, path: Path, *, input_size_px: tuple[int, int] | None = None
) -> None:
    """Write `model.onnx`: input `image`, outputs `score`, `evidence`, `novelty`.

    The batch axis is dynamic; height and width are fixed.

    Args:
        network: on the CPU; in evaluation mode during the export.
        path: of the file to write.
        input_size_px: (height, width); the architecture's own when absent.
    """
    height, width = input_size_px or network.architecture.input_size_px
    shape = (network.architecture.channels, height, width)
    path.write_bytes(onnx_bytes(network, shape, outputs=OUTPUTS))


def onnx_bytes(
    module: nn.Module,
    shape: tuple[int, int, int],
    *,
    outputs: Sequence[str],
    any_batch: bool = True,
) -> bytes:
    """A module of one input `image`, (N, *shape) float32, as the bytes of an ONNX file.

    Without `any_batch`, N is 1, and the export takes half the time.

    Raises:
        EngineError: the module cannot be exported.
    """
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2 if any_batch else 1, *shape)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
                input_names=["image"],
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        module.train(was_training)
    if program is None:
        raise EngineError("the network could not be exported")
    model: ModelProto = without_traces(program.model_proto)
    return bytes(model.SerializeToString(deterministic=True))


def without_traces(model: ModelProto) -> ModelProto:
    """The graph without what tells of the machine it was made on: stack traces, paths, versions."""
    model.producer_name = "inspection"
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return model
