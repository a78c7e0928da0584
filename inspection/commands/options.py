"""Options that several commands have, spelled and explained alike."""

from __future__ import annotations

from pathlib import Path

import click

output_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)

weights_dir_option = click.option(
    "--weights-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("weights"),
    show_default=True,
    envvar="INSPECTION_WEIGHTS_DIR",
    help="The folder of model packages.",
)
