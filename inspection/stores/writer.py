"""Group commit: one thread writes whatever waits, in one transaction, and then answers.

    submit(work) -> inbox -> take all -> BEGIN, alone (`database.open_engine`)
                                           the end of the records, whoever wrote it
                                           Transaction: settle each, write rows and tree head
                                         COMMIT (log on disk) -> every caller gets its answer

While one group is being synced the next one gathers, so the disk's syncs are shared by as many
callers as there are, and a lone caller waits for nobody. A refusal is its caller's alone; an error
of the database is the whole group's, and everything is read anew before the next group.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from inspection.errors import InspectionError, RecordError
from inspection.stores.database import ensure_month, translated, try_commit
from inspection.stores.known import Tip, read_tip
from inspection.stores.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine, RootTransaction

    from inspection.entries import Entry
    from inspection.stores.transaction import Work

MAX_GROUP: Final = 256
"""Enough for every thread of a server; it bounds how long the first of a group waits."""


class Answer:
    """What one caller waits for. A lock that its maker holds: cheaper than a condition each."""

    __slots__ = ("_error", "_given", "_value")

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()
        self._value: Entry | None = None
        self._error: InspectionError | None = None

    def give(self, answer: Entry | InspectionError | None) -> None:
        """Let the caller go on, with this."""
        if isinstance(answer, InspectionError):
            self._error = answer
        else:
            self._value = answer
        self._given.release()

    def result(self, timeout: float | None = None) -> Entry | None:
        """The answer, when it is durable.

        Raises:
            InspectionError: it could not be had; nothing was written for it.
            TimeoutError: there is none after `timeout` seconds.
        """
        if not self._given.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError
        self._given.release()  # for whoever asks again
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> InspectionError | None:
        """The error that `result` would raise; None when there is none."""
        with self._given:
            return self._error


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work
    answer: Answer


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


class GroupWriter:
    """The thread that writes. It is the only owner of its connection."""

    def __init__(self, engine: Engine, *, committed: Callable[[int], None] | None = None) -> None:
        """Start the thread.

        Args:
            engine: of writing transactions.
            committed: told the newest sequence after every commit that added something.
        """
        self._engine = engine
        self._committed = committed
        self._inbox = _Inbox()
        self._connection: Connection | None = None
        self._tip: Tip | None = None
        self._month = 0  # whose entries there is room for
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="records-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Answer:
        """Ask for `work`; the answer is given when it is durable, or cannot be.

        Raises:
            RecordError: the writer is closed.
        """
        answer = Answer()
        self._inbox.put(_Job(work, answer))
        return answer

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
                    job.answer.give(_failure(error))
            else:
                for job, answer in zip(group, answers, strict=True):
                    job.answer.give(answer)
        if self._connection is not None:
            self._connection.close()

    def _write(self, group: Sequence[Work]) -> list[Entry | InspectionError | None]:
        with translated("the record could not be written"):
            connection, begun = self._begin()
            with begun:
                # Read in every transaction: other servers may write to these records too.
                tip = read_tip(connection, self._tip)
                size, month = tip.tree.size, max(tip.month, _this_month())
                if month != self._month:
                    ensure_month(connection, month)
                if self._failed:
                    try_commit(connection)
                transaction = Transaction(connection, tip, month, group)
                answers = [transaction.settle(work) for work in group]
                transaction.write()
        added = transaction.tree.size != size
        self._tip = Tip(
            tree=transaction.tree,
            month=month if added else tip.month,
            trace_ids=tip.trace_ids,
        )
        self._month, self._failed = month, False
        if added and self._committed is not None:
            self._committed(transaction.tree.size)
        return answers

    def _begin(self) -> tuple[Connection, RootTransaction]:
        """A transaction; on another connection when the one there is broke while it was idle."""
        if self._connection is not None:
            try:
                return self._connection, self._connection.begin()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._give_up()
        self._connection = self._engine.connect()
        return self._connection, self._connection.begin()

    def _start_anew(self) -> None:
        """Forget what the failed group left in memory: the database alone knows what holds."""
        self._failed = True
        self._tip = None
        self._month = 0
        self._give_up()

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:  # noqa: BLE001  it is given up either way
                return


def _this_month() -> int:
    """The month of the clock in UTC, as 202611."""
    now = datetime.now(UTC)
    return now.year * 100 + now.month


def _failure(error: Exception) -> RecordError:
    """An exception of its own for each caller: one object raised in many threads gets muddled."""
    if isinstance(error, RecordError):
        copy = type(error)(str(error), remedy=error.remedy)
    else:
        copy = RecordError(f"the record could not be written: {error}")
    copy.__cause__ = error
    return copy
