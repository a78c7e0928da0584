"""The tables beside `entries` hold what the entries say, and can be made from them again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, text, update

from inspection.errors import RecordsDamaged
from inspection.events import Assembly, Erasure, Hold, Naming, PartEvent, ProcessValues, Release
from inspection.proofs.merkle import leaf_hash, tree_root
from inspection.store import Submission
from inspection.stores.database import open_engine
from inspection.stores.derived import DERIVED, rebuild_derived
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir
from inspection.stores.rollups import hour_of
from inspection.stores.rows import CHUNKS, insert_rows
from inspection.stores.schema import (
    checkpoints,
    counts,
    entries,
    metadata,
    submissions,
    tree_heads,
    tree_nodes,
)
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from inspection.verdict import Finding, Reason, Verdict
from tests.contracts.drafts import (
    make_draft,
    make_review,
    make_statement,
    make_value,
    make_verdict,
    make_view_set,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Table

    from inspection.stores.sql import SqlRecordStore


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRecordStore]:
    with closing(open_records(any_url)) as opened:
        yield opened


@pytest.fixture
def writing(any_url: str) -> Iterator[Connection]:
    engine = open_engine(any_url, writing=True)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def fill(store: SqlRecordStore) -> None:
    """Something of every kind, each thing that is undone or named again among them."""
    region = make_verdict().findings[0].region
    twice = tuple(
        Finding(defect_class=name, probability=0.5, region=region)
        for name in ("pore", "crack", "pore")
    )
    verdict = Verdict(
        disposition="review",
        probability={"pore": 0.5},
        novelty=1.0,
        findings=twice,
        reasons=(Reason(code="uncertain", detail="?"),),
    )
    records = [store.append(make_draft(serial=f"s{n % 4}", lot=f"L{n % 2}")) for n in range(12)]
    store.append(make_draft(serial="s0", verdict=verdict, received_at="2026-03-01T00:00:00.000Z"))
    unread = store.append(make_draft(serial=None))
    store.append_review(make_review(records[1].id))
    store.add(
        make_statement(PartEvent, part="s1"), Submission(principal="a", key="b", request_sha256="c")
    )
    store.add(make_statement(Naming, part="s0", serial="t0"))
    store.add(make_statement(Naming, part=unread.part, serial="t0", why="bound"))
    store.add(make_statement(Assembly, part="s1"))
    part = store.add(make_statement(Hold, value="s1", legal=True))
    store.add(make_statement(Hold, scope="lot", value="L1"))
    store.add(make_statement(Release, hold_id=part.id))
    values = (make_value(part="s1"), make_value(machine="m", until="2026-03-01T09:00:00+09:00"))
    store.add(make_statement(ProcessValues, values=values))
    store.add(make_statement(Erasure, files=("ab" * 32, "cd" * 32, "ab" * 32)))
    store.add(make_statement(Erasure))
    for closing_too in (True, False):
        of = store.open_views(make_view_set())
        store.append(make_draft(view_set=of.id, view="side"))
        if closing_too:
            store.close_views(of.id, by=None, received_at="2026-03-01T00:00:00.000Z")


def rows_of(connection: Connection, *tables: Table) -> dict[str, list[Any]]:
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.c))]
        for table in tables
    }


def test_rebuilt_tables_are_what_the_writer_made(
    store: SqlRecordStore, writing: Connection
) -> None:
    fill(store)
    kept = (entries, submissions, tree_heads, checkpoints)
    with writing.begin():
        before = rows_of(writing, *DERIVED, *kept)
    assert [name for name, rows in before.items() if not rows] == ["tree_nodes", "checkpoints"]
    with writing.begin():
        writing.execute(update(counts).values(inspections=7))
        writing.execute(delete(tree_nodes))
        rebuild_derived(writing)
    with writing.begin():
        assert rows_of(writing, *DERIVED, *kept) == before
    # And the writer goes on with them.
    assert store.append(make_draft(serial="t0")).attempt == 6


def test_what_the_writer_made_holds_before_and_after(
    store: SqlRecordStore, writing: Connection, any_url: str, tmp_path: Path
) -> None:
    fill(store)
    images = FileImageStore(images_dir(tmp_path))

    def other_problems() -> list[str]:
        # The drafts' images are only names here.
        report = verify_store(any_url, images)
        return [problem for problem in report.problems if "is missing" not in problem]

    assert other_problems() == []
    with writing.begin():
        writing.execute(update(counts).values(inspections=7))
    assert other_problems() != []
    with writing.begin():
        rebuild_derived(writing)
    assert other_problems() == []


def test_every_table_of_records_is_derived_or_known_not_to_be() -> None:
    others = {"entries", "submissions", "tree_heads", "checkpoints", "access_keys", "server_keys"}
    others |= {"audit", "carried_files"}
    assert {table.name for table in DERIVED} | others == set(metadata.tables)


def test_nodes_are_written_when_their_leaves_are_complete(
    store: SqlRecordStore, writing: Connection
) -> None:
    answers = [store._writer.submit(make_draft(serial=f"s{n}")) for n in range(600)]
    for answer in answers:
        answer.result()
    with writing.begin():
        bodies = writing.execute(select(entries.c.body).order_by(entries.c.sequence)).scalars()
        leaves = [leaf_hash(body) for body in bodies]
        nodes = rows_of(writing, tree_nodes)["tree_nodes"]
    assert nodes == [(1, 0, tree_root(leaves[:256])), (1, 1, tree_root(leaves[256:512]))]


def test_rebuilding_from_damaged_entries_is_refused(
    store: SqlRecordStore, writing: Connection
) -> None:
    fill(store)
    with writing.begin():
        before = rows_of(writing, *DERIVED)
    for damage in (
        "UPDATE entries SET body = body || body WHERE sequence = 3",
        "DELETE FROM entries WHERE sequence = 3",
        "UPDATE entries SET kind = 'review' WHERE sequence = 3",
        "UPDATE entries SET kind = 'nonsense' WHERE sequence = 3",
    ):
        transaction = writing.begin()
        writing.execute(text(damage))
        with pytest.raises(RecordsDamaged):
            rebuild_derived(writing)
        transaction.rollback()
    with writing.begin():
        assert rows_of(writing, *DERIVED) == before


@pytest.mark.parametrize("count", [0, 1, CHUNKS[-2], CHUNKS[0], CHUNKS[0] + CHUNKS[1] + 3])
def test_any_number_of_rows_is_inserted(
    store: SqlRecordStore, writing: Connection, count: int
) -> None:
    rows = [(f"p{n:04}", "k", "r%?", n + 1) for n in range(count)]
    with writing.begin():
        insert_rows(writing, submissions, rows)
        assert rows_of(writing, submissions)["submissions"] == rows


@pytest.mark.parametrize(
    ("received_at", "hour"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-03-01T00:59:59.999+01:00", 492311),
        ("2026-03-01T00:00:00Z", 492312),
    ],
)
def test_hours_are_of_utc(received_at: str, hour: int) -> None:
    assert hour_of(received_at) == hour


@pytest.mark.parametrize("received_at", ["", "yesterday", "2026-03-01T00:00:00"])
def test_time_without_a_zone_has_no_hour(received_at: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        hour_of(received_at)
