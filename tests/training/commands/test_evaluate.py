"""`inspection evaluate`: figures, a table and an exit status out of a package and a set."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from inspection.cli import main
from tests.labelled_sets import GROUP_PATTERN, PRODUCT, write_folders

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a model made from it."""
    root = tmp_path_factory.mktemp("line")
    write_folders(root / "line", lots=10, per_lot=10)
    imported = ["data", "import", str(root / "line"), "--name", "plates", "--product", PRODUCT]
    datasets = ["--datasets-dir", str(root / "datasets")]
    assert main([*imported, "--group-from", GROUP_PATTERN, *datasets]) == 0
    made = ["train", "plates", "--size", "64", "--epochs", "12", "--escape-rate", "0.2", *datasets]
    assert main([*made, "--weights-dir", str(root / "weights")]) == 0
    return root


def evaluate(line: Path, *args: str) -> int:
    folders = ["--datasets-dir", str(line / "datasets"), "--weights-dir", str(line / "weights")]
    return main(["evaluate", "plates@1", "plates", *folders, *args])


def test_test_parts_are_measured_and_the_bound_is_said(line: Path, capsys: Captured) -> None:
    assert evaluate(line) == 0
    out = capsys.readouterr().out
    assert "not seen in training" in out
    assert "escape rate at most" in out
    assert "overkill rate at most" in out


def test_every_part_has_a_row(line: Path, tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "out" / "parts.csv"
    assert evaluate(line, "--csv", str(table), "--format", "json") == 0
    summary = json.loads(capsys.readouterr().out)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["parts"]
    assert sum(row["bad"] == "1" for row in rows) == summary["bad_parts"]
    assert summary["class_figures"]["scratch"]["auc"]["parts"] == len(rows)
    assert {"sha256", "lot", "mould", "station", "view"} <= set(rows[0])


def test_a_bound_that_is_not_shown_is_exit_status_1(line: Path, capsys: Captured) -> None:
    assert evaluate(line, "--max-escape-rate", "0.001") == 1
    out, err = capsys.readouterr()
    assert "escape rate" in out  # the figures are printed all the same
    assert "an escape rate of 0.001 is not shown" in err
    assert "more bad parts needed" in err
    assert evaluate(line, "--max-escape-rate", "0.999") == 0
    for seen in ("fit", "all"):  # no gate opens on what the model was made from
        capsys.readouterr()
        assert evaluate(line, "--part", seen, "--max-escape-rate", "0.999") == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "seen in training" in err


def test_a_limit_that_is_no_share_is_refused(line: Path, capsys: Captured) -> None:
    for wrong in ("0", "1", "nan", "-0.1"):
        assert evaluate(line, "--max-escape-rate", wrong) == 2
