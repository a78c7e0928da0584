"""Inspections as lines of text, one page of the list at a time, with an end that can be seen.

    Filter -> page -> lines -> page -> ... -> the last line says how many there were

A stream that was cut looks like a shorter one; so both forms end with a line that only a complete
one has: `{"complete": true, "count": 412}`, and in CSV a row `#complete,412`.

What stations and people wrote goes into spreadsheets, which take a cell that begins with = + - @,
a tab or a line end for a formula. Such a cell gets an apostrophe in front, and so does what would
begin a cell where the semicolon parts them (OWASP, CSV injection).
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from inspection.lives import holds_of
from serving.schemas import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inspection.events import Hold
    from inspection.record import InspectionRecord
    from inspection.store import Filter, RecordStore

PAGE: Final = 500
"""Inspections in memory at a time."""

FORMULA: Final = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=[=+\-@\t\r\n＝＋－＠])")
"""Before what a cell must not begin with, the wide forms of East Asian keyboards among them."""

MARK: Final = "#complete"
COLUMNS: Final = (
    *("id", "trace_id", "product", "serial", "part", "station", "lot", "machine", "mould"),
    *("cavity", "capture_id", "attempt", "reason", "disposition", "classes", "reasons"),
    *("probability", "novelty", "model", "recipe_revision", "image_sha256", "captured_at"),
    *("received_at", "view_set", "holds", "zones", "sizes_mm"),
)

Row = tuple["InspectionRecord", "tuple[Hold, ...]"]


def ndjson_lines(store: RecordStore, wanted: Filter) -> Iterator[str]:
    """One JSON object a line, in the form of the list; then `complete` and `count`.

    Raises:
        RecordError: the records cannot be read; what came so far lacks its last line.
    """
    count = 0
    for rows in _pages(store, wanted):
        lines = [
            Inspection.with_holds(record, holds).model_dump_json(by_alias=True)
            for record, holds in rows
        ]
        count += len(lines)
        yield "".join(f"{line}\n" for line in lines)
    yield json.dumps({"complete": True, "count": count}) + "\n"


def csv_lines(store: RecordStore, wanted: Filter) -> Iterator[str]:
    """RFC 4180 with a header row; then a row that begins with `#complete` and the count.

    Raises:
        RecordError: the records cannot be read; what came so far lacks its last row.
    """
    count = 0
    yield _written([COLUMNS])
    for rows in _pages(store, wanted):
        count += len(rows)
        yield _written([_cells(record, holds) for record, holds in rows])
    yield _written([(MARK, count, *("" for _ in COLUMNS[2:]))])


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return FORMULA.sub("'", text)


def _pages(store: RecordStore, wanted: Filter) -> Iterator[Sequence[Row]]:
    """Newest first from now on: what is added meanwhile is not part of it."""
    asked = replace(wanted, limit=PAGE)
    while True:
        page = store.find(asked)
        holds = holds_of(store, page.records)
        if page.records:
            yield [(record, holds[record.id]) for record in page.records]
        if page.next_before is None:
            return
        asked = replace(asked, before_sequence=page.next_before)


def _cells(record: InspectionRecord, holds: tuple[Hold, ...]) -> list[Any]:
    values = {
        **{name: getattr(record, name) for name in COLUMNS if hasattr(record, name)},
        "classes": ";".join(each.defect_class for each in record.findings),
        "reasons": ";".join(each.code for each in record.reasons),
        "probability": ";".join(
            f"{name}={value:.6f}" for name, value in sorted(record.probability.items())
        ),
        "model": f"{record.model.name}@{record.model.version}",
        "recipe_revision": record.recipe.revision,
        "holds": ";".join(hold.id for hold in holds),
        # One entry for each class of `classes`, empty where nothing was drawn or measured.
        "zones": ";".join(each.zone or "" for each in record.findings),
        "sizes_mm": ";".join(
            "" if each.size_mm is None else f"{each.size_mm:.3f}" for each in record.findings
        ),
    }
    return [
        defused(value) if isinstance(value, str) else value
        for value in (values[name] for name in COLUMNS)
    ]


def _written(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
