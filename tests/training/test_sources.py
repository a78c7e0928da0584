"""Labelled images come in from folders, tables and the package, whole or not at all."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from inspection.errors import ConfigurationError, DataError
from tests.labelled_sets import (
    GROUP_PATTERN,
    PRODUCT,
    import_folders,
    plate,
    write_folders,
    write_png,
)
from training.importing import Survey, describe, plan, survey, write_set
from training.manifest import Manifest, read_manifest
from training.sources import Labelled
from training.sources.elpv import read_elpv
from training.sources.folders import read_folders
from training.sources.table import read_table


def silent(_stage: str, _done: int, _total: int) -> None:
    return


def planned(labelled: Labelled, place: Path, *, reference: bool = False) -> tuple[Manifest, Survey]:
    surveyed = survey(labelled, silent)
    manifest = plan(
        labelled,
        surveyed,
        name=place.name,
        product=PRODUCT,
        modality="vision",
        flips=(),
        licence="CC0-1.0",
        origin="made for tests",
        place=place,
        reference=reference,
    )
    return manifest, surveyed


def stored(
    labelled: Labelled, place: Path, *, reference: bool = False, replace: bool = False
) -> bool:
    manifest, surveyed = planned(labelled, place, reference=reference)
    return write_set(
        manifest, labelled, surveyed, reference=reference, replace=replace, progress=silent
    )


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
    assert labelled.ignored == 2
    assert len(labelled.files) == 15


def test_an_empty_class_is_refused(line: Path) -> None:
    (line / "stain").mkdir()
    with pytest.raises(DataError, match="class 'stain' is empty"):
        read_folders(line)


def test_good_alone_is_refused(line: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (line / "good").rename(tmp_path / "only" / "good")
    with pytest.raises(DataError, match="holds `good` and no defect class"):
        read_folders(tmp_path / "only")


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


@pytest.mark.parametrize("name", ["Good", "crack;void", "a,b"])
def test_class_names_that_would_not_survive_are_refused(line: Path, name: str) -> None:
    (line / "crack").rename(line / name)
    with pytest.raises(DataError, match="class name"):
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


# Storing


def test_images_are_copied_and_the_set_can_be_read(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    assert stored(read_folders(line), place)
    manifest = read_manifest(place, verify=True)
    assert manifest.images.frame_size_px == (48, 48)
    assert all(row.path.startswith("images/") for row in manifest.rows)
    assert sorted(path.name for path in place.iterdir()) == [
        "dataset.toml",
        "images",
        "manifest.csv",
    ]


def test_images_may_stay_where_they_are(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    assert stored(read_folders(line), place, reference=True)
    assert not (place / "images").exists()
    manifest = read_manifest(place, verify=True)
    assert manifest.rows[0].path.startswith("../../line/")


def test_the_same_again_changes_nothing(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    assert stored(read_folders(line), place)
    before = (place / "dataset.toml").stat()
    assert not stored(read_folders(line), place)
    assert (place / "dataset.toml").stat() == before


def test_another_set_needs_to_be_told_to_replace(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    stored(read_folders(line), place)
    (place / "README.md").write_text("by hand")
    next((line / "good").iterdir()).unlink()
    with pytest.raises(DataError, match="holds another data set"):
        stored(read_folders(line), place)
    assert len(read_manifest(place).rows) == 15
    assert stored(read_folders(line), place, replace=True)
    assert len(read_manifest(place, verify=True).rows) == 14
    assert (place / "README.md").read_text() == "by hand"
    assert [path.name for path in place.parent.iterdir()] == ["plates"]


def test_a_damaged_set_is_replaced_only_when_told(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    stored(read_folders(line), place)
    manifest = read_manifest(place)
    manifest.file(manifest.rows[0]).unlink()
    with pytest.raises(DataError, match="1 images are missing"):
        stored(read_folders(line), place)
    assert stored(read_folders(line), place, replace=True)
    read_manifest(place, verify=True)


def test_a_committed_description_is_held_to(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    stored(read_folders(line), place)
    described = (place / "dataset.toml").read_bytes()
    fresh = tmp_path / "clone" / "plates"
    fresh.mkdir(parents=True)
    (fresh / "dataset.toml").write_bytes(described)
    assert stored(read_folders(line), fresh)
    assert (fresh / "dataset.toml").read_bytes() == described
    other = tmp_path / "other" / "plates"
    other.mkdir(parents=True)
    (other / "dataset.toml").write_bytes(described)
    next((line / "good").iterdir()).unlink()
    with pytest.raises(DataError, match="describes another content"):
        stored(read_folders(line), other)


def test_unreadable_images_are_listed_together_and_nothing_is_written(
    line: Path, tmp_path: Path
) -> None:
    broken = sorted((line / "good").iterdir())[:2]
    broken[0].write_bytes(broken[0].read_bytes()[:100])
    broken[1].write_bytes(b"not an image")
    with pytest.raises(DataError, match="2 of 15 images cannot be read") as caught:
        survey(read_folders(line), silent)
    assert all(path.name in str(caught.value) for path in broken)
    assert not (tmp_path / "datasets").exists()


def test_images_of_two_depths_are_refused(line: Path) -> None:
    write_png(line / "good" / "deep.png", np.full((48, 48), 4000, np.uint16))
    with pytest.raises(DataError, match="15 of 8 bits, grey, 1 of 16 bits, grey"):
        survey(read_folders(line), silent)


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label, name in (("good", "a"), ("good", "b"), ("crack", "c")):
        pixels = generator.integers(300, 60_000, (40, 56), dtype=np.uint16)
        write_png(tmp_path / "line" / label / f"{name}.png", pixels)
    labelled = read_folders(tmp_path / "line")
    manifest, surveyed = planned(labelled, tmp_path / "datasets" / "deep")
    assert manifest.images.bits == 16
    assert manifest.images.frame_size_px == (40, 56)
    assert manifest.images.grey_range[1] > 50_000
    lines = dict(describe(labelled, surveyed, manifest))
    assert lines["pixels"] == "16 bits, grey"
    assert lines["sizes"] == "56 x 40 (3)"
    assert lines["grey levels"].endswith("of 0 to 65535")


def test_exact_duplicates_are_told(line: Path, tmp_path: Path) -> None:
    first = min((line / "good").iterdir())
    (line / "good" / "twin.png").write_bytes(first.read_bytes())
    labelled = read_folders(line)
    manifest, surveyed = planned(labelled, tmp_path / "datasets" / "plates")
    lines = dict(describe(labelled, surveyed, manifest))
    assert lines["duplicates"] == f"good/{first.name} = good/twin.png"


def test_a_disk_that_refuses_leaves_nothing_behind(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "datasets" / "plates"
    stored(read_folders(line), place)
    before = read_manifest(place)
    next((line / "good").iterdir()).unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.importing.shutil.copyfile", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        stored(read_folders(line), place, replace=True)
    assert read_manifest(place, verify=True) == before
    assert [path.name for path in place.parent.iterdir()] == ["plates"]


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b"])
def test_names_that_would_not_do_as_folders_are_refused(line: Path, name: str) -> None:
    labelled = read_folders(line)
    with pytest.raises(DataError, match="data set's name"):
        plan(
            labelled,
            survey(labelled, silent),
            name=name,
            product=PRODUCT,
            modality="vision",
            flips=(),
            licence="",
            origin="",
            place=Path("nowhere"),
            reference=False,
        )


def test_what_was_imported_names_its_groups(line: Path, tmp_path: Path) -> None:
    manifest = import_folders(line, tmp_path / "datasets")
    assert set(manifest.groups) == {"lot00", "lot01", "lot02"}
