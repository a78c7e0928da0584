"""A part's whole life on one page: what it was made of and how, what was seen, who decided what.

names -> history -> in force, holds -> when and where it was made -> process values around then
                                                                  -> siblings of mould and hour
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from inspection.errors import NotFound, RequestError
from inspection.events import Hold, PartEvent, ViewSet, instant
from inspection.record import NOT_COUNTED, InspectionRecord
from inspection.standing import disposition_in_force
from inspection.store import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inspection.entries import Entry
    from inspection.events import HoldScope, ProcessValue
    from inspection.standing import InForce, PartNames
    from inspection.store import Records, StandingHold

WINDOW_MIN: Final = 30
"""Minutes before and after casting whose process values belong to a part."""

LONGEST_WINDOW_MIN: Final = 24 * 60
VALUES_SHOWN: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """When and where a part was made, and from what that is known.

    Attributes:
        at: RFC 3339 with a zone.
        known_from: the event "cast", or the first inspection where there is none.
        castings: at how many times the part is said to have been cast; past 1 the serial was used
            again, or an event is wrong, and the rest of this is of the first.
    """

    at: str
    known_from: Literal["cast", "first inspection"]
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    castings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """First inspections of parts of the same mould in the hour of this part's first inspection."""

    mould: str
    hour: str
    inspections: int
    passed: int
    failed: int
    review: int

    @property
    def defect_rate(self) -> float | None:
        """Share that failed; None where there are none."""
        return self.failed / self.inspections if self.inspections else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A part's life. `values_truncated`: there are more process values than are shown."""

    names: PartNames
    entries: Sequence[Entry]
    in_force: InForce | None
    holds: Sequence[StandingHold]
    origin: Origin | None
    window_min: int
    values: Sequence[ProcessValue]
    values_truncated: bool
    siblings: Siblings | None


def trace_part(store: Records, product: str, part: str, *, window_min: int = WINDOW_MIN) -> Trace:
    """Everything that is on record of a part, under any of its names.

    Args:
        store: the records.
        product: the part's product.
        part: a serial as it stands in the records, or a provisional identity.
        window_min: minutes of its machine's values before and after it was made.

    Raises:
        NotFound: nothing is recorded of it.
        RequestError: the window is out of range.
    """
    if not 0 <= window_min <= LONGEST_WINDOW_MIN:
        raise RequestError(f"the window lies between 0 and {LONGEST_WINDOW_MIN} minutes")
    names = store.names(product, part)
    entries = store.part_history(product, part)
    own = store.process_values(product=product, part=part, limit=VALUES_SHOWN)
    if not entries and not own:
        raise NotFound(f"nothing is recorded of a part {part!r} of product {product!r}")
    origin = origin_of(entries)
    machine: Sequence[ProcessValue] = ()
    if origin is not None and origin.machine is not None and window_min:
        middle, around = instant(origin.at), timedelta(minutes=window_min)
        machine = store.process_values(
            machine=origin.machine,
            start=_written(_moved(middle, -around)),
            end=_written(_moved(middle, around)),
            limit=VALUES_SHOWN,
        )
    values = sorted([*own, *machine], key=lambda value: instant(value.at))
    return Trace(
        names=names,
        entries=entries,
        in_force=disposition_in_force(entries),
        holds=store.holds_on(hold_keys(product, names.names, entries)),
        origin=origin,
        window_min=window_min,
        values=values[:VALUES_SHOWN],
        values_truncated=len(values) > VALUES_SHOWN or VALUES_SHOWN in (len(own), len(machine)),
        siblings=_siblings(store, product, entries),
    )


def hold_keys(
    product: str, names: Iterable[str], entries: Iterable[Entry]
) -> list[tuple[str, HoldScope, str]]:
    """What a hold may name that covers a part: each of its names, its lots, its moulds."""
    keys: dict[tuple[str, HoldScope, str], None] = {}
    for name in names:
        keys[product, "part", name] = None
    for entry in entries:
        if isinstance(entry, InspectionRecord | PartEvent | ViewSet):
            if entry.lot is not None:
                keys[product, "lot", entry.lot] = None
            if entry.mould is not None:
                keys[product, "mould", entry.mould] = None
        elif isinstance(entry, Hold):
            keys[product, entry.scope, entry.value] = None
    return list(keys)


def origin_of(entries: Iterable[Entry]) -> Origin | None:
    """When and where a part was made; None when neither casting nor inspection is on record."""
    casts: list[PartEvent] = []
    seen: list[InspectionRecord] = []
    for entry in entries:
        if isinstance(entry, PartEvent) and entry.event == "cast":
            casts.append(entry)
        elif isinstance(entry, InspectionRecord):
            seen.append(entry)
    if not casts and not seen:
        return None

    def told(name: str) -> str | None:
        said = [getattr(source, name) for source in (*casts[:1], *seen)]
        return next((value for value in said if value is not None), None)

    return Origin(
        at=casts[0].at if casts else (seen[0].captured_at or seen[0].received_at),
        known_from="cast" if casts else "first inspection",
        lot=told("lot"),
        machine=told("machine"),
        mould=told("mould"),
        cavity=told("cavity"),
        castings=len({instant(each.at) for each in casts}),
    )


def _siblings(store: Records, product: str, entries: Sequence[Entry]) -> Siblings | None:
    counted = (
        each
        for each in entries
        if isinstance(each, InspectionRecord)
        and each.view is None
        and each.reason not in NOT_COUNTED
    )
    first = next(counted, None)
    if first is None or first.mould is None:
        return None
    hour = instant(first.received_at).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = store.counts(
        Filter(
            product=product,
            mould=first.mould,
            reason="first",
            received_from=_written(hour),
            received_before=_written(hour + timedelta(hours=1)),
        )
    )
    return Siblings(
        mould=first.mould,
        hour=_written(hour),
        inspections=sum(row.inspections for row in rows),
        passed=sum(row.passed for row in rows),
        failed=sum(row.failed for row in rows),
        review=sum(row.review for row in rows),
    )


def _moved(moment: datetime, by: timedelta) -> datetime:
    """Later or earlier, as far as the calendar goes: whoever says the year 1 is not traced less."""
    try:
        return moment.astimezone(UTC) + by
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
        return end if by > timedelta() else datetime.min.replace(tzinfo=UTC)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
