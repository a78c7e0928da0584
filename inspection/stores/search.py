"""Lists of inspections by any filters together, a page at a time, newest first.

    filter -> where its time lies in the order of commits
           -> one filter, a serial or a lot: its index
           -> several: the tallies say which months and days hold any that fit, and which is rarest;
              the index of that one drives, the others are looked at row by row
           -> at most BUDGET rows of the driving index are looked at, or the page is `truncated`
           -> sequences -> proven entries

Every index ends in the sequence, so the next page begins where this one stopped, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, cast

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, literal, select, tuple_

from inspection.errors import NotFound
from inspection.store import Page
from inspection.stores.reading import entries_at
from inspection.stores.schema import counts, findings, inspections, tallies
from inspection.stores.spans import as_stored, sequences_of
from inspection.stores.tallies import DISPOSITIONS, start_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Select

    from inspection.record import InspectionRecord
    from inspection.store import Filter
    from inspection.stores.tallies import Grain

BUDGET: Final = 3000
"""Rows of the driving index that one page walks before it is given out as it is."""

STRETCHES: Final = 4
"""Stretches of the order of commits that are looked at for one page."""

# Days whose fitting inspections lie no further apart than this are looked at as one stretch.
_NEAR: Final = 4096

_FILTERS: Final = (
    "serial",
    "lot",
    "defect_class",
    "product",
    "station",
    "machine",
    "mould",
    "disposition",
    "reason",
)
_BEYOND: Final = 2**62
# By themselves as narrow as a filter gets, and not in the tallies.
_NARROW: Final = ("serial", "lot")
_TALLIED: Final = ("product", "station", "machine", "mould", "reason")

# Looked at row by row like the others: where the time lies is known by its sequences already.
_received: Final = func.coalesce(inspections.c.received_at, "")

Stretch = tuple[int, int]
"""The lowest sequence, and the one past the highest."""


def inspection_by(
    connection: Connection, name: Literal["id", "trace_id"], value: str
) -> InspectionRecord:
    """The inspection of an ID or trace ID. Raises NotFound when there is none."""
    sequence = connection.execute(
        select(inspections.c.sequence).where(inspections.c[name] == value)
    ).scalar()
    if sequence is None:
        raise NotFound(f"there is no inspection {name.replace('_', ' ')} {value}")
    (found,) = entries_at(connection, [sequence])
    return cast("InspectionRecord", found)


def find(connection: Connection, wanted: Filter) -> Page:
    """Inspections, newest first; single views of a set are not listed.

    Raises:
        RequestError: a time has no zone or is none.
    """
    low, below = 1, _BEYOND if wanted.before_sequence is None else wanted.before_sequence
    times: list[ColumnElement[bool]] = []
    if wanted.received_from is not None:
        times.append(_received >= as_stored(wanted.received_from))
    if wanted.received_before is not None:
        times.append(_received < as_stored(wanted.received_before))
    if times:
        span = sequences_of(connection, wanted)
        if span is None:
            return Page(records=(), next_before=None)
        low, below = span[0], min(below, span[1] + 1)
    filters = {name: value for name in _FILTERS if (value := getattr(wanted, name)) is not None}
    driver, stretches = _plan(connection, filters, (low, below))
    search = _Search(connection, filters, driver, times, wanted.limit + 1)
    for looked, stretch in enumerate(stretches):
        if looked == STRETCHES:
            search.stopped = stretch[1]
            break
        search.look(stretch)
        if search.done():
            break
    listed = search.found[: wanted.limit]
    full = len(search.found) > wanted.limit
    records = cast("list[InspectionRecord]", entries_at(connection, listed))
    return Page(
        records=tuple(records),
        next_before=listed[-1] if full else search.stopped,
        truncated=not full and search.stopped is not None,
    )


class _Search:
    """Sequences that fit, newest first, and how far the looking got."""

    def __init__(
        self,
        connection: Connection,
        filters: Mapping[str, str],
        driver: str | None,
        times: Sequence[ColumnElement[bool]],
        need: int,
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._need = need
        self._value = filters.get(driver or "")
        driven = findings if driver == "defect_class" else inspections
        self._number: ColumnElement[int] = driven.c.sequence
        self._key: ColumnElement[str] | None = None if driver is None else driven.c[driver]
        self._fits = [_looked_at(name, value) for name, value in filters.items() if name != driver]
        self._fits += times
        self._budget = BUDGET
        self.found: list[int] = []
        self.stopped: int | None = None

    def done(self) -> bool:
        """Whether the page is full, or its budget used up."""
        return self.stopped is not None or len(self.found) >= self._need

    def look(self, stretch: Stretch) -> None:
        """Look through a stretch below the last one."""
        low, below = stretch
        floor = self._floor(low, below) if self._fits else None
        query = self._fenced if self._fits and self._walks_on_postgresql else self._plain
        found = query(floor or low, below).where(*self._fits, inspections.c.view.is_(None))
        found = found.limit(self._need - len(self.found))
        self.found += self._connection.execute(found).scalars()
        if floor is not None and len(self.found) < self._need:
            self.stopped = floor

    @property
    def _walks_on_postgresql(self) -> bool:
        return self._key is not None and self._connection.dialect.name == "postgresql"

    def _plain(self, low: int, below: int) -> Select[Any]:
        query = select(self._number)
        if self._driver == "defect_class":
            query = query.join(inspections, inspections.c.sequence == findings.c.sequence)
        return self._walking(query, low, below)

    def _fenced(self, low: int, below: int) -> Select[Any]:
        """The same; its walk is a query with a limit, which PostgreSQL plans by itself.

        It takes several conditions together for rarer than they are, and would rather read the
        whole table than walk an index.
        """
        columns = (self._number.label("sequence"), cast("Any", self._key).label("key"))
        walked = self._walking(select(*columns), low, below).limit(BUDGET).subquery("walked")
        return (
            select(walked.c.sequence)
            .join(inspections, inspections.c.sequence == walked.c.sequence)
            .order_by(walked.c.key.desc(), walked.c.sequence.desc())
        )

    def _floor(self, low: int, below: int) -> int | None:
        """Where the budget ends; None when the whole stretch is within it."""
        walked = self._walking(select(self._number), low, below)
        if self._driver is None:
            # No index but the table's own: sequences have no gaps, so they need no walking.
            top: int | None = self._connection.execute(walked.limit(1)).scalar()
            if top is None or top - low < self._budget:
                self._budget -= 0 if top is None else top - low + 1
                return None
            return top - self._budget + 1
        over = walked.limit(1).offset(self._budget)
        floor: int | None = self._connection.execute(over).scalar()
        if floor is not None:
            return floor + 1
        count = select(func.count()).select_from(walked.order_by(None).subquery())
        self._budget -= self._connection.execute(count).scalar_one()
        return None

    def _walking(self, query: Select[Any], low: int, below: int) -> Select[Any]:
        """Along the driving index, newest first."""
        number, key = self._number, self._key
        if key is not None and self._driver == "reason":
            query = query.where(key != "first")  # the index's own condition, in its own words
        if key is None or not self._walks_on_postgresql:
            if key is not None:
                query = query.where(key == self._value)
            return query.where(number >= low, number < below).order_by(number.desc())
        # The same, said so that the primary key cannot give the order: PostgreSQL would walk that
        # for a value that is frequent as a whole, past all that came since it last occurred.
        pair = tuple_(key, number)
        ends = (tuple_(literal(self._value), literal(end, BigInteger)) for end in (low, below))
        from_, to = ends
        return query.where(pair >= from_, pair < to).order_by(key.desc(), number.desc())


def _looked_at(name: str, value: str) -> ColumnElement[bool]:
    """A condition on a row that no index is used for: the driver's is the one to use."""
    if name == "defect_class":
        return (
            select(findings.c.sequence)
            .where(findings.c.defect_class == value, findings.c.sequence == inspections.c.sequence)
            .exists()
        )
    return func.coalesce(inspections.c[name], "") == value


# --- which filter drives, and where ------------------------------------------------------------


def _plan(
    connection: Connection, filters: Mapping[str, str], whole: Stretch
) -> tuple[str | None, Iterable[Stretch]]:
    """The filter whose index is walked, and the stretches to look at, newest first."""
    indexed = [name for name in filters if (name, filters[name]) != ("reason", "first")]
    narrow = [name for name in _NARROW if name in filters]
    if "lot" in filters and "serial" not in filters and len(filters) > 1:
        return "lot", _of_lot(connection, filters, whole)
    if narrow or len(filters) < 2:
        return next(iter([*narrow, *indexed]), None), [whole]
    # One row a month: where those that fit lie, and how many each filter alone would walk through.
    alone = [] if "defect_class" in filters else [_alone(n, filters[n]) for n in indexed]
    fitting = _fitting(filters)
    months = connection.execute(
        select(
            tallies.c.start,
            func.min(case((fitting, tallies.c.lowest))).label("lowest"),
            func.max(case((fitting, tallies.c.highest))).label("highest"),
            *alone,
        )
        .where(*_tallied("month", filters, whole))
        .group_by(tallies.c.start)
    ).all()
    driver: str | None = "defect_class"
    if "defect_class" not in filters:
        walked = {n: sum(getattr(month, f"by_{n}") or 0 for month in months) for n in indexed}
        driver = min(walked, key=walked.__getitem__, default=None)
    found = [
        ((max(whole[0], month.lowest), min(whole[1], month.highest + 1)), month.start)
        for month in months
        if month.lowest is not None
    ]
    return driver, _days_of(connection, filters, found)


def _days_of(
    connection: Connection, filters: Mapping[str, str], months: list[tuple[Stretch, int]]
) -> Iterator[Stretch]:
    """The days in which any fit, month by month; months that overlap are looked at together."""
    for month in _joined([stretch for stretch, _ in months], near=0):
        starts = [start for (low, below), start in months if month[0] <= low and below <= month[1]]
        days = connection.execute(
            select(func.min(tallies.c.lowest), func.max(tallies.c.highest))
            .where(
                tallies.c.start >= min(starts),
                tallies.c.start < start_of("month", max(starts) + 24 * 32),
                *_tallied("day", filters, month),
                _fitting(filters),
            )
            .group_by(tallies.c.start)
        )
        yield from _joined(
            [(max(month[0], low), min(month[1], high + 1)) for low, high in days], near=_NEAR
        )


def _of_lot(connection: Connection, filters: Mapping[str, str], whole: Stretch) -> list[Stretch]:
    """Where those of a lot lie that fit; nowhere when there are none."""
    named = {"defect_class": "", **filters}
    low, high = connection.execute(
        select(func.min(counts.c.lowest), func.max(counts.c.highest)).where(
            *(counts.c[name] == value for name, value in named.items())
        )
    ).one()
    return [] if low is None else [(max(whole[0], low), min(whole[1], high + 1))]


def _tallied(
    grain: Grain, filters: Mapping[str, str], within: Stretch
) -> tuple[ColumnElement[bool], ...]:
    """Rows of a grain that hold any sequence of a stretch."""
    return (
        tallies.c.grain == grain,
        tallies.c.defect_class == filters.get("defect_class", ""),
        tallies.c.lowest < within[1],
        tallies.c.highest >= within[0],
    )


def _fitting(filters: Mapping[str, str]) -> ColumnElement[bool]:
    """Whether a row of the tallies holds any inspection that fits."""
    return and_(
        *(tallies.c[name] == filters[name] for name in _TALLIED if name in filters),
        _inspections(filters.get("disposition")) > 0,
    )


def _inspections(disposition: str | None) -> ColumnElement[Any]:
    """How many inspections of a disposition a row of the tallies holds."""
    if disposition is not None:
        return tallies.c[DISPOSITIONS[disposition]]
    return tallies.c.passed + tallies.c.failed + tallies.c.review


def _alone(name: str, value: str) -> ColumnElement[Any]:
    """How many inspections a filter alone would leave."""
    if name == "disposition":
        total: ColumnElement[Any] = func.sum(_inspections(value))
    elif name in _TALLIED:
        total = func.sum(case((tallies.c[name] == value, _inspections(None))))
    else:
        total = func.sum(_inspections(None))
    return total.label(f"by_{name}")


def _joined(stretches: list[Stretch], *, near: int) -> list[Stretch]:
    """Disjoint, newest first; those that overlap, or are no further apart than `near`, are one."""
    joined: list[Stretch] = []
    for low, below in sorted(stretches, key=lambda each: each[1], reverse=True):
        if joined and below > joined[-1][0] - near:
            joined[-1] = (min(low, joined[-1][0]), joined[-1][1])
        else:
            joined.append((low, below))
    return joined
