"""PyTorch on a CUDA device: graphs, lanes, and what is given back. Skipped where there is none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from inspection.engines.cuda import (
    LARGEST,
    STREAMS,
    batch_sizes,
    give_stream_back,
    same_rounding,
    take_stream,
)
from inspection.engines.devices import cuda_names
from inspection.engines.tolerance import TOLERANCE
from inspection.engines.torch import TorchEngine
from tests.contracts.engines import EngineContract, image, tiny_network

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.engine import Engine

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    if torch.cuda.is_available():
        tiny_network(place)
    return place


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (8, (1, 2, 4, 8)),
        (12, (1, 2, 4, 8, 12)),
        (64, (1, 2, 4, 8, 16)),
    ],
)
def test_there_is_a_graph_for_every_size_that_can_come(
    max_batch: int, sizes: tuple[int, ...]
) -> None:
    assert batch_sizes(max_batch) == sizes
    assert all(min(size for size in sizes if size >= n) < 2 * n for n in range(1, sizes[-1] + 1))


def test_float32_keeps_its_mantissa_whatever_the_process_was_set_to() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32
    products.allow_tf32 = True
    try:
        with same_rounding():
            assert not any((products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark))
            assert torch.get_float32_matmul_precision() == "highest"
        assert products.allow_tf32
    finally:
        products.allow_tf32 = before


def test_the_driver_and_pytorch_see_the_same_devices() -> None:
    assert len(cuda_names()) == torch.cuda.device_count()


@needs_cuda
@pytest.mark.gpu
class TestTorchOnCuda(EngineContract):
    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cuda")


@needs_cuda
@pytest.mark.gpu
class TestTorchOnCudaInF16(EngineContract):
    tolerance = TOLERANCE["f16"]

    def make(self, folder: Path) -> Engine:
        return TorchEngine(
            folder / "model.safetensors", device="cuda", precision="f16", max_batch=64
        )


@needs_cuda
@pytest.mark.gpu
class TestTorchOnCudaInBf16(EngineContract):
    tolerance = TOLERANCE["bf16"]

    def make(self, folder: Path) -> Engine:
        return TorchEngine(folder / "model.safetensors", device="cuda", precision="bf16")


@needs_cuda
@pytest.mark.gpu
def test_float32_is_not_tf32(folder: Path) -> None:
    """TF32 would be off by about 1e-3; the contract's tolerance alone might not show it."""
    cpu = TorchEngine(folder / "model.safetensors", device="cpu")
    cuda = TorchEngine(folder / "model.safetensors", device="cuda")
    for seed in range(4):
        (one,), (other,) = cpu.infer([image(seed)]), cuda.infer([image(seed)])
        np.testing.assert_allclose(one.evidence, other.evidence, rtol=2e-5, atol=2e-5)
    cuda.close()


@needs_cuda
@pytest.mark.gpu
def test_every_number_of_images_in_every_order_gets_its_own_answers(folder: Path) -> None:
    """Sizes that are filled up, and lanes that take turns, over memory that others just used."""
    engine = TorchEngine(folder / "model.safetensors", device="cuda", precision="f16", max_batch=64)
    images = [image(seed) for seed in range(5 * LARGEST + 3)]
    alone = [engine.infer([one])[0].scores for one in images]
    random = np.random.default_rng(1)
    for _ in range(60):
        order = random.permutation(len(images))[: random.integers(1, len(images) + 1)]
        found = engine.infer([images[place] for place in order])
        for place, one in zip(order, found, strict=True):
            np.testing.assert_allclose(one.scores, alone[place], rtol=2e-2, atol=2e-2)
    engine.close()


@needs_cuda
@pytest.mark.gpu
def test_the_device_gets_its_memory_back(folder: Path) -> None:
    first = TorchEngine(folder / "model.safetensors", device="cuda", max_batch=64)
    first.infer([image(0)])
    first.close()  # what libraries keep for a stream, they keep
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(3):
        engine = TorchEngine(folder / "model.safetensors", device="cuda", max_batch=64)
        assert torch.cuda.memory_allocated() > before[0]
        engine.close()
        assert torch.cuda.memory_allocated() <= before[0]
        assert torch.cuda.memory_reserved() <= before[1]


@needs_cuda
@pytest.mark.gpu
def test_no_two_engines_share_a_stream_however_many_come_and_go(folder: Path) -> None:
    """PyTorch has 32 and hands them out in turns; a model that stays sees many others go."""
    staying = TorchEngine(folder / "model.safetensors", device="cuda")
    expected = staying.infer([image(0)])[0].scores
    for _ in range(STREAMS + 2):
        TorchEngine(folder / "model.safetensors", device="cuda", max_batch=1).close()
        torch.full((1 << 24,), torch.nan, device="cuda")  # what was let go is somebody else's now
        np.testing.assert_array_equal(staying.infer([image(0)])[0].scores, expected)
    staying.close()
    device = torch.device("cuda", torch.cuda.current_device())
    taken = [take_stream(device) for _ in range(STREAMS)]
    assert len({stream.cuda_stream for stream in taken}) == STREAMS
    with pytest.raises(RuntimeError, match="too many engines"):
        take_stream(device)
    for stream in taken:
        give_stream_back(stream)


@needs_cuda
@pytest.mark.gpu
def test_a_model_is_made_ready_while_another_one_judges(folder: Path) -> None:
    """As when a model is promoted: what is captured must not see what else runs, nor stop it."""
    serving = TorchEngine(folder / "model.safetensors", device="cuda")
    expected = serving.infer([image(0)])[0].scores
    wrong: list[object] = []
    enough = threading.Event()

    def judge() -> None:
        while not enough.is_set():
            try:
                (one,) = serving.infer([image(0)])
                if not np.allclose(one.scores, expected, rtol=1e-4, atol=1e-4):
                    wrong.append(one.scores)
            except Exception as error:  # noqa: BLE001  whatever it is, it is wrong
                wrong.append(error)
                return

    threads = [threading.Thread(target=judge) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            fresh = TorchEngine(folder / "model.safetensors", device="cuda")
            np.testing.assert_allclose(fresh.infer([image(0)])[0].scores, expected, rtol=1e-4)
            fresh.close()
    finally:
        enough.set()
        for thread in threads:
            thread.join()
        serving.close()
    assert wrong == []
