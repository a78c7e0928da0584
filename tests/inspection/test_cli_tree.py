"""`checkpoint`, `verify --witness`, `export-proof`, `verify-proof` as people use them."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from inspection.commands.checkpoint import checkpoint
from inspection.commands.proof import export_proof, verify_proof
from inspection.commands.verify import verify
from inspection.errors import InputError, NotFound
from inspection.proofs.notes import Note, SigningKey, VerifierKey
from inspection.stores.checkpoints import key_path
from tests.inspection.stores.every_kind import build

if TYPE_CHECKING:
    from pathlib import Path

    import click
    from click.testing import Result


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    folder.mkdir()
    return build(folder)


def run(command: click.Command, *words: object, data_dir: Path | None = None) -> Result:
    env = None if data_dir is None else {"INSPECTION_DATA_DIR": str(data_dir)}
    result = CliRunner().invoke(command, [str(word) for word in words], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_from_the_key_to_a_part_that_is_proven_elsewhere(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(checkpoint, "init", "plant.example/line-1", data_dir=data_dir)
    key = made.stdout.strip()
    assert VerifierKey.parse(key).name == "plant.example/line-1"
    assert "had better lie where" in made.stderr
    assert run(checkpoint, "key", data_dir=data_dir).stdout.strip() == key

    file = tmp_path / "usb.txt"
    signed = run(checkpoint, "--witness", file, data_dir=data_dir)
    assert signed.exit_code == 0
    assert run(checkpoint, "show", data_dir=data_dir).stdout == signed.stdout
    assert Note.parse(signed.stdout).text.startswith("plant.example/line-1\n17\n")

    words = ("--witness", file, "--key", key)
    checked = run(verify, *words, data_dir=data_dir)
    assert checked.exit_code == 0
    assert "first 17 of 17 records are those that were" in " ".join(checked.stdout.split())
    assert "cannot prove" not in checked.stdout

    part = tmp_path / "part.zip"
    assert run(export_proof, "S9", part, data_dir=data_dir).exit_code == 0
    with pytest.raises(InputError, match="exists"):
        run(export_proof, "S9", part, data_dir=data_dir)

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    for path in sorted(data_dir.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    proven = run(verify_proof, part, "--key", key)
    assert proven.exit_code == 0
    assert "Proven:" in proven.stdout
    assert "Not proven:" in proven.stdout
    answer = json.loads(run(verify_proof, part, "--key", key, "--format", "json").stdout)
    assert answer["ok"]
    assert answer["proven"]
    stranger = SigningKey.generate("plant.example/line-1").verifier
    wrong = run(verify_proof, part, "--key", stranger)
    assert (wrong.exit_code, "WRONG" in wrong.stdout, "Proven:" in wrong.stdout) == (1, True, False)
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    assert run(verify_proof, part).exit_code == 1


def test_checkpoint_makes_its_key_when_there_is_none_and_says_what_it_lacks(
    data_dir: Path,
) -> None:
    result = run(checkpoint, "--format", "json", data_dir=data_dir)
    assert result.exit_code == 0
    assert key_path(data_dir).stat().st_mode & 0o777 == 0o600
    assert json.loads(result.stdout)["size"] == 17
    assert "No witness has it" in result.stderr
    assert "PRIVATE" not in result.output


def test_key_may_lie_elsewhere(data_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "key"
    assert run(checkpoint, "--key-file", elsewhere, data_dir=data_dir).exit_code == 0
    assert elsewhere.exists()
    assert not key_path(data_dir).exists()


def test_witness_that_fails_is_told_and_exits_with_1(data_dir: Path, tmp_path: Path) -> None:
    away = tmp_path / "not mounted" / "usb.txt"
    result = run(checkpoint, "--witness", away, data_dir=data_dir)
    assert result.exit_code == 1
    assert "not mounted" in result.stderr
    assert "→" in result.stderr


def test_export_makes_a_checkpoint_when_none_reaches_the_part(
    data_dir: Path, tmp_path: Path
) -> None:
    result = run(export_proof, "S2", tmp_path / "part.zip", data_dir=data_dir)
    assert result.exit_code == 0
    assert "Made a checkpoint over 17 records" in result.stderr
    assert run(verify_proof, tmp_path / "part.zip").exit_code == 0


def test_there_must_be_something_to_prove(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        run(export_proof, "S7", tmp_path / "part.zip", data_dir=data_dir)
    with pytest.raises(NotFound, match="no checkpoint"):
        run(checkpoint, "show", data_dir=data_dir)
    with pytest.raises(InputError):
        run(checkpoint, "key", data_dir=data_dir)
    with pytest.raises(InputError):
        run(verify_proof, tmp_path / "nothing.zip")
    with pytest.raises(InputError):
        run(verify, "--witness", tmp_path / "nothing.txt", data_dir=data_dir)
    assert not (tmp_path / "part.zip").exists()
