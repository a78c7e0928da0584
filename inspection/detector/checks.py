"""The checks of a station's detector, one after the other: a line of JSON each, only ever added.

    Figures, complaints -> Check -> one line, one write, fsync -> health.jsonl -> trend

A line that a crash cut short, or that was damaged, is no check: when it is the last one the
detector counts as unfit until it is checked again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.canonical import canonical_bytes
from inspection.detector.calibration import sync_folder
from inspection.detector.health import Figures
from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

CHECKS_NAME: Final = "health.jsonl"
TAIL_BYTES: Final = 256 * 1024
"""How much of the file is read: hundreds of checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a detector.

    Attributes:
        checked_at: RFC 3339, UTC.
        calibration: digest of the one that it was measured against.
        dark_frames, open_frames: how many it was made from.
        complaints: what lay past its limit; a fit detector has none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    checked_at: str
    detector: str | None
    calibration: str
    dark_frames: int
    open_frames: int
    figures: Figures
    complaints: tuple[str, ...]

    @property
    def fit(self) -> bool:
        """Whether the detector may judge."""
        return not self.complaints


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The last checks, the oldest first.

    Attributes:
        checks: those that can be read.
        damaged: whether the last line cannot be.
    """

    checks: tuple[Check, ...] = ()
    damaged: bool = False

    @property
    def last(self) -> Check | None:
        """The check that counts; None before the first one."""
        return self.checks[-1] if self.checks else None


def add_check(folder: Path, check: Check) -> None:
    """Add a check to the station's; it is durable when this returns.

    Raises:
        ConfigurationError: it cannot be written.
    """
    path = folder / CHECKS_NAME
    line = canonical_bytes(asdict(check)) + b"\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # what was cut short stays a line of its own
            if os.write(descriptor, line) != len(line):
                raise OSError(28, "the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(folder)
    except OSError as error:
        raise ConfigurationError(
            f"the check cannot be written to {path}: {error.strerror or error}",
            remedy="Until it can, the last check counts: make room, or give this user the folder.",
        ) from error


def read_checks(folder: Path) -> Trend:
    """The station's last checks; none when there are none.

    Raises:
        ConfigurationError: the file is there and cannot be read.
    """
    path = folder / CHECKS_NAME
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return Trend()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    lines = data.split(b"\n")
    whole = lines[:-1] if not lines[-1] else lines
    if size > TAIL_BYTES:
        del whole[0]  # begins in the middle
    checks = [_check_in(line) for line in whole]
    return Trend(
        checks=tuple(check for check in checks if check is not None),
        damaged=bool(lines[-1]) or (bool(checks) and checks[-1] is None),
    )


def _check_in(line: bytes) -> Check | None:
    try:
        return _adapter().validate_python(json.loads(line))
    except (ValueError, ValidationError, RecursionError):
        return None


@cache
def _adapter() -> TypeAdapter[Check]:
    return TypeAdapter(Check)
