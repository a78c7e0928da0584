"""Three runtimes, one network: each keeps the contract, and all give the same answer.

Triton keeps it in test_triton.py, PyTorch on a CUDA device in test_cuda.py.
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

from inspection.engines.network import load_network
from inspection.engines.onnxruntime import OnnxRuntimeEngine
from inspection.engines.openvino import OpenVinoEngine
from inspection.engines.served import ServedNetwork, unpack
from inspection.engines.tolerance import TOLERANCE
from inspection.engines.torch import EagerRunner, TorchEngine
from inspection.errors import EngineError, PackageDamaged
from inspection.golden import FILE_NAME, read_golden
from tests.contracts.engines import (
    CALIBRATION,
    EngineContract,
    image,
    tiny_network,
    without_numbers,
)
from tests.spot_model import spot_graph, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inspection.engine import Engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    tiny_network(place)
    return place


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """So small a network gains nothing from several, and waits for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SharedContract(EngineContract):
    """The contract on one engine for all tests that do not close it: loading takes its time."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, folder: Path) -> Iterator[Engine]:
        made = cls().make(folder)
        yield made
        made.close()


class TestOpenVino(SharedContract):
    def make(self, folder: Path) -> Engine:
        return OpenVinoEngine(folder / "model.onnx")


class TestOnnxRuntime(SharedContract):
    def make(self, folder: Path) -> Engine:
        return OnnxRuntimeEngine(folder / "model.onnx")


class TestTorch(SharedContract):
    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cpu")


class TestTorchInF16(SharedContract):
    tolerance = TOLERANCE["f16"]

    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cpu", precision="f16")


@pytest.mark.parametrize("make", [OpenVinoEngine, OnnxRuntimeEngine])
def test_a_constant_that_is_no_number_is_refused_like_a_weight(
    folder: Path, tmp_path: Path, make: Callable[[Path], Engine]
) -> None:
    without_numbers(folder, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    constants = [
        onnx.helper.make_node("Constant", [], [one.name], value=one)
        for one in model.graph.initializer
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "constants.onnx")
    with pytest.raises(EngineError, match="not a finite number"):
        make(tmp_path / "constants.onnx")


def test_onnx_runtime_goes_on_nowhere_else_by_itself(folder: Path) -> None:
    """Where what it runs on fails, ONNX Runtime would build the network on the next, and print."""
    engine = OnnxRuntimeEngine(folder / "model.onnx")

    class Failing:
        def __init__(self, session: Any) -> None:
            self.session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

        def run(self, *_: object) -> None:
            raise EPFail("TensorRT EP failed")

    engine._session._sess = Failing(engine._session._sess)
    with pytest.raises(EngineError, match="TensorRT EP failed"):
        engine.infer([image(0)])


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


def test_in_bf16_probabilities_stay_within_what_is_stated(folder: Path) -> None:
    golden = read_golden((folder / FILE_NAME).read_bytes())
    engine = TorchEngine(folder / "model.safetensors", device="cpu", precision="bf16")
    found = np.stack([one.scores for one in engine.infer(list(golden.images))])
    apart = np.abs(CALIBRATION.probabilities(found) - CALIBRATION.probabilities(golden.scores))
    assert TOLERANCE["f16"] / 100 < apart.max() <= TOLERANCE["bf16"]
    assert engine.description.endswith("CPU bf16")


def test_folding_leaves_no_batch_normalisation_and_changes_nothing(folder: Path) -> None:
    plain = load_network(folder / "model.safetensors")
    served = ServedNetwork(load_network(folder / "model.safetensors"), "f32")
    images = torch.from_numpy(np.stack([image(seed) for seed in range(2)]))
    with torch.inference_mode():
        wanted = [one.numpy() for one in plain(images)]
        found = unpack(served(images).numpy(), served.classes, served.grid)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert not [one for one in served.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert [one for one in plain.modules() if isinstance(one, torch.nn.BatchNorm2d)]


def test_a_fold_that_would_change_the_network_is_refused(folder: Path) -> None:
    """A convolution whose answer goes to others beside its batch normalisation."""
    network = load_network(folder / "model.safetensors")
    stem = network.trunk.taps.stem
    assert stem is not None
    plain = torch.nn.BatchNorm2d(32).eval()
    plain.running_mean = torch.full((32,), 0.5)
    stem.norm = Beside(plain)
    with pytest.raises(EngineError, match="cannot be folded"):
        ServedNetwork(network, "f32")


class Beside(torch.nn.Module):
    """A normalisation whose input is used once more, past it."""

    def __init__(self, norm: torch.nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = self.norm(hidden)
        return normalised + hidden


def test_closing_lets_go_of_the_network(folder: Path) -> None:
    engine = TorchEngine(folder / "model.safetensors", device="cpu")
    (runner,) = [one for one in vars(engine).values() if isinstance(one, EagerRunner)]
    network = weakref.ref(runner.network)
    assert network() is not None
    engine.close()
    gc.collect()
    assert network() is None


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
