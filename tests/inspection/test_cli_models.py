"""`inspection models`, as a QA engineer types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    write_spot_package(tmp_path)
    write_spot_package(tmp_path, certified=False)
    return tmp_path


def run(weights: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["models", "--weights-dir", str(weights), *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_promote_list_history_rollback(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(weights, capsys, "promote", "spot@1")[0] == 0
    status, out, _ = run(weights, capsys, "promote", "spot@2", "--accept-risk", "trial run")
    assert (status, "promoted spot@2" in out) == (0, True)
    rows = json.loads(run(weights, capsys, "list", "--format", "json")[1])
    assert [(row["model"], row["state"], row["certified"]) for row in rows] == [
        ("spot@1", "candidate", True),
        ("spot@2", "promoted", False),
    ]
    assert "rolled back to spot@1" in run(weights, capsys, "rollback", "KN-42")[1]
    lines = json.loads(run(weights, capsys, "history", "--format", "json")[1])
    assert [line["action"] for line in lines] == ["promote", "promote", "rollback"]
    assert lines[1]["accepted_risk"] == "trial run"


def test_an_uncertified_model_stays_out_with_exit_status_1(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(weights, capsys, "promote", "spot@2")
    assert (status, out) == (1, "")
    assert "error: spot@2 is not certified" in err
    assert "300 bad parts" in err
    assert "--accept-risk" in err


def test_show_says_everything(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(run(weights, capsys, "show", "spot@1", "--format", "json")[1])
    assert shown["reference"] == "spot@1"
    assert len(shown["files"]) == 4
    table = run(weights, capsys, "show", "spot@1")[1]
    assert "escape rate at most 0.9% at 95% confidence" in " ".join(table.split())
    assert shown["digest"][:40] in table.replace("\n", "")


def test_a_damaged_package_is_listed_as_damaged_and_not_promoted(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights / "spot" / "1" / "model.onnx").write_bytes(b"x")
    rows = json.loads(run(weights, capsys, "list", "--format", "json")[1])
    assert rows[0]["state"].startswith("damaged:")
    status, _, err = run(weights, capsys, "promote", "spot@1")
    assert status == 4
    assert "model.onnx" in err


@pytest.mark.parametrize("reference", ["spot@9", "nothing@1", "spot"])
def test_an_unknown_model_is_an_input_error(
    weights: Path, capsys: pytest.CaptureFixture[str], reference: str
) -> None:
    status, _, err = run(weights, capsys, "show", reference)
    assert status == 3
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_an_empty_folder_says_how_to_make_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(tmp_path, capsys, "list")
    assert (status, out) == (0, "")
    assert "inspection train" in err
