"""Making the tables, and bringing them from one release to the next.

    empty file  ->  upgrade()  ->  current
    older       ->  `inspection db upgrade`: a copy, proven against its tree
                                             -> steps -> derived tables made anew   one transaction
    newer       ->  refused: a release that does not know a table must not write beside it

Steps change what the tables look like (`steps.py`); what is derived from the records is then made
from the records by this release's own code, so that no step has to know how.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import column, inspect, select, table

from inspection.errors import ConfigurationError, InputError, RecordError
from inspection.stores.database import (
    LOCK_WAIT_S,
    database_at,
    open_engine,
    shown,
    translated,
)
from inspection.stores.derived import rebuild_derived
from inspection.stores.portable import copy_records, examine_records
from inspection.stores.schema import REVISION
from inspection.stores.steps import known_revisions, take_steps

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_VERSIONS: Final = table("alembic_version", column("version_num"))

State = Literal["empty", "current", "older", "newer", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """Where a database stands.

    Attributes:
        state: "empty" has no tables, "foreign" has others than ours.
        revision: of the database; None when it has none.
        wanted: the revision that this release works with.
    """

    state: State
    revision: str | None
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What an upgrade did; `backup` is None when nothing had to be done."""

    before: SchemaStatus
    after: SchemaStatus
    backup: Path | None


def schema_status(url: str) -> SchemaStatus:
    """Where the database stands; changes nothing.

    Raises:
        InputError: there is no such file.
        RecordError: it cannot be read.
    """
    database = database_at(url)
    if not database.exists():
        raise _no_records(database.shown)
    engine = open_engine(url, read_only=True)
    try:
        with translated(f"{database.shown} cannot be read"), engine.begin() as connection:
            return _status(connection)
    finally:
        engine.dispose()


def ensure_schema(url: str, *, lock_wait_s: float) -> None:
    """Make the tables when the database is empty or not there; refuse any but the current ones.

    Raises:
        ConfigurationError: the tables are of another release, or not ours.
        RecordError: the database cannot be read or written.
    """
    engine = open_engine(url, writing=True, lock_wait_s=lock_wait_s)
    try:
        with (
            translated(f"{shown(url)} cannot be opened"),
            # Under the write lock: of two that start together, one makes the tables.
            engine.begin() as connection,
        ):
            database_at(url).refuse_unfit(connection)
            status = _status(connection)
            if status.state == "empty":
                take_steps(connection)
            else:
                _refuse_unless_current(status, url)
    finally:
        engine.dispose()


def require_current(url: str) -> None:
    """Refuse a database that this release cannot read; changes nothing.

    Raises:
        InputError: there is no such file, or it is empty.
        ConfigurationError: the tables are of another release, or not ours.
        RecordError: it cannot be read.
    """
    status = schema_status(url)
    if status.state == "empty":
        raise _no_records(shown(url))
    _refuse_unless_current(status, url)


def upgrade(url: str, backups: Path) -> Upgrade:
    """Bring older records to this release, after copying them to the folder `backups`.

    Raises:
        ConfigurationError: the database is newer than this release, or not ours.
        RecordsDamaged: the records do not agree with their tree; they are as they were.
        RecordError: copy or upgrade failed; the database is as it was.
    """
    before = schema_status(url)
    if before.state == "current":
        return Upgrade(before=before, after=before, backup=None)
    if before.state in ("newer", "foreign"):
        _refuse_unless_current(before, url)
    backup = None
    if before.state == "older":
        backup = _copy_of(url, backups, before)
    return Upgrade(before=before, after=upgrade_tables(url), backup=backup)


def upgrade_tables(url: str) -> SchemaStatus:
    """Take the steps that are left and make the derived tables; no copy is made. All or nothing.

    Raises:
        RecordsDamaged: the records do not agree with their tree.
        RecordError: a step failed.
    """
    engine = open_engine(url, writing=True, lock_wait_s=LOCK_WAIT_S)
    try:
        with translated("the upgrade failed"), engine.begin() as connection:
            before = _status(connection)
            take_steps(connection)
            if before.state == "older":
                rebuild_derived(connection)
            return _status(connection)
    finally:
        engine.dispose()


def _copy_of(url: str, backups: Path, status: SchemaStatus) -> Path:
    try:
        backups.mkdir(exist_ok=True)
    except OSError as error:
        raise RecordError(f"{backups} cannot be made: {error.strerror}") from error
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = backups / f"records-{status.revision}-{stamp}.db"
    copy_records(url, backup)
    # A copy that does not hold is none: what is damaged is not made worse by steps.
    examine_records(backup)
    return backup


def _no_records(place: str) -> InputError:
    return InputError(
        f"there are no records at {place}",
        remedy="Name the right data folder or database; the server makes records when it starts.",
    )


def _status(connection: Connection) -> SchemaStatus:
    tables = inspect(connection).get_table_names()
    if not tables:
        return SchemaStatus(state="empty", revision=None, wanted=REVISION)
    if _VERSIONS.name not in tables or "entries" not in tables:
        return SchemaStatus(state="foreign", revision=None, wanted=REVISION)
    found = connection.execute(select(_VERSIONS.c.version_num)).scalars().all()
    revision = str(found[0]) if len(found) == 1 else None
    state: State = "newer"
    if revision == REVISION:
        state = "current"
    elif revision is None:
        state = "foreign"
    elif revision in known_revisions():
        state = "older"
    return SchemaStatus(state=state, revision=revision, wanted=REVISION)


def _refuse_unless_current(status: SchemaStatus, url: str) -> None:
    place = shown(url)
    if status.state == "older":
        raise ConfigurationError(
            f"the records at {place} are of schema {status.revision}, "
            f"and this release works with {status.wanted}",
            remedy="Stop the server and run `inspection db upgrade`; it makes a copy first.",
        )
    if status.state == "newer":
        raise ConfigurationError(
            f"the records at {place} are of schema {status.revision}, which is newer than this "
            f"release ({status.wanted}) and not among those it knows",
            remedy="Install the release that made them: `inspection db upgrade` goes forward only.",
        )
    if status.state == "foreign":
        raise ConfigurationError(
            f"{place} is a database, but not one of inspection records",
            remedy="Name another data folder or database, or restore a backup; "
            "`inspection db upgrade` cannot help here.",
        )
