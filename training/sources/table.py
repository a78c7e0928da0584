"""A CSV that names the images: path,label[,part,group,probability,lot,mould,captured_at].

Paths are relative to the CSV. A label is `good`, or defect classes joined by `;`.
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import Any

from inspection.errors import DataError
from training.rows import GOOD, listed
from training.sources import Labelled, LabelledFile, check_class_name, refuse_shared_parts

NEEDED = ("path", "label")
OPTIONAL = ("part", "group", "probability", "lot", "mould", "captured_at")


def read_table(path: Path) -> Labelled:
    """The labelled images that the CSV names.

    Raises:
        DataError: columns, a value or a file is missing or makes no sense; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            _check_columns(path, columns)
            lines = list(enumerate(reader, start=2))
            files = [_entry(path, line, cells) for line, cells in lines]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}") from error
    if not files:
        raise DataError(f"{path} names no images")
    refuse_shared_parts(
        files,
        named=[bool((cells.get("part") or "").strip()) for _, cells in lines],
        remedy="Add a column `part` that says which part each image shows.",
    )
    missing = [file.name for file in files if not file.file.is_file()]
    if missing:
        raise DataError(
            f"{path} names {len(missing)} files that are not there: {listed(missing)}",
            remedy=f"Paths are relative to {path.parent}.",
        )
    classes = sorted({name for f in files if f.label != GOOD for name in f.label.split(";")})
    for name in classes:
        check_class_name(name)
    found = [name for name in OPTIONAL if name in columns]
    return Labelled(
        layout=f"table {path}",
        files=tuple(files),
        classes=tuple(classes),
        notes=(
            f"part: {'column part' if 'part' in found else 'the file name without suffix'}",
            f"group: {'column group' if 'group' in found else 'every part its own'}",
        ),
    )


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in (*NEEDED, *OPTIONAL)]
    if missing or unknown or len(set(columns)) < len(columns):
        what = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(unknown)}"
        raise DataError(
            f"{path}: columns {', '.join(columns)}; {what if missing or unknown else 'one twice'}",
            remedy=f"Needed: {', '.join(NEEDED)}. Possible: {', '.join(OPTIONAL)}.",
        )


def _entry(path: Path, line: int, cells: dict[str, Any]) -> LabelledFile:
    if None in cells or None in cells.values():
        raise DataError(f"{path}, line {line}: the number of cells differs from the header's")
    values = {name: text.strip() or None for name, text in cells.items()}
    if not values["path"] or not values["label"]:
        raise DataError(f"{path}, line {line}: path and label cannot be empty")
    name = PurePosixPath(values["path"].replace("\\", "/"))
    try:
        text = values.get("probability")
        probability = None if text is None else float(text)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {error}") from error
    part = values.get("part") or name.stem
    return LabelledFile(
        file=path.parent / name,
        name=str(name),
        label=";".join(sorted(each.strip() for each in values["label"].split(";"))),
        part=part,
        group=values.get("group") or part,
        probability=probability,
        lot=values.get("lot"),
        mould=values.get("mould"),
        captured_at=values.get("captured_at"),
    )
