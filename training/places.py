"""Whether a folder can be written to, asked before the work and not after it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or made; leave nothing behind.

    Raises:
        ConfigurationError: names the folder and what the system says.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=there):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written to: {error.strerror or error}",
            remedy="Correct the folder's rights, or name another one.",
        ) from error
