"""One group of work inside its transaction: the rules, what the group adds, and the rows.

    group -> what do the tables know of its requests, parts and sets of views?    one question each
          -> each piece of work: a refusal | the stored answer | an entry, its body and leaf
          -> rows of all tables, one tree head

What one piece of work makes go wrong is answered to whoever sent it; the others go on. An error of
the database is the whole group's, and is raised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import delete

from inspection.entries import canonical_json, kind_of, parse_entry
from inspection.errors import InspectionError, RecordError, RequestError
from inspection.events import Naming
from inspection.proofs.merkle import leaf_hash
from inspection.record import NOT_COUNTED, InspectionDraft, complete
from inspection.stores.derived import DerivedRows
from inspection.stores.known import Attempts, Known, known_requests
from inspection.stores.reading import entries_at
from inspection.stores.rows import insert_rows
from inspection.stores.schema import carried_files, entries, submissions, tree_heads
from inspection.stores.statements import (
    allow,
    allow_erasure,
    allow_id,
    allow_review,
    sent_before,
)
from inspection.stores.views import (
    OpenSet,
    allow_view,
    open_sets,
    opened,
    refuse_reserved,
    sum_up,
    views_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from inspection.entries import Entry
    from inspection.events import Statement, ViewSet
    from inspection.record import InspectionRecord, ReviewRecord, ViewReference
    from inspection.store import Submission, ViewSetDraft
    from inspection.stores.known import Tip
    from inspection.stores.rows import Row

# Of these escapes only one that stands for a NUL, not for a backslash before "u0000".
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Asks whether a record could be written now; writes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A review to add; `seen` as in `RecordStore.append_review`."""

    review: ReviewRecord
    seen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A statement to add.

    Attributes:
        holds_seen: of an erasure: `statements.newest_hold` when its files were chosen.
    """

    statement: Statement
    submission: Submission | None = None
    holds_seen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A set of views to open."""

    draft: ViewSetDraft
    submission: Submission | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A set of views to close."""

    view_set_id: str
    by: str | None
    received_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Files that came with the entries up to `sequence` are durable by themselves now."""

    sequence: int


Work = InspectionDraft | Decision | Addition | Opening | Closing | Settled | Probe


class Transaction:
    """One group. Make it, settle each piece of work, then write."""

    def __init__(self, connection: Connection, tip: Tip, month: int, group: Sequence[Work]) -> None:
        self.tree = tip.tree
        self._size_before = tip.tree.size
        self._connection = connection
        self._month = month
        self._trace_ids = tip.trace_ids
        self._entries: list[Row] = []
        self._submissions: list[Row] = []
        self._carried: list[Row] = []
        self._derived = DerivedRows(connection)
        drafts = [w for w in group if isinstance(w, InspectionDraft) and _askable(_names(w))]
        self._asked = {id(draft) for draft in drafts}
        self._requests = known_requests(
            connection,
            {(draft.station, draft.idempotency_key) for draft in drafts},
            {(draft.station, draft.capture_id) for draft in drafts},
        )
        self._attempts = Attempts(connection)
        self._attempts.load(
            {(d.product, d.serial) for d in drafts if d.serial is not None and d.view_set is None}
        )
        self._sets: dict[str, OpenSet] = open_sets(
            connection, {draft.view_set for draft in drafts if draft.view_set is not None}
        )

    def settle(self, work: Work) -> Entry | InspectionError | None:
        """The answer to one piece of work, should the transaction commit; errors are answers."""
        try:
            match work:
                case InspectionDraft():
                    return self._inspection(work)
                case Decision():
                    return self._review(work)
                case Addition():
                    return self._addition(work)
                case Opening():
                    return self._opening(work)
                case Closing():
                    return self._closing(work)
                case Settled():
                    let_go = delete(carried_files).where(carried_files.c.sequence <= work.sequence)
                    self._connection.execute(let_go)
                    return None
                case Probe():
                    return None
        except InspectionError as error:
            return error

    def write(self) -> None:
        """Write what the group adds, and the tree's new head."""
        if self.tree.size == self._size_before:
            return
        self._write_rows()
        self.tree.write(self._connection)
        head = (self.tree.size, self.tree.root(), b"".join(self.tree.peaks))
        insert_rows(self._connection, tree_heads, [head])

    # --- inspections -----------------------------------------------------------------------------

    def _inspection(self, draft: InspectionDraft) -> InspectionRecord:
        if id(draft) not in self._asked:
            raise _not_askable()
        known = self._requests.find(
            draft.station, draft.idempotency_key, draft.capture_id, draft.request_sha256
        )
        if known is not None:
            # Its first sending came in between the caller's own look and now.
            return known.record or self._stored(known.sequence)
        refuse_reserved(draft)
        if draft.view_set is None:
            return self._add_inspection(draft)
        return self._add_view(draft, draft.view_set)

    def _add_inspection(
        self,
        draft: InspectionDraft,
        part: str | None = None,
        views: tuple[ViewReference, ...] = (),
    ) -> InspectionRecord:
        """An inspection that counts, unless its reason does not."""
        counts = draft.reason not in NOT_COUNTED
        name = part or draft.serial
        before = 0 if name is None else self._attempts_of(draft.product, name)
        try:
            record = complete(
                draft,
                trace_id=self._trace_ids.next(),
                attempt=before + 1 if counts else None,
                part=part,
                views=views,
            )
        except InspectionError:
            raise
        except Exception as error:
            raise _unwritable(error) from error
        self._remember(draft, record)
        if counts and name is not None:
            self._attempts.count(draft.product, name)
        return record

    def _add_view(self, draft: InspectionDraft, view_set_id: str) -> InspectionRecord:
        if view_set_id not in self._sets:  # it may have been opened in this group
            self._write_rows()
            self._sets |= open_sets(self._connection, {view_set_id})
        found = self._sets.get(view_set_id)
        of = allow_view(draft, found)
        try:
            record = complete(
                replace(draft, reason=of.reason or draft.reason),
                trace_id=self._trace_ids.next(),
                attempt=None,
                part=of.part,
            )
        except InspectionError:
            raise
        except Exception as error:
            raise _unwritable(error) from error
        self._remember(draft, record)
        self._sets[view_set_id].there.add(str(draft.view))
        return record

    def _remember(self, draft: InspectionDraft, record: InspectionRecord) -> None:
        sequence = self._add(record)
        if draft.carried is not None:
            self._carried.append((sequence, draft.carried.image, draft.carried.evidence))
        known = Known(request_sha256=draft.request_sha256, sequence=sequence, record=record)
        self._requests.by_key[draft.station, draft.idempotency_key] = known
        self._requests.by_capture[draft.station, draft.capture_id] = known

    def _attempts_of(self, product: str, part: str) -> int:
        if not self._attempts.knows(product, part):
            self._write_rows()
            self._attempts.load({(product, part)})
        return self._attempts.so_far(product, part)

    def _stored(self, sequence: int) -> InspectionRecord:
        return cast("InspectionRecord", entries_at(self._connection, [sequence])[0])

    # --- everything else: its rules read the tables, so what came before is written first --------

    def _review(self, decision: Decision) -> ReviewRecord:
        _require_askable((decision.review.inspection_id, decision.review.id))
        self._write_rows()
        allow_review(self._connection, decision.review, decision.seen)
        self._add(decision.review)
        return decision.review

    def _addition(self, addition: Addition) -> Statement:
        self._write_rows()
        before = self._sent_before(addition.submission)
        if before is not None:
            return cast("Statement", before)
        allow(self._connection, addition.statement)
        if addition.holds_seen is not None:
            allow_erasure(self._connection, addition.holds_seen)
        self._submit(addition.submission, self._add(addition.statement))
        if isinstance(addition.statement, Naming):
            self._attempts.forget()
        return addition.statement

    def _opening(self, opening: Opening) -> ViewSet:
        self._write_rows()
        before = self._sent_before(opening.submission)
        if before is not None:
            return cast("ViewSet", before)
        view_set = opened(opening.draft, self._trace_ids.next())
        allow_id(self._connection, view_set.id)
        self._submit(opening.submission, self._add(view_set))
        return view_set

    def _closing(self, closing: Closing) -> InspectionRecord:
        _require_askable((closing.view_set_id,))
        self._write_rows()
        view_set, views, closed = views_of(self._connection, closing.view_set_id)
        if closed is not None:
            return self._stored(closed)
        draft, references = sum_up(view_set, views, by=closing.by, received_at=closing.received_at)
        record = self._add_inspection(draft, view_set.part, references)
        self._sets.pop(view_set.id, None)
        return record

    def _sent_before(self, submission: Submission | None) -> Entry | None:
        if submission is None:
            return None
        _require_askable((submission.principal, submission.key, submission.request_sha256))
        return sent_before(self._connection, submission)

    def _submit(self, submission: Submission | None, sequence: int) -> None:
        if submission is not None:
            row = (submission.principal, submission.key, submission.request_sha256, sequence)
            self._submissions.append(row)

    # --- rows ------------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> int:
        body = _body(entry)
        leaf = leaf_hash(body)
        sequence = self.tree.size + 1
        try:
            self._derived.add(sequence, entry)
        except ValueError as error:
            raise _unwritable(error) from error
        self.tree.add(leaf)
        self._entries.append((sequence, self._month, kind_of(entry), entry.id, body, leaf))
        return sequence

    def _write_rows(self) -> None:
        insert_rows(self._connection, entries, self._entries)
        self._derived.write()
        insert_rows(self._connection, submissions, self._submissions)
        insert_rows(self._connection, carried_files, self._carried)
        self._entries, self._submissions, self._carried = [], [], []


def _body(entry: Entry) -> bytes:
    """The canonical JSON of an entry, proven to read back as the same entry.

    Raises:
        RequestError: a text holds a NUL character, which not every database keeps.
        RecordError: it cannot be written down; nothing that could not be read may get in.
    """
    try:
        body = canonical_json(entry)
        same = parse_entry(kind_of(entry), body)
    except InspectionError:
        raise
    except Exception as error:
        raise _unwritable(error) from error
    if same != entry:
        raise RecordError("the record would not read back as it is")
    if b"\\u0000" in body and _NUL.search(body):
        raise RequestError("a text holds a NUL character", remedy="Send it without.")
    return body


def _unwritable(error: Exception) -> RecordError:
    """What a piece of work's own contents made go wrong: its own answer, not the group's."""
    return RecordError(f"the record cannot be written down: {error}")


def _names(draft: InspectionDraft) -> tuple[Any, ...]:
    """The texts that name a request and its part."""
    names = (draft.station, draft.idempotency_key, draft.capture_id, draft.product)
    return (*names, draft.request_sha256, draft.serial or "", draft.view_set or "")


def _askable(names: tuple[Any, ...]) -> bool:
    """Whether every database can be asked for these: text in UTF-8 without NUL."""
    try:
        return b"\0" not in "".join(names).encode()
    except (TypeError, UnicodeEncodeError):
        return False


def _require_askable(names: tuple[Any, ...]) -> None:
    if not _askable(names):
        raise _not_askable()


def _not_askable() -> RequestError:
    return RequestError(
        "a name in the request is no text that a database keeps",
        remedy="Send text in UTF-8 without NUL characters.",
    )
