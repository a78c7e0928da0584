"""The same weights elsewhere: what flips is counted, whichever way it goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inspection.engines.onnxruntime import OnnxRuntimeEngine
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import EngineError
from inspection.package import write_package
from tests.contracts.engines import tiny_network
from tests.spot_model import spot_graph, write_spot_package
from tests.spot_sets import spot_set
from training.evaluate import Predicted, predict
from training.measuring.agreement import changes, judge, sample, study_agreement
from training.measuring.precision import study_precision

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from training.manifest import Manifest

KINDS = ("good",) * 8 + ("bad",) * 3 + ("unsure",) * 2 + ("novel",) * 2


def silent(_stage: str, _done: int, _total: int) -> None:
    return


def darker(_package: ModelPackage) -> Engine:
    """The spot model as it would be if an export had halved the brightness."""
    return OnnxRuntimeEngine(spot_graph(bits=9))


class Study:
    """A package, its set, and what its own engine says of all of it."""

    def __init__(self, manifest: Manifest, package: ModelPackage) -> None:
        self.manifest, self.package = manifest, package
        self.engine = OpenVinoEngine.for_package(package)
        rows = np.arange(len(manifest.rows))
        self.predicted: Predicted = predict(
            self.engine, manifest, package.recipe, rows, silent, stage="test"
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("agreement")
    return Study(spot_set(folder / "spots", KINDS), write_spot_package(folder / "weights"))


def test_two_runtimes_of_one_graph_say_the_same(study: Study) -> None:
    found = study_agreement(
        study.package,
        study.manifest,
        study.predicted,
        served=study.engine.description,
        progress=silent,
        others=[OnnxRuntimeEngine.for_package],
    )
    assert (found.parts, found.bad_parts, found.whole) == (15, 5, True)
    assert (found.flipped, found.bad_to_pass) == (0, 0)
    assert found.pairs[0].changes.largest_difference < 1e-4
    assert found.in_words().startswith("every verdict is the same, on 15 test parts (5 bad) under")


def test_a_bad_part_that_turns_to_pass_is_counted_for_every_two_engines(study: Study) -> None:
    found = study_agreement(
        study.package,
        study.manifest,
        study.predicted,
        served=study.engine.description,
        progress=silent,
        others=[OnnxRuntimeEngine.for_package, lambda package: Renamed(darker(package))],
    )
    by_pair = {(pair.first, pair.second): pair.changes for pair in found.pairs}
    assert len(by_pair) == 3
    openvino, same, other = study.engine.description, found.pairs[0].second, "darker"
    assert by_pair[openvino, same].flips == {}
    for first in (openvino, same):
        assert by_pair[first, other].flips["fail -> pass"] == 3
        assert by_pair[first, other].bad_to_pass == 5
        assert by_pair[first, other].largest_difference > 0.9
    assert found.bad_to_pass == 5
    assert found.in_words().startswith("5 bad parts pass under one engine only")


class Renamed:
    """An engine under another name."""

    description = "darker"

    def __init__(self, engine: Engine) -> None:
        self.infer, self.close = engine.infer, engine.close


def test_changes_count_either_direction_and_only_bad_parts(study: Study) -> None:
    engine = darker(study.package)
    rows = study.predicted.rows
    again = predict(engine, study.manifest, study.package.recipe, rows, silent, stage="test")
    before, after = (
        judge(study.package, study.manifest, answers) for answers in (study.predicted, again)
    )
    there, back = changes(before, after), changes(after, before)
    assert there.bad_to_pass == back.bad_to_pass == 5
    assert there.flipped == back.flipped > 5  # the novel ones are good
    assert {tuple(kind.split(" -> ")[::-1]): n for kind, n in there.flips.items()} == {
        tuple(kind.split(" -> ")): n for kind, n in back.flips.items()
    }


def test_a_sample_holds_every_bad_part_and_the_good_ones_nearest_to_a_limit(study: Study) -> None:
    few = sample(study.package, study.manifest, study.predicted, good_parts=2)
    picked = [study.manifest.rows[row].part.split("-")[0] for row in few.rows.tolist()]
    # Of the good ones, those unlike the rest lie near the novelty limit.
    assert Counter(picked) == {"bad": 3, "unsure": 2, "novel": 2}
    assert len(few.predictions) == len(few.frame_sizes_px) == 7
    everything = sample(study.package, study.manifest, study.predicted, good_parts=None)
    assert everything is study.predicted
    found = study_agreement(
        study.package,
        study.manifest,
        study.predicted,
        served=study.engine.description,
        progress=silent,
        good_parts=2,
        others=[OnnxRuntimeEngine.for_package],
    )
    assert (found.parts, found.bad_parts, found.test_parts, found.whole) == (7, 5, 15, False)
    assert "7 test parts (5 bad) of 15, all bad ones among them" in found.in_words()


def test_pytorch_onnx_runtime_and_openvino_agree_on_a_real_network(
    study: Study, tmp_path: Path
) -> None:
    tiny_network(tmp_path, classes=1)
    files: dict[str, bytes | Path] = {
        name: tmp_path / name for name in ("model.onnx", "model.safetensors")
    }
    files["report.json"] = b"{}"
    spot = study.package
    document = replace(spot.document, model="tiny", version=1, agreement=None)
    made = Study(study.manifest, write_package(tmp_path / "w", document, spot.recipe, files))
    found = study_agreement(
        made.package,
        made.manifest,
        made.predicted,
        served=made.engine.description,
        progress=silent,
        good_parts=1,
    )
    assert [name.split()[0] for pair in found.pairs for name in (pair.first, pair.second)] == [
        *("OpenVINO", "PyTorch"),
        *("OpenVINO", "ONNX"),
        *("PyTorch", "ONNX"),
    ]
    assert (found.parts, found.bad_parts, found.flipped) == (6, 5, 0)
    assert max(pair.changes.largest_difference for pair in found.pairs) < 1e-3


def test_weights_that_do_not_run_elsewhere_stop_the_training(study: Study) -> None:
    with pytest.raises(EngineError, match=r"model\.safetensors"):
        study_agreement(  # the spot model has a graph and no network
            study.package,
            study.manifest,
            study.predicted,
            served=study.engine.description,
            progress=silent,
        )


def test_the_precision_study_counts_in_the_same_way(study: Study) -> None:
    found = study_precision(
        study.package, study.engine, study.manifest, study.predicted, progress=silent, whole=True
    )
    assert found.chosen == "f32"
    if found.parts:
        assert (found.parts, found.whole, found.bad_to_pass) == (15, True, 0)
