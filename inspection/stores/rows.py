"""Many rows at once, as plain tuples in the order of the table's columns, straight to the driver.

What is asked and written for every group goes this way: one statement a table, nothing of each row
is looked at in Python, and the driver's own cursor is used, inside the transaction that SQLAlchemy
holds; SQLAlchemy's way of running a statement takes longer than most of these statements.

SQLite gets rows as rows of `VALUES`, whose steps are one call into the library, so that the writer
does not have to win Python's lock again for every row. PostgreSQL gets one array a column
(`unnest`), whatever the number of rows, so it parses a statement once.
"""

from __future__ import annotations

from contextlib import closing
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, Connection, Table

Row = tuple[Any, ...]

CHUNKS: Final = (128, 16, 1)
"""Rows in one statement for SQLite: few sizes, so that each stays prepared."""

# BigInteger is an Integer, so it comes first.
_TYPES: Final = (
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Float, "double precision"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


def ask(connection: Connection, statement: str, parameters: Row = ()) -> list[Row]:
    """All rows of a statement with `?` for its parameters; it has no `?` and no `%` otherwise.

    Errors are the driver's own; `database.translated` knows them.
    """
    with closing(connection.connection.cursor()) as cursor:
        if connection.dialect.name == "postgresql":
            statement = statement.replace("?", "%s")
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Row], *, on_conflict: str = ""
) -> None:
    """Insert `rows`; `on_conflict` is what SQLite and PostgreSQL alike take after the rows."""
    if not rows:
        return
    with closing(connection.connection.cursor()) as cursor:
        if connection.dialect.name == "postgresql":
            columns = tuple(list(column) for column in zip(*rows, strict=True))
            cursor.execute(_by_columns(table, on_conflict), columns)
            return
        done = 0
        for size in CHUNKS:
            while len(rows) - done >= size:
                values = tuple(chain.from_iterable(rows[done : done + size]))
                cursor.execute(_by_rows(table, size, on_conflict), values)
                done += size


@cache
def _by_rows(table: Table, count: int, on_conflict: str) -> str:
    row = f"({', '.join('?' for _ in table.columns)})"
    return f"{_into(table)} VALUES {', '.join(row for _ in range(count))} {on_conflict}"


@cache
def _by_columns(table: Table, on_conflict: str) -> str:
    arrays = ", ".join(f"%s::{_type_of(column)}[]" for column in table.columns)
    # Names of tables and columns only; what is stored goes as parameters.
    return f"{_into(table)} SELECT * FROM unnest({arrays}) {on_conflict}"  # noqa: S608


def _into(table: Table) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"INSERT INTO {table.name} ({names})"


def _type_of(column: Column[Any]) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))
