"""`inspection models`, as a QA engineer types it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from inspection.package import write_package
from inspection.registry import Registry
from tests.spot_model import AGREEING, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from inspection.cli import main
sys.exit(main(sys.argv[1:]))
"""


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
    run(weights, capsys, "promote", "spot@1", "--by", "J. Kim")
    shown = json.loads(run(weights, capsys, "show", "spot@1", "--format", "json")[1])
    assert (shown["reference"], shown["state"]) == ("spot@1", "promoted")
    assert len(shown["files"]) == 4
    assert shown["decisions"][0]["by"] == "J. Kim"
    table = run(weights, capsys, "show", "spot@1")[1]
    words = " ".join(table.split())
    certificate = Registry(weights).load("spot@1").document.operating_point.certificate
    assert certificate.in_words() in words
    assert "every verdict is the same, on 660 test parts (330 bad)" in words
    assert "J. Kim" in words
    assert shown["digest"] in words
    assert max(len(line) for line in table.splitlines()) <= 80


def test_show_leaves_out_the_thousands_of_digests_of_a_former_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write_spot_package(tmp_path)
    files: dict[str, bytes | Path] = {
        "model.onnx": package.read("model.onnx"),
        "model.safetensors": package.read("model.safetensors"),
        "report.json": json.dumps({"format": 1, "seen": ["0" * 64] * 3000}).encode(),
    }
    write_package(tmp_path, replace(package.document, version=2), package.recipe, files)
    out = run(tmp_path, capsys, "show", "spot@2", "--format", "json")[1]
    assert json.loads(out)["report"] == {"format": 1, "seen_images": 3000}
    assert len(out) < 10_000


def test_tables_fit_a_terminal_of_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "steering-knuckle-left-front"
    for certified in (True, False):
        write_spot_package(tmp_path, model=name, product="KN-42-L-REV-C", certified=certified)
    write_spot_package(tmp_path, agreement=None)
    reason = "so that the trial on line 2 can begin before the certificate is there"
    assert run(tmp_path, capsys, "promote", f"{name}@2", "--accept-risk", reason)[0] == 0
    assert run(tmp_path, capsys, "retire", f"{name}@1", "--reason", "worn-out lens")[0] == 0
    for words in (["list"], ["history"], ["show", f"{name}@2"], ["show", "spot@1"]):
        out = run(tmp_path, capsys, *words)[1]
        assert max(len(line) for line in out.splitlines()) <= 80, words
    listed = run(tmp_path, capsys, "list")[1]
    assert all(state in listed for state in ("promoted", "retired", "candidate"))
    assert "worn-out lens" in " ".join(run(tmp_path, capsys, "history")[1].split())


def test_retire_says_what_it_leaves_and_rollback_heals_it(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(weights, capsys, "promote", "spot@1")
    run(weights, capsys, "promote", "spot@2", "--accept-risk", "trial")
    asked = ["retire", "spot@2", "--reason", "misses cracks", "--by", "J. Kim"]
    status, out, err = run(weights, capsys, *asked)
    assert (status, "retired spot@2" in out, "by J. Kim" in out) == (0, True, True)
    assert "KN-42 has no model in force now" in err
    status, out, err = run(weights, capsys, "promote", "spot@2")
    assert (status, out) == (1, "")
    assert "misses cracks" in err
    assert "rolled back to spot@1" in run(weights, capsys, "rollback", "KN-42")[1]
    status, _, err = run(weights, capsys, "retire", "spot@1")
    assert status == 2  # without a reason
    assert "--reason" in err


def test_promote_reports_the_certificate_the_engines_and_every_flip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = AGREEING.pairs[0]
    changes = replace(pair.changes, flips={"pass -> review": 2})
    flipped = replace(AGREEING, pairs=(replace(pair, changes=changes),))
    write_spot_package(tmp_path, agreement=flipped)
    status, out, err = run(tmp_path, capsys, "promote", "spot@1")
    assert (status, "promoted spot@1" in out) == (0, True)
    assert "certificate: escape rate at most" in err
    assert "OpenVINO CPU f32 -> ONNX Runtime CPU f32: 2 of 660 verdicts differ" in err
    assert "2 pass -> review" in err


def test_the_folder_may_be_named_after_the_command(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["list"], ["show", "spot@1"], ["history"], ["promote", "spot@1"]):
        assert main(["models", *words, "--weights-dir", str(weights)]) == 0, words
    assert "spot@1" in capsys.readouterr().out


def test_mistyped_names_are_answered_with_the_nearest(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(weights, capsys, "promote", "sopt@1")
    assert status == 3
    assert "Did you mean spot@1?" in err
    status, _, err = run(weights, capsys, "promte", "spot@1")
    assert status == 2
    assert "Did you mean promote?" in err


def test_compare_is_listed_without_its_extra_and_names_what_installs_it(weights: Path) -> None:
    def without_torch(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_TORCH, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    listed = without_torch("models", "--help")
    assert listed.returncode == 0
    assert "(needs the extra 'train')" in " ".join(listed.stdout.split())
    done = without_torch("models", "compare", "spot@1", "spot@2")
    assert (done.returncode, done.stdout) == (4, "")
    error, remedy = done.stderr.splitlines()
    assert error.startswith("error: 'models compare' needs the extra 'train'")
    assert "[train]" in remedy
    assert without_torch("models", "--weights-dir", str(weights), "list").returncode == 0


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
