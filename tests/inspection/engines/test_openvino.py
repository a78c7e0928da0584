"""The CPU engine answers what the graph says, or refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import EngineError, PackageDamaged
from tests.spot_model import part_image, spot_graph, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def image(kind: str, seed: int = 0) -> NDArray[np.float32]:
    return part_image(kind, seed=seed, size=64)[np.newaxis].astype(np.float32)


def test_the_answer_is_the_graphs(tmp_path: Path) -> None:
    engine = OpenVinoEngine.for_package(write_spot_package(tmp_path))
    given = image("bad")
    (prediction,) = engine.infer([given])
    cells = given.reshape(8, 8, 8, 8).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(prediction.evidence[0], 40 * (cells - 0.5), atol=1e-4)
    assert prediction.scores[0] == prediction.evidence.max()
    assert prediction.novelty == pytest.approx(abs(given.mean() / 255 - 0.2), abs=1e-5)
    assert engine.description.endswith("CPU f32")


@pytest.mark.parametrize(("threads", "at_once"), [(None, 8), (1, 8), (2, 1)])
def test_a_batch_keeps_order_and_answers_like_single_images(
    threads: int | None, at_once: int
) -> None:
    engine = OpenVinoEngine(spot_graph(), threads=threads, at_once=at_once)
    images = [image(kind, seed) for seed in range(5) for kind in ("good", "bad", "unsure")]
    together = engine.infer(images)
    for given, batched in zip(images, together, strict=True):
        (alone,) = engine.infer([given])
        np.testing.assert_allclose(alone.scores, batched.scores, rtol=1e-5, atol=1e-5)
    assert engine.infer([]) == []


def test_many_threads_get_their_own_answers() -> None:
    engine = OpenVinoEngine(spot_graph())
    wrong: list[str] = []

    def ask(kind: str) -> None:
        for seed in range(30):
            (prediction,) = engine.infer([image(kind, seed)])
            if (prediction.scores[0] > 0) != (kind == "bad"):
                wrong.append(kind)

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("good", "bad") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 32, 32), np.float32),
        np.zeros((3, 64, 64), np.float32),
        np.zeros((1, 64, 64), np.float64),
    ],
)
def test_images_of_another_shape_or_kind_are_refused(wrong: NDArray[np.float32]) -> None:
    engine = OpenVinoEngine(spot_graph())
    with pytest.raises(EngineError, match="for a network of"):
        engine.infer([wrong])
    assert len(engine.infer([image("good")])) == 1


def test_nonsense_is_an_error_not_an_answer() -> None:
    engine = OpenVinoEngine(spot_graph())
    with pytest.raises(EngineError, match=r"finite|novelty"):
        engine.infer([np.full((1, 64, 64), np.nan, np.float32)])


def test_one_image_of_nonsense_leaves_the_engine_well() -> None:
    engine = OpenVinoEngine(spot_graph())
    nonsense = np.full((1, 64, 64), np.nan, np.float32)
    with pytest.raises(EngineError, match=r"finite|novelty"):
        engine.infer([image("good"), nonsense, image("bad")])
    good, bad = engine.infer([image("good"), image("bad")])
    assert good.scores[0] < 0 < bad.scores[0]


def test_a_cpu_without_the_packages_precision_is_refused() -> None:
    """The variable makes oneDNN take this CPU for one of 2013, which has no f16."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from inspection.engines.openvino import OpenVinoEngine\n"
        "from inspection.errors import EngineError\n"
        "from tests.spot_model import spot_graph\n"
        "OpenVinoEngine(spot_graph(), precision='f32')\n"
        "try:\n    OpenVinoEngine(spot_graph(), precision='f16')\n"
        "except EngineError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *sys.path],
        capture_output=True,
        text=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )
    assert "its limits were fitted in f16" in done.stdout, done.stderr


def test_a_graph_that_changed_after_its_package_was_loaded_is_refused(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path)
    (package.folder / "model.onnx").write_bytes(spot_graph(gain=1.0))
    with pytest.raises(PackageDamaged, match=r"model\.onnx"):
        OpenVinoEngine.for_package(package)


def test_a_graph_that_is_not_ours_is_refused() -> None:
    with pytest.raises(EngineError):
        OpenVinoEngine(b"not a graph")


def test_a_closed_engine_says_so() -> None:
    engine = OpenVinoEngine(spot_graph())
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer([image("good")])
