"""The records in a database: SQLAlchemy Core, SQLite.

append, append_review, check  ->  GroupWriter (one thread, one connection, group commit)
everything else               ->  queries on connections of its own; never waits for the writer
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from inspection.errors import RecordError
from inspection.stores import queries
from inspection.stores.database import LOCK_WAIT_S, check_room, open_engine, translated
from inspection.stores.migrate import ensure_schema
from inspection.stores.writer import GroupWriter, Probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from inspection.entries import Entry
    from inspection.record import InspectionDraft, InspectionRecord, ReviewRecord
    from inspection.store import Filter, Page


def open_records(url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> SqlRecordStore:
    """The record store at this address; makes its tables when it is empty.

    Args:
        url: `sqlite:///PATH`; the folder must exist.
        lock_wait_s: how long a write waits for another process before it gives up.

    Raises:
        ConfigurationError: the tables are of an older or newer release.
        RecordsDamaged: the end of the hash tree does not agree with the records.
        RecordError: the database cannot be read or written.
    """
    ensure_schema(url, lock_wait_s=lock_wait_s)
    store = SqlRecordStore(url, lock_wait_s=lock_wait_s)
    try:
        with store.reading("the records cannot be opened") as connection:
            queries.frontier(connection)
    except BaseException:
        store.close()
        raise
    return store


class SqlRecordStore:
    """Append-only records in a database. Implements `inspection.store.RecordStore`."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Start the writer on tables that are there; `open_records` sees to that."""
        self._url = url
        self._lock_wait_s = lock_wait_s
        self._closed = False
        self._engine = open_engine(url, lock_wait_s=lock_wait_s)
        self._writer = GroupWriter(open_engine(url, writing=True, lock_wait_s=lock_wait_s))

    # --- writing -------------------------------------------------------------------------------

    def append(self, draft: InspectionDraft) -> InspectionRecord:
        """Make the record durable; returns only then. Attempt, trace ID and ID are given here.

        The very same request again, even at the same moment, gets the record of the first.

        Raises:
            KeyReused: the station used the key for another request.
            CaptureConflict: the station used the capture for another request.
            RecordError: it could not be made durable.
        """
        return cast("InspectionRecord", self._writer.submit(draft).result())

    def append_review(self, review: ReviewRecord) -> ReviewRecord:
        """Make a review durable.

        Raises:
            NotFound: there is no such inspection.
            RecordError: it could not be made durable.
        """
        return cast("ReviewRecord", self._writer.submit(review).result())

    def check(self) -> None:
        """Raise RecordError when records cannot be written now.

        After a failure it commits something that changes nothing, so that a store whose disk has
        room again is known to be well before the next part comes.
        """
        check_room(self._url)
        try:
            self._writer.submit(Probe()).result(timeout=2 * self._lock_wait_s + 5)
        except FutureTimeout:
            raise RecordError("the record writer does not answer: the disk may hang") from None

    def close(self) -> None:
        """Finish what was accepted, then stop. May be called again."""
        self._closed = True
        self._writer.close()
        self._engine.dispose()

    # --- reading -------------------------------------------------------------------------------

    def replay(
        self, station: str, idempotency_key: str, capture_id: str, request_sha256: str
    ) -> InspectionRecord | None:
        """The stored answer to this very request, or None when it is new.

        Raises:
            KeyReused: the key stands for another request of this station.
            CaptureConflict: (station, capture_id) stands for another request.
        """
        with self.reading("the records cannot be asked for this request") as connection:
            by_key = queries.known_requests(
                connection, "idempotency_key", station, [idempotency_key]
            )
            by_capture = queries.known_requests(connection, "capture_id", station, [capture_id])
            known = queries.same_request(
                by_key.get((station, idempotency_key)),
                by_capture.get((station, capture_id)),
                request_sha256,
                key=idempotency_key,
                capture=capture_id,
            )
            return None if known is None else queries.inspection_at(connection, known.sequence)

    def get(self, inspection_id: str) -> InspectionRecord:
        """The inspection of this ID. Raises NotFound when there is none."""
        with self.reading("the record cannot be read") as connection:
            return queries.inspection_by_id(connection, inspection_id)

    def by_trace_id(self, trace_id: str) -> InspectionRecord:
        """The inspection of a trace ID in its written form. Raises NotFound when there is none."""
        with self.reading("the record cannot be read") as connection:
            return queries.inspection_by_trace_id(connection, trace_id)

    def reviews(self, inspection_id: str) -> Sequence[ReviewRecord]:
        """Reviews of an inspection, oldest first."""
        with self.reading("the reviews cannot be read") as connection:
            return queries.reviews_of(connection, inspection_id)

    def find(self, wanted: Filter) -> Page:
        """Inspections, newest first. Raises RequestError when a time is none or has no zone."""
        with self.reading("the records cannot be searched") as connection:
            return queries.find(connection, wanted)

    def part_history(self, product: str, part: str) -> Sequence[Entry]:
        """Every inspection and review of a part, in the order in which they were added."""
        with self.reading("the part's history cannot be read") as connection:
            return queries.part_history(connection, product, part)

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """A connection with one unchanging view of the records."""
        if self._closed:
            raise RecordError(f"{doing}: the record store is closed")
        with translated(doing), self._engine.begin() as connection:
            yield connection
