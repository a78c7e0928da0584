"""The one place that knows which database it is. Today that is SQLite.

    open_engine      how connections are made, and how a transaction begins
    translated       every error of the driver, once, as an error that somebody can act on
    check_room, try_commit, integrity_problems, copy_database   what each database does its own way

SQLite is used with a write-ahead log, so that readers and the writer do not wait for each other,
and with `synchronous=FULL`, so that a commit has returned only when the log is on the disk.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool, QueuePool

from inspection.errors import ConfigurationError, RecordError, RecordsDamaged
from inspection.stores.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

LOCK_WAIT_S: Final = 5.0
"""How long a write waits for another process's before it gives up."""

ROOM_NEEDED_BYTES: Final = 32 * 1024 * 1024
"""With less free space than this the store says that it cannot write, before the disk does."""

_DAMAGE = ("malformed", "not a database", "disk image", "Could not decode")


def database_path(url: str) -> Path:
    """The file behind the address.

    Raises:
        ConfigurationError: it is not the address of a SQLite file.
    """
    try:
        address = make_url(url)
    except exc.ArgumentError:
        raise ConfigurationError("the address of the records is not a database URL") from None
    if address.get_backend_name() != "sqlite" or not address.database or "?" in url:
        raise ConfigurationError(
            f"{address.render_as_string()} is not the address of a SQLite file",
            remedy="Use sqlite:///PATH, with a path that holds no question mark.",
        )
    return Path(address.database)


def open_engine(
    url: str, *, writing: bool = False, read_only: bool = False, lock_wait_s: float = LOCK_WAIT_S
) -> Engine:
    """Connections to the records; none is made yet.

    Args:
        url: `sqlite:///PATH`.
        writing: transactions take the write lock when they begin, so that what they read stays
            true until they commit. There is no pool: such a connection has one owner.
        read_only: the file is opened so that it cannot be changed, nor made when it is missing.
        lock_wait_s: how long to wait for a lock that another process holds.
    """
    path = database_path(url)
    mode = "ro" if read_only else "rwc"

    def connect() -> sqlite3.Connection:
        name = f"{path.absolute().as_uri()}?mode={mode}"
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
                        f"{path.parent} is on a file system without shared memory for SQLite",
                        remedy="Put the data folder on a local disk.",
                    )

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into RecordError; `doing` says what could not be done."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        text = str(cause)
        if any(sign in text for sign in _DAMAGE):
            raise RecordsDamaged(f"{doing}: {text}") from error
        raise RecordError(f"{doing}: {text}", remedy=_remedy(text)) from error
    except exc.SQLAlchemyError as error:
        raise RecordError(f"{doing}: {error}") from error


def _remedy(text: str) -> str | None:
    if "locked" in text:
        return "Another process holds the records; find it, or send the request again."
    if "full" in text or "disk I/O" in text:
        return "Make room on the disk of the data folder; the station keeps the image and retries."
    if "readonly" in text or "unable to open" in text:
        return "Give the server's user the right to write to the data folder and its files."
    return None


def check_room(url: str) -> None:
    """Raise RecordError when the disk of the records is almost full."""
    folder = database_path(url).absolute().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}") from error
    if free < ROOM_NEEDED_BYTES:
        raise RecordError(
            f"only {free // 2**20} MiB are free on the disk of {folder}",
            remedy="Make room on the disk of the data folder.",
        )


def try_commit(connection: Connection) -> None:
    """Make the transaction one that writes, though it changes nothing: it finds a full disk."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")


def integrity_problems(connection: Connection) -> list[str]:
    """What the database itself finds wrong with its file: pages, indexes, references."""
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
    problems = [f"database file: {text}" for text in found if text != "ok"]
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").all()[:20]:
        problems.append(f"database file: {table} row {row} refers to a missing row of {parent}")
    return problems


def copy_database(url: str, target: Path) -> None:
    """Copy the records, as they are now, to a file that must not exist; the server may go on.

    Raises:
        RecordError: the copy could not be made, or does not hold; none is left then.
    """
    part = target.with_name(target.name + ".part")
    source_uri = f"{database_path(url).absolute().as_uri()}?mode=ro"
    try:
        if target.exists():
            raise RecordError(f"{target} exists", remedy="Move it away and try again.")
        with translated(f"the copy {target} could not be made"):
            with (
                closing(sqlite3.connect(source_uri, uri=True, timeout=LOCK_WAIT_S)) as source,
                closing(sqlite3.connect(part)) as copy,
            ):
                source.backup(copy)
                # One file, complete by itself: a log beside it would be forgotten when it is moved.
                copy.execute("PRAGMA journal_mode=DELETE")
                (answer,) = copy.execute("PRAGMA quick_check").fetchone()
            if answer != "ok":
                raise RecordsDamaged(f"the copy of {source_uri} does not hold: {answer}")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise RecordError(f"the copy {target} could not be made: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
