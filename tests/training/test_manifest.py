"""A labelled set is complete and without contradictions, or it is refused in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, bare_rows, import_folders, write_folders
from training.data.rows import COLUMNS, Row, parse_rows, rows_as_csv
from training.manifest import Manifest, read_manifest, write_manifest


@pytest.fixture
def plates(tmp_path: Path) -> Manifest:
    return import_folders(write_folders(tmp_path / "line", lots=4), tmp_path / "datasets")


def row(**changes: object) -> Row:
    known: dict[str, object] = {
        "path": "images/a.png",
        "sha256": "0" * 64,
        "label": "good",
        "part": "a",
        "group": "a",
    }
    return Row(**{**known, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_what_is_read(plates: Manifest) -> None:
    there = read_manifest(plates.folder, verify=True)
    assert there == plates
    assert there.digest == plates.digest
    assert there.counts() == {"images": 40, "parts": 40, "groups": 4, "bad_parts": 16}
    assert there.label_counts() == {"good": 24, "scratch": 16}


def test_digest_stays_when_the_set_moves_and_whatever_the_order(plates: Manifest) -> None:
    moved = plates.folder.parent / "elsewhere"
    plates.folder.rename(moved)
    assert read_manifest(moved).digest == plates.digest
    assert replace(plates, rows=tuple(reversed(plates.rows))).digest == plates.digest
    renamed = tuple(replace(each, path=f"other/{each.part}.png") for each in plates.rows)
    assert replace(plates, rows=renamed).digest == plates.digest


@pytest.mark.parametrize(
    "change",
    [
        {"label": "scratch"},
        {"part": "new"},
        {"sha256": "1" * 64},
        {"lot": "7"},
        {"probability": 0.2},
    ],
)
def test_digest_changes_with_whatever_training_depends_on(change: dict[str, Any]) -> None:
    rows = bare_rows([(3, 2), (3, 2), (3, 2)])
    changed = [replace(rows[0], **change), *rows[1:]]
    assert bare_manifest(changed).digest != bare_manifest(rows).digest


def test_equal_sets_give_equal_files(plates: Manifest, tmp_path: Path) -> None:
    write_manifest(replace(plates, rows=tuple(reversed(plates.rows))), tmp_path)
    for name in ("manifest.csv", "dataset.toml"):
        assert (tmp_path / name).read_bytes() == (plates.revision_folder / name).read_bytes()


def test_missing_images_are_counted_and_the_first_are_named(plates: Manifest) -> None:
    for each in plates.rows[:7]:
        plates.file(each).unlink()
    with pytest.raises(DataError, match="7 images are missing") as caught:
        read_manifest(plates.folder)
    assert plates.rows[4].path in str(caught.value)
    assert plates.rows[5].path not in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_altered_images_are_found_when_asked(plates: Manifest) -> None:
    plates.file(plates.rows[3]).write_bytes(b"something else")
    read_manifest(plates.folder)
    with pytest.raises(DataError, match=f"1 images were altered.*: {plates.rows[3].path}"):
        read_manifest(plates.folder, verify=True)


def test_an_edited_manifest_is_refused(plates: Manifest) -> None:
    path = plates.revision_folder / "manifest.csv"
    path.write_text(path.read_text().replace(",good,", ",scratch,", 1))
    with pytest.raises(DataError, match="was altered since it was imported"):
        read_manifest(plates.folder)


def test_a_description_without_images_says_so(plates: Manifest) -> None:
    alone = plates.folder.parent / "alone"
    alone.mkdir()
    (plates.revision_folder / "dataset.toml").rename(alone / "dataset.toml")
    with pytest.raises(DataError, match="its images are not here"):
        read_manifest(alone)
    with pytest.raises(DataError, match="there is no data set"):
        read_manifest(plates.folder / "images")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('name = "plates"', 'name = "plates"\nbits = 8', "bits"),
        ('modality = "vision"', 'modality = "sound"', "modality"),
        ('product = "KN-42"', "", "product"),
        ('name = "plates"', "name = ", "Invalid value"),
    ],
)
def test_a_broken_description_names_the_key(
    plates: Manifest, old: str, new: str, what: str
) -> None:
    path = plates.revision_folder / "dataset.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=what):
        read_manifest(plates.folder)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": ""}, "not a list of classes"),
        ({"label": "good;scratch"}, "good and bad at once"),
        ({"label": "scratch;scratch"}, "not a list of classes"),
        ({"part": ""}, "cannot be empty"),
        ({"probability": 1.5}, "not in 0..1"),
        ({"probability": float("nan")}, "not in 0..1"),
        ({"probability": 0.7}, "disagrees with probability"),
        ({"label": "scratch", "probability": 0.3}, "disagrees with probability"),
    ],
)
def test_a_row_that_contradicts_itself_cannot_be_built(
    changes: dict[str, object], what: str
) -> None:
    with pytest.raises(DataError, match=what):
        row(**changes)


def test_rows_that_contradict_each_other_are_refused() -> None:
    rows = bare_rows([(3, 2), (3, 2)])
    with pytest.raises(DataError, match="no images"):
        bare_manifest([])
    with pytest.raises(DataError, match=r"paths occur more than once: images/g000-000\.png"):
        bare_manifest([*rows, rows[0]])
    with pytest.raises(DataError, match="not among the classes: scratch"):
        bare_manifest(rows, ["void"])
    with pytest.raises(DataError, match="no image of: void"):
        bare_manifest(rows, ["scratch", "void"])
    with pytest.raises(DataError, match="no image of: good"):
        bare_manifest([each for each in rows if each.bad])
    with pytest.raises(DataError, match="no image of: scratch"):
        bare_manifest([each for each in rows if not each.bad])
    assert bare_manifest([each for each in rows if not each.bad], []).targets().shape == (6, 0)
    torn = replace(rows[0], path="images/second.png", group="g001")
    with pytest.raises(DataError, match="1 parts lie in more than one group: g000-000"):
        bare_manifest([*rows, torn])


def test_soft_labels_become_targets() -> None:
    rows = [
        row(path="1", part="1", probability=1 / 3),
        row(path="2", part="2"),
        row(path="3", part="3", label="scratch", probability=2 / 3),
        row(path="4", part="4", label="scratch"),
    ]
    targets = bare_manifest(rows).targets()
    assert targets.dtype == np.float32
    assert targets[:, 0] == pytest.approx([1 / 3, 0, 2 / 3, 1])


def test_labels_of_several_classes_become_several_targets() -> None:
    rows = [
        row(path="1", part="1"),
        row(path="2", part="2", label="scratch;void"),
        row(path="3", part="3", label="void", probability=0.75),
    ]
    manifest = bare_manifest(rows, ["void", "scratch"])
    assert manifest.targets().tolist() == [[0, 0], [1, 1], [0.75, 0]]
    doubtful = row(path="4", part="4", probability=0.25)
    with pytest.raises(DataError, match="2 classes it could mean"):
        bare_manifest([*rows, doubtful], ["void", "scratch"])


def test_a_part_is_bad_when_one_of_its_images_is() -> None:
    rows = [
        row(path="1", sha256="1" * 64, part="1", group="1"),
        row(path="2", sha256="2" * 64, part="1", group="1", label="scratch"),
        row(path="3", sha256="3" * 64, part="2", group="2"),
    ]
    assert bare_manifest(rows).bad.tolist() == [True, True, False]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(
    st.lists(st.tuples(texts, texts, st.none() | st.floats(0.5, 1), st.none() | texts), max_size=5)
)
def test_any_row_survives_its_file(cells: list[tuple[str, str, float | None, str | None]]) -> None:
    rows = tuple(
        Row(
            path=f"{number}/{path}",
            sha256="0" * 64,
            label="scratch",
            part=part,
            group="g",
            probability=probability,
            lot=lot,
        )
        for number, (path, part, probability, lot) in enumerate(cells)
    )
    text = rows_as_csv(rows)
    assert parse_rows(text.splitlines(keepends=True), "test") == rows


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path,label\na,good\n", "columns path, label"),
        (",".join(COLUMNS) + "\na,b\n", "line 2: wanted 13 cells"),
        (",".join(COLUMNS) + "\na,b,good,p,g,often,,,,,,,\n", "line 2: could not convert"),
        (",".join(COLUMNS) + "\na,b,good,p,g,,,,,,,,\na,b,,p,g,,,,,,,,\n", "line 3"),
        (
            ",".join(COLUMNS) + '\na,b,good,p,g,,,,,,,,"[[""kim"",""crack""]]"\n',
            "line 2: a: label 'good' and probability None are not what the votes say",
        ),
        (",".join(COLUMNS) + "\na,b,good,p,g,,,,,,,,[[1]]\n", "line 2"),
    ],
)
def test_a_broken_line_is_named(text: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        parse_rows(text.splitlines(keepends=True), "test")
