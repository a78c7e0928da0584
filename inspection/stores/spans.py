"""A time range, cut into what the roll-ups hold whole and what must be looked at one by one.

    from ... before  ->  Exact (rest of an hour) | hours | days | months
                           | days | hours | Exact (part of an hour)

Also where such a range lies in the order of commits, which is nearly that of `received_at`: clocks
are set back now and then, so the rows in between are still looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, union_all

from inspection.errors import RequestError
from inspection.stores.schema import inspections, tallies
from inspection.stores.tallies import start_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from inspection.store import Filter
    from inspection.stores.tallies import Grain

FIRST_HOUR: Final = -24 * 800_000
LAST_HOUR: Final = 24 * 3_400_000
"""Hours since 1970 beyond the years 1 and 9999; whole days."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """A part of one hour: `received_at` from the first text to before the second."""

    hour: int
    start: str
    before: str

    def holds(self) -> tuple[ColumnElement[bool], ...]:
        """Conditions on `inspections`."""
        return inspections.c.received_at >= self.start, inspections.c.received_at < self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Whole hours, days or months, as hours since 1970; `before` is not part of it."""

    grain: Grain
    start: int
    before: int


Piece = Exact | Whole


def as_stored(text: str, *, hours: int = 0) -> str:
    """An instant as `received_at` has it: UTC, milliseconds, Z; rounded up, as bounds need it.

    Args:
        text: the instant, with a zone.
        hours: added to it, as far as the calendar goes.

    Raises:
        RequestError: it is no time, or has no zone.
    """
    moment = _moment(text)
    try:
        moment += timedelta(hours=hours)
    except OverflowError:
        moment = datetime.min.replace(tzinfo=UTC)
    return _written(moment)


def pieces_of(wanted: Filter, *, coarsest: Grain = "month") -> list[Piece]:
    """The time range of a filter in pieces, oldest first, none larger than `coarsest`.

    Raises:
        RequestError: a time has no zone or is none.
    """
    start = None if wanted.received_from is None else _moment(wanted.received_from)
    before = None if wanted.received_before is None else _moment(wanted.received_before)
    if start is not None and before is not None and start >= before:
        return []
    first = FIRST_HOUR if start is None else -((_EPOCH - start) // _HOUR)
    last = LAST_HOUR if before is None else (before - _EPOCH) // _HOUR
    if start is not None and before is not None and first > last:
        return [Exact(hour=last, start=_written(start), before=_written(before))]
    pieces: list[Piece] = []
    if start is not None and start < (begins := _EPOCH + first * _HOUR):
        pieces.append(Exact(hour=first - 1, start=_written(start), before=_written(begins)))
    pieces += _whole(first, last, coarsest)
    if before is not None and before > (ends := _EPOCH + last * _HOUR):
        pieces.append(Exact(hour=last, start=_written(ends), before=_written(before)))
    return pieces


def sequences_of(connection: Connection, wanted: Filter) -> tuple[int, int] | None:
    """The lowest and highest sequence received in a filter's time range; None when there is none.

    Not everything between them was received in that time, if clocks were set back.
    """
    parts = []
    for piece in pieces_of(wanted):
        if isinstance(piece, Exact):
            # Plus nothing: PostgreSQL would walk all sequences in their order to find the first.
            number = inspections.c.sequence + 0
            part = select(func.min(number).label("low"), func.max(number).label("high"))
            parts.append(part.where(*piece.holds()))
        else:
            part = select(
                func.min(tallies.c.lowest).label("low"), func.max(tallies.c.highest).label("high")
            )
            parts.append(part.where(tallies.c.defect_class == "", *in_piece(piece)))
    if not parts:
        return None
    found = union_all(*parts).subquery()
    low, high = connection.execute(select(func.min(found.c.low), func.max(found.c.high))).one()
    return None if low is None else (low, high)


def in_piece(piece: Whole) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `tallies`."""
    return (
        tallies.c.grain == piece.grain,
        tallies.c.start >= piece.start,
        tallies.c.start < piece.before,
    )


def hour_text(hour: int) -> str:
    """The hour's beginning, RFC 3339 in UTC."""
    return (_EPOCH + hour * _HOUR).isoformat(timespec="seconds").replace("+00:00", "Z")


def _whole(first: int, last: int, grain: Grain) -> list[Whole]:
    """Whole pieces of a grain, with finer ones at both ends."""
    if first >= last:
        return []
    finer: dict[Grain, Grain] = {"month": "day", "day": "hour"}
    if grain not in finer:
        return [Whole(grain=grain, start=first, before=last)]
    start, before = _next(grain, first), last
    if last < LAST_HOUR:
        before = start_of(grain, last)
    if start >= before:
        return _whole(first, last, finer[grain])
    return [
        *_whole(first, start, finer[grain]),
        Whole(grain=grain, start=start, before=before),
        *_whole(before, last, finer[grain]),
    ]


def _next(grain: Grain, hour: int) -> int:
    """The first beginning of a day or month that is not before an hour."""
    if hour <= FIRST_HOUR:
        return hour
    start = start_of(grain, hour)
    # 32 days after its first, a month is over and the next is not.
    later = start_of(grain, start + (24 if grain == "day" else 24 * 32))
    return start if start == hour else later


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(f"{text!r} is not a time after RFC 3339") from None
    if moment.tzinfo is None:
        raise RequestError(f"{text!r} has no zone", remedy="Add Z, or an offset such as +09:00.")
    try:
        moment = moment.astimezone(UTC) + timedelta(microseconds=999)
    except OverflowError:
        raise RequestError(f"{text!r} is out of range") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
