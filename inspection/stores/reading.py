"""Entries by their sequences: read, proven, parsed.

    sequences -> months they can lie in -> rows of `entries` -> body against leaf -> entry

What is read back is proven first: a body whose leaf does not agree with it is never returned. On
PostgreSQL `entries` has one partition a month; naming the months keeps the others out of it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from sqlalchemy import select, text

from inspection.entries import Entry, EntryKind, parse_entry
from inspection.errors import InspectionError, RecordsDamaged
from inspection.proofs.merkle import leaf_hash
from inspection.stores.schema import entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Engine, Row

STORED: Final = (
    entries.c.sequence,
    entries.c.month,
    entries.c.kind,
    entries.c.body,
    entries.c.leaf_hash,
)

CHUNK: Final = 5000
"""Sequences in one query: databases bound the number of parameters."""

Months = tuple[tuple[int, int], ...]
"""The first sequence of each month and the month, rising."""

# A month's first sequence never changes; a month that is not known yet only widens what is read.
_MONTHS: WeakKeyDictionary[Engine, Months] = WeakKeyDictionary()

_FIRST_OF_MONTHS: Final = text(
    "WITH RECURSIVE known(first, month) AS ("
    "(SELECT sequence, month FROM entries ORDER BY sequence LIMIT 1) UNION ALL "
    "SELECT later.sequence, later.month FROM known, LATERAL (SELECT sequence, month FROM entries "
    "WHERE month > known.month ORDER BY sequence LIMIT 1) later) SELECT first, month FROM known"
)


def parse_row(row: Row[*tuple[Any, ...]]) -> Entry:
    """The record in a row of `entries`.

    Raises:
        RecordsDamaged: the body does not belong to its leaf, or is no record.
    """
    body = row.body
    if not isinstance(body, bytes) or leaf_hash(body) != row.leaf_hash:
        raise RecordsDamaged(f"record {row.sequence} does not agree with its leaf in the hash tree")
    kind: EntryKind = row.kind
    try:
        return parse_entry(kind, body)
    except (ValidationError, ValueError, InspectionError) as error:
        raise RecordsDamaged(f"record {row.sequence} is not {kind}: {error}") from error


def entries_at(connection: Connection, sequences: Iterable[int]) -> list[Entry]:
    """The entries of these sequences, in the order that was asked for.

    Raises:
        RecordsDamaged: one of them is missing, or does not agree with its leaf.
    """
    wanted = list(sequences)
    found: dict[int, Entry] = {}
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        rows = connection.execute(
            select(*STORED).where(
                entries.c.sequence.in_(chunk), *in_months(connection, min(chunk), max(chunk))
            )
        ).all()
        note_months(connection, rows)
        found |= {row.sequence: parse_row(row) for row in rows}
    missing = [sequence for sequence in wanted if sequence not in found]
    if missing:
        raise RecordsDamaged(f"record {missing[0]} has an index row but no body")
    return [found[sequence] for sequence in wanted]


def in_months(connection: Connection, low: int, high: int) -> list[ColumnElement[bool]]:
    """Conditions that leave only the partitions of these sequences; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    months = _MONTHS.get(connection.engine)
    if months is None:
        months = tuple((row.first, row.month) for row in connection.execute(_FIRST_OF_MONTHS))
        if not months:
            return []
        _MONTHS[connection.engine] = months
    firsts = [first for first, _ in months]
    first, last = bisect_right(firsts, low) - 1, bisect_right(firsts, high) - 1
    conditions = [entries.c.month >= months[max(first, 0)][1]]
    if last < len(months) - 1:  # what comes after the last known month is open
        conditions.append(entries.c.month <= months[last][1])
    return conditions


def note_months(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
    """Forget the known months when there is a later one."""
    months = _MONTHS.get(connection.engine)
    if months is not None and any(row.month > months[-1][1] for row in rows):
        _MONTHS.pop(connection.engine, None)
