"""Group commit: one thread writes whatever waits, in one transaction, and then answers.

    append() -> waiting -> take all -> BEGIN IMMEDIATE
                                         what do database and group know of these requests?
                                         each draft: conflict | stored answer | trace ID, attempt,
                                                     record, body, leaf, frontier
                                         rows, one tree head
                                       COMMIT (log on disk) -> every caller gets its answer

While one group is being synced the next one gathers, so the disk's syncs are shared by as many
callers as there are, and a lone caller waits for nobody. A conflict is its caller's alone; an
error of the database is the whole group's, and the tree is read anew before the next group.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select

from inspection.entries import Entry, canonical_json, kind_of, parse_entry
from inspection.errors import InspectionError, NotFound, RecordError
from inspection.merkle import Frontier, leaf_hash
from inspection.names import TraceIds
from inspection.record import (
    NOT_COUNTED,
    InspectionDraft,
    InspectionRecord,
    ReviewRecord,
    complete,
)
from inspection.stores import queries
from inspection.stores.database import translated, try_commit
from inspection.stores.queries import Known
from inspection.stores.schema import entries, index_row, inspections, reviews, tree_heads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Engine

MAX_GROUP: Final = 256
"""Enough for every thread of a server; it bounds how long the first of a group waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Asks whether a record could be written now; writes none."""


Work = InspectionDraft | ReviewRecord | Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    work: Work
    answer: Future[Entry | None] = field(default_factory=Future)


class _Inbox:
    """What waits to be written. After `close` nothing goes in, and what is in comes out."""

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: _Job) -> None:
        """Raises RecordError once the inbox is closed."""
        with self._changed:
            if self._closed:
                raise RecordError(
                    "the record store is closed", remedy="Send the part again after the restart."
                )
            self._jobs.append(job)
            self._changed.notify()

    def take(self) -> list[_Job]:
        """All that waits, at most MAX_GROUP; waits for the first; empty when it is all over."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_GROUP))]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Tip:
    """Where the records end: the tree so far and the maker of trace IDs."""

    def __init__(self, tree: Frontier, trace_ids: TraceIds) -> None:
        self.tree = tree
        self.trace_ids = trace_ids


class GroupWriter:
    """The thread that writes. It is the only owner of its connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inbox = _Inbox()
        self._connection: Connection | None = None
        self._tip: _Tip | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="records-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Future[Entry | None]:
        """Ask for `work`; the future is answered when it is durable, or cannot be.

        Raises:
            RecordError: the writer is closed.
        """
        job = _Job(work=work)
        self._inbox.put(job)
        return job.answer

    def close(self) -> None:
        """Write what was accepted, then stop. May be called again."""
        self._inbox.close()
        self._thread.join()

    def _run(self) -> None:
        while group := self._inbox.take():
            try:
                answers = self._write([job.work for job in group])
            except Exception as error:  # noqa: BLE001  the thread outlives whatever a group meets
                self._start_anew()
                for job in group:
                    job.answer.set_exception(_failure(error))
            else:
                for job, answer in zip(group, answers, strict=True):
                    if isinstance(answer, InspectionError):
                        job.answer.set_exception(answer)
                    else:
                        job.answer.set_result(answer)
        if self._connection is not None:
            self._connection.close()

    def _write(self, group: Sequence[Work]) -> list[Entry | InspectionError | None]:
        with translated("the record could not be written"):
            if self._connection is None:
                self._connection = self._engine.connect()
            connection = self._connection
            with connection.begin():
                tip = self._read_tip(connection)
                if self._failed:
                    try_commit(connection)
                transaction = _Transaction(connection, tip, group)
                answers = [transaction.settle(work) for work in group]
                transaction.write()
            self._tip = _Tip(transaction.tree, tip.trace_ids)
            self._failed = False
            return answers

    def _read_tip(self, connection: Connection) -> _Tip:
        # Read in every transaction, so that a second process on the same file does no harm.
        tree = queries.frontier(connection)
        if self._tip is not None and self._tip.tree.root() == tree.root():
            return _Tip(tree, self._tip.trace_ids)
        return _Tip(tree, TraceIds(queries.newest_trace_id(connection)))

    def _start_anew(self) -> None:
        """Forget what the failed group left in memory: the database alone knows what holds."""
        self._failed = True
        self._tip = None
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:  # noqa: BLE001  it is given up either way
                return


class _Transaction:
    """One group inside its transaction: the rules, what the group adds, and the rows."""

    def __init__(self, connection: Connection, tip: _Tip, group: Sequence[Work]) -> None:
        self.tree = tip.tree
        self._size_before = tip.tree.size
        self._connection = connection
        self._trace_ids = tip.trace_ids
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        drafts = [work for work in group if isinstance(work, InspectionDraft)]
        self._by_key = _known(connection, "idempotency_key", drafts)
        self._by_capture = _known(connection, "capture_id", drafts)
        self._attempts: dict[tuple[str, str], int] = {}
        parts: dict[str, set[str]] = defaultdict(set)
        for draft in drafts:
            if draft.serial is not None:
                parts[draft.product].add(draft.serial)
        for product, serials in parts.items():
            self._attempts |= queries.attempts_so_far(connection, product, serials)

    def settle(self, work: Work) -> Entry | InspectionError | None:
        """The answer to one piece of work, should the transaction commit; errors are answers."""
        try:
            if isinstance(work, InspectionDraft):
                return self._inspection(work)
            if isinstance(work, ReviewRecord):
                return self._review(work)
        except InspectionError as error:
            return error
        return None

    def write(self) -> None:
        """Insert what the group adds, and the tree's new head."""
        if self.tree.size == self._size_before:
            return
        for table in (entries, inspections, reviews):
            if rows := self._rows.get(table.name):
                self._connection.execute(insert(table), rows)
        self._connection.execute(
            insert(tree_heads),
            {
                "size": self.tree.size,
                "root": self.tree.root(),
                "peaks": b"".join(self.tree.peaks),
            },
        )

    def _inspection(self, draft: InspectionDraft) -> InspectionRecord:
        key = (draft.station, draft.idempotency_key)
        capture = (draft.station, draft.capture_id)
        known = queries.same_request(
            self._by_key.get(key),
            self._by_capture.get(capture),
            draft.request_sha256,
            key=draft.idempotency_key,
            capture=draft.capture_id,
        )
        if known is not None:
            # Its first sending came in between the caller's own look and now.
            return known.record or queries.inspection_at(self._connection, known.sequence)
        counts = draft.reason not in NOT_COUNTED
        before = 0 if draft.serial is None else self._attempts.get((draft.product, draft.serial), 0)
        trace_id = self._trace_ids.next()
        with _alone():
            record = complete(draft, trace_id=trace_id, attempt=before + 1 if counts else None)
        sequence = self._add(record)
        if counts and draft.serial is not None:
            self._attempts[draft.product, draft.serial] = before + 1
        self._by_key[key] = self._by_capture[capture] = Known(
            request_sha256=draft.request_sha256, sequence=sequence, record=record
        )
        return record

    def _review(self, review: ReviewRecord) -> ReviewRecord:
        found = self._connection.execute(
            select(inspections.c.sequence).where(inspections.c.id == review.inspection_id)
        ).scalar()
        if found is None:
            raise NotFound(f"there is no inspection {review.inspection_id}")
        taken = any(row["id"] == review.id for row in self._rows["reviews"])
        if (
            taken
            or self._connection.execute(
                select(entries.c.sequence).where(entries.c.id == review.id)
            ).scalar()
        ):
            raise RecordError(f"review {review.id} is already there", remedy="Give it a new ID.")
        self._add(review)
        return review

    def _add(self, entry: Entry) -> int:
        kind = kind_of(entry)
        body = _body(entry)
        leaf = leaf_hash(body)
        self.tree.add(leaf)
        sequence = self.tree.size
        self._rows["entries"].append(
            {"sequence": sequence, "kind": kind, "id": entry.id, "body": body, "leaf_hash": leaf}
        )
        self._rows["inspections" if kind == "inspection" else "reviews"].append(
            index_row(sequence, entry)
        )
        return sequence


def _body(entry: Entry) -> bytes:
    """The canonical JSON of a record, proven to read back as the same record.

    Raises:
        RecordError: it cannot be written down; nothing that could not be read may get in.
    """
    with _alone():
        body = canonical_json(entry)
        same = parse_entry(kind_of(entry), body)
    if same != entry:
        raise RecordError("the record would not read back as it is")
    return body


@contextmanager
def _alone() -> Iterator[None]:
    """What a draft's own contents make go wrong is that draft's, not the group's."""
    try:
        yield
    except InspectionError:
        raise
    except Exception as error:
        raise RecordError(f"the record cannot be written down: {error}") from error


def _known(
    connection: Connection, column: Any, drafts: Sequence[InspectionDraft]
) -> dict[tuple[str, str], Known]:
    values: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        values[draft.station].add(getattr(draft, column))
    known: dict[tuple[str, str], Known] = {}
    for station, wanted in values.items():
        known |= queries.known_requests(connection, column, station, wanted)
    return known


def _failure(error: Exception) -> RecordError:
    """An exception of its own for each caller: one object raised in many threads gets muddled."""
    if isinstance(error, RecordError):
        copy = type(error)(str(error), remedy=error.remedy)
    else:
        copy = RecordError(f"the record could not be written: {error}")
    copy.__cause__ = error
    return copy
