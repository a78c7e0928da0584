"""Data sets and their revisions as a person types them: import again, list, show, remove."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.cli import main
from inspection.errors import DataError
from inspection.package import load_package, write_package
from tests.labelled_sets import GROUP_PATTERN, plate, write_folders, write_png
from tests.spot_model import write_spot_package
from training.commands.data import find_set
from training.manifest import read_manifest

Captured = pytest.CaptureFixture[str]
SETS = Path("datasets")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=3, per_lot=5)


@pytest.fixture
def twice(line: Path, capsys: Captured) -> Path:
    """The source, imported as plates@1, and with another image as plates@2."""
    args = ["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN]
    assert main([*args, "--product", "KN-42", "--licence", "ours", "--flips", "horizontal"]) == 0
    assert "plates@1; next: inspection train plates" in capsys.readouterr().out
    write_png(line / "good" / "lot00-99.png", plate(np.random.default_rng(0), scratched=False))
    assert main([*args, "--dry-run"]) == 0
    assert "2; against 1: 1 image added" in capsys.readouterr().out
    assert find_set(SETS, "plates").revision == 1
    assert main(args) == 0
    assert "plates@2; next" in capsys.readouterr().out
    return line


def refused(capsys: Captured, *args: str, status: int = 3) -> str:
    capsys.readouterr()
    assert main(args) == status
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    return err


def test_what_is_not_said_again_stays_as_it_was(twice: Path) -> None:
    first, second = find_set(SETS, "plates@1"), find_set(SETS, "plates")
    assert twice.is_dir()
    assert (second.product, second.licence, second.flips) == ("KN-42", "ours", ("horizontal",))
    assert (first.revision, second.revision) == (1, 2)
    assert len(second.rows) == len(first.rows) + 1


def test_a_revision_is_named_by_its_number(twice: Path, capsys: Captured) -> None:
    assert twice.is_dir()
    assert main(["data", "list"]) == 0
    assert re.search(r"plates +KN-42 +16 +16 +6 +3 +2 +2 +[0-9a-f]{12}", capsys.readouterr().out)
    assert main(["data", "show", "plates@1"]) == 0
    out = capsys.readouterr().out
    assert "15, in 15 parts and 3 groups" in out
    assert "1 (first import; 20" in out
    assert re.search(r"2 +20\S+Z +16 +6 +[0-9a-f]{12} +1 image added", out)
    for name, what in (
        ("plates@3", "has no revision 3; there are 1, 2"),
        ("plates@0", "a revision is a number"),
        ("plates@two", "a revision is a number"),
        ("plates@", "a revision is a number"),
        ("../plates@1", "is not the name of a data set"),
        ("@1", "is not the name of a data set"),
    ):
        assert what in refused(capsys, "data", "show", name)


def test_a_set_that_is_not_usable_is_listed_with_why(twice: Path, capsys: Captured) -> None:
    assert twice.is_dir()
    (SETS / "described").mkdir()
    toml = SETS / "plates" / "revisions" / "2" / "dataset.toml"
    (SETS / "described" / "dataset.toml").write_bytes(toml.read_bytes())
    toml.unlink()  # an interrupted hand: it must not fall back to revision 1 in silence
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"described +not usable: .*its images are not here", out)
    assert re.search(r"plates +not usable: .*revisions/2/dataset.toml", out)


def test_removing_asks_unless_told(twice: Path, capsys: Captured) -> None:
    assert twice.is_dir()
    said = refused(capsys, "data", "remove", "plates@2")
    assert "plates@2: 1 revision of 2, 16 images" in said
    assert "Add --yes" in said
    assert find_set(SETS, "plates").revision == 2
    assert main(["data", "remove", "plates@2", "--yes"]) == 0
    assert "removed plates@2; 1 file deleted" in capsys.readouterr().out
    assert find_set(SETS, "plates", verify=True).revision == 1
    assert main(["data", "remove", "plates", "--yes"]) == 0
    assert not (SETS / "plates").exists()
    assert "there is no data set" in refused(capsys, "data", "remove", "plates", "--yes")


def test_referenced_images_in_the_folder_of_the_set_stay(line: Path) -> None:
    raw = SETS / "plates" / "raw"
    raw.parent.mkdir(parents=True)
    line.rename(raw)
    before = sorted(raw.rglob("*.png"))
    assert main(["data", "import", str(raw), "--name", "plates", "--reference"]) == 0
    assert main(["data", "remove", "plates", "--yes"]) == 0
    assert sorted(raw.rglob("*.png")) == before


def test_a_person_at_a_terminal_is_asked(
    twice: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert twice.is_dir()

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert main(["data", "remove", "plates@1"]) != 0
    assert "Remove plates@1 for good?" in capsys.readouterr().err
    assert find_set(SETS, "plates@1").revision == 1
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert main(["data", "remove", "plates@1"]) == 0
    with pytest.raises(DataError, match="has no revision 1"):
        find_set(SETS, "plates@1")


def test_what_a_model_was_made_from_is_not_removed_unless_told(
    twice: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert twice.is_dir()
    spot = load_package(write_spot_package(tmp_path / "spots").folder)
    document = replace(spot.document, model="plates", data_digest=find_set(SETS, "plates@1").digest)
    files: dict[str, bytes | Path] = {
        name: spot.folder / name for name in spot.files if name != "recipe.toml"
    }
    package = write_package(tmp_path / "weights", document, spot.recipe, files)
    for name in ("plates@1", "plates"):
        said = refused(capsys, "data", "remove", name)
        assert f"is what plates@{document.version} was made from" in said
    assert package.folder.is_dir()
    assert main(["data", "remove", "plates@2", "--yes"]) == 0
    assert main(["data", "remove", "plates@1", "--yes"]) == 0


def test_every_kind_of_source_is_told_apart(line: Path, capsys: Captured) -> None:
    rows = [
        {"path": str(path.relative_to(line)), "label": path.parent.name}
        for path in sorted(line.glob("*/*.png"))
    ]
    (line / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    coco = {
        "images": [{"id": i, "file_name": row["path"]} for i, row in enumerate(rows)],
        "categories": [{"id": 1, "name": "scratch"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 9, 9]}
            for i, row in enumerate(rows)
            if row["label"] == "scratch"
        ],
    }
    (line / "set.json").write_text(json.dumps(coco))
    digests = set()
    for source, name, layout in (
        (line, "a", "class folders in"),
        (line / "set.jsonl", "b", "manifest "),
        (line / "set.json", "c", "COCO "),
    ):
        args = ["data", "import", str(source), "--name", name, "--product", "KN-42"]
        assert main(args) == 0
        assert f"layout      {layout}" in capsys.readouterr().out
        manifest = read_manifest(SETS / name, verify=True)
        assert manifest.label_counts() == {"good": 9, "scratch": 6}
        digests.add(manifest.digest)
    assert len(digests) == 2  # the third says where, too


def test_a_kind_that_does_not_fit_its_source_is_refused(line: Path, capsys: Captured) -> None:
    (line / "set.csv").write_text("path,label\n")
    args = ["data", "import", "--name", "plates"]
    for more, what in (
        ([str(line), "--from", "coco"], "is a folder; --from coco wants the other"),
        ([str(line / "set.csv"), "--from", "folders"], "is a file; --from folders wants the other"),
        ([str(line), "--from", "masks"], "holds 'good' and 'scratch'"),
        ([str(line), "--images-dir", str(line)], "--images-dir goes with COCO"),
        ([str(line / "gone")], "is not there"),
        (["--from", "elpv", "--part-from", "x"], "do not go with --from elpv"),
    ):
        assert what in refused(capsys, *args, *more)


def test_good_parts_alone_are_for_the_preset_that_needs_no_defects(
    line: Path, capsys: Captured
) -> None:
    (line / "scratch").rename(line.parent / "elsewhere")
    assert main(["data", "import", str(line), "--name", "plates"]) == 0
    out = capsys.readouterr().out
    assert "note        no defect classes: only --preset anomaly can learn from it" in out
    assert "next: inspection train plates --preset anomaly" in out
    assert find_set(SETS, "plates").classes == ()
