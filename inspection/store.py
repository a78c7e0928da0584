"""What the journey needs of a place to keep records. `stores/` holds the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from inspection.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inspection.entries import Entry, EntryKind
    from inspection.events import Erasure, Hold, HoldScope, ProcessValue, Statement, ViewSet
    from inspection.record import AttemptReason, InspectionDraft, InspectionRecord, ReviewRecord
    from inspection.standing import PartNames
    from inspection.verdict import Disposition


# --- asking ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which inspections; None does not restrict. Times are RFC 3339 with a zone.

    Attributes:
        defect_class: with a finding of this class.
        reason: why the capture was made.
        received_from, received_before: the first is included, the second is not.
        limit: of one page, 1 to 1,000.
        before_sequence: continues a list.
    """

    serial: str | None = None
    station: str | None = None
    product: str | None = None
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    disposition: Disposition | None = None
    defect_class: str | None = None
    reason: AttemptReason | None = None
    received_from: str | None = None
    received_before: str | None = None
    limit: int = 50
    before_sequence: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 1000:
            raise RequestError("`limit` lies between 1 and 1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Newest first. `next_before` continues the list; None when this is the end.

    `truncated`: the search stopped at its budget, so the page may hold fewer than there are;
    `next_before` goes on from there.
    """

    records: tuple[InspectionRecord, ...]
    next_before: int | None
    truncated: bool = False


Bucket = Literal["hour", "day", "month"]
CountBy = Literal[
    "product", "station", "lot", "machine", "mould", "disposition", "reason", "defect_class"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """Inspections in one group.

    Attributes:
        start: of the time bucket, RFC 3339 in UTC; None when there are no buckets.
        group: the value of each field that was grouped by.
        inspections: all of them, by disposition besides.
        first: attempt 1 of their part; `first_passed` of these passed.
    """

    start: str | None
    group: dict[str, str | None]
    inspections: int
    passed: int
    failed: int
    review: int
    first: int
    first_passed: int

    @property
    def first_pass_yield(self) -> float | None:
        """Share of first attempts that passed; None where there are none."""
        return self.first_passed / self.first if self.first else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry in the order of commits; `sequence` counts from 1 without gaps."""

    sequence: int
    kind: EntryKind
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingHold:
    """A hold; `released_by` is the ID of what released it, None while it stands."""

    hold: Hold
    released_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSetState:
    """A set of views: how it was opened, the views so far, the inspection that closed it."""

    opened: ViewSet
    views: tuple[InspectionRecord, ...]
    closed: InspectionRecord | None


# --- adding ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Names a request, so that the same one again adds nothing: (principal, key) is unique."""

    principal: str
    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSetDraft:
    """A set of views to open: everything but what only the store can give."""

    id: str
    station: str
    product: str
    serial: str | None
    views: tuple[str, ...]
    by: str
    recorded_at: str
    reason: AttemptReason | None = None
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    cavity: str | None = None


class Records(Protocol):
    """What can be asked of the records. Safe to call from several threads."""

    # --- asking ------------------------------------------------------------------------------

    def get(self, inspection_id: str) -> InspectionRecord:
        """Raises NotFound when there is none."""
        ...

    def by_trace_id(self, trace_id: str) -> InspectionRecord:
        """`trace_id` in its one written form. Raises NotFound when there is none."""
        ...

    def reviews(self, inspection_id: str) -> Sequence[ReviewRecord]:
        """Reviews of an inspection, oldest first."""
        ...

    def view_set(self, view_set_id: str) -> ViewSetState:
        """Raises NotFound when there is none."""
        ...

    def find(self, wanted: Filter) -> Page:
        """Inspections, newest first; single views of a set are not listed, their sum is."""
        ...

    def counts(
        self, wanted: Filter, *, by: Sequence[CountBy] = (), bucket: Bucket | None = None
    ) -> Sequence[CountRow]:
        """Counts of what `find` would list, from roll-ups; oldest bucket first.

        Raises:
            RequestError: more than 10,000 rows would come, or hours and lots side by side go over
                more than 7 days.
        """
        ...

    def names(self, product: str, part: str) -> PartNames:
        """Every identity of a part; its own alone when it was never renamed."""
        ...

    def part_history(self, product: str, part: str) -> Sequence[Entry]:
        """Every entry that concerns a part under any of its names, in the order of commits.

        Inspections, views, reviews of them, events, namings, assemblies it is in or of, holds and
        releases on the part itself. Holds on its lot or mould are found with `holds_on`.
        """
        ...

    def histories(
        self, product: str, parts: Sequence[str]
    ) -> dict[str, tuple[PartNames, Sequence[Entry]]]:
        """`names` and `part_history` of many parts, by the identity that was asked for."""
        ...

    def holds_on(self, keys: Iterable[tuple[str, HoldScope, str]]) -> Sequence[StandingHold]:
        """The holds that stand on any of these (product, scope, value)."""
        ...

    def anything_held(self) -> bool:
        """Whether any hold stands: asked for every inspection, so it costs next to nothing."""
        ...

    def holds(
        self, *, product: str | None = None, standing: bool = True, limit: int = 1000
    ) -> Sequence[StandingHold]:
        """Holds, newest first; those that were released too unless `standing`."""
        ...

    def process_values(
        self,
        *,
        product: str | None = None,
        part: str | None = None,
        machine: str | None = None,
        start: str | None = None,
        end: str | None = None,
        limit: int = 1000,
    ) -> Sequence[ProcessValue]:
        """Values of a part, and of a machine between two times, by time."""
        ...

    def erased(self, sha256: str) -> Erasure | None:
        """Under which rule an image file was deleted, the last time; None when none was."""
        ...

    # --- the order of commits ----------------------------------------------------------------

    def changes(self, after: int, *, limit: int = 100) -> Sequence[Change]:
        """Entries whose sequence is above `after`, in order, at most `limit` (1 to 1,000)."""
        ...

    def newest(self) -> int:
        """The sequence of the last committed entry; 0 when there is none."""
        ...

    def wait_beyond(self, after: int, timeout_s: float) -> int:
        """Blocks until something past `after` is committed, or the time is over; the newest."""
        ...

    def secret(self, name: str) -> bytes:
        """32 random bytes, the same for every server on these records.

        Raises:
            RecordsDamaged: there are none of this name.
        """
        ...


class RecordStore(Records, Protocol):
    """Append-only records, to ask and to add to. Safe to call from several threads."""

    # --- adding ------------------------------------------------------------------------------

    def replay(
        self, station: str, idempotency_key: str, capture_id: str, request_sha256: str
    ) -> InspectionRecord | None:
        """The stored answer to this very request, or None when it is new.

        Raises:
            KeyReused: the key stands for another request of this station.
            CaptureConflict: (station, capture_id) stands for another request.
        """
        ...

    @property
    def carries_bytes(self) -> int:
        """How large a file a draft may carry at most; 0 when none."""
        ...

    def append(self, draft: InspectionDraft) -> InspectionRecord:
        """Make the record durable; returns only then. Attempt, trace ID and ID are given here.

        The files that the draft carries are durable with it.

        Raises:
            KeyReused, CaptureConflict: as in `replay`; nothing is written.
            NotFound, StateConflict: of a view: no such set, a closed one, another part's or
                product's, a view that it does not expect or that is there.
            RecordError: it could not be made durable.
        """
        ...

    def append_review(self, review: ReviewRecord, *, seen: int | None = None) -> ReviewRecord:
        """Make a review durable.

        Args:
            review: the decision.
            seen: how many reviews of the inspection its reviewer has seen; unchecked when None.

        Raises:
            NotFound: there is no such inspection.
            ChangedMeanwhile: it has another number of reviews by now.
            StateConflict: it is one view of several; the decision is about all of them.
            RecordError: it could not be made durable.
        """
        ...

    def add(self, statement: Statement, submission: Submission | None = None) -> Statement:
        """Make a statement durable; the one of the first sending when it was sent before.

        Raises:
            KeyReused: the submission's key stands for another request.
            NotFound: what it speaks of is not on record (a hold to release, a part to rename).
            StateConflict: released already; a serial that is another part's.
            RecordError: it could not be made durable.
        """
        ...

    def open_views(self, draft: ViewSetDraft, submission: Submission | None = None) -> ViewSet:
        """Open a set of views. Raises as `add` does."""
        ...

    def close_views(
        self, view_set_id: str, *, by: str | None, received_at: str
    ) -> InspectionRecord:
        """The inspection that sums a set's views up; the same one when it is closed already.

        Its disposition is the worst view's; a view that is missing makes it a review at least.

        Raises:
            NotFound: there is no such set. StateConflict: it has no view at all.
            RecordError: it could not be made durable.
        """
        ...

    # --- life --------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise RecordError when records cannot be written now."""
        ...

    def close(self) -> None:
        """Finish what was accepted, then stop."""
        ...
