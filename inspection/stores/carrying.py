"""Files whose bytes are durable with their record, before they are durable as files.

    lay (no fsync) ─┐
    append: record, bytes of the files ─> COMMIT (one sync for all) -> answer
                    └─> every SETTLE_EVERY_S: syncfs, then the bytes go from the records
    start, or syncfs has failed: bytes that are still there -> files written anew (fsync) -> go

Of an inspection's files each would take two syncs of its own, one for the file and one for its
name; so the record's own sync is the only one that a caller waits for. What a loss of power takes
from the folder is in the records, and is put back when the server starts. A sync that failed tells
so once, and what could not be written is not tried again: the files are, from the records.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Final

from inspection.errors import InspectionError, RecordError

if TYPE_CHECKING:
    from inspection.stores.files import FileImageStore
    from inspection.stores.sql import SqlRecordStore

SETTLE_EVERY_S: Final = 2.0
DOUBT_S: Final = 600.0
"""After a sync that failed files are written anew for so long: longer than any inspection takes,
whose image was laid before and whose record comes after."""

TOGETHER: Final = 64
"""Records whose files are put back, or let go, at a time."""

log = logging.getLogger("serving")


class Carrier:
    """Settles what is carried, on a thread of its own."""

    def __init__(self, records: SqlRecordStore, images: FileImageStore) -> None:
        """Put back what a crash may have taken; what the disk refuses now is tried again later."""
        self._records = records
        self._images = images
        self._doubt_until = math.inf
        self._said = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)
        self._try()

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
        if found is not None and time.monotonic() < self._doubt_until:
            self._write_anew()
        if math.isinf(self._doubt_until):  # what was there at the start is seen to
            self._doubt_until = 0.0
        if found is None:
            return
        first, last = found
        try:
            self._images.settle()
        except RecordError:
            self._doubt_until = time.monotonic() + DOUBT_S
            raise
        for some in range(first + TOGETHER - 1, last, TOGETHER):
            self._records.settled(some)  # in pieces: inspections wait for the same writer
        self._records.settled(last)

    def _write_anew(self) -> None:
        sequence = 0
        while some := self._records.carried(sequence, TOGETHER):
            for sequence, files in some:
                for data in (files.image, files.evidence):
                    # A rule of retention may have deleted it, while the server was down for long.
                    if data is not None and not self._records.erased_since(
                        hashlib.sha256(data).hexdigest(), sequence
                    ):
                        self._images.put(data, anew=True)

    def _run(self) -> None:
        while not self._closing.wait(SETTLE_EVERY_S):
            self._try()

    def _try(self) -> None:
        try:
            self.settle()
        except InspectionError as error:
            if str(error) != self._said:  # said once, tried for as long as it lasts
                log.error("files not settled", extra={"detail": str(error)})
            self._said = str(error)
        except Exception:  # the thread goes on, whatever it meets
            log.exception("files not settled")
        else:
            self._said = ""
