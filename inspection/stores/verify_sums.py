"""What inspections add up to, summed up anew and compared: `counts` and `tallies`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from inspection.stores.schema import counts, tallies
from inspection.stores.verify_tables import look_up, number_of, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Table

    from inspection.record import InspectionRecord

Key = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_DISPOSITIONS: Final = ("pass", "fail", "review")


class SumsCheck:
    """Sums up the inspections that it is shown. Holds as many sums as the tables have rows.

    Args:
        problem: told of each thing that does not hold.
    """

    def __init__(self, problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._counts: dict[Key, list[int]] = {}
        self._tallies: dict[Key, list[int]] = {}

    def count(self, sequence: int, record: InspectionRecord, classes: set[str]) -> None:
        """One inspection that is no single view, and the defect classes of its findings."""
        hour = (datetime.fromisoformat(record.received_at) - _EPOCH) // _HOUR
        first = int(record.attempt == 1)
        place = _DISPOSITIONS.index(record.disposition)
        by = (record.product, record.station)
        of = (record.machine or "", record.mould or "")
        for each in ("", *classes):
            key: Key = (hour, *by, record.lot or "", *of, record.disposition, record.reason, each)
            total = self._counts.setdefault(key, [0, 0, sequence, sequence])
            total[0] += 1
            total[1] += first
            total[-1] = sequence
            for grain, start in _starts(hour):
                key = (grain, each, start, *by, *of, record.reason)
                total = self._tallies.setdefault(key, [0, 0, 0, 0, 0, 0, sequence, sequence])
                total[place] += 1
                total[3 + place] += first
                total[-1] = sequence

    def compare(self, connection: Connection) -> None:
        """Whether both tables hold these sums, and nothing more."""
        self._compare(connection, counts, self._counts)
        self._compare(connection, tallies, self._tallies)

    def _compare(self, connection: Connection, table: Table, sums: dict[Key, list[int]]) -> None:
        keys = tuple(column.name for column in table.primary_key.columns)
        names = [column.name for column in table.columns if column.name not in keys]
        found = look_up(connection, table, keys, list(sums))
        for key, total in sums.items():
            have = found.get(key)
            if have is None or not all(
                same(have[name], value) for name, value in zip(names, total, strict=True)
            ):
                shown = ", ".join(f"{n} {v}" for n, v in zip(keys, key, strict=True) if v != "")
                self._problem(f"table {table.name} ({shown}) does not agree with the inspections")
        rows = number_of(connection, select(func.count()).select_from(table))
        if rows != len(sums):
            self._problem(f"table {table.name} holds {rows} rows, the entries make {len(sums)}")


def _starts(hour: int) -> Iterator[tuple[str, int]]:
    """The first hour of the hour, the day and the month that an hour is in."""
    moment = _EPOCH + hour * _HOUR
    day = moment.replace(hour=0)
    for grain, start in (("hour", moment), ("day", day), ("month", day.replace(day=1))):
        yield grain, (start - _EPOCH) // _HOUR
