"""Frames of a detector from where a person points: folders, files, patterns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inspection.errors import DataError, ImageError
from inspection.frame import decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inspection.frame import Frame


def files_at(places: Sequence[str], kind: str) -> list[Path]:
    """The files of folders, patterns and names, each once.

    Raises:
        DataError: a place holds none.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        if path.is_dir():
            here = sorted(path.iterdir())
        elif path.is_file():
            here = [path]
        else:
            root = Path(path.anchor or ".")
            here = sorted(root.glob(str(path.relative_to(root) if path.anchor else path)))
        files = [each for each in here if each.is_file()]
        if not files:
            raise DataError(
                f"there are no {kind} frames at {place}",
                remedy="Name a folder, a file, or a pattern in quotes, such as 'dark/*.tif'.",
            )
        found.update(dict.fromkeys(files))
    return list(found)


def read_frames(files: Sequence[Path]) -> Iterator[tuple[str, Frame]]:
    """(name, frame) of each file, one at a time; raises as `read_frame`."""
    for path in files:
        yield str(path), read_frame(path)


def read_frame(path: Path) -> Frame:
    """The frame in a file.

    Raises:
        DataError: it cannot be read, or is no image that is accepted.
    """
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{path}: {error}", remedy=error.remedy) from error
