"""The verbs of training as a person types them: results, statuses, one clear line for faults."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from inspection.cli import main
from tests.labelled_sets import GROUP_PATTERN, write_folders, write_png

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=6, per_lot=5)


def complaint(capsys: Captured, *args: str, status: int = 3) -> str:
    """What a command that must fail says: one line and a remedy, nothing on stdout."""
    capsys.readouterr()
    assert main(args) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert out == ""
    lines = [text for text in err.splitlines() if text.startswith(("error:", "  →"))]
    assert lines[0].startswith("error: ")
    return err


def test_import_says_what_it_understood_then_writes(line: Path, capsys: Captured) -> None:
    args = ["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN]
    assert main([*args, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    for text in ("30, in 30 parts and 6 groups", "good 18, scratch 12", "8 bits, grey", "48 x 48"):
        assert text in out
    assert "nothing was written" in err
    assert not Path("datasets").exists()
    assert main([*args, "--product", "KN-42"]) == 0
    assert "next: inspection train plates" in capsys.readouterr().out
    assert main([*args, "--product", "KN-42"]) == 0
    assert "nothing was changed" in capsys.readouterr().err
    assert main(["data", "list"]) == 0
    assert re.search(r"plates +KN-42 +30 +30 +12 +6", capsys.readouterr().out)
    assert main(["data", "show", "plates", "--verify"]) == 0
    assert "30, in 30 parts and 6 groups" in capsys.readouterr().out


def test_a_table_needs_no_kind(line: Path, capsys: Captured) -> None:
    rows = [f"{path.relative_to(line)},{path.parent.name}" for path in line.glob("*/*.png")]
    (line / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert main(["data", "import", str(line / "labels.csv"), "--name", "plates"]) == 0
    assert "table " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("empty class", "class 'stain' is empty"),
        ("one class", "holds 'scratch'; a folder `good` and one for every defect class are wanted"),
        ("no good", "did you mean"),
        ("corrupt", "1 of 30 images cannot be read"),
        ("missing", "names 1 files that are not there: good/none.png"),
        ("not there", "is not there"),
    ],
)
def test_a_source_that_does_not_hold_is_refused(
    line: Path, capsys: Captured, spoil: str, what: str
) -> None:
    source = line
    if spoil == "empty class":
        (line / "stain").mkdir()
    elif spoil == "one class":
        (line / "good").rename(line.parent / "elsewhere")
    elif spoil == "no good":
        source = line.parent
    elif spoil == "corrupt":
        next((line / "good").iterdir()).write_bytes(b"\x89PNG\r\n\x1a\n")
    elif spoil == "missing":
        source = line / "labels.csv"
        source.write_text("path,label\ngood/none.png,good\n")
    else:
        source = line / "nowhere"
    assert what in complaint(capsys, "data", "import", str(source), "--name", "plates")
    assert not Path("datasets").exists()


def test_mistyped_commands_are_usage_errors(line: Path, capsys: Captured) -> None:
    for args in (
        ["data", "import", "--name", "plates"],
        ["data", "import", str(line)],
        ["data", "import", str(line), "--name", "p", "--flips", "upwards"],
        ["train", "plates", "--size", "big"],
        ["train", "plates", "--size", "5"],
        ["train", "plates", "--escape-rate", "0"],
        ["train", "plates", "--escape-rate", "nan"],
        ["train", "plates", "--review-budget", "nan"],
        ["train", "plates", "--model", "../evil"],
        ["train", "plates", "--recipe", "missing.toml"],
        ["train", "plates", "--preset", "full", "--compare-random"],
    ):
        complaint(capsys, *args, status=2)


def test_usage_errors_say_what_is_wrong(capsys: Captured) -> None:
    for args, what in (
        (["--size", "5"], "sizes begin at 32 pixels"),
        (["--escape-rate", "nan"], "nan is not a share"),
        (["--model", "../evil"], "cannot be a model's name"),
        (["--recipe", "missing.toml"], "missing.toml"),
    ):
        assert what in complaint(capsys, "train", "plates", *args, status=2)


def test_places_that_cannot_be_written_are_refused_before_the_work(
    line: Path, capsys: Captured
) -> None:
    args = ["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN]
    Path("file").write_text("")
    said = complaint(capsys, *args, "--datasets-dir", "file", status=2)
    said = complaint(capsys, *args, "--datasets-dir", "file/sets", status=4)
    assert "file/sets cannot be written to" in said
    assert "read images" not in said
    said = complaint(capsys, "data", "import", str(line), "--name", "../up")
    assert "read images" not in said
    assert main(args) == 0
    said = complaint(capsys, "train", "plates", "--weights-dir", "file/weights", status=4)
    assert "file/weights/plates cannot be written to" in said
    assert "features" not in said


def test_training_without_a_data_set_says_how_to_get_one(capsys: Captured) -> None:
    said = complaint(capsys, "train", "plates")
    assert "there is no data set in datasets/plates" in said
    assert "inspection data import" in said
    complaint(capsys, "train", "../plates")


def test_too_few_groups_are_refused_before_anything_is_trained(
    line: Path, capsys: Captured
) -> None:
    for path in list(line.glob("*/lot0[2-5]*")):
        path.unlink()
    main(["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN])
    assert "2 groups cannot be divided" in complaint(capsys, "train", "plates")
    assert not Path("weights").exists()


def test_missing_and_altered_images_are_named_before_training(line: Path, capsys: Captured) -> None:
    main(["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN])
    first, second = sorted(Path("datasets/plates/images/good").iterdir())[:2]
    write_png(first, np.zeros((48, 48), np.uint8))
    assert first.name in complaint(capsys, "train", "plates", "--size", "64")
    second.unlink()
    assert second.name in complaint(capsys, "train", "plates", "--size", "64")
    assert not list(Path().glob("weights/**/package.toml"))


def test_a_label_that_the_recipe_does_not_know_is_refused(line: Path, capsys: Captured) -> None:
    main(["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN])
    Path("recipe.toml").write_text(
        'product = "plates"\nmodality = "vision"\nbits = 8\nchannels = 1\n'
        'input_size_px = [64, 64]\nwindow = [0, 255]\nclasses = ["void"]\n'
    )
    said = complaint(capsys, "train", "plates", "--recipe", "recipe.toml")
    assert "does not know the labels scratch" in said
    Path("recipe.toml").write_text("product = ")
    complaint(capsys, "train", "plates", "--recipe", "recipe.toml", status=4)


def test_evaluating_what_is_not_there_is_refused(line: Path, capsys: Captured) -> None:
    main(["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN])
    assert "there is no model plates@3" in complaint(capsys, "evaluate", "plates@3", "plates")
