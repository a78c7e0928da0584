"""A simulated set lies whole in its folder, can be imported, and is made again bit for bit."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from inspection.cli import main
from inspection.errors import DataError
from inspection.frame import decode_image
from inspection.recipe import load_recipe
from inspection.references import reference_views
from inspection.zones.registration import register
from training.simulation.physics import Detector
from training.simulation.process import truth
from training.simulation.writing import Made, Order, write_set
from training.sources.choose import Asked, read_source

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DETECTOR = Detector(size_px=(384, 384), pitch_mm=102.4 / 384)
ORDER = Order(parts=12, seed=3, first=40, views=2, detector=DETECTOR)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return write_set(ORDER, tmp_path_factory.mktemp("sim") / "set", processes=2)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("sim") / "one"
    return write_set(replace(ORDER, one_class=True), place, processes=2)


def test_the_set_is_whole_and_true_to_itself(made: Made) -> None:
    truths = [json.loads(line) for line in (made.folder / "truth.jsonl").read_text().splitlines()]
    assert len(truths) == 12
    assert made.images == 24
    assert made.bad_parts == sum(each["label"] != ["good"] for each in truths) > 0
    for each in truths:
        bad = {defect["class"] for defect in each["defects"] if defect["rejectable"]}
        assert set(each["label"]) == (bad or {"good"})
    with (made.folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["part"] for row in rows} == {each["serial"] for each in truths}
    frame = decode_image((made.folder / rows[0]["path"]).read_bytes())
    assert (frame.bits, frame.channels, frame.size_px) == (16, 1, (384, 384))
    assert json.loads((made.folder / "causes.json").read_text()) == truth()
    assert len(list((made.folder / "calibration").iterdir())) == 32


def test_masks_lie_where_the_truth_says(made: Made) -> None:
    lines = [json.loads(line) for line in (made.folder / "labels.jsonl").read_text().splitlines()]
    truths = {
        each["serial"]: each
        for each in map(json.loads, (made.folder / "truth.jsonl").read_text().splitlines())
    }
    looked = 0
    for line in lines:
        for region in line.get("regions", []):
            mask = np.asarray(cv2.imread(str(made.folder / region["mask"]), cv2.IMREAD_UNCHANGED))
            of_class = [
                defect["views"][line["view"]]
                for defect in truths[line["part"]]["defects"]
                if defect["class"] == region["defect"] and defect["rejectable"]
            ]
            assert 0 < (mask > 0).sum() <= sum(each["mask_px"] for each in of_class)
            looked += 1
    assert looked > 0


def test_what_zones_allow_is_marked_where_a_reader_would_see_it(one: Made) -> None:
    truths = {
        each["serial"]: each
        for each in map(json.loads, (one.folder / "truth.jsonl").read_text().splitlines())
    }
    looked = 0
    for line in _labels(one.folder):
        seen = [
            defect["views"][line["view"]]
            for defect in truths[line["part"]]["defects"]
            if not defect["rejectable"] and defect["views"][line["view"]]["cnr"] >= 3
        ]
        marked = [region for region in line.get("regions", []) if region.get("allowed")]
        assert bool(marked) == bool(seen)
        for region in marked:
            assert 0 < _mask(one.folder, region).sum() <= sum(each["mask_px"] for each in seen)
            looked += 1
    assert looked > 0
    (imported,) = {
        r.defect for f in read_source(one.folder / "labels.jsonl", Asked()).files for r in f.regions
    }
    assert imported == "defect"


def test_both_lists_of_labels_are_read_by_import(made: Made) -> None:
    for name in ("labels.csv", "labels.jsonl"):
        labelled = read_source(made.folder / name, Asked())
        assert len(labelled.files) == 24


def test_the_recipe_is_of_this_set_and_its_parts_lie_as_the_reference_does(made: Made) -> None:
    recipe = load_recipe(made.folder / "recipe.toml")
    assert recipe.classes == tuple(made.defects)
    assert recipe.views == ("front", "left")
    views = {view.reference.view: view for view in reference_views(recipe, made.folder)}
    for row in _labels(made.folder)[:6]:
        frame = decode_image((made.folder / row["path"]).read_bytes())
        placement = register(frame.pixels.astype(np.float32), views[row["view"]])
        assert placement.agreement > 0.9
    sealing = [zone for zone in recipe.zones if zone.name == "sealing"]
    assert [zone.view for zone in sealing] == ["front", "left"]


def test_the_same_order_gives_the_same_images_however_many_make_them(
    made: Made, tmp_path: Path
) -> None:
    again = write_set(ORDER, tmp_path / "again", processes=1)
    assert again.digest == made.digest
    assert (tmp_path / "again/truth.jsonl").read_bytes() == (
        made.folder / "truth.jsonl"
    ).read_bytes()
    for name in ("recipe.toml", "reference-left.png"):
        assert (tmp_path / "again" / name).read_bytes() == (made.folder / name).read_bytes()


def test_one_class_calls_every_defect_so_and_changes_no_image(made: Made, one: Made) -> None:
    assert one.digest == made.digest
    assert set(one.defects) == {"defect"}
    for line, of_classes in zip(*map(_labels, (one.folder, made.folder)), strict=True):
        assert line["label"] == ("good" if of_classes["label"] == "good" else "defect")
        marked, wanted = (
            np.any([_mask(folder, region) for region in _refused(each)], axis=0)
            for folder, each in ((one.folder, line), (made.folder, of_classes))
        )
        assert np.array_equal(marked, wanted)


def _refused(line: Any) -> list[Any]:
    return [region for region in line.get("regions", []) if not region.get("allowed")]


def _labels(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def _mask(folder: Path, region: dict[str, str]) -> NDArray[np.bool_]:
    return np.asarray(cv2.imread(str(folder / region["mask"]), cv2.IMREAD_UNCHANGED)) > 0


def test_another_range_of_parts_shares_none(made: Made, tmp_path: Path) -> None:
    other = write_set(
        Order(parts=3, seed=3, first=52, detector=DETECTOR), tmp_path / "other", processes=1
    )
    with (other.folder / "labels.csv").open() as file:
        theirs = {row["part"] for row in csv.DictReader(file)}
    with (made.folder / "labels.csv").open() as file:
        assert theirs.isdisjoint(row["part"] for row in csv.DictReader(file))


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    folder = tmp_path / "kept"
    with pytest.raises(DataError, match="is there already"):
        write_set(Order(parts=1), folder)
    assert folder.read_text() == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": 0},
        {"parts": 1, "views": 3},
        {"parts": 1, "first": -1},
        {"parts": 1, "least_rate": 3.5},
        {"parts": 1, "least_rate": -0.1},
    ],
)
def test_orders_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError):
        Order(**wrong)  # type: ignore[arg-type]


def test_the_command_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    assert main(["simulate", "castings", str(folder), "--parts", "2", "--size", "128"]) == 0
    said = capsys.readouterr().out
    assert f"next: inspection detector calibrate --station xray-1 --dark '{folder}/cal" in said
    assert f"inspection data import {folder}/labels.jsonl" in said
    assert main(["simulate", "castings", str(folder)]) == 3
    assert "is there already" in capsys.readouterr().err


def test_a_set_says_that_its_rare_classes_were_collected(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    words = ["--parts", "4", "--size", "128", "--least-rate", "2"]
    assert main(["simulate", "castings", str(folder), *words]) == 0
    assert json.loads((folder / "causes.json").read_text())["least_rate"] == 2
    assert json.loads((folder / "set.json").read_text())["order"]["least_rate"] == 2
    truths = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    assert len({each["class"] for one in truths for each in one["defects"]}) >= 6  # of 7
