"""Whether what is judged can be kept: looked at once a second, so that a refusal costs nothing.

    every second, and at once when a write has failed:
        statvfs of the folders: room, names, read-only -> "disk"
        an empty commit by the record writer           -> "records"
        a file, written and synced, after a failed one -> "images"
    POST -> require(): refused with 503 and Retry-After before its body is read

Each is looked at on a thread of its own, so that one that hangs hides nothing of the others, and
hanging is itself a cause. Whatever is well again serves again, without a restart.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from fastapi import Request

from inspection.errors import RecordError
from serving.errors import DiskFull, RecordsAway
from serving.state import server_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from inspection.image_store import ImageStore
    from inspection.store import RecordStore

log = logging.getLogger("serving")

LOOK_EVERY_S: Final = 1.0
ANSWER_S: Final = 6.0
"""A look that takes longer is itself the trouble. A writer waits 5 s for another process's lock."""

MARGIN: Final = 16
"""A disk that was too full must gain a sixteenth of the least room before it counts as well."""

LEAST_NAMES: Final = 1000
"""Files that a disk must still have names (inodes) for."""

READING: Final = frozenset({"lookup_parts"})
"""POSTs that add nothing, by the name of their route."""


class Keeping:
    """What keeps records and images from being made durable, by name. Read it from anywhere.

    Args:
        records: the record store.
        images: the store of images and evidence maps.
        folders: where both are, by the name that figures go by.
        min_free_bytes: with less room than this on a folder's disk it counts as full.
    """

    def __init__(
        self,
        records: RecordStore,
        images: ImageStore,
        folders: Mapping[str, Path],
        *,
        min_free_bytes: int,
    ) -> None:
        self._records = records
        self._images = images
        self._folders = folders
        self._least = min_free_bytes
        self._watched = {
            "records": _Watched("records", self._look_at_records),
            "disk": _Watched("disk", self._look_at_disks),
            "images": _Watched("images", self._look_at_images, only_in_doubt=True),
        }

    def look(self) -> None:
        """Look at everything now, on this thread."""
        for each in self._watched.values():
            each.look()

    def start(self) -> None:
        """From now on, keep looking."""
        for each in self._watched.values():
            each.start()

    def close(self) -> None:
        """Look no more."""
        for each in self._watched.values():
            each.close()

    def doubt(self) -> None:
        """A write has failed: look again at once."""
        for each in self._watched.values():
            each.doubt()

    def causes(self) -> Mapping[str, RecordError | None]:
        """What was looked at, by name, and what is wrong with it."""
        return {name: each.trouble for name, each in self._watched.items()}

    def require(self) -> None:
        """Refuse work whose record could not be kept.

        Raises:
            DiskFull, RecordsAway, RecordError: why.
        """
        for each in self._watched.values():
            if (trouble := each.trouble) is not None:
                # A new one each time: an error collects the frames of everybody who raises it.
                raise type(trouble)(str(trouble), remedy=trouble.remedy)

    def free_bytes(self) -> Iterator[tuple[str, int]]:
        """(name, bytes that are free) for each folder whose disk answers."""
        for name, folder in self._folders.items():
            try:
                found = os.statvfs(folder)
            except OSError:
                continue
            yield name, found.f_bavail * found.f_frsize

    def _look_at_records(self) -> None:
        self._records.check()

    def _look_at_images(self) -> None:
        self._images.check()

    def _look_at_disks(self) -> None:
        full = self._watched["disk"].trouble is not None
        for folder in self._folders.values():
            check_disk(folder, self._least + (self._least // MARGIN if full else 0))


def check_disk(folder: Path, min_free_bytes: int) -> None:
    """Whether files can be added to a folder, as far as its disk says.

    Raises:
        DiskFull: it has less room than this, or names for hardly any more files.
        RecordError: it is mounted read-only, or does not answer.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}") from error
    if found.f_flag & os.ST_RDONLY:
        raise RecordError(
            f"the disk of {folder} is mounted read-only",
            remedy="See the kernel's log: a disk with errors is mounted so. Mend it and mount it.",
        )
    free = found.f_bavail * found.f_frsize
    if free < min_free_bytes:
        raise DiskFull(
            f"{free // 2**20} MiB are free on the disk of {folder}; "
            f"{min_free_bytes // 2**20} MiB are kept back"
        )
    if found.f_files and found.f_favail < LEAST_NAMES:  # some file systems count none
        raise DiskFull(f"the disk of {folder} has names for {found.f_favail} more files")


def can_keep(request: Request) -> None:
    """A dependency of every route: refuses a POST that adds something while nothing can be kept.

    Raises:
        DiskFull, RecordsAway, RecordError: why.
    """
    if request.method == "POST" and request.scope["route"].name not in READING:
        server_of(request).keeping.require()


class _Watched:
    """One thing that must hold, looked at again and again on a thread of its own."""

    def __init__(self, name: str, look: Callable[[], None], *, only_in_doubt: bool = False) -> None:
        self._name = name
        self._look = look
        self._only_in_doubt = only_in_doubt
        self._error: RecordError | None = None
        self._since: float | None = None
        self._wake = threading.Event()
        self._doubtful = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeping-{name}", daemon=True)

    @property
    def trouble(self) -> RecordError | None:
        """What is wrong with it; None while it is well."""
        since = self._since
        if since is not None and (spent := time.monotonic() - since) > ANSWER_S:
            return RecordsAway(f"{self._name}: no answer for {spent:.0f} s")
        return self._error

    def look(self) -> None:
        """Look now. Whatever goes wrong is what is wrong with it."""
        self._since = time.monotonic()
        found: RecordError | None = None
        try:
            self._look()
        except RecordError as error:
            found = _told(self._name, error)
        except Exception as error:  # the thread goes on looking, whatever it meets
            log.exception("not looked at", extra={"check": self._name})
            found = RecordError(f"{self._name}: {type(error).__name__}")
        before, self._error = self._error, found
        self._since = None
        if found is None and before is not None:
            log.info("can be kept again", extra={"check": self._name})
        elif found is not None and before is None:
            log.error("cannot be kept", extra={"check": self._name, "detail": str(found)})

    def doubt(self) -> None:
        """Look again at once."""
        self._doubtful = True
        self._wake.set()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            # One that hangs in a disk is left behind: it is a daemon and holds nothing.
            self._thread.join(ANSWER_S)

    def _keep(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            doubtful, self._doubtful = self._doubtful, False
            due = doubtful or self._error is not None or not self._only_in_doubt
            if due and not self._closing.is_set():
                self.look()


def _told(name: str, error: RecordError) -> RecordError:
    """The error under a code of its own where the whole store is meant, not one write."""
    if name == "records" and type(error) is RecordError:
        return RecordsAway(str(error), remedy=error.remedy)
    return error
