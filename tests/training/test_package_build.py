"""A whole training on generated plates: what is measured is what is packaged, every time."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.cli import main
from inspection.engine import Prediction
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import ConfigurationError, DataError, RecipeError
from inspection.package import ModelPackage, load_package
from inspection.recipe import dump_recipe
from tests.labelled_sets import import_folders, write_folders, write_png
from training.dividing.sides import side_to_judge
from training.evaluate import Predicted, evaluate, predict
from training.manifest import Manifest, write_manifest
from training.measuring.precision import study_precision
from training.package import Trained, limits_from, train
from training.package_files import write_next
from training.plan import Plan, TrainSettings, resolve
from training.progress import Silent
from training.recipe_for import recipe_for
from training.report import read_report, report_schema

SETTINGS = TrainSettings(
    seed=3,
    wanted_escape_rate=0.2,
    input_size_px=(96, 96),
    epochs=12,
    serial_length=10,
    compare_random=True,
)


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("plates")
    return import_folders(write_folders(folder / "line", lots=12, per_lot=10), folder / "datasets")


@pytest.fixture(scope="module")
def plan(plates: Manifest) -> Plan:
    return resolve(plates, SETTINGS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def trained(plan: Plan, weights: Path) -> Trained:
    made = train(plan, weights, Silent())
    assert made is not None
    return made


def test_the_package_holds_and_says_what_it_was_made_from(
    trained: Trained, plates: Manifest, plan: Plan
) -> None:
    package = load_package(trained.package.folder)
    document = package.document
    assert package.reference == "plates@1"
    assert package.recipe == plan.recipe
    assert package.recipe.serial is not None
    assert package.recipe.serial.length == 10
    assert document.data_digest == plates.digest
    assert document.operating_point.split_digest == plan.split.digest
    assert document.backbone.startswith("tf_efficientnet_lite0 sha256:")
    assert document.preset == "fast"


def test_figures_agree_with_judging_the_package_again(trained: Trained, plan: Plan) -> None:
    package = load_package(trained.package.folder)
    engine = OpenVinoEngine.for_package(package)
    again = evaluate(
        package, engine, plan.manifest, plan.split.test, seed=3, progress=Silent().progress
    )
    assert again.summary() == trained.evaluation.summary()
    assert again.summary() == package.report()["test"]
    assert again.parts == trained.evaluation.parts


def test_scratches_are_found(trained: Trained) -> None:
    assert trained.evaluation.figures["auc"].value > 0.8


def test_the_report_follows_its_schema_and_names_no_place(trained: Trained) -> None:
    report = read_report(trained.package)
    assert report == trained.report
    assert {"split", "limits", "test", "licences"} <= set(report_schema()["properties"])
    text = json.dumps(trained.package.report())
    assert str(trained.package.folder.parent) not in text
    assert "/home" not in text
    assert report.licences == {
        "data": "CC0-1.0",
        "backbone tf_efficientnet_lite0": "Apache-2.0",
    }
    assert sum(side.parts for side in report.split.sides.values()) == 120
    assert report.comparison is not None
    assert "comparison only" in report.comparison["what"]


def test_the_certificate_says_what_the_limits_hold(trained: Trained) -> None:
    certificate = trained.package.document.operating_point.certificate
    limits = trained.report.limits
    assert limits.bad_parts == trained.report.split.sides["calibrate"].bad_parts
    assert certificate.escape_bound >= certificate.naive_escape_bound
    assert ("cannot certify 20 %" in limits.in_words) == (not certificate.certified)
    assert limits.review_share <= limits.review_budget


def test_an_overkill_rate_that_was_asked_for_reaches_the_limits(plan: Plan) -> None:
    rows = np.asarray(plan.split.calibrate)
    bad = plan.manifest.bad[rows]
    generator = np.random.default_rng(1)
    scores = generator.normal(np.where(bad, 1.0, -1.0), 1.5).astype(np.float32)
    seen = Predicted(
        rows=rows,
        predictions=tuple(
            Prediction(
                scores=np.array([score]), novelty=1.0, evidence=np.zeros((1, 2, 2), np.float32)
            )
            for score in scores
        ),
        frame_sizes_px=((96, 96),) * len(rows),
    )

    def told(wanted: float | None) -> bool:
        settings = replace(plan.settings, review_budget=0.0, wanted_overkill_rate=wanted)
        _, chosen = limits_from(replace(plan, settings=settings), seen)
        return any("overkill rate of 1.0% cannot be held" in each for each in chosen.warnings)

    assert told(0.01)  # so few parts hold no such rate, without review
    assert not told(None)


@pytest.mark.slow
def test_the_command_makes_the_same_model_again_and_evaluate_agrees(
    trained: Trained, plan: Plan, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = str(plan.manifest.folder.parent)
    places = ["--datasets-dir", datasets, "--weights-dir", str(weights)]
    settings = ["--seed", "3", "--escape-rate", "0.2", "--size", "96", "--epochs", "12"]
    assert main(["train", "plates", *settings, "--serial-length", "10", *places]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"{weights}/plates/2  next: inspection models promote plates@2"
    assert "seed = 3" in err
    assert re.search(r"head: \d+ done in", err)

    again = load_package(weights / "plates" / "2")
    assert again.weights_digest == trained.package.weights_digest
    assert again.files["model.onnx"] == trained.package.files["model.onnx"]
    assert again.document.calibration == trained.package.document.calibration
    assert again.document.operating_point == trained.package.document.operating_point
    test = again.report()["test"]
    assert test == trained.evaluation.summary()

    table = tmp_path / "parts.csv"
    asked = ["evaluate", "plates@2", "plates", *places]
    assert main([*asked, "--format", "json", "--csv", str(table)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in test} == test
    assert len(table.read_text().splitlines()) == 1 + test["parts"]
    assert main(["evaluate", str(again.folder), "plates", "--datasets-dir", datasets]) == 0
    shown = capsys.readouterr().out
    figures = [text for text in out.splitlines() if "rate (" in text or "ROC AUC" in text]
    assert len(figures) == 4
    assert all(text in shown for text in figures)


def test_a_set_that_the_model_was_not_made_from_has_no_test_side(
    trained: Trained, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "datasets" / "fewer"
    shutil.copytree(plan.manifest.folder, folder)
    fewer = replace(plan.manifest, name="fewer", rows=plan.manifest.rows[:-10], folder=folder)
    write_manifest(fewer, fewer.revision_folder)
    asked = ["evaluate", str(trained.package.folder), "fewer"]
    asked += ["--datasets-dir", str(folder.parent)]
    assert main(asked) == 3
    assert "made from other data than fewer holds now" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*asked, "--part", "all", "--csv", str(tmp_path / "file" / "parts.csv")]) == 4
    said = capsys.readouterr().err
    assert "cannot be written to" in said
    assert "judge parts" not in said  # before the work, not after it
    assert main([*asked, "--part", "all"]) == 0
    shown = capsys.readouterr().out
    used = {plan.manifest.rows[i].sha256 for i in (*plan.split.fit, *plan.split.calibrate)}
    assert trained.report.seen == (), "split.csv says it"
    seen = sum(row.sha256 in used for row in fewer.rows)
    assert f"{110 - seen} parts" in shown
    assert f"{seen} parts left out that the model was made from" in shown


def test_figures_of_what_training_has_seen_are_called_that(trained: Trained, plan: Plan) -> None:
    package, report = trained.package, trained.report
    for part in ("fit", "calibrate", "all"):
        side = side_to_judge(package, report, plan.manifest, part)
        assert side.seen
        assert side.note == "seen in training: these figures flatter"
    side = side_to_judge(package, report, plan.manifest, "test")
    assert not side.seen
    assert (side.rows == plan.split.test).all()


def test_a_set_of_which_every_part_was_seen_is_refused(trained: Trained, plan: Plan) -> None:
    rows = tuple(plan.manifest.rows[i] for i in plan.split.fit.tolist())
    other = replace(plan.manifest, name="other", rows=rows)
    with pytest.raises(DataError, match="images of every part of other"):
        side_to_judge(trained.package, trained.report, other, "all")


def test_a_version_taken_meanwhile_is_not_lost(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = trained.package
    files: dict[str, bytes | Path] = {
        name: package.folder / name for name in ("model.onnx", "model.safetensors", "report.json")
    }
    write_next(tmp_path, package.document, package.recipe, lambda _: files)
    numbers = iter((1, 2))
    monkeypatch.setattr("training.package_files.next_version", lambda *_: next(numbers))
    again = write_next(tmp_path, package.document, package.recipe, lambda _: files)
    assert again.reference == "plates@2"
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="could not be written"):
        write_next(tmp_path / "file", package.document, package.recipe, lambda _: files)


def test_both_precisions_judge_the_whole_test_side(trained: Trained, plan: Plan) -> None:
    package = trained.package
    engine = OpenVinoEngine.for_package(package)
    rows = plan.split.test
    silent = Silent().progress
    predicted = predict(engine, plan.manifest, package.recipe, rows, silent, stage="test")
    first, study = (
        study_precision(
            package, engine, plan.manifest, predicted, progress=silent, wanted=wanted, whole=True
        )
        for wanted in ("f32", "auto")
    )
    assert first.chosen == "f32"  # unless asked for, whatever the clock says
    assert first.flips == study.flips
    assert study.chosen in ("f32", study.engine_choice)
    if study.parts:  # this machine has another arithmetic to offer
        assert study.whole
        assert study.parts == trained.report.split.sides["test"].parts
        assert set(study.ms_per_image) == {"f32", study.engine_choice}
        assert study.chosen == "f32" or not study.flips
    assert study.reason


def test_a_corrupt_image_stops_the_training_before_it_begins(plan: Plan, tmp_path: Path) -> None:
    moved = replace(plan.manifest, folder=tmp_path / "plates")
    shutil.copytree(plan.manifest.folder, moved.folder)
    victim = moved.rows[int(plan.split.fit[5])]
    write_png(moved.file(victim), np.zeros((48, 48), np.uint8))
    with pytest.raises(DataError, match=f"1 images were altered.*{victim.path}"):
        train(replace(plan, manifest=moved), tmp_path / "weights", Silent())
    assert not (tmp_path / "weights").exists()


def test_a_recipe_of_ones_own_is_taken_as_it_is(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    own = replace(plan.recipe, revision=4, window=(20.0, 230.0), flips=())
    file.write_text(dump_recipe(own))
    made = recipe_for(plan.manifest, input_size_px=(32, 32), recipe_file=file)
    assert made == own


def test_a_recipe_that_does_not_fit_the_images_is_refused(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"

    def complaint(**changes: object) -> str:
        file.write_text(dump_recipe(replace(plan.recipe, **changes)))  # type: ignore[arg-type]
        with pytest.raises(DataError) as caught:
            recipe_for(plan.manifest, input_size_px=(32, 32), recipe_file=file)
        return str(caught.value)

    assert "is for product KN-43" in complaint(product="KN-43")
    assert "wants 16 bits" in complaint(bits=16)
    assert "wants 3 channels" in complaint(channels=3)
    assert "does not know the labels scratch" in complaint(classes=("void",))
    assert "no image shows: void" in complaint(classes=("scratch", "void"))


def test_marks_follow_the_file_beside_the_set(plates: Manifest, tmp_path: Path) -> None:
    moved = replace(plates, folder=tmp_path)
    assert recipe_for(moved, input_size_px=(64, 64)).serial is None
    (tmp_path / "serial.toml").write_text('length = 8\ncheck = "none"\n')
    serial = recipe_for(moved, input_size_px=(64, 64)).serial
    assert serial is not None
    assert (serial.length, serial.check) == (8, "none")
    (tmp_path / "serial.toml").write_text("size = 8\n")
    with pytest.raises(RecipeError, match=r"serial\.toml"):
        recipe_for(moved, input_size_px=(64, 64))


def test_an_older_report_is_refused_in_words(trained: Trained, tmp_path: Path) -> None:
    class Altered(ModelPackage):
        def report(self) -> dict[str, object]:
            return {"format": 1}

    package = trained.package
    altered = Altered(
        folder=tmp_path,
        digest=package.digest,
        files=package.files,
        document=package.document,
        recipe=package.recipe,
    )
    with pytest.raises(DataError, match="not one of `inspection train`"):
        read_report(altered)
