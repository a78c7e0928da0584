"""What the journey needs of a place to keep things. `stores/` holds the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from inspection.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.record import Entry, InspectionDraft, InspectionRecord, ReviewRecord
    from inspection.verdict import Disposition


class ImageStore(Protocol):
    """Content-addressed files: original images and evidence maps."""

    def put(self, data: bytes) -> str:
        """Keep `data`; return its SHA-256 in hex once file and name are durable (fsync).

        Raises:
            RecordError: the disk refused; nothing half-written is left.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes under this digest, verified.

        Raises:
            NotFound: there are none.
            RecordsDamaged: what is there has another digest.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which inspections to list; None does not restrict. Times are RFC 3339 in UTC.

    `received_from` is included, `received_before` is not.
    """

    serial: str | None = None
    station: str | None = None
    product: str | None = None
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    disposition: Disposition | None = None
    received_from: str | None = None
    received_before: str | None = None
    limit: int = 50
    before_sequence: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 1000:
            raise RequestError("`limit` lies between 1 and 1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Newest first. `next_before` continues the list; None when this is the end."""

    records: tuple[InspectionRecord, ...]
    next_before: int | None


class RecordStore(Protocol):
    """Append-only records. Safe to call from several threads."""

    def replay(
        self, station: str, idempotency_key: str, capture_id: str, request_sha256: str
    ) -> InspectionRecord | None:
        """The stored answer to this very request, or None when it is new.

        Raises:
            KeyReused: the key stands for another request of this station.
            CaptureConflict: (station, capture_id) stands for another request.
        """
        ...

    def append(self, draft: InspectionDraft) -> InspectionRecord:
        """Make the record durable; returns only then. Attempt, trace ID and ID are given here.

        Raises:
            KeyReused, CaptureConflict: as in `replay`; nothing is written.
            RecordError: it could not be made durable.
        """
        ...

    def append_review(self, review: ReviewRecord) -> ReviewRecord:
        """Make a review durable.

        Raises:
            NotFound: there is no such inspection.
            RecordError: it could not be made durable.
        """
        ...

    def get(self, inspection_id: str) -> InspectionRecord:
        """Raises NotFound when there is none."""
        ...

    def by_trace_id(self, trace_id: str) -> InspectionRecord:
        """`trace_id` in its one written form. Raises NotFound when there is none."""
        ...

    def reviews(self, inspection_id: str) -> Sequence[ReviewRecord]:
        """Reviews of an inspection, oldest first."""
        ...

    def find(self, wanted: Filter) -> Page:
        """Inspections, newest first."""
        ...

    def part_history(self, product: str, part: str) -> Sequence[Entry]:
        """Every inspection and review of a part, in the order in which they were added."""
        ...

    def check(self) -> None:
        """Raise RecordError when records cannot be written now."""
        ...

    def close(self) -> None:
        """Finish what was accepted, then stop."""
        ...
