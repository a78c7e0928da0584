"""What every engine keeps to, whatever runs the network: `inspection.engine.Engine`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from inspection.engines.network import Architecture, create_network, export_onnx, save_network
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.engine import Engine

SHAPE = (1, 64, 64)


def tiny_network(folder: Path, *, classes: int = 2) -> None:
    """model.onnx and model.safetensors of a small network with random weights."""
    architecture = Architecture(
        input_size_px=SHAPE[1:], window=(0.0, 255.0), classes=classes, components=8, hidden=4
    )
    network = create_network(architecture, pretrained=False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # a fresh head says nothing yet
        for parameter in (*network.head.parameters(), *network.novelty.parameters()):
            parameter.normal_(0, 0.3, generator=generator)
    export_onnx(network, folder / "model.onnx")
    save_network(network, folder / "model.safetensors")


def image(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, SHAPE).astype(np.float32)


class EngineContract(ABC):
    """Subclass it with `make`; the fixture `folder` holds the files of `tiny_network`."""

    @abstractmethod
    def make(self, folder: Path) -> Engine:
        """The engine of model.onnx and model.safetensors in `folder`."""

    @pytest.fixture
    def engine(self, folder: Path) -> Iterator[Engine]:
        made = self.make(folder)
        yield made
        made.close()

    def test_an_answer_has_every_class_and_a_map_for_each(self, engine: Engine) -> None:
        (prediction,) = engine.infer([image(0)])
        assert prediction.scores.shape == (2,)
        assert prediction.evidence.shape[0] == 2
        assert prediction.scores.dtype == prediction.evidence.dtype == np.float32
        assert prediction.novelty >= 0
        assert engine.description

    def test_a_batch_keeps_order_and_answers_like_single_images(self, engine: Engine) -> None:
        images = [image(seed) for seed in range(3)]
        for given, batched in zip(images, engine.infer(images), strict=True):
            (alone,) = engine.infer([given])
            np.testing.assert_allclose(alone.scores, batched.scores, rtol=1e-4, atol=1e-4)
        assert engine.infer([]) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((1, 32, 32), np.float32),
            np.zeros((3, 64, 64), np.float32),
            np.zeros((64, 64), np.float32),
            np.zeros(SHAPE, np.float64),
        ],
    )
    def test_images_of_another_shape_or_kind_are_refused(
        self, engine: Engine, wrong: NDArray[np.float32]
    ) -> None:
        with pytest.raises(EngineError, match="for a network of"):
            engine.infer([wrong])
        assert len(engine.infer([image(0)])) == 1

    @pytest.mark.parametrize("nonsense", [np.nan, np.inf])
    def test_nonsense_is_an_error_not_an_answer(self, engine: Engine, nonsense: float) -> None:
        with pytest.raises(EngineError, match=r"finite|novelty"):
            engine.infer([np.full(SHAPE, nonsense, np.float32)])

    def test_threads_get_their_own_answers(self, engine: Engine) -> None:
        expected = [engine.infer([image(seed)])[0].scores for seed in range(3)]
        wrong: list[int] = []

        def ask(seed: int) -> None:
            for _ in range(5):
                (prediction,) = engine.infer([image(seed)])
                if not np.allclose(prediction.scores, expected[seed], rtol=1e-4, atol=1e-4):
                    wrong.append(seed)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_closed_engine_says_so(self, folder: Path) -> None:
        engine = self.make(folder)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.infer([image(0)])
