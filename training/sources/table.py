"""A CSV that names the images, a line each.

    path,label[,part,group,probability,lot,mould,captured_at,station,view,annotator]

Paths are relative to the CSV. A label is `good`, or defect classes joined by `;`. Several lines
about one path, by different annotators, are votes.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from inspection.errors import DataError
from training.sources.entries import KNOWN, Entry, labelled_entries
from training.sources.naming import Naming

if TYPE_CHECKING:
    from pathlib import Path

    from training.sources import Labelled

NEEDED = ("path", "label")


def read_table(
    path: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The labelled images that the CSV names.

    Args:
        path: of the CSV.
        part_from: where in an image's path the part stands, for lines that do not say it.
        group_from: the same for the group.

    Raises:
        DataError: columns, a value or a file is missing or makes no sense; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = tuple(name.strip().lower() for name in next(reader, []))
            _check_columns(path, columns)
            entries = [
                _entry(f"{path}, line {reader.line_num}", columns, cells)
                for cells in reader
                if cells
            ]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a CSV in UTF-8: {error}", remedy='Save it as "CSV UTF-8".'
        ) from error
    if not entries:
        raise DataError(f"{path} names no images")
    return labelled_entries(
        entries,
        folder=path.parent,
        layout=f"table {path}",
        naming=Naming(part_from=part_from, group_from=group_from),
        remedy="Add a column `part` that says which part each image shows.",
    )


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in (*NEEDED, *KNOWN)]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    remedy = f"Needed: {', '.join(NEEDED)}. Possible: {', '.join(KNOWN)}."
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        remedy = f"Put commas between the cells. {remedy}"
    for names, what in ((missing, "missing"), (twice, "more than once"), (unknown, "unknown")):
        if names:
            raise DataError(
                f"{path}: columns {', '.join(columns)[:200]}; {what}: {', '.join(names)[:200]}",
                remedy=remedy,
            )


def _entry(where: str, columns: tuple[str, ...], cells: list[str]) -> Entry:
    if len(cells) != len(columns):
        raise DataError(f"{where}: {len(cells)} cells, but the header has {len(columns)}")
    values: dict[str, Any] = {
        name: cell.strip() for name, cell in zip(columns, cells, strict=True) if cell.strip()
    }
    if "path" not in values or "label" not in values:
        raise DataError(f"{where}: path and label cannot be empty")
    return Entry(where=where, path=values.pop("path"), label=values.pop("label"), fields=values)
