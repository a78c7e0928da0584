"""How each database begins its transactions, and what its errors say to whoever can act on them."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import insert, make_url, select, text

from inspection.errors import ConfigurationError, RecordError
from inspection.stores import postgresql
from inspection.stores.database import (
    check_room,
    ensure_month,
    integrity_problems,
    open_engine,
    shown,
    translated,
    try_commit,
)
from inspection.stores.migrate import ensure_schema
from inspection.stores.schema import access_keys, entries
from inspection.stores.sql import open_records
from tests.postgres_server import GUARDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tests.postgres_server import PostgresServer

SECRET = "0pen-sesame"


@contextmanager
def transaction(url: str, *, writing: bool = False, wait_s: float = 5) -> Iterator[Connection]:
    engine = open_engine(url, writing=writing, lock_wait_s=wait_s)
    try:
        with translated("nothing came of it"), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def database_of(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name


def add_key(connection: Connection, name: str) -> None:
    row = {"name": name, "scope": "qa", "secret_sha256": bytes(32), "created_at": "now"}
    connection.execute(insert(access_keys), {"id": name, **row})


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(access_keys.c.name).order_by("name")).scalars())


# --- transactions --------------------------------------------------------------------------------


def test_a_writing_transaction_is_alone_and_sees_all_that_came_before(any_url: str) -> None:
    seen: list[list[str]] = []

    def second() -> None:
        with transaction(any_url, writing=True) as connection:
            seen.append(names(connection))
            add_key(connection, "b")

    with transaction(any_url, writing=True) as connection:
        add_key(connection, "a")
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.2)
        assert seen == []
    other.join()
    assert seen == [["a"]]


def test_a_writer_that_cannot_begin_gives_up_in_time_and_says_what_to_do(any_url: str) -> None:
    with transaction(any_url, writing=True):
        begun = time.monotonic()
        with (
            pytest.raises(RecordError) as caught,
            transaction(any_url, writing=True, wait_s=0.3),
        ):
            pytest.fail("two writers at once")
    assert 0.2 < time.monotonic() - begun < 3
    assert "Another process holds the records" in caught.value.remedy


def test_a_reading_transaction_sees_one_state_and_keeps_nobody_waiting(any_url: str) -> None:
    with transaction(any_url) as reading:
        assert names(reading) == []
        with transaction(any_url, writing=True) as writing:
            add_key(writing, "a")
        assert names(reading) == []
    with transaction(any_url) as reading:
        assert names(reading) == ["a"]


def test_a_reading_transaction_cannot_write_on_a_server(postgres_url: str) -> None:
    with pytest.raises(RecordError) as caught, transaction(postgres_url) as connection:
        add_key(connection, "a")
    assert "name the primary" in caught.value.remedy


def test_a_commit_waits_for_the_disk_whatever_the_server_says(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    name = database_of(url)
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with transaction(url, writing=True) as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_text_is_ordered_by_its_bytes_everywhere(any_url: str) -> None:
    with transaction(any_url, writing=True) as connection:
        for name in ("b", "A", "a", "ä", "B", "-", "0", "한"):
            add_key(connection, name)
    with transaction(any_url) as connection:
        assert names(connection) == sorted(["b", "A", "a", "ä", "B", "-", "0", "한"])


def test_a_store_that_was_refused_a_commit_can_find_out_whether_it_may_again(any_url: str) -> None:
    with transaction(any_url, writing=True) as connection:
        try_commit(connection)
    with transaction(any_url) as connection:
        assert integrity_problems(connection) == []
    check_room(any_url)


def test_an_index_that_is_gone_or_not_valid_is_found(postgres_url: str) -> None:
    with transaction(postgres_url, writing=True) as connection:
        connection.exec_driver_sql("DROP INDEX ix_inspections_lot_sequence")
        connection.exec_driver_sql(
            "ALTER TABLE inspections DROP CONSTRAINT uq_inspections_trace_id"
        )
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false "
            "WHERE indexrelid = 'ix_inspections_mould_sequence'::regclass"
        )
    with transaction(postgres_url) as connection:
        found = integrity_problems(connection)
    assert [problem.split()[2] for problem in found] == [
        "ix_inspections_lot_sequence",
        "ix_inspections_mould_sequence",
        "uq_inspections_trace_id",
    ]


# --- months --------------------------------------------------------------------------------------


def entry(sequence: int, month: int) -> dict[str, object]:
    text = {"kind": "event", "id": f"e{sequence}", "body": b"{}", "leaf_hash": bytes(32)}
    return {"sequence": sequence, "month": month, **text}


def test_a_month_gets_its_partition_when_it_begins_and_no_reader_waits(postgres_url: str) -> None:
    with transaction(postgres_url) as reading:
        # A long read, such as a backup's, has locked the table.
        assert reading.execute(select(entries)).all() == []
        with transaction(postgres_url, writing=True, wait_s=0.5) as writing:
            for sequence, month in ((1, 202612), (2, 202612), (3, 202701)):
                ensure_month(writing, month)
                writing.execute(insert(entries), entry(sequence, month))
    with transaction(postgres_url) as connection:
        query = "SELECT tableoid::regclass::text FROM entries ORDER BY sequence"
        places = connection.execute(text(query)).scalars().all()
        plan = connection.execute(text("EXPLAIN SELECT * FROM entries WHERE month >= 202701"))
        assert places == ["entries_202612", "entries_202612", "entries_202701"]
        assert "entries_202612" not in "\n".join(plan.scalars())


def test_two_entries_of_one_number_cannot_be(postgres_url: str) -> None:
    with transaction(postgres_url, writing=True) as connection:
        ensure_month(connection, 202612)
        connection.execute(insert(entries), entry(1, 202612))
    with (
        pytest.raises(RecordError, match="duplicate key"),
        transaction(postgres_url, writing=True) as connection,
    ):
        connection.execute(insert(entries), entry(1, 202612))


@pytest.mark.parametrize("month", [0, 202600, 202613, 10**9, -202601])
def test_what_is_no_month_makes_no_partition(postgres_url: str, month: int) -> None:
    with pytest.raises(RecordError), transaction(postgres_url, writing=True) as connection:
        ensure_month(connection, month)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h/d",
        f"postgresql+asyncpg://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h",
        f"postgresql://u:{SECRET}@h:port/d",
        f"//u:{SECRET}@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a?mode=ro",
        "",
    ],
)
def test_what_is_no_address_of_records_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_engine(url)
    assert SECRET not in f"{caught.value} {caught.value.remedy} {caught.value.__cause__!r}"


def test_addresses_are_shown_without_password_and_options() -> None:
    url = f"postgresql://u:{SECRET}@h:5433/d?sslpassword={SECRET}"
    assert shown(url) == "postgresql://u@h:5433/d"
    assert SECRET not in repr(open_engine(url))
    assert shown("sqlite:////data/records.db") == "/data/records.db"


# --- errors --------------------------------------------------------------------------------------


def refusal(url: str) -> RecordError:
    with pytest.raises(RecordError) as caught:
        open_records(url, lock_wait_s=1)
    error = caught.value
    assert SECRET not in f"{error} {error.remedy} {error.__cause__}"
    return error


def test_a_server_that_is_not_there() -> None:
    error = refusal(f"postgresql://u:{SECRET}@127.0.0.1:1/records")
    assert "refused" in str(error)
    assert "whether the database server runs" in error.remedy


def test_a_host_that_has_no_address() -> None:
    error = refusal(f"postgresql://u:{SECRET}@records.invalid/records")
    assert "whether the database server runs" in error.remedy


def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    error = refusal(postgres.url("nowhere"))
    assert 'database "nowhere" does not exist' in str(error)
    assert "createdb" in error.remedy


def test_a_wrong_password(postgres: PostgresServer) -> None:
    postgres.run(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'the right one'")
    try:
        url = make_url(postgres.url("postgres")).set(username=GUARDED, password=SECRET)
        error = refusal(url.render_as_string(hide_password=False))
    finally:
        postgres.run(f"DROP ROLE {GUARDED}")
    assert "password" in error.remedy


def test_a_user_without_rights(postgres: PostgresServer) -> None:
    postgres.run("CREATE ROLE stranger LOGIN")
    url = make_url(postgres.fresh()).set(username="stranger")
    error = refusal(url.render_as_string(hide_password=False))
    assert "owner" in error.remedy


def test_a_server_that_forgets_records_in_a_power_cut_is_refused(postgres: PostgresServer) -> None:
    url = postgres.empty()
    try:
        postgres.run("ALTER SYSTEM SET fsync = off")
        postgres.run("SELECT pg_reload_conf()")
        time.sleep(0.3)
        with pytest.raises(ConfigurationError) as caught:
            ensure_schema(url, lock_wait_s=1)
    finally:
        postgres.run("ALTER SYSTEM RESET fsync")
        postgres.run("SELECT pg_reload_conf()")
        time.sleep(0.3)
    assert "fsync=on" in caught.value.remedy


def test_a_database_that_cannot_hold_every_character_is_refused(postgres: PostgresServer) -> None:
    url = postgres.empty(encoding="'SQL_ASCII'", template="template0")
    with pytest.raises(ConfigurationError) as caught:
        ensure_schema(url, lock_wait_s=1)
    assert "UTF8" in caught.value.remedy


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "Make room"),
        ("53300", "max_connections"),
        ("55P03", "Another process"),
        ("40P01", "again"),
        ("57P01", "server runs"),
        ("08006", "server runs"),
        ("42P01", "inspection db status"),
    ],
)
def test_every_state_that_somebody_can_act_on_says_how(
    postgres_url: str, state: str, words: str
) -> None:
    with pytest.raises(RecordError) as caught, transaction(postgres_url) as connection:
        connection.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'it is so' USING ERRCODE = '{state}'; END $$")
        )
    assert "nothing came of it: it is so" in str(caught.value)
    assert words in caught.value.remedy


def test_a_connection_that_broke_is_replaced_for_the_next_reader(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    name = database_of(url)
    with closing(open_records(url)) as store:
        assert store.newest() == 0
        postgres.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        assert store.newest() == 0


def test_locks_of_other_purposes_are_not_the_writers(postgres_url: str) -> None:
    with transaction(postgres_url) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock_shared({postgresql.WRITERS_LOCK + 1})")
        with transaction(postgres_url, writing=True, wait_s=0.5):
            pass


def test_a_disk_so_full_that_nobody_can_connect_says_so() -> None:
    failed = psycopg.OperationalError(
        "connection failed: FATAL:  could not write init file: No space left on device"
    )
    kind, said, remedy = postgresql.explained(failed)
    assert kind is RecordError
    assert "No space left" in said
    assert remedy is not None
    assert "Make room" in remedy
