"""What every engine keeps to, whatever runs the network: `inspection.engine.Engine`.

tiny_network -> model.onnx, model.safetensors, golden.npz (what the plain network says)
EngineContract -> the engine of these files -> its answers beside the golden ones
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.torch
import torch
from onnx import numpy_helper

from inspection.engine import split_outputs
from inspection.engines.network import (
    Architecture,
    create_network,
    export_onnx,
    pool_evidence_numpy,
    save_network,
)
from inspection.errors import EngineError
from inspection.golden import FILE_NAME, Golden, read_golden
from inspection.recipe import Recipe
from inspection.verdict import Calibration, Certificate, OperatingPoint, decide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction

SHAPE = (1, 64, 64)
CLASSES = 2
SHARPNESS = 2.0
GOLDEN_IMAGES = 12
ENDS_IN_S = 30.0  # whatever is asked of an engine, it answers or raises; this is a generous while
CALIBRATION = Calibration(slope=(1.0,) * CLASSES, intercept=(0.0,) * CLASSES)
RECIPE = Recipe(
    product="KN-42",
    modality="x-ray",
    bits=8,
    channels=1,
    input_size_px=SHAPE[1:],
    window=(0, 255),
    classes=("crack", "pore"),
)


def tiny_network(folder: Path, *, classes: int = CLASSES) -> None:
    """model.onnx and model.safetensors of a small network with random weights, and golden.npz."""
    architecture = Architecture(
        input_size_px=SHAPE[1:],
        window=(0.0, 255.0),
        classes=classes,
        components=8,
        hidden=4,
        sharpness=SHARPNESS,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        network = create_network(architecture, pretrained=False)
        with torch.no_grad():  # a fresh head says nothing yet
            for parameter in (*network.head.parameters(), *network.novelty.parameters()):
                parameter.normal_(0, 0.3)
    images = [picture(seed) for seed in range(GOLDEN_IMAGES)]
    with torch.no_grad():
        answers = [one.numpy() for one in network(torch.from_numpy(np.stack(images)))]
    (folder / FILE_NAME).write_bytes(Golden.of(images, split_outputs(*answers)).as_bytes())
    export_onnx(network, folder / "model.onnx")
    save_network(network, folder / "model.safetensors")


def without_numbers(folder: Path, place: Path) -> None:
    """The network of `folder` again in `place`, with one weight of its first convolution NaN."""
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        told = file.metadata()
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["trunk.taps.stem.conv.weight"][0, 0, 0, 0] = torch.nan
    safetensors.torch.save_file(tensors, place / "model.safetensors", metadata=told)
    model = onnx.load(folder / "model.onnx")
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    (weight,) = (one for one in model.graph.initializer if one.name == first.input[1])
    held = numpy_helper.to_array(weight).copy()
    held[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(held, weight.name))
    onnx.save(model, place / "model.onnx")


def image(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, SHAPE).astype(np.float32)


def picture(seed: int) -> NDArray[np.float32]:
    """An image that the network takes for another one than the next: a slope, waves and noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64] / 63
    level = random.uniform(0, 255) + random.uniform(-200, 200) * rows
    waves = 60 * np.sin(rows * random.uniform(2, 40) + columns * random.uniform(2, 40))
    noise = random.normal(0, random.uniform(0, 40), SHAPE[1:])
    made: NDArray[np.float32] = np.clip(level + waves + noise, 0, 255).astype(np.float32)
    return made[np.newaxis]


def limits(golden: Golden) -> OperatingPoint:
    """Limits in the widest gaps of the golden answers, so that there is no doubt on which side."""
    probabilities = CALIBRATION.probabilities(golden.scores)

    def gap(values: NDArray[np.float64], low: float, high: float) -> float:
        held = np.quantile(np.sort(values), np.linspace(low, high, 7), method="nearest")
        widest = int(np.argmax(np.diff(held)))
        return float(held[widest] + held[widest + 1]) / 2

    columns = probabilities.T
    return OperatingPoint(
        pass_below=tuple(gap(column, 0.2, 0.5) for column in columns),
        fail_from=tuple(gap(column, 0.5, 0.9) for column in columns),
        novelty_limit=gap(golden.novelty, 0.5, 0.95),
        split_digest="0" * 64,
        certificate=Certificate(
            wanted_escape_rate=0.01,
            escape_bound=0.2,
            naive_escape_bound=0.2,
            confidence=0.95,
            bad_parts=3,
            groups=3,
            certified=False,
            more_bad_parts_needed=300,
        ),
    )


class EngineContract(ABC):
    """Subclass it with `make`; the fixture `folder` holds the files of `tiny_network`.

    Attributes:
        tolerance: how far a probability may lie from the plain network's in float32.
    """

    tolerance: ClassVar[float] = 1e-4

    @property
    def near(self) -> float:
        """How far two scores of one image may lie apart: other sizes may take other kernels."""
        return 1e-4 if self.tolerance <= 1e-4 else 4 * self.tolerance

    @abstractmethod
    def make(self, folder: Path) -> Engine:
        """The engine of model.onnx and model.safetensors in `folder`."""

    @pytest.fixture
    def engine(self, folder: Path) -> Iterator[Engine]:
        made = self.make(folder)
        yield made
        made.close()

    @pytest.fixture
    def golden(self, folder: Path) -> Golden:
        return read_golden((folder / FILE_NAME).read_bytes())

    def test_an_answer_has_every_class_and_a_map_for_each(self, engine: Engine) -> None:
        (prediction,) = engine.infer([image(0)])
        assert prediction.scores.shape == (2,)
        assert prediction.evidence.shape[0] == 2
        assert prediction.scores.dtype == prediction.evidence.dtype == np.float32
        assert prediction.novelty >= 0
        assert engine.description

    def test_golden_images_get_their_verdicts(self, engine: Engine, golden: Golden) -> None:
        point = limits(golden)
        found = engine.infer(list(golden.images))
        probabilities = [
            CALIBRATION.probabilities(scores)
            for scores in (np.stack([one.scores for one in found]), golden.scores)
        ]
        assert np.abs(probabilities[0] - probabilities[1]).max() <= self.tolerance
        for one, novelty in zip(found, golden.novelty, strict=True):
            assert one.novelty == pytest.approx(novelty, rel=10 * self.tolerance)
        wanted = [
            verdict(scores, one.evidence, novelty, point)
            for scores, novelty, one in zip(golden.scores, golden.novelty, found, strict=True)
        ]
        assert len(set(wanted)) == 3
        assert [verdict(o.scores, o.evidence, o.novelty, point) for o in found] == wanted

    def test_the_map_is_what_the_score_is_made_of(self, engine: Engine, golden: Golden) -> None:
        for one in engine.infer(list(golden.images)):
            pooled = pool_evidence_numpy(one.evidence, SHARPNESS)
            np.testing.assert_allclose(pooled, one.scores, rtol=1e-4, atol=1e-4)
        assert max(np.ptp(one.evidence) for one in engine.infer(list(golden.images))) > 0.1

    def test_a_batch_keeps_order_and_answers_like_single_images(self, engine: Engine) -> None:
        images = [image(seed) for seed in range(3)]
        for given, batched in zip(images, engine.infer(images), strict=True):
            (alone,) = engine.infer([given])
            np.testing.assert_allclose(alone.scores, batched.scores, rtol=self.near, atol=self.near)
        assert engine.infer([]) == []

    def test_more_images_than_usual_keep_their_order_too(
        self, engine: Engine, golden: Golden
    ) -> None:
        order = np.random.default_rng(5).integers(0, GOLDEN_IMAGES, 37)
        found = engine.infer([golden.images[place] for place in order])
        scores = np.stack([one.scores for one in found])
        near = CALIBRATION.probabilities(scores) - CALIBRATION.probabilities(golden.scores[order])
        assert np.abs(near).max() <= self.tolerance

    def test_an_answer_stays_what_it_was(self, engine: Engine) -> None:
        (first,) = engine.infer([image(0)])
        kept = first.scores.copy(), first.evidence.copy(), first.novelty
        engine.infer([image(seed) for seed in range(1, 4)])
        np.testing.assert_array_equal(first.scores, kept[0])
        np.testing.assert_array_equal(first.evidence, kept[1])
        assert first.novelty == kept[2]

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
            engine.infer([image(0), wrong])
        assert len(engine.infer([image(0)])) == 1

    @pytest.mark.parametrize("nonsense", [np.nan, np.inf])
    def test_nonsense_is_an_error_not_an_answer(self, engine: Engine, nonsense: float) -> None:
        (before,) = engine.infer([image(0)])
        with pytest.raises(EngineError, match=r"finite|novelty"):
            engine.infer([image(1), np.full(SHAPE, nonsense, np.float32)])
        (after,) = engine.infer([image(0)])
        np.testing.assert_allclose(after.scores, before.scores, rtol=1e-5, atol=1e-5)

    def test_weights_that_are_no_numbers_give_no_answer(self, folder: Path, tmp_path: Path) -> None:
        """A ReLU6 may make ordinary numbers of NaN, so that no answer would show it."""
        without_numbers(folder, tmp_path)
        with pytest.raises(EngineError, match="finite"):
            self.make(tmp_path).infer([image(0)])

    def test_threads_get_their_own_answers(self, engine: Engine) -> None:
        expected = [engine.infer([image(seed)])[0].scores for seed in range(3)]
        wrong: list[int] = []

        def ask(seed: int) -> None:
            for count in (1, 2, 1, 3, 1):
                *_, prediction = engine.infer([image(9)] * (count - 1) + [image(seed)])
                apart = np.abs(prediction.scores - expected[seed])
                if not (apart <= self.near * (1 + np.abs(expected[seed]))).all():
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
        engine.close()

    def test_every_call_ends_when_the_engine_is_closed_meanwhile(self, folder: Path) -> None:
        engine = self.make(folder)
        expected = engine.infer([image(0)])[0].scores
        ends: list[Prediction | EngineError] = []
        begun = threading.Barrier(4)

        def ask() -> None:
            begun.wait()
            while True:
                try:
                    ends.extend(engine.infer([image(0)]))
                except EngineError as error:
                    ends.append(error)
                    return

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        engine.close()
        for thread in threads:
            thread.join(ENDS_IN_S)
            assert not thread.is_alive()
        refused = [end for end in ends if isinstance(end, EngineError)]
        assert len(refused) == 3
        assert all("closed" in str(end) for end in refused)
        for end in ends:
            if not isinstance(end, EngineError):
                np.testing.assert_allclose(end.scores, expected, rtol=1e-4, atol=1e-4)

    def test_another_engine_serves_after_one_was_closed(self, folder: Path) -> None:
        answers = []
        for _ in range(3):
            engine = self.make(folder)
            answers.append(engine.infer([image(0)])[0].scores)
            engine.close()
        np.testing.assert_allclose(answers[1:], [answers[0]] * 2, rtol=1e-5, atol=1e-5)


def verdict(
    scores: NDArray[np.float32],
    evidence: NDArray[np.float32],
    novelty: float,
    point: OperatingPoint,
) -> str:
    """Pass, fail or review."""
    (answer,) = split_outputs(scores[None], evidence[None], np.array([novelty], np.float32))
    return decide(answer, CALIBRATION, point, RECIPE, SHAPE[1:]).disposition
