"""The definitions of the tables in a SQLite file, compared with those that a new file gets.

Migrations make old and new files in the same steps, so the texts are the same but for the way they
are spaced and quoted. A changed definition would let in what a constraint keeps out.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from inspection.stores.database import open_engine
from inspection.stores.migrate import ensure_schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

_QUERY = text("SELECT type, name, tbl_name, sql FROM sqlite_master")


def definition_problems(connection: Connection) -> list[str]:
    """What is defined in another way than in a new file; nothing on PostgreSQL."""
    if connection.dialect.name != "sqlite":
        return []
    differing = definitions(connection) ^ _fresh()
    return [
        f"database file: {name} is not defined as this release defines it"
        for name in sorted({name for name, *_ in differing})
    ]


def definitions(connection: Connection) -> frozenset[tuple[str, ...]]:
    """Name, type, table and text of all that a SQLite file holds, however it is spaced."""
    return frozenset(
        (str(name), str(kind), str(table), plain(str(sql)))
        for kind, name, table, sql in connection.execute(_QUERY)
    )


@cache
def _fresh() -> frozenset[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'fresh.db'}"
        ensure_schema(url, lock_wait_s=5.0)
        engine = open_engine(url, read_only=True)
        try:
            with engine.begin() as connection:
                return definitions(connection)
        finally:
            engine.dispose()


def plain(sql: str) -> str:
    """A definition without what spacing and quoting may differ in."""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql.replace('"', ""))).casefold()
