"""Files whose bytes are durable with their record, before they are durable as files.

    lay (no fsync) ─┐
    append: record, bytes of the files ─> COMMIT (one sync for all) -> answer
                    └─> every SETTLE_EVERY_S: syncfs, then the bytes go from the records
    start: bytes that are still there -> put (fsync) -> go

Of an inspection's files each would take two syncs of its own, one for the file and one for its
name; so the record's own sync is the only one that a caller waits for. What a loss of power takes
from the folder is in the records, and is put back when the server starts.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import TYPE_CHECKING, Final

from inspection.errors import InspectionError

if TYPE_CHECKING:
    from inspection.stores.files import FileImageStore
    from inspection.stores.sql import SqlRecordStore

SETTLE_EVERY_S: Final = 2.0
TOGETHER: Final = 64
"""Records whose files are put back, or let go, at a time."""

log = logging.getLogger("serving")


class Carrier:
    """Settles what is carried, on a thread of its own."""

    def __init__(self, records: SqlRecordStore, images: FileImageStore) -> None:
        """Put back what a crash may have taken.

        Raises:
            RecordError: the records cannot be read, or the disk refused.
        """
        self._records = records
        self._images = images
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)
        self._put_back()

    def start(self) -> None:
        """From now on, settle again and again."""
        self._thread.start()

    def close(self) -> None:
        """Settle once more, and stop."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._try()

    def settle(self) -> None:
        """Make the files durable that are carried now, and let their bytes go.

        Raises:
            RecordError: that could not be done; they are carried on.
        """
        found = self._records.carried_range()
        if found is None:
            return
        first, last = found
        self._images.settle()
        for some in range(first + TOGETHER - 1, last, TOGETHER):
            self._records.settled(some)  # in pieces: inspections wait for the same writer
        self._records.settled(last)

    def _put_back(self) -> None:
        sequence = 0
        while some := self._records.carried(sequence, TOGETHER):
            for sequence, files in some:  # noqa: B007  the last one is where it goes on
                for data in (files.image, files.evidence):
                    if data is not None and not self._erased(data):
                        self._images.put(data)
        if sequence:
            self._records.settled(sequence)

    def _erased(self, data: bytes) -> bool:
        """Whether a rule of retention has deleted it, while the server was down for long."""
        return self._records.erased(hashlib.sha256(data).hexdigest()) is not None

    def _run(self) -> None:
        while not self._closing.wait(SETTLE_EVERY_S):
            self._try()

    def _try(self) -> None:
        try:
            self.settle()
        except InspectionError as error:
            log.error("files not settled", extra={"detail": str(error)})
