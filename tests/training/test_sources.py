"""Labelled images come in from folders, tables and the package, whole or not at all."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from inspection.errors import DataError
from tests.labelled_sets import GROUP_PATTERN, plate, write_folders, write_png
from training.sources.elpv import read_elpv
from training.sources.folders import read_folders
from training.sources.table import read_table


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=3, per_lot=5, classes=("crack", "void"))


# Class folders


def test_folders_give_labels_parts_and_groups(line: Path) -> None:
    labelled = read_folders(line, group_from=GROUP_PATTERN)
    assert labelled.classes == ("crack", "void")
    assert Counter(file.label for file in labelled.files) == {"good": 9, "crack": 3, "void": 3}
    assert {file.group for file in labelled.files} == {"lot00", "lot01", "lot02"}
    assert "lot00-01" in {file.part for file in labelled.files}


def test_every_part_is_its_own_group_unless_told(line: Path) -> None:
    assert all(file.group == file.part for file in read_folders(line).files)


def test_files_that_are_no_images_are_counted_and_left_out(line: Path) -> None:
    (line / "good" / "Thumbs.db").write_bytes(b"x")
    (line / "good" / ".hidden.png").write_bytes(b"x")
    labelled = read_folders(line)
    assert labelled.ignored == ("good/.hidden.png", "good/Thumbs.db")
    assert len(labelled.files) == 15


def test_an_empty_class_is_refused(line: Path) -> None:
    (line / "stain").mkdir()
    with pytest.raises(DataError, match="class 'stain' is empty"):
        read_folders(line)


def test_images_beside_the_class_folders_are_named_and_not_taken(line: Path) -> None:
    write_png(line / "loose.png", np.zeros((4, 4), np.uint8))
    (line / "notes.txt").write_text("x")
    labelled = read_folders(line)
    assert labelled.stray == ("loose.png",)
    assert labelled.ignored == ("notes.txt",)
    assert len(labelled.files) == 15


def test_good_parts_alone_have_no_classes(line: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (line / "good").rename(tmp_path / "only" / "good")
    assert read_folders(tmp_path / "only").classes == ()


def test_a_folder_of_two_classes_gives_both(line: Path) -> None:
    write_png(line / "void;crack" / "both.png", plate(np.random.default_rng(0), scratched=True))
    labelled = read_folders(line)
    assert labelled.classes == ("crack", "void")
    assert {file.label for file in labelled.files if file.part == "both"} == {"crack;void"}


@pytest.mark.parametrize("name", ["GOOD", "ok", "OK", "Pass"])
def test_another_word_for_good_gets_the_right_one(line: Path, name: str) -> None:
    (line / "good").rename(line / name)
    with pytest.raises(DataError, match=f"rename '{name}' to `good`"):
        read_folders(line)
    (line / "good").mkdir()
    write_png(line / "good" / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=f"class name '{name}': good parts are called `good`"):
        read_folders(line)


def test_two_files_of_one_name_are_refused_unless_the_part_is_named(line: Path) -> None:
    name = next((line / "good").iterdir()).name
    write_png(line / "crack" / name, plate(np.random.default_rng(0), scratched=True))
    with pytest.raises(DataError, match="two files have the part name"):
        read_folders(line)
    labelled = read_folders(line, part_from=r"(lot\d+-\d+)", group_from=GROUP_PATTERN)
    assert len(labelled.files) == 16
    assert len({file.part for file in labelled.files}) == 15


def test_a_pattern_that_does_not_fit_names_the_files(line: Path) -> None:
    with pytest.raises(DataError, match="finds nothing in 15 paths"):
        read_folders(line, group_from=r"batch(\d+)")
    with pytest.raises(DataError, match="not a regular expression"):
        read_folders(line, part_from="(")


def test_the_wrong_level_gets_the_right_one_proposed(line: Path, tmp_path: Path) -> None:
    def complaint(folder: Path) -> str:
        with pytest.raises(DataError) as caught:
            read_folders(folder)
        return str(caught.value)

    assert f"did you mean {line}?" in complaint(line.parent)
    assert f"did you mean {line}?" in complaint(line / "good")
    assert f"did you mean {line}?" in complaint(line / "crack")
    yolo = tmp_path / "yolo"
    (yolo / "images").mkdir(parents=True)
    (yolo / "labels").mkdir()
    assert complaint(yolo) == (
        f"{yolo} holds 'images' and 'labels'; did you mean {yolo / 'images'}?"
    )
    flat = tmp_path / "flat"
    write_png(flat / "a.png", np.zeros((4, 4), np.uint8))
    assert "images lie in it directly" in complaint(flat)
    (tmp_path / "empty").mkdir()
    assert "holds no folders" in complaint(tmp_path / "empty")
    assert "is not a folder" in complaint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["Good", "crack;Good", "a,b", "=1+1"])
def test_class_names_that_would_not_survive_are_refused(line: Path, name: str) -> None:
    (line / "crack").rename(line / name)
    with pytest.raises(DataError, match=r"class name|formula"):
        read_folders(line)


# Tables


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_table_gives_all_that_it_says(line: Path) -> None:
    name = next((line / "good").iterdir()).name
    rows = [
        {"path": f"good/{name}", "label": "good", "part": "P1", "group": "L1", "lot": "7"},
        {
            "path": "crack/lot00-01.png",
            "label": "void;crack",
            "part": "P2",
            "group": "L1",
            "lot": "",
        },
    ]
    labelled = read_table(write_table(line / "labels.csv", rows))
    first, second = labelled.files
    assert (first.part, first.group, first.lot) == ("P1", "L1", "7")
    assert (second.label, second.lot) == ("crack;void", None)
    assert labelled.classes == ("crack", "void")


def test_part_and_group_may_be_left_out(line: Path) -> None:
    rows = [{"path": "crack/lot00-01.png", "label": "crack"}]
    (file,) = read_table(write_table(line / "labels.csv", rows)).files
    assert file.part == file.group == "lot00-01"


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"path": "a.png", "colour": "red"}], "missing: label"),
        ([{"path": "a.png", "label": "good", "colour": "red"}], "unknown: colour"),
        ([{"path": "", "label": "good"}], "line 2: path and label cannot be empty"),
        ([{"path": "a.png", "label": "good", "probability": "often"}], "line 2: could not convert"),
        (
            [{"path": "a.png", "label": "good"}, {"path": "b.png", "label": "x"}],
            "2 files that are not",
        ),
    ],
)
def test_a_table_that_does_not_hold_is_refused(
    tmp_path: Path, rows: list[dict[str, str]], what: str
) -> None:
    with pytest.raises(DataError, match=what):
        read_table(write_table(tmp_path / "labels.csv", rows))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a CSV in UTF-8"):
        read_table(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="names no images"):
        read_table(tmp_path / "labels.csv")


# elpv-dataset


def test_the_solar_cells_come_with_soft_labels_and_blocks_of_sixty() -> None:
    pytest.importorskip("elpv_dataset")
    labelled = read_elpv()
    assert labelled.product == "elpv-cell"
    assert Counter(file.label for file in labelled.files) == {"good": 1803, "defective": 821}
    assert sorted(Counter(file.probability for file in labelled.files).values()) == [
        106,
        295,
        715,
        1508,
    ]
    groups = Counter(file.group for file in labelled.files)
    assert len(groups) == 44
    assert set(list(groups.values())[:-1]) == {60}
    assert labelled.files[59].group == "block-01" != labelled.files[60].group
    assert "CC-BY-NC-SA-4.0" in labelled.licence
    assert labelled.origin.count("doi:") == 3


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("images/a.png often mono\n")
    with pytest.raises(DataError, match="cannot read"):
        read_elpv(tmp_path)


def test_a_folder_of_annotations_is_proposed(tmp_path: Path) -> None:
    write_png(tmp_path / "line" / "train" / "a.png", np.zeros((4, 4), np.uint8))
    listing = tmp_path / "line" / "annotations" / "instances.json"
    listing.parent.mkdir()
    listing.write_text("{}")
    with pytest.raises(DataError, match=r"did you mean .*annotations/instances\.json\?"):
        read_folders(tmp_path / "line")
