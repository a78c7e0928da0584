"""Process values as they come, item by item: as JSON, or as a table with the same columns.

    body -> items -> each: ProcessValueFields -> ProcessValue, or why not

A table is RFC 4180 in UTF-8: commas, quotes doubled, one header row that names the columns in any
order. A byte order mark in front, as spreadsheets write it, does no harm.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from inspection.errors import InputError, RequestError
from inspection.events import MAX_VALUES, ProcessValue
from serving.admission import json_of, refuse_unknown, refused
from serving.identities import name_to_add_to
from serving.statement_schemas import ProcessValueFields

if TYPE_CHECKING:
    from serving.state import Server

COLUMNS: Final = tuple(ProcessValueFields.model_fields)
NEEDED: Final = ("name", "value", "unit", "at")
NUMBER: Final = re.compile(r"[+\-]?(\d+(\.\d*)?|\.\d+)([eE][+\-]?\d+)?", re.ASCII)
"""What a cell holds that is a number; Python would take 1_000 for one thousand as well."""


def items_of_json(body: bytes) -> list[Any]:
    """The items of a JSON body, each as it came.

    Raises:
        RequestError: it is no such body, or says a field twice.
    """
    try:
        whole = json_of(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON in UTF-8") from error
    if not isinstance(whole, dict):
        raise RequestError("the body is not an object with `values`")
    refuse_unknown(list(whole), ("values",))
    values = whole.get("values")
    if not isinstance(values, list):
        raise RequestError("`values` is missing, or no list", remedy="Send `values` as a list.")
    return _counted(values)


def items_of_table(body: bytes) -> list[Any]:
    """The rows of a table, each as the JSON object that it stands for; empty cells are left out.

    Raises:
        RequestError: it is no such table, or has a column that nobody reads.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError("the table is not UTF-8", remedy="Save it as CSV UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        refuse_unknown(header, COLUMNS)
        missing = [name for name in NEEDED if name not in header]
        if missing:
            raise RequestError(
                f"the table has no column `{missing[0]}`",
                remedy=f"The first row names the columns: {','.join(COLUMNS)}.",
            )
        rows = [_row(header, cells) for cells in reader if cells]
    except csv.Error as error:
        raise RequestError(f"the table breaks off in line {reader.line_num}: {error}") from error
    return _counted(rows)


def value_of(server: Server, item: Any, known: dict[tuple[str, str], str]) -> ProcessValue:
    """The value that an item says.

    Args:
        server: knows the serials of its products.
        item: as it came.
        known: serials that were looked at before, by (product, serial); filled as they come.

    Raises:
        InputError: it says none; the first thing that is wrong with it.
    """
    try:
        fields = ProcessValueFields.model_validate(item)
    except ValidationError as error:
        raise refused(error) from error
    values = fields.model_dump(exclude={"serial"})
    if fields.serial is None or fields.product is None:
        if fields.serial is not None or fields.product is not None:
            raise RequestError("`product` and `serial` come together")
        return ProcessValue(**values)
    asked = (fields.product, fields.serial)
    if asked not in known:
        known[asked] = name_to_add_to(server, *asked)
    return ProcessValue(**values, part=known[asked])


def values_of(server: Server, items: list[Any]) -> list[ProcessValue | InputError]:
    """What becomes of each item, in order."""
    known: dict[tuple[str, str], str] = {}
    outcomes: list[ProcessValue | InputError] = []
    for item in items:
        try:
            outcomes.append(value_of(server, item, known))
        except InputError as error:
            outcomes.append(error)
    return outcomes


def _row(header: list[str], cells: list[str]) -> Any:
    if len(cells) != len(header):
        return cells  # no object: refused as such, with its number
    row: dict[str, Any] = {
        name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()
    }
    if NUMBER.fullmatch(row.get("value", "").strip()):  # anything else is refused as what it is
        row["value"] = float(row["value"])
    return row


def _counted(items: list[Any]) -> list[Any]:
    if not 1 <= len(items) <= MAX_VALUES:
        raise RequestError(
            f"{len(items)} values came; 1 to {MAX_VALUES:,} come together",
            remedy="Send them in several requests." if items else "Send at least one value.",
        )
    return items
