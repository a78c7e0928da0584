"""Torch modules as ONNX files: one file, weights inside, the same bytes every time.

    trunk -> graph, exported once and kept --.
    readout (whitening, head, novelty) -> graph -> joined -> model.onnx

Exporting the trunk is nearly all of the work, and `fast` needs its graph twice: to extract features
and to serve. So it is made once a process for the same tensors.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from inspection.engines.network import InspectionNetwork

OPSET = 18
OUTPUTS = ("score", "evidence", "novelty")
BATCH = "batch"
READOUT = "readout/"  # before every name of that graph but those of inputs and outputs
KEPT = 2  # trunks: one for the model that is made, one for what it is compared with

_trunks: OrderedDict[str, bytes] = OrderedDict()


class Readout(nn.Module):
    """All of a network that comes after its trunk; it shares the network's tensors."""

    def __init__(self, network: InspectionNetwork) -> None:
        super().__init__()
        self.network = network
        self.training = network.training  # it is put back to that after the export

    def forward(self, image: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `InspectionNetwork.readout`."""
        return self.network.readout(image, cells)


def export_onnx(
    network: InspectionNetwork, path: Path, *, input_size_px: tuple[int, int] | None = None
) -> None:
    """Write `model.onnx`: input `image`, outputs `score`, `evidence`, `novelty`.

    The batch axis is dynamic; height and width are fixed.

    Args:
        network: on the CPU; in evaluation mode during the export.
        path: of the file to write.
        input_size_px: (height, width); the architecture's own when absent.

    Raises:
        EngineError: the network cannot be exported.
    """
    import onnx

    height, width = input_size_px or network.architecture.input_size_px
    shape = (network.architecture.channels, height, width)
    trunk = onnx.load_from_string(trunk_onnx(network.trunk, shape))
    _, *cells = (axis.dim_value for axis in trunk.graph.output[0].type.tensor_type.shape.dim)
    readout = _exported(
        Readout(network), {"image": shape, "cells": tuple(cells)}, OUTPUTS, any_batch=True
    )
    path.write_bytes(_as_bytes(_joined(trunk, readout)))


def trunk_onnx(trunk: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """The trunk as the bytes of an ONNX file: `image` (batch, *shape) to `cells`, both float32.

    Made once for the same module and tensors, then kept.

    Raises:
        EngineError: the trunk cannot be exported.
    """
    plain = {name: one for name, one in vars(trunk).items() if isinstance(one, int | float | str)}
    plain.pop("training", None)  # it is exported in evaluation mode, whatever it is in
    digest = hashlib.sha256(f"{shape} {sorted(plain.items())} {trunk!r}".encode())
    for name, tensor in trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    key = digest.hexdigest()
    if key not in _trunks:
        # One image takes half the time of a free batch axis, which most graphs are as good for.
        model = _free_batch(_exported(trunk, {"image": shape}, ("cells",), any_batch=False))
        if model is None:
            model = _exported(trunk, {"image": shape}, ("cells",), any_batch=True)
        _trunks[key] = _as_bytes(model)
        while len(_trunks) > KEPT:
            _trunks.popitem(last=False)
    _trunks.move_to_end(key)
    return _trunks[key]


def part_onnx(part: nn.Module, shape: tuple[int, int, int], outputs: Sequence[str]) -> bytes:
    """Part of a network as the bytes of an ONNX file for one `image`, (1, *shape) float32.

    Raises:
        EngineError: it cannot be exported.
    """
    return _as_bytes(_exported(part, {"image": shape}, outputs, any_batch=False))


def _exported(
    module: nn.Module,
    inputs: dict[str, tuple[int, ...]],
    outputs: Sequence[str],
    *,
    any_batch: bool,
) -> ModelProto:
    """A module as a graph; each input is (N, *shape) float32, and N is 1 without `any_batch`."""
    # Two images: a batch of one would be taken for a constant.
    examples = tuple(torch.zeros(2 if any_batch else 1, *shape) for shape in inputs.values())
    # Two inputs cannot share a name for their batch axis, though they share its size.
    batch = torch.export.Dim(BATCH) if len(inputs) == 1 else torch.export.Dim.DYNAMIC
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} for _ in examples) if any_batch else None,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        module.train(was_training)
    if program is None:
        raise EngineError("the network could not be exported")
    return without_traces(program.model_proto)


def _free_batch(model: ModelProto) -> ModelProto | None:
    """The graph of one image for any number of them; None when a shape in it depends on the one.

    The number of images gets a name, and shape inference has to carry it through to the output.
    """
    import onnx
    from onnx import shape_inference

    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    del graph.value_info[:]
    for one in (*graph.input, *graph.output):
        one.type.tensor_type.shape.dim[0].ClearField("dim_value")
        one.type.tensor_type.shape.dim[0].dim_param = BATCH
    wanted = [axis.dim_value for axis in graph.output[0].type.tensor_type.shape.dim]
    graph.output[0].type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(freed, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError:
        return None
    found = inferred.graph.output[0].type.tensor_type.shape.dim
    if [axis.dim_value for axis in found] != wanted or found[0].dim_param != BATCH:
        return None
    del inferred.graph.value_info[:]
    return inferred


def _joined(trunk: ModelProto, readout: ModelProto) -> ModelProto:
    """One graph out of both: the trunk's `cells` go into the readout, `image` into either."""
    import onnx
    from onnx import compose

    named = compose.add_prefix(readout, READOUT)
    back = {READOUT + name: name for name in ("image", "cells", *OUTPUTS)}
    for node in named.graph.node:
        node.input[:] = [back.get(name, name) for name in node.input]
        node.output[:] = [back.get(name, name) for name in node.output]
    for output in named.graph.output:
        output.name = back[output.name]
        output.type.tensor_type.shape.dim[0].dim_param = BATCH
    joined = onnx.ModelProto()
    joined.CopyFrom(trunk)
    graph = joined.graph
    graph.node.extend(named.graph.node)
    graph.initializer.extend(named.graph.initializer)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(named.graph.output)
    try:
        onnx.checker.check_model(joined)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the network could not be put together: {error}") from error
    return joined


def _as_bytes(model: ModelProto) -> bytes:
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
