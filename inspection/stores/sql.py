"""The records in a database: SQLAlchemy Core, on SQLite or PostgreSQL.

append, append_review, add,    ->  GroupWriter (one thread, one connection, group commit)
open_views, close_views, check
everything else                ->  asking.py: connections of its own; never waits for the writer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from inspection.errors import RecordError
from inspection.stores.asking import Asking
from inspection.stores.database import LOCK_WAIT_S, check_room, open_engine
from inspection.stores.known import known_requests, read_tip
from inspection.stores.migrate import ensure_schema
from inspection.stores.reading import entries_at
from inspection.stores.transaction import Addition, Closing, Decision, Opening, Probe, Settled
from inspection.stores.writer import GroupWriter

if TYPE_CHECKING:
    from inspection.events import Erasure, Statement, ViewSet
    from inspection.record import InspectionDraft, InspectionRecord, ReviewRecord
    from inspection.store import Submission, ViewSetDraft


CARRIED_BYTES: Final = 128 * 1024
"""A larger file costs more in the records than two syncs of its own (docs/decisions/0024)."""


def open_records(url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> SqlRecordStore:
    """The record store at this address; makes its tables when it is empty.

    Args:
        url: `sqlite:///PATH`, whose folder must exist, or `postgresql://USER@HOST/DATABASE`.
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
            read_tip(connection)
    except BaseException:
        store.close()
        raise
    return store


class SqlRecordStore(Asking):
    """Append-only records in a database. Implements `inspection.store.RecordStore`."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Start the writer on tables that are there; `open_records` sees to that."""
        super().__init__(url, lock_wait_s=lock_wait_s)
        self._url = url
        self._lock_wait_s = lock_wait_s
        self._writer = GroupWriter(
            open_engine(url, writing=True, lock_wait_s=lock_wait_s), committed=self.pulse.beat
        )

    @property
    def carries_bytes(self) -> int:
        """How large a file a draft may carry; 0 where the records are on another machine."""
        return CARRIED_BYTES if self._url.startswith("sqlite") else 0

    # --- writing -------------------------------------------------------------------------------

    def append(self, draft: InspectionDraft) -> InspectionRecord:
        """Make the record durable; returns only then. Attempt, trace ID and ID are given here.

        The very same request again, even at the same moment, gets the record of the first.

        Raises:
            KeyReused: the station used the key for another request.
            CaptureConflict: the station used the capture for another request.
            NotFound, StateConflict: of a view: no such set, a closed one, another part's or
                product's, a view that it does not expect or that is there.
            RecordError: it could not be made durable.
        """
        return cast("InspectionRecord", self._writer.submit(draft).result())

    def settled(self, sequence: int) -> None:
        """Forget the files that were carried up to this sequence: they are durable themselves.

        Raises:
            RecordError: it could not be made durable.
        """
        self._writer.submit(Settled(sequence=sequence)).result()

    def append_review(self, review: ReviewRecord, *, seen: int | None = None) -> ReviewRecord:
        """Make a review durable; `seen` is how many its reviewer knows of this inspection.

        Raises:
            NotFound: there is no such inspection.
            ChangedMeanwhile: it has another number of reviews by now.
            StateConflict: it is one view of several; the decision is about all of them.
            RecordError: it could not be made durable.
        """
        work = Decision(review=review, seen=seen)
        return cast("ReviewRecord", self._writer.submit(work).result())

    def add(self, statement: Statement, submission: Submission | None = None) -> Statement:
        """Make a statement durable; the one of the first sending when it was sent before.

        Raises:
            KeyReused: the submission's key stands for another request.
            NotFound: what it speaks of is not on record (a hold to release, a part to rename).
            StateConflict: released already; a serial that is another part's.
            RequestError: it is a set of views, which is opened instead.
            RecordError: it could not be made durable.
        """
        work = Addition(statement=statement, submission=submission)
        return cast("Statement", self._writer.submit(work).result())

    def erase(self, erasure: Erasure, *, holds_seen: int) -> Erasure:
        """Make it durable that files are deleted; only then may they go.

        Raises:
            ChangedMeanwhile: a legal hold came since `holds_seen`, as `newest_hold` gave it.
            RecordError: it could not be made durable.
        """
        work = Addition(statement=erasure, holds_seen=holds_seen)
        return cast("Erasure", self._writer.submit(work).result())

    def open_views(self, draft: ViewSetDraft, submission: Submission | None = None) -> ViewSet:
        """Open a set of views. Raises as `add` does."""
        work = Opening(draft=draft, submission=submission)
        return cast("ViewSet", self._writer.submit(work).result())

    def close_views(
        self, view_set_id: str, *, by: str | None, received_at: str
    ) -> InspectionRecord:
        """The inspection that sums a set's views up; the same one when it is closed already.

        Its disposition is the worst view's; a view that is missing makes it a review at least.

        Raises:
            NotFound: there is no such set.
            StateConflict: it has no view at all.
            RecordError: it could not be made durable.
        """
        work = Closing(view_set_id=view_set_id, by=by, received_at=received_at)
        return cast("InspectionRecord", self._writer.submit(work).result())

    def check(self) -> None:
        """Raise RecordError when records cannot be written now.

        After a failure it commits something that changes nothing, so that a store whose disk has
        room again is known to be well before the next part comes.
        """
        check_room(self._url)
        try:
            self._writer.submit(Probe()).result(timeout=2 * self._lock_wait_s + 5)
        except TimeoutError:
            raise RecordError("the record writer does not answer: the disk may hang") from None

    def close(self) -> None:
        """Finish what was accepted, then stop. May be called again."""
        self.close_asking()
        self._writer.close()

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
            pair, capture = (station, idempotency_key), (station, capture_id)
            known = known_requests(connection, {pair}, {capture}).find(
                station, idempotency_key, capture_id, request_sha256
            )
            if known is None:
                return None
            return cast("InspectionRecord", entries_at(connection, [known.sequence])[0])
