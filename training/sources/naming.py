"""Part and group out of a file's path: its stem, or where patterns say that they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from inspection.errors import DataError
from training.data.rows import listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.sources import LabelledFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How parts and groups are found in paths.

    Attributes:
        part_from: regular expression searched in each path inside the source; its first group (or
            all it matches) is the part. Without it, the file's name without suffix.
        group_from: the same for the group. Without it, the part.
        whole_path: without `part_from`, the part is the path and not only the file's name.
    """

    part_from: str | None = None
    group_from: str | None = None
    whole_path: bool = False

    def __post_init__(self) -> None:
        for text in (self.part_from, self.group_from):
            try:
                re.compile(text or "")
            except re.error as error:
                raise DataError(f"{text!r} is not a regular expression: {error}") from error

    def part(self, name: str) -> str | None:
        """The part that an image of this path shows; None when the pattern finds nothing."""
        if self.part_from is not None:
            return _found(self.part_from, name)
        path = PurePosixPath(name)
        return str(path.with_suffix("")) if self.whole_path else path.stem

    def group(self, name: str) -> str | None:
        """The group that its part belongs to; None when the pattern finds nothing."""
        return self.part(name) if self.group_from is None else _found(self.group_from, name)

    @property
    def notes(self) -> tuple[str, str]:
        """How they were found, for a person."""
        default = "the path without suffix" if self.whole_path else "the file name without suffix"
        return (
            f"part: {self.part_from or default}",
            f"group: {self.group_from or 'every part its own'}",
        )


def refuse_unnamed(files: Iterable[LabelledFile]) -> None:
    """Refuse files of which a pattern found no part or no group.

    Raises:
        DataError: names the first of them.
    """
    lost = [file.name for file in files if not file.part or not file.group]
    if lost:
        raise DataError(f"the pattern finds nothing in {len(lost)} paths: {listed(lost)}")


def _found(pattern: str, name: str) -> str | None:
    match = re.search(pattern, name)
    if match is None:
        return None
    return (match.group(1) if match.re.groups else match.group()) or None
