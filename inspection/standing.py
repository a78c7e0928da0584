"""What follows from the entries of a part: views over them, never stored as the truth.

entries of a part, in order  ->  disposition_in_force  ->  InForce
entries of a part, in order  ->  holds of it that stand
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection.record import NOT_COUNTED, InspectionRecord, ReviewRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inspection.entries import Entry
    from inspection.verdict import Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNames:
    """Every identity that a part has had, the first one first.

    Attributes:
        root: the identity under which it is kept.
        names: `root`, serials it was marked with later, and unread marks bound to it.
    """

    product: str
    root: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The disposition that stands for a part, and the record it rests on."""

    disposition: Disposition
    inspection_id: str
    review_id: str | None
    why: str


def disposition_in_force(entries: Iterable[Entry]) -> InForce | None:
    """What stands for a part after its entries, given in the order in which they were added.

    One view of several settles nothing; the inspection that sums the views up does. But a view that
    did not pass turns a pass from before into a review, until its set is closed: a set that nobody
    closes must not leave a part at large that was seen to be bad.

    The latest inspection that counts stands. Audits, challenges and simulated inspections do not
    count. A fail stays through rechecks; after rework an inspection lifts a fail of the machine's,
    and turns one of a person's into a review, because a station's word is not a person's.

    A person's decision stands until the part is inspected again. A pass that is decided late, on an
    inspection from before the one that stands, lifts nothing; a fail always counts, on an audit
    too, but for challenges and simulated inspections, which are not of the part.
    """
    stands: InForce | None = None
    audits: set[str] = set()
    turns: dict[str, int] = {}  # inspections that a decision can be about; an audit's is the last
    turn = -1  # of the inspection that stands
    for entry in entries:
        if isinstance(entry, ReviewRecord):
            decided = turns.get(entry.inspection_id)
            audit = entry.inspection_id in audits
            late = decided is not None and decided < turn
            if decided is None or (entry.disposition == "pass" and (late or audit)):
                continue
            turn = max(turn, decided)
            stands = InForce(
                disposition=entry.disposition,
                inspection_id=entry.inspection_id,
                review_id=entry.id,
                why=f"decided by {entry.reviewer}: {entry.reason}",
            )
            continue
        if not isinstance(entry, InspectionRecord):
            continue
        if entry.view is not None:
            bad = entry.disposition != "pass" and entry.reason not in NOT_COUNTED
            if bad and stands is not None and stands.disposition == "pass":
                turns[entry.id] = turn = max(turns.values(), default=-1) + 1
                stands = InForce(
                    disposition="review",
                    inspection_id=entry.id,
                    review_id=None,
                    why=f"view {entry.view} of a set that is open: {entry.disposition}",
                )
            continue
        if entry.reason == "audit":
            audits.add(entry.id)
            turns[entry.id] = max(turns.values(), default=-1)
        if entry.reason in NOT_COUNTED:
            continue
        turns[entry.id] = max(turns.values(), default=-1) + 1
        disposition, why = entry.disposition, f"attempt {entry.attempt}, {entry.reason}"
        if stands is not None and stands.disposition == "fail" and disposition != "fail":
            if entry.reason != "after-rework":
                continue
            if stands.review_id is not None:
                disposition, why = "review", f"{why}; a person failed it before, a person decides"
        turn = turns[entry.id]
        stands = InForce(disposition=disposition, inspection_id=entry.id, review_id=None, why=why)
    return stands
