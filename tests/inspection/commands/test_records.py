"""What the operator relies on: `inspection verify`, `inspection keys`, `inspection db`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from inspection import cli
from inspection.commands.database import db
from inspection.commands.records import keys
from inspection.commands.verify import verify
from inspection.errors import ConfigurationError, InputError, NotFound, RequestError
from inspection.stores.files import FileImageStore
from inspection.stores.keys import AccessKeys
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.schema import REVISION
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft
from tests.contracts.previous_release import records_of_0001

if TYPE_CHECKING:
    from pathlib import Path

    import click
    from click.testing import Result


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    images = FileImageStore(images_dir(tmp_path))
    with closing(open_records(records_url(tmp_path))) as store:
        for number in range(3):
            draft = make_draft(image_sha256=images.put(f"image {number}".encode()))
            store.append(replace(draft, evidence=None))
    return tmp_path


def run(command: click.Command, *words: object, data_dir: Path) -> Result:
    result = CliRunner().invoke(
        command, [str(word) for word in words], env={"INSPECTION_DATA_DIR": str(data_dir)}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# --- verify ------------------------------------------------------------------------------------


def test_verify_says_what_it_checked_what_that_proves_and_what_it_cannot(data_dir: Path) -> None:
    result = run(verify, data_dir=data_dir)
    assert result.exit_code == 0
    for words in ("3  records", "3  tree heads", "3  images", "What this proves", "cannot prove"):
        assert words in result.output


def test_verify_prints_a_head_that_a_later_check_takes(data_dir: Path) -> None:
    last = run(verify, data_dir=data_dir).stdout.strip().splitlines()[-1]
    option, head = last.split()[-2:]
    assert option == "--expect"
    with closing(open_records(records_url(data_dir))) as store:
        store.append(
            replace(
                make_draft(image_sha256=FileImageStore(images_dir(data_dir)).put(b"more")),
                evidence=None,
            )
        )
    assert run(verify, "--expect", head, data_dir=data_dir).exit_code == 0
    other = run(verify, "--expect", head, "--expect", f"2:{'0' * 64}", data_dir=data_dir)
    assert other.exit_code == 1
    assert "not the history that was noted" in other.stdout


def test_verify_of_a_damaged_store_says_so_and_exits_with_1(data_dir: Path) -> None:
    with closing(sqlite3.connect(records_path(data_dir))) as database:
        database.execute("UPDATE inspections SET disposition = 'pass' WHERE sequence = 2")
        database.commit()
    result = run(verify, data_dir=data_dir)
    assert result.exit_code == 1
    assert "record 2" in result.stdout
    assert "Everything holds" not in result.stdout


@pytest.mark.parametrize("damaged", [False, True])
def test_verify_in_json_is_for_programs(data_dir: Path, damaged: bool) -> None:
    if damaged:
        for path in images_dir(data_dir).glob("??/*"):
            path.unlink()
    result = run(verify, "--format", "json", data_dir=data_dir)
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["records"]) == (not damaged, 3)
    assert len(answer["problems"]) == (3 if damaged else 0)
    assert answer["head"].startswith("3:")
    assert result.exit_code == int(damaged)


def test_verify_refuses_what_is_no_head(data_dir: Path) -> None:
    with pytest.raises(InputError, match="tree head"):
        run(verify, "--expect", "3", data_dir=data_dir)


# --- keys --------------------------------------------------------------------------------------


def test_key_is_shown_once_alone_on_stdout_and_opens(data_dir: Path) -> None:
    result = run(keys, "create", "line-1", "--scope", "station", data_dir=data_dir)
    assert result.exit_code == 0
    text = result.stdout.strip()
    with closing(AccessKeys(records_url(data_dir))) as store:
        key = store.authenticate(text)
    assert key is not None
    assert (key.name, key.scope) == ("line-1", "station")
    shown = run(keys, "list", data_dir=data_dir).stdout
    assert key.id in shown
    assert "line-1" in shown
    assert text.rsplit("_", 1)[1] not in shown


def test_revoked_key_opens_nothing_and_stays_in_the_list(data_dir: Path) -> None:
    created = run(keys, "create", "mes", "--scope", "mes", "--format", "json", data_dir=data_dir)
    key = json.loads(created.stdout)
    assert run(keys, "revoke", key["id"], data_dir=data_dir).exit_code == 0
    with closing(AccessKeys(records_url(data_dir))) as store:
        assert store.authenticate(key["key"]) is None
    (listed,) = json.loads(run(keys, "list", "--format", "json", data_dir=data_dir).stdout)
    assert listed["id"] == key["id"]
    assert listed["revoked_at"] is not None
    with pytest.raises(NotFound):
        run(keys, "revoke", "nobody", data_dir=data_dir)


def test_key_can_be_made_before_the_first_start(tmp_path: Path) -> None:
    assert run(keys, "create", "a", "--scope", "qa", data_dir=tmp_path).exit_code == 0
    with pytest.raises(RequestError):
        run(keys, "create", "a", "--scope", "qa", data_dir=tmp_path)
    open_records(records_url(tmp_path)).close()


@pytest.mark.parametrize("words", [["create", "a"], ["create", "a", "--scope", "root"]])
def test_key_needs_a_scope_that_there_is(data_dir: Path, words: list[str]) -> None:
    assert run(keys, *words, data_dir=data_dir).exit_code == 2


def test_no_keys_are_said_to_be_none(data_dir: Path) -> None:
    result = run(keys, "list", data_dir=data_dir)
    assert result.stdout == ""
    assert "no keys" in result.stderr


# --- db ----------------------------------------------------------------------------------------


def test_current_records_need_nothing(data_dir: Path) -> None:
    result = run(db, "status", data_dir=data_dir)
    assert (result.exit_code, "current" in result.stdout) == (0, True)
    assert "Nothing to do" in run(db, "upgrade", data_dir=data_dir).stdout


def test_older_records_are_upgraded_after_a_copy(tmp_path: Path) -> None:
    records_of_0001(records_path(tmp_path))
    status = run(db, "status", "--format", "json", data_dir=tmp_path)
    assert status.exit_code == 2
    assert json.loads(status.stdout) == {"state": "older", "revision": "0001", "wanted": REVISION}
    result = run(db, "upgrade", data_dir=tmp_path)
    assert result.exit_code == 0
    (copy,) = (tmp_path / "backups").iterdir()
    assert str(copy) in result.stdout
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM entries").fetchone() == (6,)
    assert run(db, "status", data_dir=tmp_path).exit_code == 0


@pytest.mark.parametrize("revision", ["9999", None])
def test_records_that_no_upgrade_helps_exit_with_1(data_dir: Path, revision: str | None) -> None:
    with closing(sqlite3.connect(records_path(data_dir))) as database:
        if revision is None:
            database.execute("DROP TABLE alembic_version")
        else:
            database.execute("UPDATE alembic_version SET version_num = ?", [revision])
        database.commit()
    assert run(db, "status", data_dir=data_dir).exit_code == 1
    with pytest.raises(ConfigurationError):
        run(db, "upgrade", data_dir=data_dir)


def test_file_that_is_no_database_exits_with_1(tmp_path: Path) -> None:
    records_path(tmp_path).write_bytes(b"something else" * 1000)
    result = run(db, "status", data_dir=tmp_path)
    assert result.exit_code == 1
    assert "not a database" in result.stderr


# --- all of them -------------------------------------------------------------------------------

EVERY = [
    ["verify"],
    ["keys", "list"],
    ["keys", "revoke", "x"],
    ["db", "status"],
    ["db", "upgrade"],
]


@pytest.mark.parametrize("words", [*EVERY, ["keys", "create", "a", "--scope", "mes"]], ids=" ".join)
def test_missing_data_folder_is_one_line_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main([*words, "--data-dir", str(tmp_path / "nowhere")]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    message, remedy = captured.err.splitlines()
    assert "nowhere" in message
    assert "--data-dir" in remedy
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_folder_without_records_is_told_and_left_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main([*words, "--data-dir", str(tmp_path)]) == 3
    assert "no records" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
