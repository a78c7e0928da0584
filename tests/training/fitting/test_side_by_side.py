from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection.engine import Prediction
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import EngineError
from inspection.package import ModelPackage
from tests.spot_model import SIZE, write_spot_package
from training.fitting.side_by_side import infer_each, same


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_spot_package(tmp_path_factory.mktemp("weights"))


IMAGES = list(np.random.default_rng(4).uniform(0, 255, (17, 1, SIZE, SIZE)).astype(np.float32))


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_the_answers_are_the_serving_engines_in_order(package: ModelPackage, cores: int) -> None:
    serving = OpenVinoEngine.for_package(package)
    alone = [serving.infer([image])[0] for image in IMAGES]
    found = list(infer_each(package, serving, IMAGES, cores=cores))
    assert len(found) == len(alone)
    assert all(same(one, other) for one, other in zip(found, alone, strict=True))


def test_no_images_no_answers(package: ModelPackage) -> None:
    assert list(infer_each(package, OpenVinoEngine.for_package(package), [])) == []


def test_an_engine_that_says_otherwise_answers_by_itself(package: ModelPackage) -> None:
    class Other(OpenVinoEngine):
        """The same engine but for one bit of novelty, as another arithmetic would have it."""

        def infer(self, images: object) -> list[Prediction]:
            answers = super().infer(images)  # type: ignore[arg-type]
            return [
                Prediction(
                    scores=one.scores,
                    evidence=one.evidence,
                    novelty=float(np.nextafter(np.float32(one.novelty), np.float32(9))),
                )
                for one in answers
            ]

    other = Other.for_package(package)
    alone = [other.infer([image])[0] for image in IMAGES]
    found = list(infer_each(package, other, IMAGES, cores=2))
    assert all(same(one, two) for one, two in zip(found, alone, strict=True))


def test_an_image_that_does_not_fit_stops_the_work(package: ModelPackage, tmp_path: Path) -> None:
    wrong = [*IMAGES[:5], np.zeros((1, 8, 8), np.float32), *IMAGES[5:]]
    with pytest.raises(EngineError, match="8"):
        list(infer_each(package, OpenVinoEngine.for_package(package), wrong, cores=2))
