"""`inspection db`: whether the tables fit this release, and making them fit.

db    status | upgrade
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.errors import InspectionError
from inspection.stores.audit import note_act
from inspection.stores.migrate import schema_status
from inspection.stores.migrate import upgrade as upgrade_schema

if TYPE_CHECKING:
    from inspection.commands.places import Place


@click.group()
def db() -> None:
    """Upgrade the record store, or show its revision."""


@db.command()
@with_place
@output_format
@click.pass_context
def status(ctx: click.Context, place: Place, form: str) -> None:
    """Show whether the tables fit this release.

    Exit status 0 when they do, 2 when `inspection db upgrade` has to run, 1 when that cannot help.
    """
    place.require(records=True)
    try:
        found = schema_status(place.url)
    except InspectionError as error:
        click.echo(f"error: {error}", err=True)
        click.echo(f"  → {error.remedy}", err=True)
        ctx.exit(1)
    words = {
        "current": "current",
        "older": "older than this release: run `inspection db upgrade`",
        "empty": "empty: run `inspection db upgrade`, or start the server",
        "newer": "newer than this release: install the release that made it",
        "foreign": "not a database of inspection records",
    }
    if form == "json":
        echo_json(asdict(found))
    else:
        echo_columns(
            [
                ["records", place.shown],
                ["revision", found.revision or "-"],
                ["this release", found.wanted],
                ["state", words[found.state]],
            ]
        )
    ctx.exit({"current": 0, "older": 2, "empty": 2}.get(found.state, 1))


@db.command()
@with_place
@output_format
def upgrade(place: Place, form: str) -> None:
    """Bring the tables to this release, after making a copy. Stop the server first."""
    place.require(records=True)
    done = upgrade_schema(place.url, place.backups)
    if done.before.state != "current":
        what = f"from {done.before.revision or 'nothing'} to {done.after.revision}"
        note_act(place.url, act="upgraded", detail=what)
    if form == "json":
        backup = None if done.backup is None else str(done.backup)
        echo_json({"before": asdict(done.before), "after": asdict(done.after), "backup": backup})
        return
    if done.before.state == "current":
        click.echo(f"Nothing to do: the records are at {done.after.revision}.")
        return
    if done.backup is not None:
        click.echo(f"Copied the records as they were to {done.backup}.")
    click.echo(f"Upgraded from {done.before.revision or 'nothing'} to {done.after.revision}.")
