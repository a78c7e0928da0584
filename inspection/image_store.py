"""What the journey needs of a place to keep files. `stores/files.py` holds the real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A file that is in its place.

    Attributes:
        sha256: of its contents, and its name.
        made: inode and time in ns of what was written; None when there was a file before.
    """

    sha256: str
    made: tuple[int, int] | None


class ImageStore(Protocol):
    """Content-addressed files: original images and evidence maps."""

    def put(self, data: bytes) -> str:
        """Keep `data`; return its SHA-256 in hex once file and name are durable (fsync).

        Raises:
            RecordError: the disk refused; nothing half-written is left.
        """
        ...

    def lay(self, data: bytes, sha256: str, *, durable: bool = False) -> Laid:
        """Keep `data` under its digest, whole at once; durable by itself only if that is asked.

        Raises:
            RecordError: the disk refused; nothing half-written is left.
        """
        ...

    def take_back(self, laid: Laid) -> None:
        """Remove what was laid, unless it was there before or was laid again since.

        Raises:
            RecordError: the disk refused.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes under this digest, verified.

        Raises:
            NotFound: there are none.
            RecordsDamaged: what is there has another digest.
        """
        ...

    def check(self) -> None:
        """Raise RecordError when a file cannot be made durable now."""
        ...
