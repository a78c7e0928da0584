"""Memory that this process and a Triton on the same machine both see.

    one region: | image | score | evidence | novelty | package |      each for a whole batch

The file in /dev/shm is taken away as soon as Triton has opened it: whatever becomes of either
process, nothing is left behind.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FOLDER: Final = Path("/dev/shm")  # noqa: S108  where POSIX shared memory lives on Linux
ALIGNED: Final = 64  # bytes: a cache line, and what vector instructions like


class Region:
    """One piece of shared memory with a place for each tensor of a batch.

    Args:
        shapes: of each tensor without its batch axis; all are float32.
        batch: the most images in one call.

    Raises:
        OSError: there is no such memory here, or not enough of it.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], *, batch: int) -> None:
        self.name: str = f"inspection-{os.getpid()}-{secrets.token_hex(8)}"
        self._places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, shape in shapes.items():
            size = 4 * batch * math.prod(shape)
            self._places[name] = (end, size)
            end += -(-size // ALIGNED) * ALIGNED
        self.size: int = end
        path = FOLDER / self.name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Reserved, not only promised: writing to memory that is not there ends the process.
            os.posix_fallocate(file, 0, self.size)
            self._memory = mmap.mmap(file, self.size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    @property
    def key(self) -> str:
        """Its name for shm_open."""
        return f"/{self.name}"

    def place_of(self, tensor: str) -> tuple[int, int]:
        """(offset, size) in bytes."""
        return self._places[tensor]

    def write(self, tensor: str, values: NDArray[np.float32]) -> None:
        """Put (N, ...) float32 in its place."""
        offset, _ = self.place_of(tensor)
        np.frombuffer(self._memory, np.float32, values.size, offset)[:] = values.reshape(-1)

    def read(self, tensor: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """A copy of what stands in its place; None when so much does not fit in there."""
        offset, size = self.place_of(tensor)
        count = math.prod(shape)
        if count < 0 or 4 * count > size:
            return None
        return np.frombuffer(self._memory, np.float32, count, offset).reshape(shape).copy()

    def hide(self) -> None:
        """Take the name away; whoever has opened it keeps it."""
        (FOLDER / self.name).unlink(missing_ok=True)
