"""The graph that is put together says what a whole export says, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection.engines import export
from inspection.engines.export import OUTPUTS, export_onnx, trunk_onnx
from inspection.engines.network import Architecture, InspectionNetwork, create_network

SIZE_PX = (64, 64)
ARCHITECTURE = Architecture(window=(0.0, 255.0), input_size_px=SIZE_PX, components=16, hidden=8)


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    torch.manual_seed(1)
    return create_network(ARCHITECTURE, pretrained=False)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(2).uniform(0, 255, (3, 1, *SIZE_PX)).astype(np.float32)


def answers(graph: bytes, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(list(OUTPUTS), {"image": images})]


def test_the_joined_graph_is_the_whole_network(
    network: InspectionNetwork, images: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(network, path)
    model = export._exported(network, {"image": (1, *SIZE_PX)}, OUTPUTS, any_batch=True)
    whole = model.SerializeToString()
    for count in (1, 3):
        joined = answers(path.read_bytes(), images[:count])
        for one, other in zip(joined, answers(whole, images[:count]), strict=True):
            assert np.array_equal(one, other)
    graph = onnx.load(path).graph
    assert [one.name for one in graph.input] == ["image"]
    assert [one.name for one in graph.output] == list(OUTPUTS)
    first = [one.type.tensor_type.shape.dim[0] for one in (*graph.input, *graph.output)]
    assert len({axis.dim_param for axis in first}) == 1
    assert all(axis.dim_param for axis in first)


def test_a_trunk_is_exported_once_for_the_same_tensors(
    network: InspectionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trunk_onnx(network.trunk, (1, *SIZE_PX))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("exported again")

    with monkeypatch.context() as patched:
        patched.setattr(export, "_exported", never)
        assert trunk_onnx(network.trunk, (1, *SIZE_PX)) is first
        tuned = network.trunk.taps.stages[0]
        parameter = next(tuned.parameters())
        with torch.no_grad():
            parameter.add_(0.5)
        try:
            with pytest.raises(AssertionError, match="exported again"):
                trunk_onnx(network.trunk, (1, *SIZE_PX))
        finally:
            with torch.no_grad():
                parameter.sub_(0.5)


class Stubborn(nn.Module):
    """A trunk whose graph for one image holds for one image only."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Conv2d(1, 4, 8, stride=8)

    def forward(self, image: Tensor) -> Tensor:
        count = image.shape[0]
        rows: Tensor = self.step(image).reshape(count, -1)
        return rows.reshape(count, 4, 8, 8)


def test_a_trunk_that_counts_its_images_is_exported_for_any_number(
    images: NDArray[np.float32],
) -> None:
    trunk = Stubborn().eval()
    graph = trunk_onnx(trunk, (1, *SIZE_PX))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(["cells"], {"image": images})
    with torch.no_grad():
        wanted = trunk(torch.from_numpy(images)).numpy()
    assert np.allclose(found, wanted, atol=1e-3)
