"""Counts of inspections by anything, from the roll-ups.

    filter, by, bucket -> serial            -> rows of its index
                       -> lot               -> `counts`, by the hour
                       -> anything else     -> `tallies`: months, days and hours at both ends
                       -> parts of an hour  -> rows of `inspections` received in it
      -> six sums a group: passed, failed, review, and of each the first attempts -> CountRow

Single views of a set are not counted. Who groups by class sees inspections with a finding, once for
each class found in them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import ColumnElement, and_, case, func, literal, select, text

from inspection.errors import RequestError
from inspection.store import CountRow
from inspection.stores.rollups import hour_of
from inspection.stores.schema import counts as hourly
from inspection.stores.schema import findings, inspections, tallies
from inspection.stores.spans import (
    FIRST_HOUR,
    LAST_HOUR,
    Exact,
    Whole,
    as_stored,
    hour_text,
    in_piece,
    pieces_of,
)
from inspection.stores.tallies import DISPOSITIONS, start_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, FromClause, Select

    from inspection.store import Bucket, CountBy, Filter

MAX_ROWS: Final = 10_000
"""Rows of one answer."""

MAX_HOURS: Final = 7 * 24
"""Hours that are counted one by one."""

MAX_HOURS_OF_LOTS: Final = 7 * 24
"""Hours over which lots are counted side by side; a lot alone is counted over any time."""

MAX_OF_SERIAL: Final = 10_000
"""Inspections of one serial that are counted one by one."""

_FIELDS: Final = ("product", "station", "lot", "machine", "mould", "reason")
_SUMS: Final = (*DISPOSITIONS.values(), *(f"first_{name}" for name in DISPOSITIONS.values()))

Groups = dict[tuple[Any, ...], list[int]]
"""Six sums by the bucket's first hour and the values that are grouped by."""


def counts(
    connection: Connection, wanted: Filter, by: Sequence[CountBy], bucket: Bucket | None
) -> list[CountRow]:
    """Counts of what `find` would list; oldest bucket first.

    Raises:
        RequestError: more than MAX_ROWS rows would come, hours over more than MAX_HOURS, a time
            has no zone, or something is grouped by twice.
    """
    if len(set(by)) != len(by):
        raise RequestError("`by` names each field once")
    question = _Question(connection, wanted, tuple(by), bucket)
    if wanted.serial is not None:
        question.count_serial()
    else:
        for piece in question.pieces():
            if isinstance(piece, Exact):
                question.count_rows(piece)
            elif wanted.lot is not None or "lot" in by:
                question.count_lots(piece)
            else:
                question.count_tallies(piece)
    return question.answer()


class _Question:
    """One question, and the sums so far."""

    def __init__(
        self,
        connection: Connection,
        wanted: Filter,
        by: tuple[CountBy, ...],
        bucket: Bucket | None,
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._by = by
        self._bucket = bucket
        self._groups: Groups = defaultdict(lambda: [0] * len(_SUMS))
        self._filters = {
            name: value for name in _FIELDS if (value := getattr(wanted, name)) is not None
        }
        # The disposition is in the sums themselves.
        self._columns = [name for name in by if name not in ("disposition", "defect_class")]
        if wanted.defect_class is not None:
            self._classes = [wanted.defect_class]
        else:
            self._classes = self._known_classes() if "defect_class" in by else [""]

    def pieces(self) -> list[Exact | Whole]:
        """The time range in pieces.

        Raises:
            RequestError: it holds too many hours.
        """
        lots = "lot" in self._by and self._wanted.lot is None
        pieces = pieces_of(self._wanted, coarsest="hour" if lots else self._bucket or "month")
        if self._bucket != "hour" and not lots:
            return pieces
        pieces = [each if isinstance(each, Exact) else self._clipped(each) for each in pieces]
        hours = sum(each.before - each.start for each in pieces if isinstance(each, Whole))
        most, what = (MAX_HOURS_OF_LOTS, "lots") if lots else (MAX_HOURS, "hours")
        if hours > most:
            raise RequestError(
                f"{what} are counted side by side over at most {most // 24} days",
                remedy="Ask for a shorter time, for days, or for one lot.",
            )
        return pieces

    # --- where the sums come from --------------------------------------------------------------

    def count_tallies(self, piece: Whole) -> None:
        """Whole hours or days without lots."""
        for defect_class in self._classes:
            start: ColumnElement[int] = tallies.c.start
            if self._bucket is not None and piece.grain != self._bucket:
                start = start - start % 24
            query = self._grouped(tallies, start, [tallies.c[name] for name in _SUMS])
            where = [tallies.c[name] == value for name, value in self._filters.items()]
            self._add(
                query.where(tallies.c.defect_class == defect_class, *in_piece(piece), *where),
                defect_class,
            )

    def count_lots(self, piece: Whole) -> None:
        """Whole hours or days, lot by lot."""
        sums = [
            case((hourly.c.disposition == disposition, hourly.c[column]), else_=0)
            for column in ("inspections", "first")
            for disposition in DISPOSITIONS
        ]
        for defect_class in self._classes:
            start: ColumnElement[int] = hourly.c.hour
            if self._bucket in ("day", "month"):
                start = start - start % 24
            query = self._grouped(hourly, start, sums)
            where = [hourly.c[name] == value for name, value in self._filters.items()]
            if piece.start > FIRST_HOUR:
                where.append(hourly.c.hour >= piece.start)
            if piece.before < LAST_HOUR:
                where.append(hourly.c.hour < piece.before)
            self._add(query.where(hourly.c.defect_class == defect_class, *where), defect_class)

    def count_rows(self, piece: Exact) -> None:
        """A part of an hour, inspection by inspection."""
        self._count_inspections(literal(piece.hour), *piece.holds())

    def count_serial(self) -> None:
        """All of a serial, inspection by inspection."""
        serial = self._wanted.serial
        held = self._connection.execute(
            select(inspections.c.sequence)
            .where(inspections.c.serial == serial)
            .limit(1)
            .offset(MAX_OF_SERIAL)
        ).scalar()
        if held is not None:
            raise RequestError(
                f"{serial!r} has more than {MAX_OF_SERIAL:,} inspections",
                remedy="Count by product, station or time instead.",
            )
        where = [inspections.c.serial == serial]
        if self._wanted.received_from is not None:
            where.append(inspections.c.received_at >= as_stored(self._wanted.received_from))
        if self._wanted.received_before is not None:
            where.append(inspections.c.received_at < as_stored(self._wanted.received_before))
        self._count_inspections(None, *where)

    def _count_inspections(
        self, hour: ColumnElement[int] | None, *where: ColumnElement[bool]
    ) -> None:
        is_first = func.coalesce(inspections.c.attempt, 0) == 1
        fits = [inspections.c.disposition == disposition for disposition in DISPOSITIONS]
        sums = [case((fit, 1), else_=0) for fit in fits]
        sums += [case((and_(fit, is_first), 1), else_=0) for fit in fits]
        where = (
            *where,
            inspections.c.view.is_(None),
            *(func.coalesce(inspections.c[name], "") == v for name, v in self._filters.items()),
        )
        for defect_class in self._classes:
            source: FromClause = inspections
            start: ColumnElement[Any] = inspections.c.received_at if hour is None else hour
            if defect_class:
                source = inspections.join(
                    findings,
                    and_(
                        findings.c.sequence == inspections.c.sequence,
                        findings.c.defect_class == defect_class,
                    ),
                )
            query = self._grouped(inspections, start, sums).select_from(source)
            self._add(query.where(*where), defect_class)

    # --- summing up ----------------------------------------------------------------------------

    def _grouped(
        self, table: Any, start: ColumnElement[Any], sums: Sequence[ColumnElement[Any]]
    ) -> Select[Any]:
        """One row a bucket and group; the bucket as the hour or text that it is found by."""
        keys = [func.coalesce(table.c[name], "").label(name) for name in self._columns]
        if self._bucket is not None:
            keys.insert(0, start.label("start"))
        totals = [func.sum(each).label(name) for name, each in zip(_SUMS, sums, strict=True)]
        # By their places: PostgreSQL takes two equal expressions with parameters for two.
        places = [text(str(place)) for place in range(1, len(keys) + 1)]
        return select(*keys, *totals).group_by(*places)

    def _add(self, query: Select[Any], defect_class: str) -> None:
        at = 0 if self._bucket is None else 1
        count = at + len(self._columns)
        # Where each value of a group comes from; the class is the query's.
        places = [
            None if name == "defect_class" else at + self._columns.index(name)
            for name in self._by
            if name != "disposition"
        ]
        for row in self._connection.execute(query):
            if row[-1] is None:  # nothing at all: a sum over no rows
                continue
            start = self._bucket_of(row[0]) if at else None
            values = (defect_class if place is None else row[place] for place in places)
            group = self._groups[start, *values]
            for place, value in enumerate(row[count:]):
                group[place] += int(value)
        if len(self._groups) > MAX_ROWS:
            raise _too_many()

    def answer(self) -> list[CountRow]:
        """The rows."""
        rows: list[CountRow] = []
        shown = [*DISPOSITIONS]
        if self._wanted.disposition is not None:
            shown = [self._wanted.disposition]
        if not self._by and self._bucket is None:
            self._groups.setdefault((None,), [0] * len(_SUMS))  # nothing is counted as nothing
        for (start, *values), sums in self._groups.items():
            by = dict(
                zip((name for name in self._by if name != "disposition"), values, strict=True)
            )
            whole = dict(zip(DISPOSITIONS, zip(sums[:3], sums[3:], strict=True), strict=True))
            parts = [[name] for name in shown] if "disposition" in self._by else [shown]
            for part in parts:
                kept = {name: whole[name] for name in part}
                if any(n for n, _ in kept.values()) or not (self._by or self._bucket):
                    rows.append(_row(start, self._by, {**by, "disposition": part[0]}, kept))
        if len(rows) > MAX_ROWS:
            raise _too_many()
        return sorted(
            rows, key=lambda row: (row.start or "", *(v or "" for v in row.group.values()))
        )

    def _bucket_of(self, found: int | str) -> int:
        hour = hour_of(found) if isinstance(found, str) else found
        return start_of(self._bucket or "hour", hour)

    # --- what there is -------------------------------------------------------------------------

    def _known_classes(self) -> list[str]:
        """Every class that was ever found, one step of the index each."""
        known: list[str] = []
        while True:
            after = known[-1] if known else ""
            found = self._connection.execute(
                select(func.min(tallies.c.defect_class)).where(
                    tallies.c.grain == "day", tallies.c.defect_class > after
                )
            ).scalar()
            if found is None:
                return known
            known.append(cast("str", found))

    def _clipped(self, piece: Whole) -> Whole:
        """Without the hours before the first inspection and after the last."""
        hours = (
            select(end(tallies.c.start)).where(
                tallies.c.grain == "hour", tallies.c.defect_class == ""
            )
            for end in (func.min, func.max)
        )
        # Two subqueries: an index gives one end of it at a time.
        first, last = self._connection.execute(
            select(*(each.scalar_subquery() for each in hours))
        ).one()
        start = max(piece.start, first or 0)
        before = start if last is None else max(start, min(piece.before, last + 1))
        return Whole(grain=piece.grain, start=start, before=before)


def _row(
    start: int | None,
    by: Sequence[CountBy],
    values: dict[str, str | None],
    kept: dict[str, tuple[int, int]],
) -> CountRow:
    inspected = {name: kept.get(name, (0, 0)) for name in DISPOSITIONS}
    return CountRow(
        start=None if start is None else hour_text(start),
        group={name: values[name] or None for name in by},
        inspections=sum(count for count, _ in inspected.values()),
        passed=inspected["pass"][0],
        failed=inspected["fail"][0],
        review=inspected["review"][0],
        first=sum(first for _, first in inspected.values()),
        first_passed=inspected["pass"][1],
    )


def _too_many() -> RequestError:
    return RequestError(
        f"more than {MAX_ROWS:,} counts would come",
        remedy="Group by fewer fields, use longer buckets, or ask for a shorter time.",
    )
