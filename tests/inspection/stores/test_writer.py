"""The writer's own promises, on both databases: groups, months, who is told."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from inspection.errors import InspectionError, NotFound, RecordError, StateConflict
from inspection.events import Hold, Naming, PartEvent, Release
from inspection.stores import writer as module
from inspection.stores.database import open_engine
from inspection.stores.schema import entries, tree_heads
from inspection.stores.sql import open_records
from inspection.stores.transaction import Addition, Closing, Decision, Opening, Probe
from inspection.stores.writer import Answer, GroupWriter
from tests.contracts.drafts import make_draft, make_review, make_statement, make_view_set

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@pytest.fixture
def reading(any_url: str) -> Iterator[Connection]:
    engine = open_engine(any_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def write_together(url: str, works: list[Any]) -> list[Any]:
    """What each gets when all are in one group, in this order."""
    engine = open_engine(url, writing=True)
    with engine.begin() as lock:  # the writer's first group waits for this
        writer = GroupWriter(open_engine(url, writing=True))
        first = writer.submit(Probe())
        answers = [writer.submit(work) for work in works]
        lock.rollback()
    first.result()
    writer.close()
    engine.dispose()
    return [answer.exception() or answer.result() for answer in answers]


def test_group_of_all_kinds_sees_what_came_before_in_it(any_url: str, reading: Connection) -> None:
    hold, opened = make_statement(Hold, value="s"), make_view_set(serial="s")
    view = make_draft(serial="s", view_set=opened.id, view="front", disposition="pass")
    answers = write_together(
        any_url,
        [
            make_draft(serial="s"),
            Addition(statement=make_statement(Naming, part="s", serial="t")),
            make_draft(serial="t"),
            Addition(statement=hold),
            Addition(statement=make_statement(Release, hold_id=hold.id)),
            Addition(statement=make_statement(Release, hold_id=hold.id)),
            Opening(draft=opened),
            view,
            view,
            Closing(view_set_id=opened.id, by=None, received_at="2026-03-01T00:00:00.000Z"),
            Closing(view_set_id="nothing", by=None, received_at="2026-03-01T00:00:00.000Z"),
            make_draft(serial="s", view_set=opened.id, view="side"),
            Decision(review=make_review("nothing")),
            Probe(),
            make_draft(serial="t"),
        ],
    )
    assert [answers[n].attempt for n in (0, 2, 9, 14)] == [1, 2, 3, 4]
    assert answers[7] == answers[8]
    refused = {n: type(a) for n, a in enumerate(answers) if isinstance(a, InspectionError)}
    assert refused == {5: StateConflict, 10: NotFound, 11: StateConflict, 12: NotFound}
    assert reading.execute(select(tree_heads.c.size)).scalars().all() == [9]
    sequences = reading.execute(select(entries.c.sequence).order_by(entries.c.sequence)).scalars()
    assert list(sequences) == list(range(1, 10))


def test_group_of_refusals_alone_writes_nothing(any_url: str, reading: Connection) -> None:
    works: list[Any] = [Decision(review=make_review("nothing")) for _ in range(3)]
    assert all(isinstance(answer, NotFound) for answer in write_together(any_url, works))
    assert reading.execute(select(tree_heads)).all() == []


def test_months_of_commits_never_fall(
    any_url: str, reading: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_records(any_url)) as store:
        for month in (202512, 202601, 202511, 202601, 202703):
            monkeypatch.setattr(module, "_this_month", lambda month=month: month)
            store.append(make_draft(serial="s"))
            store.check()
            with pytest.raises(NotFound):
                store.add(make_statement(Release))
    with closing(open_records(any_url)) as store:
        monkeypatch.setattr(module, "_this_month", lambda: 202602)
        assert store.append(make_draft(serial="s")).attempt == 6
    months = reading.execute(select(entries.c.month).order_by(entries.c.sequence)).scalars()
    assert list(months) == [202512, 202601, 202601, 202601, 202703, 202703]


def test_a_month_that_begins_with_nothing_written_does_no_harm(
    any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_records(any_url)) as store:
        store.append(make_draft(serial="s"))
        monkeypatch.setattr(module, "_this_month", lambda: 209901)
        for _ in range(2):
            with pytest.raises(NotFound):
                store.add(make_statement(Release))
        assert store.append(make_draft(serial="s")).attempt == 2


def test_listeners_are_told_after_every_commit_that_added_something(any_url: str) -> None:
    told: list[int] = []
    writer = GroupWriter(open_engine(any_url, writing=True), committed=told.append)
    for work in (make_draft(), Probe(), Addition(statement=make_statement(PartEvent))):
        writer.submit(work).result()
    with pytest.raises(NotFound):
        writer.submit(Decision(review=make_review("nothing"))).result()
    writer.close()
    assert told == [1, 2]


def test_closed_writer_finishes_what_it_accepted_and_takes_no_more(any_url: str) -> None:
    writer = GroupWriter(open_engine(any_url, writing=True))
    answers = [writer.submit(make_draft(serial="s")) for _ in range(30)]
    writer.close()
    records = [answer.result(timeout=0) for answer in answers]
    assert [getattr(record, "attempt", None) for record in records] == list(range(1, 31))
    with pytest.raises(RecordError, match="closed"):
        writer.submit(make_draft())


def test_answer_may_be_asked_for_again_and_waited_for_in_vain() -> None:
    answer = Answer()
    with pytest.raises(TimeoutError):
        answer.result(timeout=0.001)
    answer.give(NotFound("nothing"))
    for _ in range(2):
        with pytest.raises(NotFound):
            answer.result()
    assert isinstance(answer.exception(), NotFound)
