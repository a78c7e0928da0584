from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from inspection.errors import ConfigurationError, InputError
from inspection.stores import migrate
from inspection.stores.migrate import ensure_schema, require_current, schema_status, upgrade
from inspection.stores.places import records_path, records_url
from inspection.stores.schema import REVISION, metadata
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from pathlib import Path


def definitions(path: Path) -> dict[str, str]:
    """Every table and index as SQLite keeps its definition, but Alembic's own."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
    return {n: re.sub(r"\s+", " ", sql or "") for n, sql in rows if "alembic_version" not in n}


def test_fresh_schema_equals_migrated_schema(tmp_path: Path) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    fresh = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    metadata.create_all(fresh)
    fresh.dispose()
    assert definitions(records_path(tmp_path)) == definitions(tmp_path / "fresh.db")
    engine = create_engine(records_url(tmp_path))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_code_was_written_for_the_newest_step(tmp_path: Path) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    status = schema_status(records_url(tmp_path))
    assert (status.state, status.revision, status.wanted) == ("current", REVISION, REVISION)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    before = definitions(records_path(tmp_path))
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    assert definitions(records_path(tmp_path)) == before


def test_steps_are_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    assert capfd.readouterr() == ("", "")


def next_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str) -> None:
    """Make this code the next release, with one more step."""
    scripts = tmp_path / "migrations % of the next"
    shutil.copytree(migrate.SCRIPTS, scripts)
    (scripts / "versions" / "0002_next.py").write_text(
        "from alembic import op\n"
        'revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None\n'
        f"def upgrade():\n    {step}\n"
    )
    monkeypatch.setattr(migrate, "SCRIPTS", scripts)
    monkeypatch.setattr(migrate, "REVISION", "0002")


ADD_COLUMN = 'op.execute("ALTER TABLE reviews ADD COLUMN note TEXT")'


def test_older_records_are_refused_until_they_are_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = records_url(tmp_path)
    with closing(open_records(url)) as store:
        record = store.append(make_draft())
    next_release(monkeypatch, tmp_path, ADD_COLUMN)
    assert schema_status(url).state == "older"
    for refused in (lambda: open_records(url), lambda: require_current(url)):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert "inspection db upgrade" in caught.value.remedy

    done = upgrade(url, tmp_path / "backups")

    assert (done.before.revision, done.after.revision) == ("0001", "0002")
    assert done.backup is not None
    with closing(sqlite3.connect(done.backup)) as copy:
        assert copy.execute("SELECT id FROM inspections").fetchall() == [(record.id,)]
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    with closing(open_records(url)) as store:
        assert store.get(record.id) == record
        store.append(make_draft())
    again = upgrade(url, tmp_path / "backups")
    assert again.backup is None
    assert len(list((tmp_path / "backups").iterdir())) == 1


def test_upgrade_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = records_url(tmp_path)
    with closing(open_records(url)) as store:
        store.append(make_draft())
    before = definitions(records_path(tmp_path))
    next_release(monkeypatch, tmp_path, f"{ADD_COLUMN}; raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        upgrade(url, tmp_path / "backups")
    assert definitions(records_path(tmp_path)) == before
    assert schema_status(url).revision == "0001"


def test_newer_records_are_refused(tmp_path: Path) -> None:
    url = records_url(tmp_path)
    ensure_schema(url, lock_wait_s=1)
    with closing(sqlite3.connect(records_path(tmp_path))) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    assert schema_status(url).state == "newer"
    for refused in (
        lambda: open_records(url),
        lambda: upgrade(url, tmp_path / "backups"),
        lambda: require_current(url),
    ):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert "inspection db upgrade" in caught.value.remedy


def test_strange_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(records_path(tmp_path))) as database:
        database.execute("CREATE TABLE other (x)")
    before = definitions(records_path(tmp_path))
    with pytest.raises(ConfigurationError):
        open_records(records_url(tmp_path))
    assert schema_status(records_url(tmp_path)).state == "foreign"
    assert definitions(records_path(tmp_path)) == before


def test_missing_and_empty_records_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        schema_status(records_url(tmp_path))
    records_path(tmp_path).write_bytes(b"")
    assert schema_status(records_url(tmp_path)).state == "empty"
    with pytest.raises(InputError):
        require_current(records_url(tmp_path))
