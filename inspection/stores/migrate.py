"""Making the tables, and bringing them from one release to the next.

    empty file  ->  upgrade()  ->  current
    older       ->  `inspection db upgrade`: copy, then upgrade()
    newer       ->  refused: a release that does not know a table must not write beside it

The steps are Alembic's, in `migrations/`; Alembic is loaded only when there is a step to take.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import column, inspect, select, table

from inspection.errors import ConfigurationError, InputError, RecordError
from inspection.stores.database import copy_database, database_path, open_engine, translated
from inspection.stores.schema import REVISION

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

SCRIPTS: Final = Path(__file__).parent / "migrations"
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
    path = database_path(url)
    if not path.exists():
        raise _no_records(path)
    engine = open_engine(url, read_only=True)
    try:
        with translated(f"{path} cannot be read"), engine.begin() as connection:
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
            translated(f"{database_path(url)} cannot be opened"),
            # Under the write lock: of two that start together, one makes the tables.
            engine.begin() as connection,
        ):
            status = _status(connection)
            if status.state == "empty":
                _upgrade(connection)
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
        raise _no_records(database_path(url))
    _refuse_unless_current(status, url)


def upgrade(url: str, backups: Path) -> Upgrade:
    """Bring an older database to this release, after copying it to the folder `backups`.

    Raises:
        ConfigurationError: the database is newer than this release, or not ours.
        RecordError: copy or upgrade failed; the database is as it was.
    """
    before = schema_status(url)
    if before.state == "current":
        return Upgrade(before=before, after=before, backup=None)
    if before.state in ("newer", "foreign"):
        _refuse_unless_current(before, url)
    backup = None
    if before.state == "older":
        try:
            backups.mkdir(exist_ok=True)
        except OSError as error:
            raise RecordError(f"{backups} cannot be made: {error.strerror}") from error
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        backup = backups / f"records-{before.revision}-{stamp}.db"
        copy_database(url, backup)
    engine = open_engine(url, writing=True)
    try:
        with translated("the upgrade failed"), engine.begin() as connection:
            _upgrade(connection)
            after = _status(connection)
    finally:
        engine.dispose()
    return Upgrade(before=before, after=after, backup=backup)


def _no_records(path: Path) -> InputError:
    return InputError(
        f"there are no records at {path}",
        remedy="Name the right data folder; the server makes the records when it starts.",
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
    elif revision in _known_revisions():
        state = "older"
    return SchemaStatus(state=state, revision=revision, wanted=REVISION)


def _refuse_unless_current(status: SchemaStatus, url: str) -> None:
    path = database_path(url)
    if status.state == "older":
        raise ConfigurationError(
            f"the records at {path} are of schema {status.revision}, "
            f"and this release works with {status.wanted}",
            remedy="Stop the server and run `inspection db upgrade`; it makes a copy first.",
        )
    if status.state == "newer":
        raise ConfigurationError(
            f"the records at {path} are of schema {status.revision}, which is newer than this "
            f"release ({status.wanted}) and not among those it knows",
            remedy="Install the release that made them: `inspection db upgrade` goes forward only.",
        )
    if status.state == "foreign":
        raise ConfigurationError(
            f"{path} is a database, but not one of inspection records",
            remedy="Name another data folder, or restore a backup; `inspection db upgrade` "
            "cannot help here.",
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
