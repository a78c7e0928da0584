"""PostgreSQL keeps the promises of every record store; several servers may share one database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from inspection.store import RecordStore
from inspection.stores.database import open_engine
from inspection.stores.sql import SqlRecordStore, open_records
from tests.contracts.drafts import make_draft
from tests.contracts.record_store import RecordStoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlRecordStore]:
    opened = open_records(postgres_url)
    yield opened
    opened.close()


class TestPostgresql(RecordStoreContract):
    """PostgreSQL keeps the promises of every record store."""


def test_it_is_a_record_store(store: SqlRecordStore) -> None:
    promised: RecordStore = store
    assert promised is store


def test_servers_on_one_database_give_one_order(postgres_url: str) -> None:
    with ExitStack() as opened, ThreadPoolExecutor(8) as pool:
        stores = [opened.enter_context(closing(open_records(postgres_url))) for _ in range(4)]
        drafts = [make_draft(serial="s") for _ in range(80)]
        appended = [
            pool.submit(stores[number % 4].append, draft) for number, draft in enumerate(drafts)
        ]
        records = [future.result() for future in appended]
        changes = stores[0].changes(0, limit=1000)
    assert [change.sequence for change in changes] == list(range(1, 81))
    assert {change.entry.id for change in changes} == {record.id for record in records}
    assert sorted(record.attempt or 0 for record in records) == list(range(1, 81))
    traced = [record.trace_id for record in sorted(records, key=lambda each: each.attempt or 0)]
    assert traced == sorted(traced)


def test_a_connection_that_broke_while_idle_costs_nobody_anything(
    store: SqlRecordStore, postgres_url: str
) -> None:
    first = store.append(make_draft(serial="s"))
    engine = open_engine(postgres_url)
    with engine.connect() as other:
        ended = other.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        ).all()
    engine.dispose()
    assert ended
    second = store.append(make_draft(serial="s"))
    assert [first.attempt, second.attempt] == [1, 2]
