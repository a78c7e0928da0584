"""The questions that records answer, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event

from inspection.errors import RecordsDamaged
from inspection.store import Filter
from inspection.stores import writer
from inspection.stores.database import open_engine
from inspection.stores.places import records_url
from inspection.stores.sql import SqlRecordStore, open_records
from tests.contracts.asked import fill, make_event
from tests.contracts.asking import AskingContract
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.record import InspectionRecord

Filled = tuple[SqlRecordStore, "list[InspectionRecord]"]


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRecordStore]:
    with closing(open_records(any_url)) as opened:
        yield opened


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """A store that is only read, and what was put into it."""
    if request.param == "sqlite":
        url = records_url(tmp_path_factory.mktemp("asked"))
    else:
        url = request.getfixturevalue("postgres").fresh()
    with closing(open_records(url)) as opened:
        yield opened, fill(opened)


class TestAsking(AskingContract):
    """Both databases answer alike."""


@contextmanager
def statements_sent() -> Iterator[list[tuple[str, Any]]]:
    """What goes to any database meanwhile, and its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_many_parts_cost_as_many_queries_as_one(store: SqlRecordStore) -> None:
    store.append(make_draft(serial="s7"))
    store.add(make_event("s8"))
    store.changes(0)  # the months are known
    numbers = []
    for count in (1, 500):
        with statements_sent() as sent:
            found = store.histories("knuckle", [f"s{n}" for n in range(7, 7 + count)])
        assert len(found) == count
        numbers.append(len(sent))
    assert numbers[0] == numbers[1] <= 6


def test_commits_of_another_process_are_noticed(any_url: str) -> None:
    with closing(open_records(any_url)) as reader, closing(open_records(any_url)) as other:
        reader.append(make_draft())
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(reader.wait_beyond(1, 20)))
        waiting.start()
        time.sleep(0.1)
        other.append(make_draft())
        waiting.join(timeout=10)
        assert answers == [2]


def test_a_body_that_was_changed_is_never_answered_with(any_url: str) -> None:
    with closing(open_records(any_url)) as store:
        record = store.append(make_draft())
        engine = open_engine(any_url, writing=True)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE entries SET body = leaf_hash")
        engine.dispose()
        for ask in (
            lambda: store.get(record.id),
            lambda: store.by_trace_id(record.trace_id),
            lambda: store.find(Filter()),
            lambda: store.part_history(record.product, record.part),
            lambda: store.changes(0),
        ):
            with pytest.raises(RecordsDamaged):
                ask()


def test_a_change_that_is_missing_is_noticed(any_url: str) -> None:
    with closing(open_records(any_url)) as store:
        for _ in range(3):
            store.append(make_draft())
        engine = open_engine(any_url, writing=True)
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM entries WHERE sequence = 2")
        engine.dispose()
        with pytest.raises(RecordsDamaged, match="record 2 is missing"):
            store.changes(0)
        with pytest.raises(RecordsDamaged, match="no body"):
            store.find(Filter())


def test_only_the_months_that_are_asked_for_are_read(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_records(postgres_url)) as store:
        months = (202601, 202601, 202602, 202602, 202604, 202605)
        for month in months:
            monkeypatch.setattr(writer, "_this_month", lambda month=month: month)
            store.append(make_draft())
            assert len(store.changes(0)) == store.newest(), "a month that is new is read at once"
        with statements_sent() as sent:
            assert [each.sequence for each in store.changes(2, limit=2)] == [3, 4]
            assert len(store.find(Filter(limit=1)).records) == 1
        bodies = [each for each in sent if "FROM entries" in each[0]]
        with store.reading("the plans cannot be read") as connection:
            plans = [
                "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {each}", values))
                for each, values in bodies
            ]
        for plan, month in zip(plans, (202602, 202605), strict=True):
            assert [name for name in sorted(set(months)) if f"entries_{name}" in plan] == [month]


def test_a_page_walks_the_index_of_its_filter_on_postgresql(postgres_url: str) -> None:
    # A mould that was taken off long ago: in the order of all sequences it would come very late.
    with closing(open_records(postgres_url)) as store:
        old = [store.append(make_draft(serial=f"s{n}", mould="M1")) for n in range(3)]
        engine = open_engine(postgres_url, writing=True)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO inspections SELECT i.sequence + n, i.id || n, i.trace_id || n, "
                "i.product, i.part, i.serial, i.station, i.capture_id || n, "
                "i.idempotency_key || n, i.request_sha256, i.lot, i.machine, "
                "CASE WHEN n > 4000 THEN 'M2' ELSE 'M1' END, "
                "i.disposition, i.reason, i.attempt, i.received_at, i.view_set, i.view "
                "FROM inspections i, generate_series(10, 8000) n WHERE i.sequence = 3"
            )
            connection.exec_driver_sql("ANALYZE inspections")
        engine.dispose()
        assert list(store.find(Filter(mould="M1", before_sequence=4)).records) == old[::-1]
        with statements_sent() as sent, pytest.raises(RecordsDamaged):  # the copies have no bodies
            store.find(Filter(mould="M1"))
        (walk,) = [each for each in sent if "ORDER BY" in each[0] and "inspections" in each[0]]
        with store.reading("the plan cannot be read") as connection:
            plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {walk[0]}", walk[1])]
        assert "ix_inspections_mould_sequence" in "\n".join(plan), plan
        assert not [line for line in plan if "Sort" in line or "pk_inspections" in line]
