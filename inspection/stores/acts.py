"""Who did what, read out of the audit log and of the records: for people, in one form.

audit log                                    -> as it stands
review, hold, release, naming, erasure       -> the name that the record itself carries
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from inspection.events import Erasure, Hold, Naming, Release
from inspection.record import ReviewRecord
from inspection.stores.audit import AuditLog
from inspection.stores.database import open_engine, translated
from inspection.stores.reading import entries_at
from inspection.stores.schema import statements

if TYPE_CHECKING:
    from inspection.entries import Entry

KINDS: Final = ("review", "hold", "release", "naming", "erasure")
_BATCH: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One line for people; `count` of the same kind. `at` is RFC 3339 in UTC."""

    at: str
    act: str
    by: str | None
    detail: str
    address: str | None = None
    count: int = 1


def acts_on_keys(url: str, since: str) -> list[Act]:
    """Acts on keys and stores, and refusals, from `since` on; oldest first.

    Raises:
        RecordsDamaged: the chain does not hold. RecordError: it cannot be read.
    """
    with closing(AuditLog(url)) as log:
        return [
            Act(
                at=event.at,
                act=event.act,
                by=event.by,
                detail=event.detail,
                address=event.address,
                count=event.count,
            )
            for event in log.read(since)
        ]


def acts_on_parts(url: str, since: str) -> list[Act]:
    """What people decided about parts from `since` on, in the order of the records.

    Raises:
        RecordsDamaged: an entry cannot be read. RecordError: nothing can.
    """
    engine = open_engine(url)
    acts: list[Act] = []
    try:
        with translated("the records cannot be read"), engine.begin() as connection:
            chosen = (
                select(statements.c.sequence)
                .where(statements.c.kind.in_(KINDS), statements.c.recorded_at >= since)
                .order_by(statements.c.sequence)
            )
            found = list(connection.execute(chosen).scalars())
            for start in range(0, len(found), _BATCH):
                acts += map(_act, entries_at(connection, found[start : start + _BATCH]))
    finally:
        engine.dispose()
    return acts


def _act(entry: Entry) -> Act:
    match entry:
        case ReviewRecord():
            what = f"{entry.disposition} of inspection {entry.inspection_id}: {entry.reason}"
            return _line(entry.reviewed_at, "review", entry.reviewer, what)
        case Hold():
            kind = "legal-hold" if entry.legal else "hold"
            what = f"{entry.scope} {entry.value} of {entry.product}: {entry.reason}"
            return _line(entry.recorded_at, kind, entry.by, what)
        case Release():
            return _line(entry.recorded_at, "release", entry.by, f"{entry.hold_id}: {entry.reason}")
        case Naming():
            what = f"{entry.part} of {entry.product} is {entry.serial}: {entry.reason}"
            return _line(entry.recorded_at, "naming", entry.by, what)
        case Erasure():
            what = f"{len(entry.files)} files: {entry.rule}"
            return _line(entry.recorded_at, "erasure", entry.by, what)
        case _:  # the query names no other kind
            raise TypeError(type(entry).__name__)


def _line(at: str, act: str, by: str, detail: str) -> Act:
    return Act(at=at, act=act, by=by, detail=" ".join(detail.split()))
