"""A line of the manifest: one labelled image."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspection.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

GOOD = "good"
COLUMNS = (
    "path",
    "sha256",
    "label",
    "part",
    "group",
    "probability",
    "lot",
    "mould",
    "captured_at",
)
SHOWN = 5  # how many offenders a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One labelled image.

    Attributes:
        path: relative to the data set's folder, with `/`.
        sha256: hex digest of the file.
        label: "good", or one or more defect classes joined by ";".
        part: the part that the image shows; several images may show one part.
        group: what this part shares its history with (lot, module); the part itself when unknown.
        probability: how sure the annotators are that the defect is there; 1 for a defect label
            and 0 for good when absent.
        lot, mould, captured_at: as the source gave them.
    """

    path: str
    sha256: str
    label: str
    part: str
    group: str
    probability: float | None = None
    lot: str | None = None
    mould: str | None = None
    captured_at: str | None = None

    def __post_init__(self) -> None:
        if not self.part or not self.group or not self.path:
            raise DataError(f"{self.path or 'a row'}: path, part and group cannot be empty")
        names = self.label.split(";")
        if any(not name or name.strip() != name for name in names) or len(set(names)) < len(names):
            raise DataError(f"{self.path}: label {self.label!r} is not a list of classes")
        if GOOD in names and len(names) > 1:
            raise DataError(f"{self.path}: label {self.label!r} says good and bad at once")
        if self.probability is not None:
            if not 0 <= self.probability <= 1:
                raise DataError(f"{self.path}: probability {self.probability} is not in 0..1")
            if self.bad != (self.probability >= 0.5):
                raise DataError(
                    f"{self.path}: label {self.label!r} disagrees with probability "
                    f"{self.probability:g}: from one half on, the part is bad"
                )

    @property
    def bad(self) -> bool:
        """Whether the part should not pass."""
        return self.label != GOOD

    @property
    def defects(self) -> tuple[str, ...]:
        """The defect classes that the label names, sorted; none for good."""
        return tuple(sorted(self.label.split(";"))) if self.bad else ()

    @property
    def certainty(self) -> float:
        """The soft label: the probability, or what the label alone says."""
        return self.probability if self.probability is not None else float(self.bad)


def rows_as_csv(rows: Iterable[Row]) -> str:
    """The rows as the text of manifest.csv; equal rows give equal text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = [getattr(row, name) for name in COLUMNS]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def parse_rows(file: Iterable[str], source: str) -> tuple[Row, ...]:
    """Rows out of a CSV with the columns of `COLUMNS`.

    Raises:
        DataError: a column is missing or unknown, or a value makes no sense; names the line.
    """
    reader = csv.DictReader(file)
    columns = tuple(reader.fieldnames or ())
    if columns != COLUMNS:
        raise DataError(f"{source}: columns {', '.join(columns)}; wanted {', '.join(COLUMNS)}")
    rows = []
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values():
            raise DataError(f"{source}, line {line}: wanted {len(COLUMNS)} cells")
        values: dict[str, Any] = {name: text or None for name, text in cells.items()}
        for name in ("path", "sha256", "label", "part", "group"):
            values[name] = values[name] or ""
        try:
            if values["probability"] is not None:
                values["probability"] = float(values["probability"])
            rows.append(Row(**values))
        except (DataError, ValueError) as error:
            raise DataError(f"{source}, line {line}: {error}") from error
    return tuple(rows)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(count: int, noun: str) -> str:
    """So many of a thing, such as "1 bad part" or "2 bad parts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_rows(product: str, classes: Sequence[str], rows: Sequence[Row]) -> str:
    """SHA-256 over all that training depends on; paths are left out."""
    content = [
        product,
        list(classes),
        [
            [
                row.sha256,
                list(row.defects),
                row.part,
                row.group,
                row.certainty,
                row.lot,
                row.mould,
                row.captured_at,
            ]
            for row in rows
        ],
    ]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
