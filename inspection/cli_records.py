"""`inspection verify`, `inspection keys` and `inspection db`: what the operator does with records.

verify                       recompute the hash tree and compare everything with it
keys  create | list | revoke who may call
db    status | upgrade       whether the tables fit this release, and making them fit
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inspection.errors import InputError, InspectionError
from inspection.stores.files import FileImageStore
from inspection.stores.keys import SCOPES, AccessKeys
from inspection.stores.migrate import schema_status
from inspection.stores.migrate import upgrade as upgrade_schema
from inspection.stores.places import backups_dir, images_dir, records_path, records_url
from inspection.stores.verify import TreeHead, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection.stores.keys import AccessKey, Scope
    from inspection.stores.verify import VerifyReport

_T = TypeVar("_T")

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    envvar="INSPECTION_DATA_DIR",
    show_envvar=True,
    help="The server's data folder.",
)
_format = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)

_PROVES = """\
What this proves: no record, index column, image, evidence map or tree head was damaged or changed
by itself; no record was taken out from among the others, and their order is as it was written.
What it cannot prove: somebody who owns this machine can cut off the newest records, or rewrite
everything, so that it agrees again. Only a tree head kept elsewhere finds that out: write this one
down, on paper or on another machine, and give it to a later check."""


# --- verify ------------------------------------------------------------------------------------


@click.command()
@_data_dir
@_format
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="SIZE:ROOT",
    help="A tree head noted earlier, which must be found again. May be given several times.",
)
@click.pass_context
def verify(ctx: click.Context, data_dir: Path, form: str, expected: Sequence[str]) -> None:
    """Check the records against their hash tree, and every image against its digest.

    The server may go on meanwhile. Exit status 1 when something does not hold.
    """
    heads = tuple(TreeHead.parse(text) for text in expected)
    _require(data_dir, records=True)
    images = FileImageStore(images_dir(data_dir), read_only=True)
    report = verify_store(
        records_url(data_dir), images, expected=heads, progress=_progress(sys.stderr.isatty())
    )
    if form == "json":
        # The head as `--expect` takes it.
        _echo_json({"ok": report.ok, **asdict(report), "head": str(report.head)})
    else:
        _show_report(report, data_dir, heads)
    if not report.ok:
        ctx.exit(1)


def _show_report(report: VerifyReport, data_dir: Path, expected: Sequence[TreeHead]) -> None:
    click.echo(f"Checked {records_path(data_dir)} and {images_dir(data_dir)}:")
    kinds = f"inspections {report.inspections:,}, reviews {report.reviews:,}"
    noted = f", {len(expected)} of them noted earlier" if expected else ""
    _echo_columns(
        [
            [
                f"{report.records:,}",
                f"records ({kinds}): body, leaf, number, index columns",
            ],
            [f"{report.heads:,}", f"tree heads{noted}: root over every record before"],
            [f"{report.images:,}", "images and evidence maps: file and digest"],
        ],
        right=(0,),
    )
    if report.extra_files:
        click.echo(
            f"{report.extra_files:,} more files that no record names: left by interrupted "
            "requests, or from requests that came meanwhile. They do no harm."
        )
    click.echo("")
    if not report.ok:
        click.echo("DAMAGED. What does not hold:")
        for problem in report.problems:
            click.echo(f"  - {problem}")
        click.echo("Keep a copy of the data folder as it is, then restore the last good backup.")
        return
    click.echo("Everything holds.")
    click.echo("")
    click.echo(_PROVES)
    click.echo("")
    click.echo(
        f"  inspection verify --data-dir {shlex.quote(str(data_dir))} --expect {report.head}"
    )


def _progress(shown: bool) -> Callable[[int, int], None] | None:
    if not shown:
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else "\r"
        click.echo(f"{done:,} of {total:,} records{end}", nl=False, err=True)

    return show


# --- keys --------------------------------------------------------------------------------------


@click.group()
def keys() -> None:
    """Create, list and revoke access keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    required=True,
    help="station sends images; mes asks; qa asks and reviews; admin does everything.",
)
@_data_dir
@_format
def create(name: str, scope: Scope, data_dir: Path, form: str) -> None:
    """Make a key called NAME and show its text, this once."""
    _require(data_dir)
    text, key = _with_keys(data_dir, lambda store: store.create(name, scope))
    if form == "json":
        _echo_json({**asdict(key), "key": text})
        return
    # Alone on stdout, so that it can be piped to where it is kept.
    click.echo(f"Key {key.id} for {key.name!r} ({key.scope}). It is shown only now:", err=True)
    click.echo(text)
    click.echo(f"Send it as `Authorization: Bearer {text[:11]}_...`.", err=True)


@keys.command("list")
@_data_dir
@_format
def list_keys(data_dir: Path, form: str) -> None:
    """Show every key, the revoked ones too."""
    _require(data_dir, records=True)
    found = _with_keys(data_dir, lambda store: store.list())
    if form == "json":
        _echo_json([asdict(key) for key in found])
    elif found:
        _echo_columns([["ID", "NAME", "SCOPE", "CREATED", "REVOKED"], *map(_key_columns, found)])
    else:
        click.echo("There are no keys: the server listens on this machine only.", err=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@_data_dir
@_format
def revoke(key_id: str, data_dir: Path, form: str) -> None:
    """Revoke the key ID, at once and for ever."""
    _require(data_dir, records=True)
    key = _with_keys(data_dir, lambda store: store.revoke(key_id))
    if form == "json":
        _echo_json(asdict(key))
    else:
        click.echo(f"Key {key.id} of {key.name!r} is revoked since {key.revoked_at}.")


def _with_keys(data_dir: Path, act: Callable[[AccessKeys], _T]) -> _T:
    store = AccessKeys(records_url(data_dir))
    try:
        return act(store)
    finally:
        store.close()


def _key_columns(key: AccessKey) -> list[str]:
    return [key.id, key.name, key.scope, key.created_at, key.revoked_at or "-"]


# --- db ----------------------------------------------------------------------------------------


@click.group()
def db() -> None:
    """Upgrade the record store, or show its revision."""


@db.command()
@_data_dir
@_format
@click.pass_context
def status(ctx: click.Context, data_dir: Path, form: str) -> None:
    """Show whether the tables fit this release.

    Exit status 0 when they do, 2 when `inspection db upgrade` has to run, 1 when that cannot help.
    """
    _require(data_dir, records=True)
    try:
        found = schema_status(records_url(data_dir))
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
        _echo_json(asdict(found))
    else:
        _echo_columns(
            [
                ["records", str(records_path(data_dir))],
                ["revision", found.revision or "-"],
                ["this release", found.wanted],
                ["state", words[found.state]],
            ]
        )
    ctx.exit({"current": 0, "older": 2, "empty": 2}.get(found.state, 1))


@db.command()
@_data_dir
@_format
def upgrade(data_dir: Path, form: str) -> None:
    """Bring the tables to this release, after making a copy. Stop the server first."""
    _require(data_dir, records=True)
    done = upgrade_schema(records_url(data_dir), backups_dir(data_dir))
    if form == "json":
        backup = None if done.backup is None else str(done.backup)
        _echo_json({"before": asdict(done.before), "after": asdict(done.after), "backup": backup})
        return
    if done.before.state == "current":
        click.echo(f"Nothing to do: the records are at {done.after.revision}.")
        return
    if done.backup is not None:
        click.echo(f"Copied the records as they were to {done.backup}.")
    click.echo(f"Upgraded from {done.before.revision or 'nothing'} to {done.after.revision}.")


# --- for all of them ---------------------------------------------------------------------------


def _require(data_dir: Path, *, records: bool = False) -> None:
    """Say what to do when there is no data folder, or no records in it."""
    if not data_dir.is_dir():
        raise InputError(
            f"there is no data folder {data_dir}",
            remedy="Name it with --data-dir or INSPECTION_DATA_DIR; `inspection serve` makes it.",
        )
    if records and not records_path(data_dir).is_file():
        raise InputError(
            f"there are no records in {data_dir}",
            remedy="Name the server's data folder with --data-dir or INSPECTION_DATA_DIR.",
        )


def _echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _echo_columns(rows: list[list[str]], right: Sequence[int] = ()) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
