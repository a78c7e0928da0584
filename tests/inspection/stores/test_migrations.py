from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from inspection.errors import ConfigurationError, InputError, RecordsDamaged
from inspection.store import Filter
from inspection.stores import migrate, steps
from inspection.stores.audit import AuditLog
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.keys import AccessKeys
from inspection.stores.migrate import ensure_schema, require_current, schema_status, upgrade
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.portable import examine_records
from inspection.stores.schema import REVISION, metadata
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from tests.contracts.drafts import make_draft
from tests.contracts.previous_release import images_of_0001, records_of_0001

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_server import PostgresServer

NEXT = "9000"


def definitions(path: Path) -> dict[str, str]:
    """Every table and index as SQLite keeps its definition, but Alembic's own."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
    return {n: re.sub(r"\s+", " ", sql or "") for n, sql in rows if "alembic_version" not in n}


COLUMNS = """\
SELECT c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity, pg_get_expr(d.adbin, d.adrelid), l.collname, pg_get_partkeydef(c.oid)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum"""
CONSTRAINTS = """\
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


def definitions_of(url: str) -> list[str]:
    """Every column, constraint and index as PostgreSQL keeps it, but Alembic's own."""
    engine = open_engine(url, read_only=True)
    with engine.begin() as connection:
        found = [
            str(tuple(row))
            for query in (COLUMNS, CONSTRAINTS, INDEXES)
            for row in connection.execute(text(query))
        ]
    engine.dispose()
    return [line for line in found if "alembic_version" not in line]


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


def test_fresh_schema_equals_migrated_schema_on_postgresql(postgres: PostgresServer) -> None:
    fresh = postgres.empty()
    engine = open_engine(fresh, writing=True)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    made = definitions_of(fresh)
    assert len(made) > 200
    assert definitions_of(postgres.fresh()) == made


def test_upgraded_schema_equals_fresh_schema(tmp_path: Path) -> None:
    records_of_0001(records_path(tmp_path))
    upgrade(records_url(tmp_path), tmp_path / "backups")
    fresh = tmp_path / "fresh.db"
    ensure_schema(f"sqlite:///{fresh}", lock_wait_s=1)
    assert definitions(records_path(tmp_path)) == definitions(fresh)


def test_records_of_the_release_before_are_upgraded_and_hold(tmp_path: Path) -> None:
    url = records_url(tmp_path)
    images = FileImageStore(images_dir(tmp_path))
    for data in images_of_0001():
        images.put(data)
    ids = records_of_0001(records_path(tmp_path))

    done = upgrade(url, tmp_path / "backups")

    assert (done.before.revision, done.after.state) == ("0001", "current")
    report = verify_store(url, images)
    assert (report.problems, report.records, report.images) == ((), 6, 5)
    with closing(sqlite3.connect(records_path(tmp_path))) as database:
        months = database.execute("SELECT month FROM entries ORDER BY sequence").fetchall()
        assert database.execute("SELECT count(*) FROM access_keys").fetchone() == (1,)
    assert [month for (month,) in months] == [202602, 202603, 202603, 202603, 202604, 202604]
    with closing(open_records(url)) as store:
        assert store.get(ids[0]).views == ()
        assert [review.id for review in store.reviews(ids[0])] == [ids[5]]
        assert len(store.part_history("knuckle", "0000000001")) == 5
        assert sum(row.inspections for row in store.counts(Filter())) == 5
        assert store.append(make_draft(serial="0000000001")).attempt == 5


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_keys_of_the_release_before_open_as_they_did(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = records_url(tmp_path)
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").empty()
    secret = "s" * 32
    engine = open_engine(url, writing=True)
    with engine.begin() as connection:
        steps.take_steps(connection, "0002")
        connection.execute(
            text(
                "INSERT INTO access_keys VALUES "
                "('abcdefgh', 'line-1', 'station', :digest, '2026-02-01T00:00:00.000Z', NULL)"
            ),
            {"digest": hashlib.sha256(secret.encode()).digest()},
        )
    engine.dispose()

    upgrade(url, tmp_path / "backups")

    with closing(AccessKeys(url)) as keys:
        key = keys.authenticate(f"ik_abcdefgh_{secret}")
        assert key is not None
        assert (key.name, key.stations, key.expires_at, key.at_once) == ("line-1", (), None, None)
        keys.create("line-2", "station", stations=("xray-2",), rate_per_s=5.0)
        assert [each.name for each in keys.list()] == ["line-1", "line-2"]
    with closing(AuditLog(url)) as log:
        assert [event.act for event in log.read()] == ["key-created"]


def test_damaged_records_are_not_upgraded(tmp_path: Path) -> None:
    records_of_0001(records_path(tmp_path))
    with closing(sqlite3.connect(records_path(tmp_path))) as database, database:
        database.execute("UPDATE entries SET leaf_hash = zeroblob(32) WHERE sequence = 2")
    before = definitions(records_path(tmp_path))
    with pytest.raises(RecordsDamaged):
        upgrade(records_url(tmp_path), tmp_path / "backups")
    assert definitions(records_path(tmp_path)) == before
    assert schema_status(records_url(tmp_path)).revision == "0001"


def test_the_code_was_written_for_the_newest_step(any_url: str) -> None:
    status = schema_status(any_url)
    assert (status.state, status.revision, status.wanted) == ("current", REVISION, REVISION)


def test_opening_again_changes_nothing(tmp_path: Path, postgres_url: str) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    before = definitions(records_path(tmp_path)), definitions_of(postgres_url)
    for url in (records_url(tmp_path), postgres_url):
        ensure_schema(url, lock_wait_s=1)
    assert (definitions(records_path(tmp_path)), definitions_of(postgres_url)) == before


def test_steps_are_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_schema(records_url(tmp_path), lock_wait_s=1)
    assert capfd.readouterr() == ("", "")


def next_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str) -> None:
    """Make this code the next release, with one more step."""
    scripts = tmp_path / "migrations % of the next"
    shutil.copytree(steps.SCRIPTS, scripts)
    (scripts / "versions" / "9000_next.py").write_text(
        "from alembic import op\n"
        f'revision, down_revision, branch_labels, depends_on = "{NEXT}", "{REVISION}", None, None\n'
        f"def upgrade():\n    {step}\n"
    )
    monkeypatch.setattr(steps, "SCRIPTS", scripts)
    monkeypatch.setattr(migrate, "REVISION", NEXT)


ADD_COLUMN = 'op.execute("ALTER TABLE access_keys ADD COLUMN note TEXT")'


def test_older_records_are_refused_until_they_are_upgraded(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_records(any_url)) as store:
        record = store.append(make_draft())
    next_release(monkeypatch, tmp_path, ADD_COLUMN)
    assert schema_status(any_url).state == "older"
    for refused in (lambda: open_records(any_url), lambda: require_current(any_url)):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert "inspection db upgrade" in caught.value.remedy

    done = upgrade(any_url, tmp_path / "backups")

    assert (done.before.revision, done.after.revision) == (REVISION, NEXT)
    assert done.backup is not None
    assert examine_records(done.backup).size == 1
    assert done.backup.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(done.backup)) as copy:
        assert copy.execute("SELECT id FROM inspections").fetchall() == [(record.id,)]
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISION,)
    with closing(open_records(any_url)) as store:
        assert store.get(record.id) == record
        store.append(make_draft())
    again = upgrade(any_url, tmp_path / "backups")
    assert again.backup is None
    assert len(list((tmp_path / "backups").iterdir())) == 1


def test_upgrade_that_fails_changes_nothing(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_records(any_url)) as store:
        store.append(make_draft())
    next_release(monkeypatch, tmp_path, f"{ADD_COLUMN}; raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        upgrade(any_url, tmp_path / "backups")
    assert schema_status(any_url).revision == REVISION
    engine = open_engine(any_url, read_only=True)
    with engine.begin() as connection:
        columns = connection.execute(text("SELECT * FROM access_keys")).keys()
    engine.dispose()
    assert "note" not in columns


def test_newer_records_are_refused(any_url: str, tmp_path: Path) -> None:
    engine = open_engine(any_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert schema_status(any_url).state == "newer"
    for refused in (
        lambda: open_records(any_url),
        lambda: upgrade(any_url, tmp_path / "backups"),
        lambda: require_current(any_url),
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


def test_strange_database_on_a_server_is_refused_and_left_alone(postgres: PostgresServer) -> None:
    url = postgres.empty()
    postgres.run("CREATE TABLE other (x int)", url.partition("?")[0].rpartition("/")[2])
    before = definitions_of(url)
    with pytest.raises(ConfigurationError):
        open_records(url)
    assert schema_status(url).state == "foreign"
    assert definitions_of(url) == before


def test_missing_and_empty_records_are_an_input_error(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with pytest.raises(InputError):
        schema_status(records_url(tmp_path))
    records_path(tmp_path).write_bytes(b"")
    for url in (records_url(tmp_path), postgres.empty()):
        assert schema_status(url).state == "empty"
        with pytest.raises(InputError):
            require_current(url)
