"""The files that records name: each is there and has its digest, or was erased on record.

image, evidence map of an inspection -> file -> digest, or carried by its record until a start
a file that is missing               -> a later entry says that it was erased?
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from inspection.errors import NotFound, RecordError, RecordsDamaged
from inspection.events import Erasure
from inspection.record import InspectionRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.entries import Entry
    from inspection.stores.files import FileImageStore


class FilesCheck:
    """Follows the entries in order and reads each file that they name, once.

    Args:
        images: the files.
        problem: told of each thing that does not hold.

    Attributes:
        erased: files that are missing because an entry says that they were deleted.
    """

    def __init__(self, images: FileImageStore, problem: Callable[[str], None]) -> None:
        self._images = images
        self._problem = problem
        self._carried: set[bytes] = set()
        self._named: set[bytes] = set()
        self._absent: set[bytes] = set()
        self._missing: dict[bytes, tuple[int, str]] = {}
        self.erased = 0

    @property
    def named(self) -> int:
        """How many files the records name."""
        return len(self._named)

    def carry(self, data: bytes | None) -> None:
        """Contents that the records hold themselves: the next start puts the file there."""
        if data is not None:
            self._carried.add(hashlib.sha256(data).digest())

    def entry(self, sequence: int, entry: Entry) -> None:
        """The next entry."""
        if isinstance(entry, InspectionRecord):
            self._file(sequence, "image", entry.image_sha256)
            if entry.evidence is not None:
                self._file(sequence, "evidence map", entry.evidence.sha256)
        elif isinstance(entry, Erasure):
            for digest in entry.files:
                self._missing.pop(bytes.fromhex(digest), None)

    def finish(self) -> None:
        """When all entries were seen."""
        for digest, (sequence, what) in self._missing.items():
            self._problem(
                f"record {sequence}: the file of its {what} is missing, and no entry says that it "
                f"was erased: {digest.hex()}"
            )
        for key in self._carried - self._named:
            self._problem(f"the records carry a file that none of them names: {key.hex()}")
        self.erased = len(self._absent) - len(self._missing)

    def extra(self) -> int:
        """How many files no record names."""
        extra = sum(1 for each in self._images.digests() if bytes.fromhex(each) not in self._named)
        return extra + sum(1 for _ in self._images.leftovers())

    def _file(self, sequence: int, what: str, digest: str) -> None:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            self._problem(f"record {sequence}: the file of its {what} is missing: {digest}")
            return
        try:
            if key not in self._named:
                self._named.add(key)
                self._images.get(digest)
        except NotFound:
            if key not in self._carried:
                self._absent.add(key)
        except RecordsDamaged:
            if key not in self._carried:
                self._problem(
                    f"record {sequence}: the file of its {what} holds something else: {digest}"
                )
        except RecordError as error:
            self._problem(f"record {sequence}: {error}")
        if key in self._absent:
            self._missing[key] = (sequence, what)
