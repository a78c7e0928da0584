"""A package's network at another input size, or told other zones: in OpenVINO, float32."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from inspection.engines import network as networks
from inspection.engines.detail import Detail
from inspection.engines.export import export_onnx
from inspection.engines.openvino import OpenVinoEngine


def rebuilt(
    folder: Path,
    size_px: tuple[int, int] | None = None,
    *,
    nothing_allowed: bool = False,
    threads: int | None = None,
) -> OpenVinoEngine:
    """The package's network.

    Args:
        folder: of the package.
        size_px: (height, width) of the input; its own when absent. Zones are stretched over it.
        nothing_allowed: tell a network with zones that these allow nothing anywhere.
        threads: CPU cores to use.
    """
    network = networks.load_network(folder / "model.safetensors")
    state = network.state_dict()
    if size_px is not None:
        given = asdict(network.architecture) | {"input_size_px": size_px}
        network = networks.create_network(networks.Architecture(**given), pretrained=False)
        place = "head.allowed"
        if place in state:
            state[place] = F.interpolate(state[place], network.state_dict()[place].shape[-2:])
        network.load_state_dict(state)
    head = network.head
    if nothing_allowed and isinstance(head, Detail) and head.allowed is not None:
        head.allow(torch.zeros(head.allowed.shape[1:]))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export_onnx(network, path)
        return OpenVinoEngine(path.read_bytes(), precision="f32", threads=threads)
