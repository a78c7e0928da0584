"""A large file goes to the disk past the page cache, from memory that is used again and again.

    data -> piece by piece into aligned memory -> write(2) with O_DIRECT -> cut to its length

An image is written once and hardly ever read. Written as other files are, each takes as much fresh
memory as it is long, which the kernel has to find, to fill and to write out later: of a radiograph
of 8 MiB that cost more processor time than its network (docs/decisions/0024-hot-path.md).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_BYTES: Final = 1024 * 1024
"""A smaller file is written as files are."""

PIECE_BYTES: Final = 4 * 1024 * 1024
ALIGNED: Final = 4096
"""What memory, places and lengths are multiples of: no disk has larger blocks."""

KEPT: Final = 4
"""How many pieces of memory are kept for the next files."""

_O_DIRECT: Final = getattr(os, "O_DIRECT", 0)  # not on every system
_free: list[mmap.mmap] = []


def write_direct(descriptor: int, data: bytes) -> bool:
    """Write a file that is empty yet; durable only once it was synced.

    Args:
        descriptor: of the file, open to write.
        data: all that it is to hold.

    Returns:
        Whether it was; False, and the file is as it was, where it is small, or the file system
        cannot do this.

    Raises:
        OSError: the disk refused.
    """
    if len(data) < LEAST_BYTES or not _O_DIRECT:
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | _O_DIRECT)
        with _piece() as piece, memoryview(data) as whole:
            for start in range(0, len(data), PIECE_BYTES):
                part = whole[start : start + PIECE_BYTES]
                piece[: len(part)] = part
                # The last block goes with what lay in memory behind its end, and is cut below.
                _write(descriptor, piece, -(-len(part) // ALIGNED) * ALIGNED, start)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        os.ftruncate(descriptor, 0)
        return False
    os.ftruncate(descriptor, len(data))
    return True


@contextmanager
def _piece() -> Iterator[mmap.mmap]:
    """Aligned memory, nobody else's meanwhile."""
    try:
        piece = _free.pop()
    except IndexError:
        piece = mmap.mmap(-1, PIECE_BYTES)
    yield piece
    if len(_free) < KEPT:
        _free.append(piece)


def _write(descriptor: int, piece: mmap.mmap, length: int, place: int) -> None:
    done = 0
    with memoryview(piece) as view:
        while done < length:
            done += os.pwrite(descriptor, view[done:length], place + done)
