"""The month of each entry: it never falls, and is no later than a clock has ever said.

No leaf holds it, so it is held against what does: a clock that ran ahead once is seen in the times
of the entries that were written then.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from inspection.record import InspectionRecord, ReviewRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.entries import Entry

_SLACK = timedelta(days=1)
"""Between the time in an entry and its commit."""


class MonthCheck:
    """Told every entry in order; tells what does not hold."""

    def __init__(self, problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._last = 0
        self._latest = _month_after(datetime.now(UTC))

    def entry(self, number: int, month: Any, entry: Entry | None) -> None:
        """Entry `number` with the month of its row; None when its body is none."""
        if entry is not None and (moment := _time_of(entry)) is not None:
            self._latest = max(self._latest, _month_after(moment))
        if _is_month(month) and self._last <= month <= self._latest:
            self._last = month
        else:
            self._problem(f"record {number}: its month {month} does not follow {self._last}")


def _is_month(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value % 100 <= 12 and value >= 197001


def _month_after(moment: datetime) -> int:
    try:
        later = moment.astimezone(UTC) + _SLACK
    except OverflowError:
        return 999912
    return later.year * 100 + later.month


def _time_of(entry: Entry) -> datetime | None:
    """When the server received it, by its own clock."""
    if isinstance(entry, InspectionRecord):
        text = entry.received_at
    elif isinstance(entry, ReviewRecord):
        text = entry.reviewed_at
    else:
        text = entry.recorded_at
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
