"""Records in a PostgreSQL database: several servers, and a database that the plant looks after.

    begin of a reading transaction    REPEATABLE READ, READ ONLY     one snapshot of all tables
    begin of a writing transaction    READ COMMITTED, then one advisory lock for all writers,
                                      waited for lock_wait_s, given up by commit or rollback

Each statement of READ COMMITTED sees what was committed before it, so after the lock the writer
sees all that its forerunners wrote; a snapshot taken before the lock would not. `entries` has one
partition a month.

A connection that breaks is thrown away, with all others of its pool: the next transaction connects
anew, so that work goes on once the server is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    URL,
    PrimaryKeyConstraint,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.pool import NullPool, QueuePool

from inspection.errors import ConfigurationError, MissingExtra, RecordError, RecordsDamaged
from inspection.stores.schema import metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

WRITERS_LOCK: Final = 0x696E73706563
"""The advisory lock of whoever writes records ("inspec"); such locks are per database."""

OLDEST_SERVER: Final = 14

# A server that has vanished is noticed in seconds, not after the kernel's two hours.
_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "inspection",
    # Whatever the server was set up with, text comes and goes as UTF-8.
    "client_encoding": "utf8",
}

_PLACE: Final = ("host", "port")

_AWAY: Final = (
    "See whether the database server runs and can be reached; work goes on by itself once it "
    "answers, and the station keeps the image and retries."
)
# By SQLSTATE, its class or the whole code: https://www.postgresql.org/docs/current/errcodes-appendix.html
_REMEDIES: Final = {
    "08": _AWAY,
    "57P0": _AWAY,
    "28": "Correct user and password in the database URL, or the server's pg_hba.conf.",
    "3D": "Correct the database's name in the URL, or make it: createdb --encoding=UTF8 NAME.",
    "53100": "Make room on the disk of the database server; the station keeps the image.",
    "53300": "Raise max_connections of the database server, or run fewer servers.",
    "53": "Give the database server more room; the station keeps the image and retries.",
    "58": "See the database server's log: its disk or system refuses.",
    "55P03": "Another process holds the records; find it, or send the request again.",
    "57014": "The database was too slow or somebody stopped it; send the request again.",
    "40": "Send the request again.",
    "25006": "This server only reads: name the primary in the database URL.",
    "42501": "Make the user of the database URL the owner of the database's tables.",
    "42P01": "Run `inspection db status`: these tables are not this release's.",
}
# libpq gives no SQLSTATE when a connection is refused, only the server's sentence.
_REFUSALS: Final = (
    ("No space left on device", _REMEDIES["53100"]),
    ("password", _REMEDIES["28"]),
    ("pg_hba.conf", _REMEDIES["28"]),
    ("role ", _REMEDIES["28"]),
    ("database ", _REMEDIES["3D"]),
    ("too many", _REMEDIES["53300"]),
    ("remaining connection slots", _REMEDIES["53300"]),
)
_WITH_INDEX: Final = (PrimaryKeyConstraint, UniqueConstraint)
_DAMAGE: Final = ("XX001", "XX002")


def at(address: URL) -> Postgresql:
    """The database behind `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.

    Raises:
        ConfigurationError: no database is named, or another driver is.
        MissingExtra: the driver is not installed.
    """
    if address.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigurationError(
            f"{address.drivername} is not a driver that records are kept with",
            remedy="Use postgresql://USER@HOST/DATABASE.",
        )
    if not address.database:
        raise ConfigurationError(
            "the address of the records names no database",
            remedy="Use postgresql://USER@HOST/DATABASE.",
        )
    try:
        import_module("psycopg")
    except ImportError as error:
        raise MissingExtra(
            "the driver of PostgreSQL is not installed",
            remedy="Run `pip install 'inspection[postgresql]'`.",
        ) from error
    wanted = address.set(drivername="postgresql+psycopg")
    given = {name: value for name, value in _DEFAULTS.items() if name not in wanted.query}
    return Postgresql(url=wanted.update_query_dict(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgresql:
    """A PostgreSQL database. Implements `database.Database`."""

    url: URL

    @property
    def shown(self) -> str:
        """The address without password and without options, which may hold one."""
        parts = self.url.username, None, self.url.host, self.url.port, self.url.database
        plain = URL.create("postgresql", *parts).render_as_string()
        place = self.url.query.get("host")
        return f"{plain} at {place}" if isinstance(place, str) else plain

    def exists(self) -> bool:
        """Only the server knows; it says so when it is asked."""
        return True

    def engine(self, *, writing: bool, read_only: bool, lock_wait_s: float) -> Engine:
        """Connections to the database, as `database.open_engine` says."""
        from psycopg import IsolationLevel

        reads = read_only or not writing
        pool: dict[str, Any] = (
            {"poolclass": NullPool}
            if writing
            # A connection is tried before it is used: after a restart of the server no reader
            # gets a dead one.
            else {
                "poolclass": QueuePool,
                "pool_size": 5,
                "max_overflow": 95,
                "pool_timeout": 10.0,
                "pool_pre_ping": True,
            }
        )
        # Options apart from the URL: they may hold secrets, and an engine shows its URL.
        options = {name: value for name, value in self.url.query.items() if name not in _PLACE}
        plain = self.url.difference_update_query(options)
        engine = create_engine(plain, connect_args=options, **pool)

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = (
                IsolationLevel.REPEATABLE_READ if reads else IsolationLevel.READ_COMMITTED
            )
            connection.read_only = reads

        if not reads:
            wait_ms = max(1, int(lock_wait_s * 1000))

            @event.listens_for(engine, "begin")
            def begun(connection: Connection) -> None:
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = {wait_ms}; SET LOCAL synchronous_commit = on; "
                    f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"
                )

        return engine

    def check_room(self) -> None:
        """The server's disk cannot be seen from here: a full one refuses the write."""

    def refuse_unfit(self, connection: Connection) -> None:
        """Raise ConfigurationError when this server cannot keep records durably."""
        row = connection.execute(
            text(
                "SELECT current_setting('server_version_num')::int / 10000 AS version, "
                "current_setting('server_encoding') AS encoding, "
                "current_setting('fsync') AS fsync, "
                "current_setting('full_page_writes') AS full_page_writes"
            )
        ).one()
        if row.version < OLDEST_SERVER:
            raise ConfigurationError(
                f"{self.shown} is of PostgreSQL {row.version}",
                remedy=f"Use PostgreSQL {OLDEST_SERVER} or later.",
            )
        if row.encoding != "UTF8":
            raise ConfigurationError(
                f"{self.shown} keeps text as {row.encoding}",
                remedy="Make the database with createdb --encoding=UTF8 --template=template0 NAME.",
            )
        for name in ("fsync", "full_page_writes"):
            if getattr(row, name) != "on":
                raise ConfigurationError(
                    f"the server of {self.shown} runs with {name}=off: a power cut would lose "
                    "records that were acknowledged",
                    remedy=f"Set {name}=on in the server's postgresql.conf and restart it.",
                )


def is_error(error: object) -> bool:
    """Whether it is an error of the driver, which is not imported to find that out."""
    return any(kind.__module__.split(".")[0] == "psycopg" for kind in type(error).__mro__)


def explained(error: Any) -> tuple[type[RecordError], str, str | None]:
    """What an error of the driver is here, in words, and what to do."""
    state: str = getattr(error, "sqlstate", None) or ""
    message = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = str(message or error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    if state in _DAMAGE:
        return RecordsDamaged, said, None
    if not state:
        # The connection itself failed: one line tells why, the others are advice.
        said = next((line.strip() for line in lines if "failed: " in line), said)
        remedy = next((remedy for sign, remedy in _REFUSALS if sign in said), _AWAY)
        return RecordError, said, remedy
    found = [remedy for prefix, remedy in _REMEDIES.items() if state.startswith(prefix)]
    return RecordError, said, found[0] if found else None


def partition_of(month: int) -> str:
    """The table that holds the entries of a month, as 202611.

    Raises:
        RecordError: it is no month.
    """
    if not (197001 <= month <= 999912 and 1 <= month % 100 <= 12):
        raise RecordError(f"{month} is not a month", remedy="Set the clock of this machine.")
    return f"entries_{month}"


def ensure_month(connection: Connection, month: int) -> None:
    """Make the partition of a month unless it is there.

    The table is made beside `entries` and then attached, which lets readers go on: made as a
    partition from the start it would wait for every reader, and every later one for it.
    """
    name = partition_of(month)
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (LIKE entries INCLUDING ALL); "
            f"ALTER TABLE entries ATTACH PARTITION {name} FOR VALUES IN ({month})"
        )


def try_commit(connection: Connection) -> None:
    """Write a row with what it holds already."""
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")


def integrity_problems(connection: Connection) -> list[str]:
    """What PostgreSQL can say of its tables: checksums of pages, indexes, references."""
    failures = connection.exec_driver_sql(
        "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database "
        "WHERE datname = current_database()"
    ).scalar()
    problems = []
    if failures:
        problems.append(
            f"database: {failures} pages did not have their checksum when they were read"
        )
    valid = connection.exec_driver_sql(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE c.relnamespace = current_schema()::regnamespace AND i.indisvalid"
    ).scalars()
    wanted = {"pk_entries"}  # whose table says so only for SQLite
    for table in metadata.sorted_tables:
        keys = (each for each in table.constraints if isinstance(each, _WITH_INDEX))
        wanted.update(str(each.name) for each in (*keys, *table.indexes))
    problems += [
        f"database: index {name} is missing or not valid" for name in sorted(wanted - set(valid))
    ]
    orphans = connection.exec_driver_sql(
        "SELECT r.sequence FROM reviews r LEFT JOIN inspections i ON i.id = r.inspection_id "
        "WHERE i.id IS NULL ORDER BY 1 LIMIT 20"
    ).scalars()
    problems += [
        f"database: reviews row {row} refers to a missing row of inspections" for row in orphans
    ]
    return problems
