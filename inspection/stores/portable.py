"""Records as one SQLite file, whatever database they are kept in, and back.

    SQLite      its own online backup: one read transaction over all pages   ─┐
    PostgreSQL  REPEATABLE READ: every table, row by row, into the tables of  ├─> records file
                the same revision                                            ─┘      |
                                                                                examine_records
    SQLite file <- copy ─┐                                                           |
    PostgreSQL  <- COPY ─┴──────────────────────────────── load_records <────────────┘

Such a file is a record store by itself: with an `images` folder beside it a server can open it.
Writers go on meanwhile; what they add comes after the snapshot.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import column, delete, insert, inspect, quoted_name, select, table
from sqlalchemy.dialects import sqlite

from inspection.errors import RecordError, RecordsDamaged
from inspection.proofs.merkle import Frontier, leaf_hash
from inspection.stores.database import (
    LOCK_WAIT_S,
    database_at,
    ensure_month,
    open_engine,
    translated,
)
from inspection.stores.files import sync_folder
from inspection.stores.sqlite import Sqlite, copy_pages
from inspection.stores.steps import take_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnClause, Connection

BATCH: Final = 2000
"""Rows that are on their way at a time."""

_NO_RECORDS: Final = frozenset({"alembic_version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a records file holds, read from its entries alone.

    Attributes:
        size, root: of the hash tree, recomputed from the bodies; the root in hex.
        earlier_root: of the tree at the size that was asked for; None when it never held as many.
        files: digests of the images and evidence maps that are named and were not erased since.
    """

    size: int
    root: str
    earlier_root: str | None
    files: frozenset[bytes]


# --- out -----------------------------------------------------------------------------------------


def copy_records(url: str, target: Path) -> None:
    """Copy the records at `url`, as they are now, to the file `target`, which must not exist.

    Raises:
        RecordError: the copy could not be made; none is left then.
    """
    database = database_at(url)
    part = target.with_name(target.name + ".part")
    try:
        if target.exists():
            raise RecordError(f"{target} exists", remedy="Move it away and try again.")
        part.unlink(missing_ok=True)
        # Keys and their digests are in it: for its owner alone, from the first byte.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with translated(f"the copy {target} could not be made"):
            if isinstance(database, Sqlite):
                copy_pages(database.path, part)
            else:
                _copy_rows(url, part)
            with closing(sqlite3.connect(part)) as copy:
                # One file, complete by itself: a log beside it would be forgotten when it moves.
                copy.execute("PRAGMA journal_mode=DELETE")
                (answer,) = copy.execute("PRAGMA quick_check").fetchone()
        if answer != "ok":
            raise RecordsDamaged(f"the copy of {database.shown} does not hold: {answer}")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise RecordError(f"the copy {target} could not be made: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _copy_rows(url: str, target: Path) -> None:
    engine = open_engine(url, read_only=True)
    try:
        with engine.begin() as source:
            revision = source.exec_driver_sql(
                "SELECT version_num FROM alembic_version"
            ).scalar_one()
            _make_tables(target, revision)
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                # Nothing to fall back on is needed: a copy that is interrupted is thrown away.
                copy.execute("PRAGMA journal_mode=OFF")
                copy.execute("PRAGMA synchronous=OFF")
                copy.execute("BEGIN")
                for name, columns in _tables(copy):
                    copy.execute(_delete(name))
                    into = _insert(name, columns)
                    for rows in _in_batches(source, _select(name, columns)):
                        copy.executemany(into, rows)
                copy.execute("COMMIT")
    finally:
        engine.dispose()


def _make_tables(target: Path, revision: str) -> None:
    engine = open_engine(f"sqlite:///{target}", writing=True)
    try:
        with engine.begin() as connection:
            take_steps(connection, revision)
    finally:
        engine.dispose()


def _in_batches(connection: Connection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    # The driver's own rows are plain tuples; a named cursor leaves the rest with the server.
    driver: Any = connection.connection.driver_connection
    with driver.cursor(name="copied") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(BATCH):
            yield rows


# --- what is in it -------------------------------------------------------------------------------


def examine_records(path: Path, *, earlier: int = 0) -> Contents:
    """Recompute the tree of a records file and compare it with its last head; list its files.

    Works for the file of any release that has kept records: it needs only `entries` and
    `tree_heads`.

    Args:
        path: of the file; nobody writes to it.
        earlier: a size at which the root is wanted besides.

    Raises:
        RecordsDamaged: an entry does not agree with its leaf, or the entries with their head.
        RecordError: it cannot be read.
    """
    tree, named = Frontier(), set[bytes]()
    earlier_root = tree.root() if earlier == 0 else None
    with (
        translated(f"{path} cannot be read"),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db,
    ):
        rows = db.execute("SELECT sequence, kind, body, leaf_hash FROM entries ORDER BY sequence")
        for sequence, kind, body, leaf in rows:
            if sequence != tree.size + 1:
                raise RecordsDamaged(f"record {tree.size + 1} is missing in {path}")
            if not isinstance(body, bytes) or leaf_hash(body) != leaf:
                raise RecordsDamaged(f"record {sequence} in {path} does not have its leaf hash")
            tree.add(leaf)
            if tree.size == earlier:
                earlier_root = tree.root()
            _name_files(named, kind, body, f"record {sequence} in {path}")
        head = db.execute("SELECT size, root FROM tree_heads ORDER BY size DESC LIMIT 1").fetchone()
    root = tree.root()
    if (head or (0, root)) != (tree.size, root):
        raise RecordsDamaged(
            f"the {tree.size} records in {path} do not have the root of their head"
        )
    return Contents(
        size=tree.size,
        root=root.hex(),
        earlier_root=None if earlier_root is None else earlier_root.hex(),
        files=frozenset(named),
    )


def _name_files(named: set[bytes], kind: str, body: bytes, where: str) -> None:
    if kind not in ("inspection", "erasure"):
        return
    try:
        entry = orjson.loads(body)
        if kind == "erasure":
            named.difference_update(bytes.fromhex(digest) for digest in entry["files"])
            return
        if entry.get("views"):
            return  # sums up views, each of which names its own
        named.add(bytes.fromhex(entry["image_sha256"]))
        if entry["evidence"] is not None:
            named.add(bytes.fromhex(entry["evidence"]["sha256"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordsDamaged(f"{where} is not the {kind} that it says it is") from error


# --- in ------------------------------------------------------------------------------------------


def load_records(source: Path, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
    """Make the tables of a PostgreSQL database that has none, and fill them from a records file.

    The file is of this release's revision. Tables and rows come in one transaction.

    Raises:
        ConfigurationError: the server is not fit to keep records.
        RecordError: they could not be written; the database has no tables then.
    """
    engine = open_engine(url, writing=True, lock_wait_s=lock_wait_s)
    try:
        with (
            translated(f"{database_at(url).shown} could not be filled"),
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as records,
            engine.begin() as connection,
        ):
            database_at(url).refuse_unfit(connection)
            take_steps(connection)
            for (month,) in records.execute("SELECT DISTINCT month FROM entries ORDER BY month"):
                ensure_month(connection, month)
            # What the tables were made with (secrets of a fresh server) gives way.
            tables = _in_order(connection, dict(_tables(records)))
            for name, _ in reversed(tables):
                connection.exec_driver_sql(_delete(name))
            for name, columns in tables:
                _copy_in(connection, records, name, columns)
                # Queries are planned by these figures; the server itself takes them only later.
                connection.exec_driver_sql(f"ANALYZE {name}")
    finally:
        engine.dispose()


def _copy_in(
    connection: Connection, records: sqlite3.Connection, name: str, columns: list[str]
) -> None:
    listed = ", ".join(f'"{each}"' for each in columns)
    driver: Any = connection.connection.driver_connection
    rows = records.execute(_select(name, columns))
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {name} ({listed}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _in_order(connection: Connection, tables: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """Tables so that each comes after those it refers to."""
    order = inspect(connection).get_sorted_table_and_fkc_names()
    return [(name, tables[name]) for name, _ in order if name is not None and name in tables]


def _tables(connection: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    """Each table of a records file with its columns, but Alembic's own."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1"
    ).fetchall()
    return [
        (name, [row[1] for row in connection.execute(f"PRAGMA table_info({name})")])
        for (name,) in names
        if name not in _NO_RECORDS
    ]


def _select(name: str, columns: list[str]) -> str:
    return str(select(*_quoted(columns)).select_from(table(name)))


def _insert(name: str, columns: list[str]) -> str:
    dialect = sqlite.dialect()
    return str(insert(table(name, *_quoted(columns))).compile(dialect=dialect))


def _delete(name: str) -> str:
    return str(delete(table(name)))


def _quoted(columns: list[str]) -> list[ColumnClause[Any]]:
    return [column(quoted_name(name, quote=True)) for name in columns]
