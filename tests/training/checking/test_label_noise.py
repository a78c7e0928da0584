"""Labels that images speak against: single ones are named, whole groups are called unlike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelled_sets import import_folders, silent, write_folders
from training.checking.findings import Finding
from training.checking.label_noise import find_label_noise
from training.dividing.saved_split import Made, save_split
from training.dividing.split_file import split_text
from training.manifest import Manifest

SIZE_PX = (64, 64)
SIDES = {"lot07": "test", "lot08": "test", "lot09": "calibrate"}
WRONG = {"lot00-00.png", "lot02-01.png", "lot05-05.png"}  # two good ones and a scratched one
UNLIKE = "lot04"


def relabel(line: Path, name: str) -> None:
    """Move an image into the other class's folder."""
    was, other = ("good", "scratch") if (line / "good" / name).exists() else ("scratch", "good")
    (line / was / name).rename(line / other / name)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten lots; three labels are wrong, one in the test side too, and one lot is all wrong."""
    line = write_folders(tmp_path_factory.mktemp("line") / "line", lots=10, per_lot=10)
    for name in (*WRONG, "lot07-00.png", *(f"{UNLIKE}-{part:02d}.png" for part in range(10))):
        relabel(line, name)
    return line


def looked(manifest: Manifest) -> tuple[str, dict[str, Finding]]:
    usable = [True] * len(manifest.rows)
    check = find_label_noise(manifest, usable, (), size_px=SIZE_PX, progress=silent)
    return check.said, {finding.code: finding for finding in check.findings}


def names(manifest: Manifest, finding: Finding) -> set[str]:
    return {Path(manifest.rows[case.rows[0]].path).name for case in finding.cases}


def keep(manifest: Manifest, folds: list[str], *, count: int = 0) -> None:
    made = Made(digest="", seed=0, group_by=("group",), folds=count, why="for a test")
    save_split(manifest, split_text(manifest, folds), made)


def test_planted_labels_are_found_on_the_training_side_of_the_saved_split(
    line: Path, tmp_path: Path
) -> None:
    manifest = import_folders(line, tmp_path)
    keep(manifest, [SIDES.get(row.group, "fit") for row in manifest.rows])
    said, found = looked(manifest)
    assert "80 images of the sides fit and calibrate of the saved split" in said
    noise = found["label-noise"]
    assert noise.severity == "warning"
    assert names(manifest, noise) >= WRONG
    assert len(noise.cases) <= 10
    assert all(case.suggested for case in noise.cases)
    unlike = found["unlike-the-rest"]
    assert unlike.severity == "note"
    assert {name[:5] for name in names(manifest, unlike)} == {UNLIKE}
    assert not any(case.suggested for case in unlike.cases)
    shown = names(manifest, noise) | names(manifest, unlike)
    assert not {name for name in shown if SIDES.get(name[:5]) == "test"}


def test_no_fold_of_a_saved_split_is_read(line: Path, tmp_path: Path) -> None:
    manifest = import_folders(line, tmp_path)
    keep(manifest, [str(int(row.group[3:]) % 5) for row in manifest.rows], count=5)
    said, found = looked(manifest)
    assert "every fold of the saved split is tested once" in said
    assert found == {}


def test_a_saved_split_that_leaks_is_not_read(line: Path, tmp_path: Path) -> None:
    manifest = import_folders(line, tmp_path)
    keep(manifest, ["fit" if i % 2 else "test" for i in range(len(manifest.rows))])
    said, found = looked(manifest)
    assert "the saved split does not hold" in said
    assert found == {}
