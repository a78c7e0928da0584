"""What the commands about records have in common: where the records are, and how answers look.

--data-dir, --database-url  ->  Place  ->  require()  ->  the command
"""

from __future__ import annotations

import functools
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from inspection.errors import InputError
from inspection.stores.database import database_at
from inspection.stores.places import backups_dir, images_dir, records_path, records_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")

DATA_DIR: Final = "INSPECTION_DATA_DIR"
DATABASE_URL: Final = "INSPECTION_DATABASE_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where records and images are.

    Attributes:
        data_dir: the server's data folder; images are there whatever the database is.
        database_url: of the records; None when they are in the data folder.
    """

    data_dir: Path
    database_url: str | None

    @property
    def url(self) -> str:
        """The address of the records; it may hold a password."""
        return self.database_url or records_url(self.data_dir)

    @property
    def shown(self) -> str:
        """The records' address as people may see it."""
        if self.database_url is None:
            return str(records_path(self.data_dir))
        return database_at(self.database_url).shown

    @property
    def images(self) -> Path:
        """The folder of images and evidence maps."""
        return images_dir(self.data_dir)

    @property
    def backups(self) -> Path:
        """Where `inspection db upgrade` leaves a copy of the records."""
        return backups_dir(self.data_dir)

    @property
    def options(self) -> str:
        """The options that name this place again, for a command to be repeated."""
        options = f"--data-dir {shlex.quote(str(self.data_dir))}"
        # Not the URL: it may hold a password, and the variable is there for it.
        return options if self.database_url is None else f"{options} --database-url ${DATABASE_URL}"

    def require(self, *, records: bool = False) -> None:
        """Say what to do when there is no data folder, or no records.

        Raises:
            InputError: there is none.
            ConfigurationError: the database URL is none.
        """
        if not self.data_dir.is_dir():
            raise InputError(
                f"there is no data folder {self.data_dir}",
                remedy=f"Name it with --data-dir or {DATA_DIR}; `inspection serve` makes it.",
            )
        if records and not database_at(self.url).exists():
            raise InputError(
                f"there are no records in {self.data_dir}",
                remedy=f"Name the server's data folder with --data-dir or {DATA_DIR}, or its "
                f"database with --database-url or {DATABASE_URL}.",
            )


def with_place(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command the two options, and hand it a `place`."""

    @click.option(
        "--database-url",
        metavar="URL",
        envvar=DATABASE_URL,
        show_envvar=True,
        help="The server's database, when its records are not in the data folder.",
    )
    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        default=Path("var"),
        show_default=True,
        envvar=DATA_DIR,
        show_envvar=True,
        help="The server's data folder.",
    )
    @functools.wraps(command)
    def run(*args: Any, data_dir: Path, database_url: str | None, **words: Any) -> _T:
        place = Place(data_dir=data_dir, database_url=database_url or None)
        return command(*args, place=place, **words)

    return run


def echo_json(value: Any) -> None:
    """Show a value for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def echo_columns(rows: list[list[str]], right: Sequence[int] = ()) -> None:
    """Show rows for people, each column as wide as it has to be; `right` are flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
