"""A split that was made elsewhere is taken as it is, or refused with everything that is wrong."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import DataError, DataLeak
from tests.labelled_sets import bare_manifest, bare_rows
from training.dividing.duplicates import Pair
from training.dividing.leaks import leaks, leaks_between, refuse_leaks
from training.dividing.split_file import (
    parse_split_csv,
    read_folds,
    split_csv_bytes,
    split_from_file,
    split_text,
)
from training.manifest import Manifest
from training.split import SIDES, kfold, split

MANIFEST = bare_manifest(bare_rows([(6, 4)] * 10))
TRAIN_VAL_TEST = {"fit": "train", "calibrate": "val", "test": "test"}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_split_that_was_written_is_read_again(tmp_path: Path) -> None:
    made = split(MANIFEST, seed=4)
    for names in (made.names(), [TRAIN_VAL_TEST[name] for name in made.names()]):
        file = written(tmp_path / "split.csv", split_text(MANIFEST, names))
        again = split_from_file(file, MANIFEST)
        assert again.digest == made.digest
        assert again.by == "file"
        assert "as split.csv says; checked: kept together by the group" in again.why


def test_paths_may_be_those_of_the_source(tmp_path: Path) -> None:
    made = split(MANIFEST, seed=4)
    text = split_text(MANIFEST, made.names()).replace("images/", ".\\line\\".replace("line\\", ""))
    assert split_from_file(written(tmp_path / "s.csv", text), MANIFEST).digest == made.digest


@pytest.mark.parametrize("spoiled_by", ["windows", "spreadsheet", "quotes", "linux"])
def test_what_other_programs_write_is_understood(tmp_path: Path, spoiled_by: str) -> None:
    made = split(MANIFEST, seed=4)
    lines = [line.split(",") for line in split_text(MANIFEST, made.names()).splitlines()]
    whole = {"windows": r"D:\line 3\images", "linux": "/srv/line-3/images"}.get(
        spoiled_by, "images"
    )
    if spoiled_by == "windows":
        lines = [[path.replace("/", "\\"), fold] for path, fold in lines]
    lines = [[path.replace("images", whole), fold] for path, fold in lines]
    mark, end = (";", "\r\n") if spoiled_by == "spreadsheet" else (",", "\n")
    quote = '"' if spoiled_by == "quotes" else ""
    text = end.join(mark.join(f"{quote}{cell}{quote}" for cell in line) for line in lines)
    file = tmp_path / "split.csv"
    file.write_text(text + end, encoding="utf-8-sig", newline="")
    assert split_from_file(file, MANIFEST).digest == made.digest


def test_a_whole_path_that_could_mean_two_images_is_refused(tmp_path: Path) -> None:
    manifest = two_images_a_part()
    text = split_text(manifest, ["fit" if row.group < "g006" else "test" for row in manifest.rows])
    text = text.replace("images/", "D:/somewhere/").replace("second/", "D:/elsewhere/")
    with pytest.raises(DataError, match="that could mean several; write the whole path"):
        split_from_file(written(tmp_path / "s.csv", text), manifest)


def test_numbered_folds_are_tested_one_by_one(tmp_path: Path) -> None:
    folded = kfold(MANIFEST, 5, 1)
    file = written(tmp_path / "folds.csv", split_text(MANIFEST, folded.of_row.tolist()))
    tested: list[int] = []
    for fold in range(5):
        made = split_from_file(file, MANIFEST, fold=fold, seed=3)
        assert leaks(MANIFEST, made) == ()
        assert (made.test == folded.rows(fold)[1]).all()
        assert len(made.calibrate) / len(MANIFEST.rows) == pytest.approx(0.16, abs=0.06)
        tested += made.test.tolist()
    assert sorted(tested) == list(range(len(MANIFEST.rows)))
    with pytest.raises(DataError, match="holds the folds 0, 1, 2, 3, 4: which is to be tested"):
        split_from_file(file, MANIFEST)
    with pytest.raises(DataError, match="fold 5 is not among them"):
        split_from_file(file, MANIFEST, fold=5)


def test_what_a_file_leaves_out_of_calibration_is_drawn_by_group(tmp_path: Path) -> None:
    names = ["test" if name == "test" else "train" for name in split(MANIFEST, seed=4).names()]
    file = written(tmp_path / "split.csv", split_text(MANIFEST, names))
    made = split_from_file(file, MANIFEST, seed=1)
    assert leaks(MANIFEST, made) == ()
    assert len(made.calibrate)
    assert split_from_file(file, MANIFEST, seed=1).digest == made.digest


def spoiled(text: str, what: str) -> str:
    """The text of a split with something wrong with it."""
    lines = text.splitlines(keepends=True)
    return {
        "missing": "".join(lines[:-2]),
        "unknown path": text + "images/none.png,fit\n",
        "unknown fold": text.replace(",fit", ",tset"),
        "mixed": text.replace(",fit", ",3"),
        "twice": text + lines[1].replace("fit", "test"),
        "no column": text.replace("path,fold", "file,fold"),
        "torn": text + "images/a.png\n",
        "no test": text.replace(",test", ",fit"),
        "no csv": "\x00",
    }[what]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", r"2 images of the set that are missing in the file: images/g009"),
        ("unknown path", r"1 image that are not in plates: images/none.png"),
        ("unknown fold", "unknown folds: tset"),
        ("mixed", "numbers and names are mixed"),
        ("twice", r"1 image in two folds: images/g000-000.png"),
        ("no column", "wanted path, fold"),
        ("torn", "wanted 2 cells"),
        ("no test", "no image is on the side test"),
        ("no csv", "wanted path, fold"),
    ],
)
def test_a_file_that_does_not_hold_is_refused(tmp_path: Path, what: str, said: str) -> None:
    names = ["fit" if i < 60 else "calibrate" if i < 80 else "test" for i in range(100)]
    file = written(tmp_path / "split.csv", spoiled(split_text(MANIFEST, names), what))
    with pytest.raises(DataError, match=said) as caught:
        split_from_file(file, MANIFEST)
    assert caught.value.remedy


def test_a_file_that_is_not_there_or_has_no_fold_of_that_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        split_from_file(tmp_path / "none.csv", MANIFEST)
    file = written(tmp_path / "s.csv", split_text(MANIFEST, split(MANIFEST, seed=0).names()))
    with pytest.raises(DataError, match="there is no fold 1"):
        split_from_file(file, MANIFEST, fold=1)


def two_images_a_part() -> Manifest:
    rows = bare_rows([(6, 4)] * 10)
    second = [
        replace(row, path=f"second/{row.part}.png", sha256=f"f{row.sha256[1:]}") for row in rows
    ]
    return bare_manifest([*rows, *second])


def test_everything_that_crosses_is_listed(tmp_path: Path) -> None:
    manifest = two_images_a_part()
    rows = list(manifest.rows)
    last = next(i for i, row in enumerate(rows) if row.group == "g009")
    rows[last] = replace(rows[last], sha256=rows[0].sha256, label=rows[0].label)
    manifest = bare_manifest(rows)
    names = ["fit" if row.group < "g006" else "test" for row in manifest.rows]
    names[7] = "test"
    near = [Pair(first=2, second=len(rows) - 1, kind="near", distance=5)]
    file = written(tmp_path / "split.csv", split_text(manifest, names))
    with pytest.raises(DataLeak) as caught:
        split_from_file(file, manifest, pairs=near)
    kinds = [line.split(" ")[0] for line in caught.value.lines]
    assert kinds == ["part", "group", "the", "near-duplicates,"]
    assert "none is printed" in str(caught.value)
    assert manifest.rows[7].part in caught.value.lines[0]
    assert "5 bits apart" in caught.value.lines[-1]
    assert "(fit)" in caught.value.lines[0]
    assert "(test)" in caught.value.lines[0]


def test_the_message_names_ten_and_the_error_carries_all() -> None:
    manifest = two_images_a_part()
    names = ["fit" if row.path.startswith("images") else "test" for row in manifest.rows]
    found = leaks_between(manifest, names, ("group",))
    assert {leak.kind for leak in found} == {"part", "group"}
    assert len(found) == 110
    made = split(MANIFEST, seed=0)
    refuse_leaks(MANIFEST, made)
    of_row = made.names()
    apart = [(i, j) for i in range(50) for j in range(50, 100) if of_row[i] != of_row[j]][:12]
    crossing = [Pair(first=i, second=j, kind="near", distance=1) for i, j in apart]
    with pytest.raises(DataLeak, match="; and 2 more") as caught:
        refuse_leaks(MANIFEST, made, crossing)
    assert len(caught.value.lines) == 12


def test_the_record_of_a_package_is_a_split_too(tmp_path: Path) -> None:
    made = split(MANIFEST, seed=2)
    hashes = [i**7 for i in range(len(MANIFEST.rows))]
    data = split_csv_bytes(MANIFEST, made, hashes)
    rows = parse_split_csv(data, "split.csv")
    assert [row.side for row in rows] == list(made.names())
    assert [row.perceptual_hash for row in rows] == hashes
    assert [row.sha256 for row in rows] == [row.sha256 for row in MANIFEST.rows]
    file = tmp_path / "split.csv"
    file.write_bytes(data)
    assert split_from_file(file, MANIFEST).digest == made.digest
    with pytest.raises(DataError, match="line 2: no side"):
        parse_split_csv(data.replace(b",fit,", b",fat,"), "split.csv")
    with pytest.raises(DataError, match="not sha256, part"):
        parse_split_csv(b"path,fold\n", "split.csv")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_names_and_folds_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = st.text(st.characters(codec="utf-8", exclude_characters="/\\\r\0"), min_size=1)
    names = data.draw(st.lists(text, min_size=2, max_size=12, unique=True))
    rows = [
        replace(row, path=f"images/{name}", part=name, group=name)
        for row, name in zip(bare_rows([(1, 0), (1, 1)] * len(names)), names, strict=False)
    ]
    manifest = bare_manifest(rows, () if all(not row.bad for row in rows) else ("scratch",))
    folds = [data.draw(st.sampled_from(SIDES)) for _ in rows]
    file = tmp_path_factory.mktemp("any") / "split.csv"
    file.write_bytes(split_text(manifest, folds).encode())
    assert read_folds(file, manifest) == tuple(folds)
    lines = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    assert len(lines) == 1 + len(rows)
