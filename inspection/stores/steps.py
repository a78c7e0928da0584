"""The steps from one release's tables to the next: Alembic's, in `migrations/`.

Alembic is loaded only when there is a step to take, or a strange revision to look up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

SCRIPTS: Final = Path(__file__).parent / "migrations"


def take_steps(connection: Connection, to: str = "head") -> None:
    """Bring the tables to revision `to`, in the caller's transaction."""
    from alembic import command

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def known_revisions() -> set[str]:
    """Every revision that this release can read the steps of."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
