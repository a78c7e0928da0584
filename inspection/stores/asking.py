"""The asking half of the record store: each question on a connection with one view of the records.

    get, by_trace_id, find                                   search.py
    names, part_history, histories, reviews, view_set,
    holds, process_values                                    parts.py
    counts                                                   counting.py
    changes, newest, wait_beyond                             feed.py, pulse.py

It never waits for the writer, and the writer never waits for it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sqlalchemy import select

from inspection.errors import RecordError, RecordsDamaged
from inspection.record import Carried
from inspection.stores import counting, feed, search
from inspection.stores import parts as of_parts
from inspection.stores.database import LOCK_WAIT_S, open_engine, translated
from inspection.stores.pulse import Pulse
from inspection.stores.reading import entries_at
from inspection.stores.rows import ask
from inspection.stores.schema import erased_files, server_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from inspection.entries import Entry
    from inspection.events import Erasure, HoldScope, ProcessValue
    from inspection.record import InspectionRecord, ReviewRecord
    from inspection.standing import PartNames
    from inspection.store import (
        Bucket,
        Change,
        CountBy,
        CountRow,
        Filter,
        Page,
        StandingHold,
        ViewSetState,
    )


class Asking:
    """What is asked of records, as `inspection.store.RecordStore` says."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Connections to tables that are there."""
        self._engine = open_engine(url, lock_wait_s=lock_wait_s)
        self._asking_closed = False
        self.pulse = Pulse()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """A connection with one unchanging view of the records."""
        if self._asking_closed:
            raise RecordError(f"{doing}: the record store is closed")
        with translated(doing), self._engine.begin() as connection:
            yield connection

    def close_asking(self) -> None:
        """Stop answering; whoever waits for a commit waits no longer. May be called again."""
        self._asking_closed = True
        self.pulse.close()
        self._engine.dispose()

    # --- inspections ---------------------------------------------------------------------------

    def get(self, inspection_id: str) -> InspectionRecord:
        """The inspection of this ID. Raises NotFound when there is none."""
        with self.reading("the record cannot be read") as connection:
            return search.inspection_by(connection, "id", inspection_id)

    def by_trace_id(self, trace_id: str) -> InspectionRecord:
        """The inspection of a trace ID in its written form. Raises NotFound when there is none."""
        with self.reading("the record cannot be read") as connection:
            return search.inspection_by(connection, "trace_id", trace_id)

    def reviews(self, inspection_id: str) -> Sequence[ReviewRecord]:
        """Reviews of an inspection, oldest first."""
        with self.reading("the reviews cannot be read") as connection:
            return of_parts.reviews_of(connection, inspection_id)

    def view_set(self, view_set_id: str) -> ViewSetState:
        """A set of views as it stands. Raises NotFound when there is none."""
        with self.reading("the views cannot be read") as connection:
            return of_parts.view_set(connection, view_set_id)

    def find(self, wanted: Filter) -> Page:
        """Inspections, newest first; single views of a set are not listed, their sum is.

        Raises:
            RequestError: a time is none or has no zone.
        """
        with self.reading("the records cannot be searched") as connection:
            return search.find(connection, wanted)

    def counts(
        self, wanted: Filter, *, by: Sequence[CountBy] = (), bucket: Bucket | None = None
    ) -> Sequence[CountRow]:
        """Counts of what `find` would list; oldest bucket first.

        Raises:
            RequestError: as `counting.counts` says.
        """
        with self.reading("the records cannot be counted") as connection:
            return counting.counts(connection, wanted, by, bucket)

    def carried(self, after: int, limit: int) -> Sequence[tuple[int, Carried]]:
        """Files that records carry, and the sequences of those; in order, after a sequence."""
        with self.reading("the files that are carried cannot be read") as connection:
            rows = ask(
                connection,
                "SELECT sequence, image, evidence FROM carried_files WHERE sequence > ? "
                "ORDER BY sequence LIMIT ?",
                (after, limit),
            )
        return [(n, Carried(image=image, evidence=evidence)) for n, image, evidence in rows]

    def carried_range(self) -> tuple[int, int] | None:
        """The first and the last sequence that carry a file; None when none does."""
        with self.reading("the files that are carried cannot be counted") as connection:
            query = "SELECT min(sequence), max(sequence) FROM carried_files"
            first, last = ask(connection, query)[0]
        return None if first is None else (int(first), int(last))

    # --- parts ---------------------------------------------------------------------------------

    def names(self, product: str, part: str) -> PartNames:
        """Every identity of a part; its own alone when it was never renamed."""
        with self.reading("the part's names cannot be read") as connection:
            return of_parts.names(connection, product, part)

    def part_history(self, product: str, part: str) -> Sequence[Entry]:
        """Every entry that concerns a part under any of its names, in the order of commits."""
        with self.reading("the part's history cannot be read") as connection:
            return of_parts.part_history(connection, product, part)

    def histories(
        self, product: str, parts: Sequence[str]
    ) -> dict[str, tuple[PartNames, Sequence[Entry]]]:
        """`names` and `part_history` of many parts, by the identity that was asked for."""
        with self.reading("the parts' histories cannot be read") as connection:
            return of_parts.histories(connection, product, parts)

    def holds_on(self, keys: Iterable[tuple[str, HoldScope, str]]) -> Sequence[StandingHold]:
        """The holds that stand on any of these (product, scope, value)."""
        with self.reading("the holds cannot be read") as connection:
            return of_parts.holds_on(connection, keys)

    def anything_held(self) -> bool:
        """Whether any hold stands."""
        with self.reading("the holds cannot be read") as connection:
            return of_parts.anything_held(connection)

    def holds(
        self, *, product: str | None = None, standing: bool = True, limit: int = 1000
    ) -> Sequence[StandingHold]:
        """Holds, newest first; those that were released too unless `standing`."""
        with self.reading("the holds cannot be read") as connection:
            return of_parts.all_holds(connection, product=product, standing=standing, limit=limit)

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
        """Values of a part, and of a machine, from `start` to before `end`, by time."""
        with self.reading("the process values cannot be read") as connection:
            return of_parts.values_of(
                connection,
                product=product,
                part=part,
                machine=machine,
                start=start,
                end=end,
                limit=limit,
            )

    def erased(self, sha256: str) -> Erasure | None:
        """Under which rule an image file was deleted, the last time; None when none was."""
        with self.reading("the erased files cannot be asked for") as connection:
            sequence = connection.execute(
                select(erased_files.c.sequence).where(erased_files.c.sha256 == sha256)
            ).scalar()
            if sequence is None:
                return None
            return cast("Erasure", entries_at(connection, [sequence])[0])

    def erased_since(self, sha256: str, sequence: int) -> bool:
        """Whether an image file was deleted on record after an entry."""
        with self.reading("the erased files cannot be asked for") as connection:
            last = connection.execute(
                select(erased_files.c.sequence).where(erased_files.c.sha256 == sha256)
            ).scalar()
        return last is not None and last > sequence

    # --- the order of commits ------------------------------------------------------------------

    def changes(self, after: int, *, limit: int = 100) -> Sequence[Change]:
        """Entries whose sequence is above `after`, in order, at most `limit` (1 to 1,000)."""
        with self.reading("the changes cannot be read") as connection:
            return feed.changes(connection, after, limit)

    def newest(self) -> int:
        """The sequence of the last committed entry; 0 when there is none."""
        with self.reading("the newest change cannot be read") as connection:
            return feed.newest(connection)

    def wait_beyond(self, after: int, timeout_s: float) -> int:
        """Blocks until something past `after` is committed, or the time is over; the newest.

        A commit of this process wakes it at once, one of another within LOOK_EVERY_S.
        """
        until = time.monotonic() + timeout_s
        while True:
            newest = self.newest()
            left = until - time.monotonic()
            if newest > after or left <= 0:
                return newest
            self.pulse.wait(max(after, newest), min(left, feed.LOOK_EVERY_S))

    # --- secrets -------------------------------------------------------------------------------

    def secret(self, name: str) -> bytes:
        """32 random bytes, the same for every server on these records.

        Raises:
            RecordsDamaged: there are none of this name; they were made with the tables.
        """
        with self.reading("the server's keys cannot be read") as connection:
            found: bytes | None = connection.execute(
                select(server_keys.c.secret).where(server_keys.c.name == name)
            ).scalar()
        if found is None or len(found) != 32:
            raise RecordsDamaged(f"the server's key {name!r} is missing")
        return found
