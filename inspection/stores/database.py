"""Which database holds the records; what each does its own way is in sqlite.py and postgresql.py.

    url -> database_at -> Sqlite | Postgresql -> open_engine: how a transaction begins
                                              -> ensure_month, try_commit, integrity_problems
    an error of any driver -> translated -> RecordError with a remedy

A writing transaction is alone from its begin to its commit, on both: what it reads stays true
until then, so sequences are given in the order of commits. A reading transaction sees one state of
the records, and neither waits for the writer nor keeps it waiting.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import exc
from sqlalchemy.engine import make_url

from inspection.errors import ConfigurationError, RecordError, RecordsDamaged
from inspection.stores import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

LOCK_WAIT_S: Final = 5.0
"""How long a write waits for another process's before it gives up."""


class Database(Protocol):
    """One address of records, and how that kind of database is used."""

    @property
    def shown(self) -> str:
        """The address as people may see it: a path, or a URL without password."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to open; a database on a server always answers for itself."""
        ...

    def engine(self, *, writing: bool, read_only: bool, lock_wait_s: float) -> Engine:
        """As `open_engine`."""
        ...

    def check_room(self) -> None:
        """As `check_room`."""
        ...

    def refuse_unfit(self, connection: Connection) -> None:
        """Raise ConfigurationError when this server cannot keep records durably."""
        ...


def database_at(url: str) -> Database:
    """The database behind an address: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`.

    Raises:
        ConfigurationError: it is neither, or the driver is not installed.
    """
    try:
        address = make_url(url)
    except (exc.ArgumentError, ValueError):
        # Never the text itself: it may hold a password.
        raise ConfigurationError(
            "the address of the records is not a database URL",
            remedy="Use sqlite:///PATH or postgresql://USER@HOST/DATABASE.",
        ) from None
    backend = address.get_backend_name()
    if backend == "sqlite":
        return sqlite.at(url, address)
    if backend in ("postgresql", "postgres"):
        return postgresql.at(address)
    raise ConfigurationError(
        f"records are not kept in a database of kind {backend}",
        remedy="Use sqlite:///PATH or postgresql://USER@HOST/DATABASE.",
    )


def shown(url: str) -> str:
    """The address as people may see it: a path, or a URL without password."""
    return database_at(url).shown


def open_engine(
    url: str, *, writing: bool = False, read_only: bool = False, lock_wait_s: float = LOCK_WAIT_S
) -> Engine:
    """Connections to the records; none is made yet.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`.
        writing: transactions are alone from their begin, so that what they read stays true until
            they commit. There is no pool: such a connection has one owner.
        read_only: the database is opened so that it cannot be changed, nor made when it is
            missing, and text that is damaged can still be read.
        lock_wait_s: how long to wait for a lock that another process holds.
    """
    return database_at(url).engine(writing=writing, read_only=read_only, lock_wait_s=lock_wait_s)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the drivers' errors into RecordError; `doing` says what could not be done."""
    try:
        yield
    except Exception as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(cause, UnicodeDecodeError):
            # The driver cannot tell what SQLite says of damage when it quotes damaged bytes.
            raise RecordsDamaged(f"{doing}: the database file is damaged") from error
        if isinstance(cause, sqlite.Error):
            kind, text, remedy = sqlite.explained(cause)
        elif postgresql.is_error(cause):
            kind, text, remedy = postgresql.explained(cause)
        elif isinstance(error, exc.SQLAlchemyError):
            kind, text, remedy = RecordError, str(error), None
        else:
            raise
        if kind is RecordsDamaged:
            raise RecordsDamaged(f"{doing}: {text}") from error
        raise RecordError(f"{doing}: {text}", remedy=remedy) from error


def check_room(url: str) -> None:
    """Raise RecordError when the disk of the records is almost full.

    The disk of a PostgreSQL server cannot be seen from here: nothing is checked then, and a full
    one shows itself by a write that is refused.
    """
    database_at(url).check_room()


def ensure_month(connection: Connection, month: int) -> None:
    """Make room for the entries of a month (202611); does nothing when there is, or on SQLite.

    On PostgreSQL `entries` is partitioned by month, and a month has no partition until its first
    entry comes. Call it inside the writing transaction, when the month is another than before.
    Neither readers nor a running backup are kept waiting by it.
    """
    if connection.dialect.name == "postgresql":
        postgresql.ensure_month(connection, month)


def try_commit(connection: Connection) -> None:
    """Make the transaction one that writes, though it changes nothing: it finds a full disk."""
    if connection.dialect.name == "postgresql":
        postgresql.try_commit(connection)
    else:
        sqlite.try_commit(connection)


def integrity_problems(connection: Connection) -> list[str]:
    """What the database itself finds wrong: pages, indexes, references."""
    if connection.dialect.name == "postgresql":
        return postgresql.integrity_problems(connection)
    return sqlite.integrity_problems(connection)
