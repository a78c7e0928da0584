"""JSONL manifests and tables: what each line may say, several annotators, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import stored, write_folders, write_png
from training.data.regions import region_masks
from training.data.rows import Vote
from training.manifest import read_manifest
from training.sources.choose import Asked, read_source
from training.sources.lines import read_lines
from training.sources.table import read_table


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=1, per_lot=10, classes=("crack", "void"))


GOOD, CRACK, VOID = "good/lot00-00.png", "crack/lot00-01.png", "void/lot00-03.png"


def written(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_lines_give_labels_fields_and_regions(line: Path, tmp_path: Path) -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[3:5, 3:5] = 1
    write_png(line / "marks" / "m.png", mask)
    source = written(
        line / "set.jsonl",
        {"path": GOOD, "label": "good", "part": 17, "lot": "L1", "station": "S2", "view": "top"},
        {
            "path": CRACK,
            "labels": ["void", "crack"],
            "annotator": "kim",
            "mould": "M3",
            "captured_at": "2026-03-01T10:00:00Z",
            "regions": [
                {"defect": "crack", "box": [10, 10, 5, 4]},
                {"defect": "crack", "polygon": [[0, 0], [2, 0], [2, 2], [0, 2]]},
                {"defect": "void", "mask": "marks/m.png"},
            ],
        },
        {"path": "good/lot00-02.png", "labels": [], "probability": 0},
    )
    place = tmp_path / "datasets" / "plates"
    assert stored(read_source(source, Asked()), place)
    manifest = read_manifest(place, verify=True)
    rows = {row.part: row for row in manifest.rows}
    good, bad = rows["17"], rows["lot00-01"]
    assert (good.lot, good.station, good.view, good.annotator) == ("L1", "S2", "top", None)
    assert (bad.defects, bad.annotator, bad.mould) == (("crack", "void"), "kim", "M3")
    assert bad.captured_at == "2026-03-01T10:00:00Z"
    masks = region_masks(manifest, bad, (48, 48))
    assert masks is not None
    assert masks.sum(axis=(1, 2)).tolist() == [24, 4]


def test_lines_of_several_annotators_become_votes(line: Path, tmp_path: Path) -> None:
    rows = ["path,label,annotator,station"]
    rows += [f"{CRACK},{label},{who},S1" for who, label in (("bo", "good"), ("al", "crack"))]
    rows += [f"{GOOD},{label},{who}," for who, label in (("bo", "good"), ("al", "good"))]
    (line / "set.csv").write_text("\n".join([*rows, f"{GOOD},crack,cy,"]))
    labelled = read_table(line / "set.csv")
    assert "votes: 2 images, on 2 of them not unanimous" in labelled.notes
    place = tmp_path / "datasets" / "plates"
    assert stored(labelled, place)
    rows_there = {row.path: row for row in read_manifest(place, verify=True).rows}
    crack = rows_there[f"images/{CRACK}"]
    assert (crack.label, crack.probability, crack.station) == ("crack", 0.5, "S1")
    assert crack.annotator is None
    assert crack.votes == (
        Vote(annotator="al", label="crack"),
        Vote(annotator="bo", label="good"),
    )
    good = rows_there[f"images/{GOOD}"]
    assert good.label == "good"
    assert good.probability == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"label": "crack"}, "line 1 and .*line 2 are both about"),
        ({"label": "good", "annotator": "kim"}, "kim is named twice about"),
        ({"label": "good", "annotator": "bo", "part": "P"}, "say otherwise of .*: part"),
        ({"label": "good", "annotator": "bo", "probability": 0.1}, "cannot have a probability"),
    ],
)
def test_lines_about_one_image_that_are_no_votes_are_refused(
    line: Path, second: dict[str, Any], what: str
) -> None:
    first = {"path": CRACK, "label": "crack", "annotator": "kim"}
    with pytest.raises(DataError, match=what):
        read_lines(written(line / "set.jsonl", first, {"path": CRACK, **second}))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"label": "crack"}, "line 2: path is missing"),
    ({"path": 5, "label": "crack"}, "line 2: path is missing"),
    ({"path": CRACK}, "one of label and labels"),
    ({"path": CRACK, "label": "a", "labels": ["a"]}, "one of label and labels"),
    ({"path": CRACK, "labels": "crack"}, "not a list of classes"),
    ({"path": CRACK, "labels": [None]}, "not a list of classes"),
    ({"path": CRACK, "labels": ["good", "crack"]}, "line 2: .*good and bad at once"),
    ({"path": CRACK, "label": "Good"}, "good parts are called `good`"),
    ({"path": CRACK, "label": "crack", "colour": 1}, "unknown keys: colour"),
    ({"path": CRACK, "label": "crack", "lot": ["a"]}, r"lot is \['a'\], neither"),
    ({"path": CRACK, "label": "crack", "part": "=1+1"}, "begins like a formula"),
    ({"path": CRACK, "label": "crack", "lot": "x" * 600}, "has 600 characters"),
    ({"path": CRACK, "label": "crack", "lot": "a\nb"}, "control character"),
    ({"path": "x" * 5000, "label": "crack"}, "has 5000 characters"),
    ({"path": "a\0b", "label": "crack"}, "control character"),
    ({"path": "gone.png", "label": "crack"}, r"names 1 files that are not there: gone\.png"),
    ({"path": CRACK, "label": "crack", "probability": "often"}, "line 2: could not convert"),
    ({"path": CRACK, "label": "crack", "regions": {}}, "regions are not a list"),
    ({"path": CRACK, "label": "crack", "regions": [5]}, "names no defect"),
    ({"path": CRACK, "label": "crack", "regions": [{"defect": "crack"}]}, "one of polygon, box"),
    (
        {"path": CRACK, "label": "crack", "regions": [{"defect": "crack", "box": [1, 2]}]},
        "line 2: .*a box is",
    ),
    (
        {"path": CRACK, "label": "crack", "regions": [{"defect": "crack", "polygon": [[1, 2]]}]},
        "at least three corners",
    ),
    (
        {"path": CRACK, "label": "crack", "regions": [{"defect": "crack", "mask": ""}]},
        "is not a path",
    ),
]


@pytest.mark.parametrize(("entry", "what"), BROKEN)
def test_a_line_that_makes_no_sense_is_named(line: Path, entry: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        read_lines(written(line / "set.jsonl", {"path": GOOD, "label": "good"}, entry))


def test_what_is_no_jsonl_is_named(line: Path) -> None:
    source = line / "set.jsonl"
    source.write_text('{"path": "a"\n')
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_lines(source)
    source.write_text('{"path": "a", "path": "b", "label": "good"}\n')
    with pytest.raises(DataError, match="a key comes twice"):
        read_lines(source)
    source.write_text("\n\n")
    with pytest.raises(DataError, match="names no images"):
        read_lines(source)


def test_a_table_may_come_from_a_spreadsheet(line: Path) -> None:
    """A byte order mark, carriage returns, blank lines, capitals and blanks around names."""
    text = f"Path, Label ,LOT\r\n{GOOD},good,7\r\n\r\n{CRACK}, crack ; void ,\r\n"
    (line / "set.csv").write_text(text, encoding="utf-8-sig", newline="")
    first, second = read_table(line / "set.csv").files
    assert (first.label, first.lot) == ("good", "7")
    assert (second.label, second.lot) == ("crack;void", None)


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        (f"path,label,label\n{GOOD},good,good\n", "more than once: label", "Needed"),
        (f"path;label\n{GOOD};good\n", "missing: path, label", "Put commas between"),
        (f"path,label\n{GOOD}\n", "line 2: 1 cells, but the header has 2", ""),
        (f"path,label,part\n{GOOD},good,=cmd|' /C calc'!A0\n", "line 2: .*a formula", "otherwise"),
        (f"path,label,lot\n{GOOD},good,+cmd|' /C calc'!A0\n", "line 2: .*a formula", "otherwise"),
        (f'path,label\n"{GOOD},good\n', "is not a CSV", "CSV UTF-8"),
        (f"path,label\n{'x' * 200_000},good\n", "is not a CSV", "CSV UTF-8"),
        ("path,label\na\0b.png,good\n", "CSV|control character", ""),
    ],
)
def test_a_table_that_would_be_misread_is_refused(
    line: Path, text: str, what: str, remedy: str
) -> None:
    (line / "set.csv").write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        read_table(line / "set.csv")
    assert remedy in caught.value.remedy


def test_a_lot_may_begin_with_a_sign(line: Path) -> None:
    (line / "set.csv").write_text(f"path,label,lot\n{GOOD},good,-5\n")
    assert read_table(line / "set.csv").files[0].lot == "-5"


def test_one_part_in_two_groups_is_refused(line: Path, tmp_path: Path) -> None:
    rows = [f"{GOOD},good,P1,L1", f"{CRACK},crack,P1,L2"]
    (line / "set.csv").write_text("\n".join(["path,label,part,group", *rows]))
    with pytest.raises(DataError, match="1 parts lie in more than one group: P1"):
        stored(read_table(line / "set.csv"), tmp_path / "datasets" / "plates")


def test_parts_and_groups_may_stand_in_the_path(line: Path) -> None:
    source = written(
        line / "set.jsonl",
        {"path": GOOD, "label": "good"},
        {"path": CRACK, "label": "crack", "group": "G"},
    )
    files = read_lines(source, part_from=r"-(\d+)", group_from=r"(lot\d+)").files
    assert [(file.part, file.group) for file in files] == [("00", "lot00"), ("01", "G")]
    with pytest.raises(DataError, match="finds nothing in 1 paths"):
        read_lines(source, group_from=r"^(crack)")


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
entries = st.dictionaries(
    st.sampled_from(["path", "label", "labels", "regions", "part", "probability", "lot"]),
    values,
)


@given(entries)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]
) -> None:
    source = tmp_path_factory.getbasetemp() / "any.jsonl"
    with pytest.raises(DataError):
        read_lines(written(source, entry))


def test_what_is_allowed_is_kept_and_makes_no_part_bad(line: Path, tmp_path: Path) -> None:
    crack = {"defect": "crack", "box": [10, 10, 5, 4]}
    small = {"defect": "crack", "box": [30, 30, 2, 2], "allowed": True}
    source = written(
        line / "set.jsonl",
        {"path": GOOD, "label": "good", "regions": [small]},
        {"path": CRACK, "label": "crack", "regions": [crack, small]},
    )
    place = tmp_path / "datasets" / "plates"
    assert stored(read_source(source, Asked()), place)
    manifest = read_manifest(place, verify=True)
    rows = {row.label: row for row in manifest.rows}
    assert not rows["good"].bad
    assert [len(rows[name].regions) for name in ("good", "crack")] == [1, 2]
    assert [len(rows[name].marked) for name in ("good", "crack")] == [0, 1]
    masks = region_masks(manifest, rows["crack"], (48, 48))
    assert masks is not None
    assert masks.sum() == 20
    plain = written(
        line / "plain.jsonl",
        {"path": GOOD, "label": "good"},
        {"path": CRACK, "label": "crack", "regions": [crack]},
    )
    other = tmp_path / "datasets" / "plain"
    assert stored(read_source(plain, Asked()), other)
    assert read_manifest(other).digest != manifest.digest


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"regions": [{"defect": "crack", "box": [1, 1, 2, 2], "allowed": 1}]}, "true or false"),
        ({"regions": [{"defect": "dent", "box": [1, 1, 2, 2], "allowed": True}]}, "no label names"),
    ],
)
def test_what_is_allowed_of_nothing_known_is_refused(
    entry: dict[str, Any], said: str, line: Path, tmp_path: Path
) -> None:
    source = written(
        line / "set.jsonl",
        {"path": GOOD, "label": "good", **entry},
        {"path": CRACK, "label": "crack"},
    )
    with pytest.raises(DataError, match=said):
        stored(read_source(source, Asked()), tmp_path / "datasets" / "plates")
