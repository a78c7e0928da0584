"""Three runtimes, one network: each keeps the contract, and all give the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from inspection.engines.onnxruntime import OnnxRuntimeEngine
from inspection.engines.openvino import OpenVinoEngine
from inspection.engines.torch import TorchEngine
from inspection.errors import EngineError, PackageDamaged
from tests.contracts.engines import EngineContract, image, tiny_network
from tests.spot_model import spot_graph, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.engine import Engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    tiny_network(place)
    return place


class TestOpenVino(EngineContract):
    def make(self, folder: Path) -> Engine:
        return OpenVinoEngine(folder / "model.onnx")


class TestOnnxRuntime(EngineContract):
    def make(self, folder: Path) -> Engine:
        return OnnxRuntimeEngine(folder / "model.onnx")


class TestTorch(EngineContract):
    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestTorchOnCuda(EngineContract):
    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cuda")


def test_all_three_say_the_same(folder: Path) -> None:
    engines: list[Engine] = [
        TorchEngine(folder / "model.safetensors"),
        OnnxRuntimeEngine(folder / "model.onnx"),
        OpenVinoEngine(folder / "model.onnx"),
    ]
    for seed in range(3):
        first, *others = (engine.infer([image(seed)])[0] for engine in engines)
        for other in others:
            np.testing.assert_allclose(first.scores, other.scores, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(first.evidence, other.evidence, rtol=1e-3, atol=1e-3)
            assert first.novelty == pytest.approx(other.novelty, rel=1e-3)
    assert len({engine.description for engine in engines}) == 3


def test_the_graph_must_be_one_of_ours() -> None:
    with pytest.raises(EngineError, match="cannot load"):
        OnnxRuntimeEngine(b"not a graph")
    assert OnnxRuntimeEngine(spot_graph(), threads=1).description.endswith("CPU f32")


def test_weights_that_changed_after_their_package_was_loaded_are_refused(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path)
    with pytest.raises(EngineError, match=r"model\.safetensors is damaged"):
        TorchEngine.for_package(package)  # the spot model has a graph and no network
    (package.folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(PackageDamaged, match=r"model\.safetensors"):
        TorchEngine.for_package(package)
    (package.folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(PackageDamaged, match=r"model\.onnx"):
        OnnxRuntimeEngine.for_package(package)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        TorchEngine(tmp_path / "model.safetensors", device="cuda")
