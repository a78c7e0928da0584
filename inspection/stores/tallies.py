"""Rows of `counts`, folded: fewer rows to sum up, however long the time that is asked for.

    counts    hour, product, station, lot, machine, ..., class         hundreds an hour
      -> fold -> tallies    hour   no lot, dispositions side by side    tens an hour
                            day    the same of 24 hours                 tens a day
                            month  the same of a month                  hundreds a month

Written in the same transaction as the counts that they are made of.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, get_args

from inspection.stores.rows import insert_rows
from inspection.stores.schema import tallies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from inspection.stores.rows import Row

Grain = Literal["hour", "day", "month"]
GRAINS: Final[tuple[Grain, ...]] = get_args(Grain)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)

DISPOSITIONS: Final = {"pass": "passed", "fail": "failed", "review": "review"}
"""The column of each disposition; that of its first attempts has `first_` before it."""

_NAMES: Final = tuple(column.name for column in tallies.columns)
_KEY: Final = tuple(column.name for column in tallies.primary_key.columns)
_SUMS: Final = _NAMES[len(_KEY) : -2]
_PLACE: Final = {name: place for place, name in enumerate(DISPOSITIONS)}

# What is added last has the highest sequences.
ADD_UP: Final = (
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = tallies.{name} + excluded.{name}" for name in _SUMS)
    + ", highest = excluded.highest"
)


def start_of(grain: Grain, hour: int) -> int:
    """The first hour of the hour, day or month that an hour is in; hours since 1970 in UTC."""
    if grain == "hour":
        return hour
    day = hour - hour % 24
    return day if grain == "day" else _month_start(day)


@lru_cache(maxsize=512)
def _month_start(day: int) -> int:
    return ((_EPOCH + day * _HOUR).replace(day=1) - _EPOCH) // _HOUR


def fold(rows: Iterable[Sequence[int | str]]) -> list[Row]:
    """Rows of `tallies` that hold what these rows of `counts` hold, each key once."""
    sums: dict[tuple[int | str, ...], list[int]] = {}
    for row in rows:
        hour, product, station, _, machine, mould, disposition, reason, defect_class = row[:9]
        inspections, first, lowest, highest = (int(value) for value in row[9:])
        place = _PLACE[str(disposition)]
        for grain in GRAINS:
            start = start_of(grain, int(hour))
            key = (grain, defect_class, start, product, station, machine, mould, reason)
            found = sums.setdefault(key, [0, 0, 0, 0, 0, 0, lowest, highest])
            found[place] += inspections
            found[3 + place] += first
            found[6] = min(found[6], lowest)
            found[7] = max(found[7], highest)
    return [(*key, *values) for key, values in sums.items()]


def add_tallies(connection: Connection, rows: Iterable[Sequence[int | str]]) -> None:
    """Add rows of `counts` that were just made to the tallies."""
    insert_rows(connection, tallies, fold(rows), on_conflict=ADD_UP)
