"""What the writer has to know before it adds: the records' end, requests, parts, entries by ID.

All of it is asked inside the writing transaction, so it stays true until that commits. Questions
about a whole group are one statement each: SQLite gets the pairs that are wanted as JSON,
PostgreSQL as arrays, and both look each one up in an index (`CROSS JOIN` keeps SQLite to that).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import orjson
from sqlalchemy import func, select

from inspection.errors import (
    CaptureConflict,
    KeyReused,
    RecordsDamaged,
)
from inspection.names import TraceIds
from inspection.stores.reading import entries_at
from inspection.stores.rollups import GrowingTree
from inspection.stores.rows import ask
from inspection.stores.schema import inspections, statements, view_sets

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from inspection.events import ViewSet
    from inspection.record import InspectionRecord
    from inspection.stores.rows import Row

Pair = tuple[str, str]


# --- where the records end -----------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Tip:
    """Where the records end.

    Attributes:
        tree: over all entries.
        month: of the last commit, as 202611; 0 when there is none.
        trace_ids: the maker of trace IDs, which knows the newest.
    """

    tree: GrowingTree
    month: int
    trace_ids: TraceIds


def read_tip(connection: Connection, before: Tip | None = None) -> Tip:
    """The end of the records as of the last commit, whoever made it.

    Args:
        connection: of the writing transaction.
        before: the end as this process left it; what is unchanged is not asked again.

    Raises:
        RecordsDamaged: the last tree head does not hold, or entries are missing or were added
            past it.
    """
    last = ask(connection, "SELECT size, root, peaks FROM tree_heads ORDER BY size DESC LIMIT 1")
    size, root, peaks = last[0] if last else (0, None, b"")
    # With a known month PostgreSQL looks at the partitions from there on, not at all of them.
    ends = ask(
        connection,
        "SELECT sequence, month FROM entries WHERE month >= ? ORDER BY sequence DESC LIMIT 1",
        (0 if before is None else before.month,),
    )
    newest, month = ends[0] if ends else (0, 0)
    if newest != size:
        raise RecordsDamaged(f"the hash tree holds {size} records, the table goes to {newest}")
    tree = frontier(size, bytes(peaks), root)
    if before is not None and before.tree.root() == tree.root():
        return Tip(tree=tree, month=month, trace_ids=before.trace_ids)
    return Tip(tree=tree, month=month, trace_ids=TraceIds(newest_trace_id(connection)))


def frontier(size: int, peaks: bytes, root: bytes | None) -> GrowingTree:
    """The tree of a row of `tree_heads`; the empty one when there is no root.

    Raises:
        RecordsDamaged: the row does not agree with itself.
    """
    try:
        tree = GrowingTree(size, [peaks[i : i + 32] for i in range(0, len(peaks), 32)])
    except ValueError:
        raise RecordsDamaged(f"the peaks of the hash tree do not fit its size {size}") from None
    if root is not None and tree.root() != root:
        raise RecordsDamaged(f"the root of the hash tree at size {size} does not hold")
    return tree


def newest_trace_id(connection: Connection) -> str | None:
    """The newest trace ID that was given, to an inspection or to a set of views; None at first."""
    given = [
        connection.execute(
            select(inspections.c.trace_id).order_by(inspections.c.sequence.desc()).limit(1)
        ).scalar()
    ]
    opened = connection.execute(select(func.max(view_sets.c.sequence))).scalar()
    if opened is not None:
        given.append(cast("ViewSet", entries_at(connection, [opened])[0]).trace_id)
    return max((each for each in given if each is not None), default=None)


# --- the same request again ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A request that has its record: at `sequence`, or in `record` when it is of this group."""

    request_sha256: str
    sequence: int
    record: InspectionRecord | None = None


@dataclass(slots=True, kw_only=True)
class KnownRequests:
    """Requests of stations that have a record, by (station, key) and by (station, capture)."""

    by_key: dict[Pair, Known] = field(default_factory=dict)
    by_capture: dict[Pair, Known] = field(default_factory=dict)

    def find(
        self, station: str, idempotency_key: str, capture_id: str, request_sha256: str
    ) -> Known | None:
        """Which record answers this request; None when it is a new one.

        Raises:
            KeyReused: its key stands for another request.
            CaptureConflict: its capture stands for another request.
        """
        known = self.by_key.get((station, idempotency_key))
        if known is not None:
            if known.request_sha256 != request_sha256:
                raise KeyReused(
                    f"Idempotency-Key {idempotency_key!r} was already used for another request"
                )
            return known
        known = self.by_capture.get((station, capture_id))
        if known is not None and known.request_sha256 != request_sha256:
            raise CaptureConflict(
                f"this station already used capture_id {capture_id!r} for another request"
            )
        return known


def known_requests(
    connection: Connection, keys: Collection[Pair], captures: Collection[Pair]
) -> KnownRequests:
    """The requests that have a record, of these (station, key) and (station, capture)."""
    found = KnownRequests()
    wanted = (("idempotency_key", keys, found.by_key), ("capture_id", captures, found.by_capture))
    for column, pairs, known in wanted:
        rows = _each(
            connection,
            pairs,
            "SELECT w.a, w.b, i.request_sha256, i.sequence "  # noqa: S608  a column's name
            f"FROM w CROSS JOIN inspections i WHERE i.station = w.a AND i.{column} = w.b",
        )
        for station, value, request_sha256, sequence in rows:
            known[station, value] = Known(request_sha256=request_sha256, sequence=sequence)
    return found


# --- parts ---------------------------------------------------------------------------------------


class Attempts:
    """How many inspections of a part have counted, over all its names; asked in groups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._roots: dict[Pair, str] = {}
        self._counted: dict[Pair, int] = {}

    def load(self, parts: Collection[Pair]) -> None:
        """Ask for these (product, part) at once."""
        self._roots |= {pair: pair[1] for pair in parts}
        for product, name, root in _each(
            self._connection,
            parts,
            "SELECT w.a, w.b, p.root FROM w CROSS JOIN part_names p "
            "WHERE p.product = w.a AND p.name = w.b",
        ):
            self._roots[product, name] = root
        roots = {(product, self._roots[product, part]) for product, part in parts}
        roots -= self._counted.keys()
        self._counted |= dict.fromkeys(roots, 0)
        for product, root, counted in _each(
            self._connection,
            roots,
            "SELECT w.a, w.b, count(i.attempt) FROM w CROSS JOIN inspections i "
            "WHERE i.product = w.a AND i.part = w.b GROUP BY w.a, w.b "
            "UNION ALL "
            "SELECT w.a, w.b, count(i.attempt) FROM w CROSS JOIN part_names p "
            "CROSS JOIN inspections i WHERE p.product = w.a AND p.root = w.b "
            "AND i.product = p.product AND i.part = p.name GROUP BY w.a, w.b",
        ):
            self._counted[product, root] += counted

    def knows(self, product: str, part: str) -> bool:
        """Whether the part was asked for."""
        return (product, part) in self._roots

    def so_far(self, product: str, part: str) -> int:
        """Attempts of a part that was asked for, those counted since among them."""
        return self._counted[product, self._roots[product, part]]

    def count(self, product: str, part: str) -> None:
        """One more attempt of a part that was asked for."""
        self._counted[product, self._roots[product, part]] += 1

    def forget(self) -> None:
        """A part has another name now: ask anew."""
        self._roots.clear()
        self._counted.clear()


def _each(connection: Connection, pairs: Collection[Pair], query: str) -> list[Row]:
    """The rows of a query over `w (a, b)`, which holds `pairs`."""
    if not pairs:
        return []
    parameters: Row
    if connection.dialect.name == "postgresql":
        wanted = "SELECT * FROM unnest(?::text[], ?::text[])"
        parameters = ([a for a, _ in pairs], [b for _, b in pairs])
    else:
        wanted = "SELECT value ->> 0, value ->> 1 FROM json_each(?)"
        parameters = (orjson.dumps(list(pairs)).decode(),)
    return ask(connection, f"WITH w (a, b) AS ({wanted}) {query}", parameters)


def id_taken(connection: Connection, entry_id: str) -> bool:
    """Whether an entry of any kind has this ID."""
    taken = select(statements.c.id).where(statements.c.id == entry_id)
    inspected = select(inspections.c.id).where(inspections.c.id == entry_id)
    return connection.execute(taken.union_all(inspected)).first() is not None
