"""The order of commits: what was committed after a place, and where it ends.

    writer: sequences given inside the transaction, one writer at a time -> commit
    reader: after + 1, after + 2, ... as far as there are any -> changes

One transaction is over before the next may give a sequence, so whoever has seen `n` has everything
up to `n`, and "after n" misses nothing, whichever process wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from inspection.errors import RecordsDamaged, RequestError
from inspection.store import Change
from inspection.stores.reading import STORED, in_months, note_months, parse_row
from inspection.stores.schema import entries, tree_heads

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_CHANGES: Final = 1000

LOOK_EVERY_S: Final = 0.5
"""How often the commits of other processes are looked for while somebody waits."""


def changes(connection: Connection, after: int, limit: int) -> list[Change]:
    """Entries whose sequence is above `after`, in order, at most `limit`.

    Raises:
        RequestError: `limit` or `after` makes no sense.
        RecordsDamaged: one is missing between them, or does not agree with its leaf.
    """
    if not 1 <= limit <= MAX_CHANGES:
        raise RequestError(f"`limit` lies between 1 and {MAX_CHANGES}")
    if not 0 <= after < 2**62:
        raise RequestError("`after` is the sequence of an entry, or 0")
    # Sequences have no gaps: the range is known before it is read.
    rows = connection.execute(
        select(*STORED)
        .where(
            entries.c.sequence > after,
            entries.c.sequence <= after + limit,
            *in_months(connection, after + 1, after + limit),
        )
        .order_by(entries.c.sequence)
    ).all()
    note_months(connection, rows)
    for place, row in enumerate(rows, start=after + 1):
        if row.sequence != place:
            raise RecordsDamaged(f"record {place} is missing: the next one is {row.sequence}")
    return [Change(sequence=row.sequence, kind=row.kind, entry=parse_row(row)) for row in rows]


def newest(connection: Connection) -> int:
    """The sequence of the last committed entry; 0 when there is none."""
    found: int | None = connection.execute(select(func.max(tree_heads.c.size))).scalar()
    return found or 0
