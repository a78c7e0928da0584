"""`inspection data split` and `train` as a person types them; what they refuse, and never touch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.cli import main
from inspection.errors import DataError
from inspection.registry import Registry
from tests.labelled_sets import import_folders, write_folders
from tests.spot_model import write_spot_package
from training.dividing.duplicates import perceptual_hashes
from training.dividing.sides import side_to_judge
from training.dividing.split_file import split_csv_bytes, split_text
from training.manifest import Manifest
from training.split import split

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("line"), lots=6, per_lot=5)


@pytest.fixture
def plates(line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A set in datasets/plates, below the folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    return import_folders(line, tmp_path / "datasets")


def run(capsys: Captured, *args: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    got = main(args)
    out, err = capsys.readouterr()
    assert got == status, out + err
    return out, err


def options_of(text: str) -> set[str]:
    return set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE))


def test_the_first_page_shows_a_dozen_options_and_another_one_all(capsys: Captured) -> None:
    first = options_of(run(capsys, "train", "--help")[0])
    every = options_of(run(capsys, "train", "--help-all")[0])
    assert len(first - {"--help", "--help-all"}) == 12
    assert first < every
    assert {"--compare-random", "--datasets-dir", "--print-config"} <= every - first
    assert options_of(run(capsys, "train", "--help")[0]) == first


def test_a_split_is_shown_and_kept_with_the_revision(plates: Manifest, capsys: Captured) -> None:
    out, _ = run(capsys, "data", "split", "plates", "--seed", "3")
    assert re.search(r"test +\d+ +\d+ +\d+", out)
    assert "kept together by the group (6 of them): the source gives it" in out
    assert "next: inspection train plates" in out
    file = plates.revision_folder / "split.csv"
    assert file.read_text() == split_text(plates, split(plates, seed=3).names())
    out, _ = run(capsys, "train", "plates", "--print-config")
    assert "# split is not set" in out  # the saved one is taken
    out, _ = run(capsys, "data", "split", "plates", "--folds", "3", "--out", "folds.csv")
    assert "--fold 0" in out
    assert file.read_text() == split_text(plates, split(plates, seed=3).names())
    run(capsys, "data", "split", "plates", "--from", "folds.csv")
    _, err = run(capsys, "train", "plates", status=3)
    assert "which is to be tested?" in err
    assert "--fold 0" in err


def test_every_value_is_printed_with_its_origin(plates: Manifest, capsys: Captured) -> None:
    args = ["train", "plates", "--print-config"]
    out, _ = run(
        capsys,
        *args,
        *("--seed", "0", "--review-budget", "0", "--backbone-size", "m", "--set", "hidden=64"),
        *("--costs", "escape=500,overkill=20,review=3"),
    )
    for said in (
        r"seed = 0 +# --seed",
        r"review_budget = 0.0 +# --review-budget",
        r'backbone = "tf_efficientnet_lite1" +# --backbone-size',
        r"hidden = 64 +# --set",
        r"costs = \{escape = 500.0, overkill = 20.0, review = 3.0\} +# --costs",
        r"escape_rate = 0.01 +# default",
        r'flips = \["horizontal", "vertical"\] +# the data set',
    ):
        assert re.search(said, out), said
    Path("own.toml").write_text(out)
    again, _ = run(capsys, *args, "--config", "own.toml")
    assert re.search(r"hidden = 64 +# --config own.toml", again)
    assert not Path("weights").exists()


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--set", "fit.hiden=3"], 4, "Did you mean fit.hidden"),
        (["--costs", "escape=5"], 2, "overkill and a review are needed"),
        (["--costs", "5,a"], 2, "is not a cost"),
        (["--backbone", "x", "--backbone-size", "m"], 2, "give one of them"),
        (["--split", "none.csv"], 3, "none.csv: No such file"),
        (["--group-by", "mould"], 3, "names no mould for any part"),
        (["--fold", "1"], 3, "inspection data split plates --folds 5"),
        (["--resume"], 4, "no training of plates is unfinished"),
        (["--config", "none.toml"], 2, "none.toml"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_the_work(
    plates: Manifest, capsys: Captured, args: list[str], status: int, said: str
) -> None:
    out, err = run(capsys, "train", plates.name, *args, status=status)
    assert said in err
    assert out == ""
    assert not Path("weights").exists()


def test_a_leaking_split_gets_no_figure(plates: Manifest, capsys: Captured) -> None:
    names = ["fit" if i % 2 else "test" for i in range(len(plates.rows))]
    Path("split.csv").write_text(split_text(plates, names))
    for command in (["train", "plates", "--split"], ["data", "split", "plates", "--from"]):
        out, err = run(capsys, *command, "split.csv", status=1)
        assert out == ""
        assert "group lot03: images/" in err
        assert "so every figure would flatter and none is printed" in err
    assert not Path("weights").exists()
    assert not (plates.revision_folder / "split.csv").exists()


def test_a_class_that_the_split_leaves_nothing_of_is_named(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["path,label,part,group"]
    source = Path(shutil.copytree(line, "line"))
    for path in sorted(source.glob("*/*.png")):
        bad = path.parent.name == "scratch"
        label = "void" if bad and "lot05" in path.name else path.parent.name
        rows.append(f"{path.relative_to(source)},{label},{path.stem},{path.stem[:5]}")
    (source / "labels.csv").write_text("\n".join(rows))
    run(capsys, "data", "import", "line/labels.csv", "--name", "plates")
    sides = ["fit", "fit", "fit", "fit", "val", "test"]
    lines = [row.split(",") for row in rows[1:]]
    folds = [f"{Path(path).name},{sides[int(group[3:])]}" for path, _, _, group in lines]
    Path("split.csv").write_text("\n".join(["path,fold", *folds]))
    _, err = run(capsys, "train", "plates", "--split", "split.csv", status=3)
    assert "class 'void': none of the 20 images to fit on shows it" in err


def listed(capsys: Captured) -> object:
    return json.loads(run(capsys, "models", "list", "--format", "json")[0])


@pytest.mark.slow
def test_a_killed_training_leaves_the_promoted_model_as_it_was(
    plates: Manifest, tmp_path: Path, capsys: Captured
) -> None:
    package = write_spot_package(tmp_path / "weights", product=plates.product, model="plates")
    Registry(tmp_path / "weights").promote(package.reference)
    before = listed(capsys)
    log = (tmp_path / "weights" / "promotions.jsonl").read_bytes()
    command = [sys.executable, "-m", "inspection.cli", "train", "plates", "--size", "64"]
    settings = ["--set", "fit.pretrained=false", "--epochs", "4000"]
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        [*command, *settings],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as training:
        assert training.stderr is not None
        said = []
        for text in training.stderr:
            said.append(text)
            if text.startswith("head:"):
                training.send_signal(signal.SIGKILL)
                break
    assert training.returncode == -signal.SIGKILL, "".join(said)
    assert listed(capsys) == before
    assert (tmp_path / "weights" / "promotions.jsonl").read_bytes() == log
    assert Registry(tmp_path / "weights").load("plates@promoted").digest == package.digest


def test_the_record_in_the_package_says_what_may_be_measured(
    plates: Manifest, tmp_path: Path
) -> None:
    made = split(plates, seed=5)
    record = split_csv_bytes(plates, made, perceptual_hashes(plates))
    package = write_spot_package(
        tmp_path / "weights", product=plates.product, more={"split.csv": record}
    )
    document = replace(package.document, data_digest=plates.digest)
    package = replace(package, document=document)
    report = None  # of a package with a record, the report is not asked
    for name in ("fit", "calibrate", "test"):
        side = side_to_judge(package, report, plates, name)  # type: ignore[arg-type]
        assert (side.rows == made.side(name)).all()
        assert side.seen == (name != "test")
    tested = tuple(plates.rows[i] for i in made.test.tolist())
    fitted = tuple(plates.rows[i] for i in made.fit.tolist())
    other = replace(plates, name="other", rows=(*tested, *fitted[:7]))
    side = side_to_judge(package, report, other, "all")  # type: ignore[arg-type]
    assert side.excluded_parts == 7
    assert "7 parts left out that the model was made from (7 by image)" in side.note
    assert len(side.rows) == len(tested)
    renamed = tuple(replace(row, part=f"x{row.part}", group="x") for row in fitted)
    with pytest.raises(DataError, match="every part of other"):
        side_to_judge(package, report, replace(plates, name="other", rows=renamed), "all")  # type: ignore[arg-type]
    assert np.array_equal(side.rows, np.sort(side.rows))
