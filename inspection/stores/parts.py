"""Everything that is known of parts, whatever they were called.

    (product, name) -> part_names -> root -> every name
                    -> inspections and mentions under any of them -> sequences -> proven entries

A part keeps its history when it is marked anew, and an unread mark's history joins that of the
serial it is bound to. Many parts cost as many queries as one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, cast

from sqlalchemy import and_, func, or_, select, union

from inspection.errors import NotFound, RequestError
from inspection.events import Hold, ProcessValues, ViewSet
from inspection.record import InspectionRecord, ReviewRecord
from inspection.standing import PartNames
from inspection.store import StandingHold, ViewSetState
from inspection.stores.reading import entries_at
from inspection.stores.rows import ask
from inspection.stores.schema import (
    holds,
    inspections,
    mentions,
    part_names,
    process_values,
    reviews,
    statements,
    view_sets,
)
from inspection.stores.spans import as_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from inspection.entries import Entry
    from inspection.events import HoldScope, ProcessValue

MAX_PARTS = 500
"""Parts that are looked up together."""

MAX_LISTED = 10_000
"""Holds, or process values, in one answer."""

LONGEST_WINDOW_H = 24
"""A window of a machine that began longer than this before a time is not looked for at it."""

History = tuple[PartNames, "Sequence[Entry]"]


# --- names and histories -----------------------------------------------------------------------


def names(connection: Connection, product: str, part: str) -> PartNames:
    """Every identity of a part; its own alone when it was never renamed."""
    return _names(connection, product, [part])[part]


def part_history(connection: Connection, product: str, part: str) -> Sequence[Entry]:
    """Every entry that concerns a part under any of its names, in the order of commits."""
    return _histories(connection, product, [part])[part][1]


def histories(connection: Connection, product: str, parts: Sequence[str]) -> dict[str, History]:
    """`names` and `part_history` of many parts, by the identity that was asked for.

    Raises:
        RequestError: there are more than MAX_PARTS.
    """
    wanted = list(dict.fromkeys(parts))
    if len(wanted) > MAX_PARTS:
        raise RequestError(f"at most {MAX_PARTS} parts are looked up together")
    return _histories(connection, product, wanted) if wanted else {}


def _names(connection: Connection, product: str, parts: Sequence[str]) -> dict[str, PartNames]:
    own = dict.fromkeys(parts, "") | {
        row.name: row.root
        for row in connection.execute(
            select(part_names.c.name, part_names.c.root).where(
                part_names.c.product == product, part_names.c.name.in_(parts)
            )
        )
    }
    roots = {part: root or part for part, root in own.items()}
    later: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(part_names.c.root, part_names.c.name)
        .where(part_names.c.product == product, part_names.c.root.in_(set(roots.values())))
        .order_by(part_names.c.sequence)
    ):
        later[row.root].append(row.name)
    return {
        part: PartNames(product=product, root=root, names=(root, *later[root]))
        for part, root in roots.items()
    }


def _histories(connection: Connection, product: str, parts: Sequence[str]) -> dict[str, History]:
    known = _names(connection, product, parts)
    every = {name for each in known.values() for name in each.names}
    rows = connection.execute(
        union(
            *(
                select(table.c.part, table.c.sequence).where(
                    table.c.product == product, table.c.part.in_(every)
                )
                for table in (inspections, mentions)
            )
        )
    )
    by_name: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        by_name[row.part].add(row.sequence)
    wanted = sorted(set().union(*by_name.values()))
    entries = dict(zip(wanted, entries_at(connection, wanted), strict=True))
    found: dict[str, History] = {}
    for part, its in known.items():
        sequences = sorted(set().union(*(by_name[name] for name in its.names)))
        found[part] = (its, [entries[sequence] for sequence in sequences])
    return found


def reviews_of(connection: Connection, inspection_id: str) -> list[ReviewRecord]:
    """Reviews of an inspection, oldest first."""
    sequences = connection.execute(
        select(reviews.c.sequence)
        .where(reviews.c.inspection_id == inspection_id)
        .order_by(reviews.c.sequence)
    ).scalars()
    return cast("list[ReviewRecord]", entries_at(connection, sequences))


def view_set(connection: Connection, view_set_id: str) -> ViewSetState:
    """Raises NotFound when there is no such set."""
    row = connection.execute(
        select(view_sets.c.sequence, view_sets.c.closed).where(view_sets.c.id == view_set_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no set of views {view_set_id}")
    taken = connection.execute(
        select(inspections.c.sequence)
        .where(inspections.c.view_set == view_set_id, inspections.c.view.is_not(None))
        .order_by(inspections.c.sequence)
    ).scalars()
    opened, *rest = entries_at(connection, [row.sequence, *taken, *filter(None, [row.closed])])
    records = cast("list[InspectionRecord]", rest)
    closed = records.pop() if row.closed is not None else None
    return ViewSetState(opened=cast("ViewSet", opened), views=tuple(records), closed=closed)


# --- holds -------------------------------------------------------------------------------------


def holds_on(
    connection: Connection, keys: Iterable[tuple[str, HoldScope, str]]
) -> list[StandingHold]:
    """The holds that stand on any of these (product, scope, value), oldest first.

    A hold on a part stands under every name of the part.
    """
    values: dict[tuple[str, HoldScope], set[str]] = defaultdict(set)
    for product, scope, value in keys:
        values[product, scope].add(value)
    if not values:
        return []
    for (product, scope), some in values.items():
        if scope == "part":
            known = _names(connection, product, sorted(some)).values()
            some.update(name for each in known for name in each.names)
    asked = [
        and_(holds.c.product == product, holds.c.scope == scope, holds.c.value.in_(some))
        for (product, scope), some in values.items()
    ]
    return _holds(connection, or_(*asked), holds.c.released.is_(None))


def anything_held(connection: Connection) -> bool:
    """Whether any hold stands; an index has those alone."""
    return bool(ask(connection, "SELECT 1 FROM holds WHERE released IS NULL LIMIT 1"))


def all_holds(
    connection: Connection, *, product: str | None, standing: bool, limit: int
) -> list[StandingHold]:
    """Holds, newest first; those that were released too unless `standing`."""
    where: list[ColumnElement[bool]] = []
    if product is not None:
        where.append(holds.c.product == product)
    if standing:
        where.append(holds.c.released.is_(None))
    return _holds(connection, *where, limit=_checked(limit), newest_first=True)


def _holds(
    connection: Connection,
    *where: ColumnElement[bool],
    limit: int | None = None,
    newest_first: bool = False,
) -> list[StandingHold]:
    order = holds.c.sequence.desc() if newest_first else holds.c.sequence
    rows = connection.execute(
        select(holds.c.sequence, statements.c.id.label("released_by"))
        .outerjoin(statements, statements.c.sequence == holds.c.released)
        .where(*where)
        .order_by(order)
        .limit(limit)
    ).all()
    found = cast("list[Hold]", entries_at(connection, [row.sequence for row in rows]))
    return [
        StandingHold(hold=hold, released_by=row.released_by)
        for hold, row in zip(found, rows, strict=True)
    ]


# --- process values ----------------------------------------------------------------------------


def values_of(
    connection: Connection,
    *,
    product: str | None,
    part: str | None,
    machine: str | None,
    start: str | None,
    end: str | None,
    limit: int,
) -> list[ProcessValue]:
    """Values of a part under any of its names, and of a machine, from `start` to before `end`.

    A window counts when any of it lies between them.

    Raises:
        RequestError: neither part nor machine is named, or a time has no zone.
    """
    if (part is None) != (product is None):
        raise RequestError("`product` and `serial` come together")
    whose: list[ColumnElement[bool]] = []
    if product is not None and part is not None:
        every = names(connection, product, part).names
        whose.append(and_(process_values.c.product == product, process_values.c.part.in_(every)))
    if machine is not None:
        whose.append(process_values.c.machine == machine)
    if not whose:
        raise RequestError("process values are asked for by `serial` or by `machine`")
    at, last = process_values.c.at, func.coalesce(process_values.c.until, process_values.c.at)
    times: list[ColumnElement[bool]] = []
    if start is not None:
        since = as_stored(start)
        # A window ends before `until`; a moment is its own end.
        times.append(or_(at >= since, last > since))
        times.append(at >= as_stored(start, hours=-LONGEST_WINDOW_H))
    if end is not None:
        times.append(at < as_stored(end))
    # One query for each: an index is used for each, and for neither if they are joined by "or".
    found = union(
        *(
            select(process_values.c.sequence, process_values.c.item, at)
            .where(each, *times)
            .order_by(at, process_values.c.sequence, process_values.c.item)
            .limit(_checked(limit))
            .subquery()
            .select()
            for each in whose
        )
    ).subquery()
    rows = connection.execute(
        select(found.c.sequence, found.c.item)
        .order_by(found.c.at, found.c.sequence, found.c.item)
        .limit(limit)
    ).all()
    sequences = sorted({row.sequence for row in rows})
    sent = dict(zip(sequences, entries_at(connection, sequences), strict=True))
    return [cast("ProcessValues", sent[row.sequence]).values[row.item] for row in rows]


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_LISTED:
        raise RequestError(f"`limit` lies between 1 and {MAX_LISTED:,}")
    return limit
