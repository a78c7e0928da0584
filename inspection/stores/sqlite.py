"""Records in a SQLite file: one process tree, one disk, nothing to install.

    begin of a reading transaction    BEGIN            one state of the file, from the log
    begin of a writing transaction    BEGIN IMMEDIATE  the write lock, waited for lock_wait_s

A write-ahead log lets readers and the writer work side by side; `synchronous=FULL` makes a commit
return only when the log is on the disk.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from inspection.errors import ConfigurationError, RecordError, RecordsDamaged

Error = sqlite3.Error

ROOM_NEEDED_BYTES: Final = 32 * 1024 * 1024
"""With less free space than this the store says that it cannot write, before the disk does."""

_DAMAGE = ("malformed", "not a database", "disk image", "Could not decode")


def at(url: str, address: URL) -> Sqlite:
    """The file behind `sqlite:///PATH`.

    Raises:
        ConfigurationError: there is no path, or one that a URL cannot hold.
    """
    if not address.database or address.database == ":memory:" or "?" in url:
        raise ConfigurationError(
            f"{address.render_as_string()} is not the address of a SQLite file",
            remedy="Use sqlite:///PATH, with a path that holds no question mark.",
        )
    return Sqlite(path=Path(address.database))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """A SQLite file. Implements `database.Database`."""

    path: Path

    @property
    def shown(self) -> str:
        """The path."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def engine(self, *, writing: bool, read_only: bool, lock_wait_s: float) -> Engine:
        """Connections to the file, as `database.open_engine` says."""
        mode = "ro" if read_only else "rwc"

        def connect() -> sqlite3.Connection:
            name = f"{self.path.absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(
                name, uri=True, timeout=lock_wait_s, check_same_thread=False, isolation_level=None
            )
            if read_only:
                # Whoever looks for damage must be able to read it.
                connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            return connection

        pool: dict[str, Any] = (
            {"poolclass": NullPool}
            if writing
            # As many connections as there are threads that read; five of them stay open.
            else {"poolclass": QueuePool, "pool_size": 5, "max_overflow": 95, "pool_timeout": 10.0}
        )
        engine = create_engine("sqlite+pysqlite://", creator=connect, **pool)

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA foreign_keys=ON")
                cursor.execute("PRAGMA synchronous=FULL")
                if writing:
                    (kept,) = cursor.execute("PRAGMA journal_mode=WAL").fetchone()
                    if kept != "wal":
                        raise ConfigurationError(
                            f"{self.path.parent} is on a file system without shared memory for "
                            "SQLite",
                            remedy="Put the data folder on a local disk.",
                        )

        @event.listens_for(engine, "begin")
        def begun(connection: Connection) -> None:
            # By the driver itself: SQLAlchemy's way takes longer than most questions that follow.
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN IMMEDIATE" if writing else "BEGIN")

        return engine

    def check_room(self) -> None:
        """Raise RecordError when the disk of the file is almost full."""
        folder = self.path.absolute().parent
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise RecordError(f"{folder}: {error.strerror}") from error
        if free < ROOM_NEEDED_BYTES:
            raise RecordError(
                f"only {free // 2**20} MiB are free on the disk of {folder}",
                remedy="Make room on the disk of the data folder.",
            )

    def refuse_unfit(self, connection: Connection) -> None:
        """Nothing to refuse: what has to hold is seen to when a connection is made."""


def explained(error: sqlite3.Error) -> tuple[type[RecordError], str, str | None]:
    """What an error of the driver is here, in words, and what to do."""
    text = str(error)
    if any(sign in text for sign in _DAMAGE):
        return RecordsDamaged, text, None
    remedy = None
    if "locked" in text:
        remedy = "Another process holds the records; find it, or send the request again."
    elif "full" in text or "disk I/O" in text:
        remedy = (
            "Make room on the disk of the data folder; the station keeps the image and retries."
        )
    elif "readonly" in text or "unable to open" in text:
        remedy = "Give the server's user the right to write to the data folder and its files."
    return RecordError, text, remedy


def try_commit(connection: Connection) -> None:
    """Write a page of the file with what it holds already."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")


def integrity_problems(connection: Connection) -> list[str]:
    """What SQLite finds wrong with its file: pages, indexes, references."""
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
    problems = [f"database file: {text}" for text in found if text != "ok"]
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").all()[:20]:
        problems.append(f"database file: {table} row {row} refers to a missing row of {parent}")
    return problems


def copy_pages(source: Path, target: Path) -> None:
    """Copy a file's pages as they are now; writers go on, and what they add is not in the copy.

    Raises:
        sqlite3.Error: it cannot be read or written.
    """
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as records,
        closing(sqlite3.connect(target)) as copy,
    ):
        records.backup(copy)
