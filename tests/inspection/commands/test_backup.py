"""What the operator relies on: `inspection backup`, `restore`, `fsck`, and records on a server."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from inspection.commands.backup import backup, fsck, restore
from inspection.commands.database import db
from inspection.commands.records import keys
from inspection.errors import InputError, RecordError, RecordsDamaged
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_path
from inspection.stores.sql import open_records
from tests.contracts.plants import Plant

SECRET = "0pen-sesame"


@pytest.fixture
def plant(any_url: str, tmp_path: Path) -> Plant:
    made = Plant(data_dir=tmp_path, url=any_url)
    made.live()
    return made


def run(command: click.Command, *words: object, plant: Plant) -> Result:
    place = {"INSPECTION_DATA_DIR": str(plant.data_dir), "INSPECTION_DATABASE_URL": plant.url}
    result = CliRunner().invoke(command, [str(word) for word in words], env=place)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_backup_says_what_it_holds_and_restore_what_it_checked(
    plant: Plant, tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "backup", Plant.on_sqlite(tmp_path / "fresh")
    made = run(backup, folder, plant=plant)
    for words in ("10  records", "12  images", "Tree head 10:", "New in this folder: 12"):
        assert words in made.stdout
    assert run(restore, folder, "--check", plant=plant).exit_code == 0
    put_back = run(restore, folder, plant=fresh)
    assert (put_back.exit_code, "holds" in put_back.stdout) == (0, True)
    with closing(open_records(fresh.url)) as store:
        assert store.newest() == 10
    with pytest.raises(InputError):
        run(restore, folder, plant=fresh)


def test_backup_without_a_folder_goes_beside_the_records_and_says_so(plant: Plant) -> None:
    made = run(backup, plant=plant)
    assert (plant.data_dir / "backups" / "whole" / "manifest.json").is_file()
    assert "same disk" in made.stdout


def test_json_is_for_programs(plant: Plant, tmp_path: Path) -> None:
    folder, fresh = tmp_path / "backup", Plant.on_sqlite(tmp_path / "fresh")
    made = json.loads(run(backup, folder, "--format", "json", plant=plant).stdout)
    assert (made["ok"], made["brought"], made["manifest"]["tree_size"]) == (True, 12, 10)
    checked = json.loads(run(restore, folder, "--check", "--format", "json", plant=plant).stdout)
    assert checked["ok"]
    done = json.loads(run(restore, folder, "--format", "json", plant=fresh).stdout)
    assert (done["ok"], done["records"]) == (True, str(records_path(fresh.data_dir)))
    found = json.loads(run(fsck, "--format", "json", plant=plant).stdout)
    assert (found["ok"], found["report"]["records"], found["extra"]) == (True, 10, [])


def test_a_store_that_lacks_a_file_exits_with_1_everywhere(plant: Plant, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    next(plant.images.root.glob("??/*")).unlink()
    for command, words in ((backup, [folder]), (fsck, []), (fsck, ["--repair"])):
        result = run(command, *words, plant=plant)
        assert result.exit_code == 1
        assert "lacks file" in result.stdout or "is missing" in result.stdout
    done = run(restore, folder, plant=Plant.on_sqlite(tmp_path / "fresh"))
    assert (done.exit_code, "not whole" in done.stdout) == (1, True)


def test_a_damaged_backup_is_said_to_be_one(plant: Plant, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    run(backup, folder, plant=plant)
    next(folder.glob("images/??/*")).unlink()
    checked = run(restore, folder, "--check", plant=plant)
    assert (checked.exit_code, "does not hold" in checked.stdout) == (1, True)
    fresh = Plant.on_sqlite(tmp_path / "fresh")
    with pytest.raises(RecordsDamaged):
        run(restore, folder, plant=fresh)
    assert not records_path(fresh.data_dir).exists()


def test_fsck_lists_what_is_extra_and_repairs_what_it_can(plant: Plant) -> None:
    digest = plant.images.put(b"sent, but never recorded")
    found = run(fsck, plant=plant)
    assert (found.exit_code, str(plant.images.path(digest)) in found.stdout) == (0, True)
    assert "1  whole files that no record names" in found.stdout


def test_keys_and_tables_are_those_of_the_database(plant: Plant) -> None:
    text = run(keys, "create", "line-1", "--scope", "station", plant=plant).stdout.strip()
    with closing(AccessKeys(plant.url)) as opened:
        assert opened.authenticate(text) is not None
    assert "line-1" in run(keys, "list", plant=plant).stdout
    status = run(db, "status", plant=plant)
    assert (status.exit_code, "current" in status.stdout) == (0, True)
    assert "Nothing to do" in run(db, "upgrade", plant=plant).stdout


@pytest.mark.parametrize("words", [["list"], ["create", "a", "--scope", "qa"]])
def test_a_password_is_never_shown(tmp_path: Path, words: list[str]) -> None:
    away = Plant(data_dir=tmp_path, url=f"postgresql://u:{SECRET}@127.0.0.1:1/records")
    with pytest.raises(RecordError) as caught:
        run(keys, *words, plant=away)
    assert SECRET not in f"{caught.value} {caught.value.remedy}"
    status = run(db, "status", plant=away)
    assert status.exit_code == 1
    assert SECRET not in status.output
