"""Reading tables that may be damaged: rows by key, as the database has them.

keys -> one statement for up to 500 of them, the keys as a table of their own -> rows
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

LOOKED_UP_AT_ONCE: Final = 500

Values = dict[str, Any]


def look_up(
    connection: Connection, table: Table, names: tuple[str, ...], keys: list[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Values]:
    """Rows by key, as the driver hands them over: no type is taken for granted.

    Args:
        connection: to read on.
        table: what to look in.
        names: the columns of the key; an index begins with them.
        keys: texts and whole numbers, of the same kinds each.
    """
    columns = tuple(column.name for column in table.columns)
    found: dict[tuple[Any, ...], Values] = {}
    for start in range(0, len(keys), LOOKED_UP_AT_ONCE):
        some = keys[start : start + LOOKED_UP_AT_ONCE]
        if connection.dialect.name == "postgresql":
            kinds = tuple("bigint" if isinstance(value, int) else "text" for value in some[0])
            statement = _by_arrays(table.name, columns, names, kinds)
            given: tuple[Any, ...] = tuple(list(each) for each in zip(*some, strict=True))
        else:
            statement = _by_values(table.name, columns, names, len(some))
            given = tuple(value for key in some for value in key)
        for row in connection.exec_driver_sql(statement, given):
            values = dict(zip(columns, row, strict=True))
            found[tuple(values[name] for name in names)] = values
    return found


def number_of(connection: Connection, query: Any) -> int:
    """The one number that a query asks for; 0 when there is none."""
    return int(connection.execute(query).scalar() or 0)


def same(have: Any, wanted: Any) -> bool:
    """Whether two values are the same, in type too."""
    return type(have) is type(wanted) and bool(have == wanted)


@cache
def _by_arrays(
    table: str, columns: tuple[str, ...], names: tuple[str, ...], kinds: tuple[str, ...]
) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
    return _joined(table, columns, names, f"unnest({arrays}) AS wanted({_quoted(names)})", "JOIN")


@cache
def _by_values(table: str, columns: tuple[str, ...], names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' for _ in names)})"
    values = ", ".join(row for _ in range(count))
    keys = f"WITH wanted({_quoted(names)}) AS (VALUES {values}) "
    # SQLite reads what stands before CROSS JOIN first, and looks the other up by its index.
    return keys + _joined(table, columns, names, "wanted", "CROSS JOIN")


def _joined(
    table: str, columns: tuple[str, ...], names: tuple[str, ...], wanted: str, join: str
) -> str:
    shown = ", ".join(f'held."{name}"' for name in columns)
    same_key = " AND ".join(f'held."{name}" = wanted."{name}"' for name in names)
    on = "WHERE" if join == "CROSS JOIN" else "ON"
    return f"SELECT {shown} FROM {wanted} {join} {table} AS held {on} {same_key}"  # noqa: S608


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
