"""Class folders: `good/` and a folder for every defect class.

    DIR/good/0001.png          a good part
    DIR/crack/0002.png         a part with a crack

The part is the file's name without suffix and the group is the part, unless patterns say where in
the path they stand.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from inspection.errors import DataError
from training.rows import GOOD, listed
from training.sources import (
    IMAGE_SUFFIXES,
    Labelled,
    LabelledFile,
    check_class_name,
    refuse_shared_parts,
)

SHOWN_FOLDERS = 4


def read_folders(
    folder: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The labelled images under `folder`.

    Args:
        folder: holds `good` and at least one folder of a defect class.
        part_from: regular expression searched in each path relative to `folder`; its first group
            (or all it matches) is the part. The file's stem when absent.
        group_from: the same for the group. The part when absent.

    Raises:
        DataError: it is not laid out like this; says what was found and what may be meant.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if not (folder / GOOD).is_dir():
        raise _wrong_level(folder)
    part_pattern, group_pattern = _pattern(part_from), _pattern(group_from)
    classes = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name != GOOD and not entry.name.startswith(".")
    )
    files: list[LabelledFile] = []
    ignored, lost = 0, []
    for label in (GOOD, *classes):
        check_class_name(label)
        images, others = _images_under(folder / label)
        ignored += others
        if not images:
            raise DataError(
                f"class {label!r} is empty: {folder / label} holds no PNG, TIFF or JPEG",
                remedy="Put images into it, or remove the folder.",
            )
        for path in images:
            name = path.relative_to(folder).as_posix()
            part = _found(part_pattern, name) if part_pattern else path.stem
            group = _found(group_pattern, name) if group_pattern else part
            if part is None or group is None:
                lost.append(name)
                continue
            files.append(LabelledFile(file=path, name=name, label=label, part=part, group=group))
    if lost:
        raise DataError(f"the pattern finds nothing in {len(lost)} paths: {listed(lost)}")
    if not classes:
        raise DataError(
            f"{folder} holds `good` and no defect class",
            remedy="Add a folder for every defect class, beside `good`.",
        )
    if part_pattern is None:
        refuse_shared_parts(
            files,
            named=[False] * len(files),
            remedy="Name files after their parts; or say with --part-from where the part stands in "
            "the path, if these are two images of one part.",
        )
    return Labelled(
        layout=f"class folders in {folder}",
        files=tuple(files),
        classes=tuple(classes),
        ignored=ignored,
        notes=(
            f"part: {part_from or 'the file name without suffix'}",
            f"group: {group_from or 'every part its own'}",
        ),
    )


def _images_under(folder: Path) -> tuple[list[Path], int]:
    """The images at any depth, sorted, and how many other files there are."""
    images, others = [], 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                images.append(Path(place) / name)
            else:
                others += 1
    return images, others


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise DataError(f"{text!r} is not a regular expression: {error}") from error


def _found(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.search(name)
    if match is None:
        return None
    return (match.group(1) if pattern.groups else match.group()) or None


def _wrong_level(folder: Path) -> DataError:
    """Why there is no `good` here, and which folder may be meant."""
    children = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in children if entry.is_dir()]
    held = " and ".join(repr(entry.name) for entry in folders[:SHOWN_FOLDERS]) or "no folders"
    deeper = [entry for entry in folders if (entry / GOOD).is_dir()]
    tables = [entry for entry in children if entry.suffix.lower() == ".csv"]
    images = [entry for entry in children if entry.suffix.lower() in IMAGE_SUFFIXES]
    if folder.name == GOOD or (folder.parent / GOOD).is_dir():
        hint = f"did you mean {folder.parent}?"
    elif deeper:
        hint = f"did you mean {deeper[0]}?"
    elif tables:
        hint = f"did you mean {tables[0]}?"
    elif (folder / "images").is_dir():
        hint = f"did you mean {folder / 'images'}?"
    elif images:
        hint = "images lie in it directly; they belong into `good` and a folder for every class"
    else:
        hint = f"a folder `{GOOD}` and one for every defect class are wanted"
    return DataError(
        f"{folder} holds {held}; {hint}",
        remedy="Name the folder that holds `good` and the folders of the defect classes.",
    )
