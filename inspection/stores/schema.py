"""The tables. `entries` is the record; everything beside it is made from it or is an index.

    entries        one row an entry: its canonical JSON, exactly as hashed, and its leaf
    inspections    what inspections are looked up by, copied out of the body
    findings       the defect classes found in them
    statements     every other entry: reviews, events, holds and the rest, by their ID
    reviews        what reviews are looked up by
    mentions       which parts a statement is about
    part_names     the identities of parts that have more than one
    holds          holds, and what released them
    view_sets      sets of views, and what closed them
    process_values one row a value
    erased_files   image files that were deleted on purpose
    submissions    requests that added a statement, so that the same one again adds nothing
    counts         inspections by hour and what they are counted by (roll-ups)
    tallies        the same by hour, day and month, without lots, dispositions side by side
    tree_heads     the root of the hash tree after every commit
    tree_nodes     roots of complete subtrees of 256, 65,536 ... leaves, for proofs
    checkpoints    signed tree heads, and who has witnessed them
    access_keys    who may call; no part of the tree
    audit          acts on keys and stores, and calls that were refused: a hash chain of its own
    carried_files  contents of files that are not durable by themselves yet (`carrying.py`)
    server_keys    secrets that all servers on these records share; no part of the tree

On PostgreSQL `entries` is partitioned by month (`database.ensure_month`). `migrations/` makes these
same tables step by step; a test holds the two together on both databases.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    DDL,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    event,
    text,
)

from inspection.stores.columns import SEQUENCE, Text, metadata
from inspection.stores.schema_access import access_keys, audit

REVISION: Final = "0004"
"""The migration that this code was written for."""

__all__ = ["access_keys", "audit", "metadata"]
"""What is made elsewhere; the tables below go without saying."""


def _sequence(*, primary: bool = False) -> Column[int]:
    """The leaf's index in the hash tree, plus one: given by the writer, never by the database.

    A database's own counters leave gaps, and order of counting is not order of commit.
    """
    return Column("sequence", SEQUENCE, primary_key=primary, nullable=False, autoincrement=False)


entries: Final = Table(
    "entries",
    metadata,
    _sequence(),
    # The month of the commit, as 202611, never less than that of the entry before.
    Column("month", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("sequence").ddl_if(dialect="sqlite"),
    postgresql_partition_by="LIST (month)",
)
# A partitioned table's key has to hold the column that it is partitioned by.
_ADD_KEY: Final = DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE entries ADD CONSTRAINT pk_entries PRIMARY KEY (sequence, month)"
)
event.listen(entries, "after_create", _ADD_KEY.execute_if(dialect="postgresql"))

inspections: Final = Table(
    "inspections",
    metadata,
    _sequence(primary=True),
    Column("id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("serial", Text),
    Column("station", Text, nullable=False),
    Column("capture_id", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request_sha256", Text, nullable=False),
    Column("lot", Text),
    Column("machine", Text),
    Column("mould", Text),
    Column("disposition", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer),
    Column("received_at", Text, nullable=False),
    Column("view_set", Text),
    Column("view", Text),
    UniqueConstraint("id"),
    UniqueConstraint("trace_id"),
    UniqueConstraint("station", "capture_id"),
    UniqueConstraint("station", "idempotency_key"),
    # One for every filter, each in the order of the answer. They are read backwards for newest
    # first, which costs nothing, so none is declared descending.
    Index(None, "product", "part", "sequence"),
    Index(None, "product", "sequence"),
    Index(None, "serial", "sequence"),
    Index(None, "station", "sequence"),
    Index(None, "lot", "sequence"),
    Index(None, "machine", "sequence"),
    Index(None, "mould", "sequence"),
    Index(None, "disposition", "sequence"),
    Index(None, "received_at", "sequence"),
    Index(
        "ix_inspections_reason_sequence",
        "reason",
        "sequence",
        # Nearly every inspection is a first one: an index would only repeat the table.
        sqlite_where=text("reason <> 'first'"),
        postgresql_where=text("reason <> 'first'"),
    ),
    Index(
        "ix_inspections_view_set",
        "view_set",
        sqlite_where=text("view_set IS NOT NULL"),
        postgresql_where=text("view_set IS NOT NULL"),
    ),
)

findings: Final = Table(
    "findings",
    metadata,
    Column("defect_class", Text, primary_key=True),
    _sequence(primary=True),
    sqlite_with_rowid=False,
)

statements: Final = Table(
    "statements",
    metadata,
    _sequence(primary=True),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("recorded_at", Text, nullable=False),
    UniqueConstraint("id"),
)

reviews: Final = Table(
    "reviews",
    metadata,
    _sequence(primary=True),
    Column("id", Text, nullable=False),
    Column("inspection_id", Text, ForeignKey("inspections.id"), nullable=False),
    Column("disposition", Text, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("reviewed_at", Text, nullable=False),
    UniqueConstraint("id"),
    Index(None, "inspection_id", "sequence"),
)

mentions: Final = Table(
    "mentions",
    metadata,
    Column("product", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    _sequence(primary=True),
    sqlite_with_rowid=False,
)

part_names: Final = Table(
    "part_names",
    metadata,
    Column("product", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    # The identity under which the part is kept; never itself a name with another root.
    Column("root", Text, nullable=False),
    _sequence(),
    Index(None, "product", "root"),
    sqlite_with_rowid=False,
)

holds: Final = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    _sequence(),
    Column("product", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("legal", Integer, nullable=False),
    # The release's sequence; null while the hold stands.
    Column("released", SEQUENCE),
    UniqueConstraint("sequence"),
    Index(None, "product", "scope", "value"),
    # Those that stand: asked for every inspection.
    Index(
        "ix_holds_standing",
        "sequence",
        sqlite_where=text("released IS NULL"),
        postgresql_where=text("released IS NULL"),
    ),
)

view_sets: Final = Table(
    "view_sets",
    metadata,
    Column("id", Text, primary_key=True),
    _sequence(),
    Column("station", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("part", Text, nullable=False),
    # The closing inspection's sequence; null while the set is open.
    Column("closed", SEQUENCE),
    Index(None, "product", "part"),
)

process_values: Final = Table(
    "process_values",
    metadata,
    _sequence(primary=True),
    Column("item", Integer, primary_key=True, autoincrement=False),
    Column("product", Text),
    Column("part", Text),
    Column("machine", Text),
    Column("name", Text, nullable=False),
    Column("value", Float, nullable=False),
    Column("unit", Text, nullable=False),
    # In UTC with milliseconds, whatever zone they came in.
    Column("at", Text, nullable=False),
    Column("until", Text),
    Index(None, "product", "part", "at"),
    Index(None, "machine", "at"),
)

erased_files: Final = Table(
    "erased_files",
    metadata,
    Column("sha256", Text, primary_key=True),
    _sequence(),
    sqlite_with_rowid=False,
)

submissions: Final = Table(
    "submissions",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", Text, nullable=False),
    _sequence(),
    sqlite_with_rowid=False,
)

# Single views of a set are not counted; the inspection that sums them up is.
counts: Final = Table(
    "counts",
    metadata,
    # Hours since 1970 in UTC, from `received_at`.
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("product", Text, primary_key=True),
    Column("station", Text, primary_key=True),
    # "" where there is none: a key holds no null.
    Column("lot", Text, primary_key=True),
    Column("machine", Text, primary_key=True),
    Column("mould", Text, primary_key=True),
    Column("disposition", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    # "" in the rows that count inspections; a class in those that count findings of it.
    Column("defect_class", Text, primary_key=True),
    Column("inspections", Integer, nullable=False),
    # Of these: attempt 1 of their part.
    Column("first", Integer, nullable=False),
    # The smallest and largest sequence counted here: where a time lies in the order of commits.
    Column("lowest", SEQUENCE, nullable=False),
    Column("highest", SEQUENCE, nullable=False),
    Index(None, "lot", "hour"),
    sqlite_with_rowid=False,
)

# `counts` folded (`tallies.py`): tens of rows an hour, hardly more a day, where that has hundreds.
tallies: Final = Table(
    "tallies",
    metadata,
    # "hour", "day" or "month"; each inspection is in one row of each.
    Column("grain", Text, primary_key=True),
    # As in `counts`; first in the key, so that inspections and findings lie apart.
    Column("defect_class", Text, primary_key=True),
    # Hours since 1970 in UTC at which the hour, day or month begins.
    Column("start", Integer, primary_key=True, autoincrement=False),
    Column("product", Text, primary_key=True),
    Column("station", Text, primary_key=True),
    Column("machine", Text, primary_key=True),
    Column("mould", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    # By disposition: `pass` is a word of Python's.
    Column("passed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("review", Integer, nullable=False),
    # Of these: attempt 1 of their part.
    Column("first_passed", Integer, nullable=False),
    Column("first_failed", Integer, nullable=False),
    Column("first_review", Integer, nullable=False),
    Column("lowest", SEQUENCE, nullable=False),
    Column("highest", SEQUENCE, nullable=False),
    sqlite_with_rowid=False,
)

# No time here: nothing in the tree could prove it, and the records hold theirs.
tree_heads: Final = Table(
    "tree_heads",
    metadata,
    Column("size", SEQUENCE, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    # The roots of the complete subtrees, largest first, 32 bytes each.
    Column("peaks", LargeBinary, nullable=False),
)

# Level 1 is the root of 256 leaves, level 2 of 65,536, and so on; `position` counts from 0.
tree_nodes: Final = Table(
    "tree_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", SEQUENCE, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("size", SEQUENCE, primary_key=True, autoincrement=False),
    # A signed note; the witnesses' signatures are lines of it.
    Column("note", Text, nullable=False),
)

# By the sequence of the inspection that they came with; a row lives for seconds.
carried_files: Final = Table(
    "carried_files",
    metadata,
    _sequence(primary=True),
    Column("image", LargeBinary),
    Column("evidence", LargeBinary),
)

# Made with the tables, 32 random bytes each; whoever reads the records can read them.
server_keys: Final = Table(
    "server_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
)
