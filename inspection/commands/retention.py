"""`inspection retention`: images that were kept long enough, by rules for each customer's products.

retention  show   the rules, and the legal holds that stand against them
           apply  delete what is due; --dry-run only says what that would be
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.stores.files import FileImageStore
from inspection.stores.retention import apply, choose, read_rules
from inspection.stores.sql import open_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.commands.places import Place
    from inspection.stores.retention import Choice, Erased, RetentionRule

_rules = click.option(
    "--rules",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="TOML file of [[retention]] tables: name, products, images_days.",
)

_STAYS = (
    "Records, digests and proofs stay, and say of each image that it was deleted, and under "
    "which rule."
)


@click.group()
def retention() -> None:
    """Delete images that were kept long enough, by rule; their records and proofs stay."""


@retention.command()
@with_place
@_rules
@output_format
def show(place: Place, path: Path, form: str) -> None:
    """Show the rules, and the legal holds that keep images in spite of them."""
    rules = read_rules(path)
    place.require(records=True)
    with closing(open_records(place.url)) as records:
        legal = [found.hold for found in records.holds() if found.hold.legal]
    if form == "json":
        echo_json({"rules": [asdict(r) for r in rules], "legal_holds": [asdict(h) for h in legal]})
        return
    echo_columns(
        [
            ["rule", "days", "products"],
            *([r.name, str(r.images_days), ", ".join(r.products)] for r in rules),
        ],
        right=(1,),
    )
    for hold in legal:
        click.echo(f"Legal hold on {hold.scope} {hold.value} of {hold.product}: {hold.reason}")
    click.echo("Images of every other product are kept for ever.")


@retention.command("apply")
@with_place
@_rules
@click.option("--by", default="inspection retention", show_default=True, help="Who deletes.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@output_format
def apply_rules(place: Place, path: Path, by: str, dry_run: bool, form: str) -> None:
    """Delete the images that are due. The server may go on meanwhile."""
    rules = read_rules(path)
    place.require(records=True)
    with closing(open_records(place.url)) as records:
        if dry_run:
            images = FileImageStore(place.images, read_only=True)
            _show_choice(choose(records, images, rules, now=datetime.now(UTC)), rules, form)
            return
        progress = None
        if sys.stderr.isatty():

            def progress(files: int) -> None:
                click.echo(f"\r{files:,} files", nl=False, err=True)

        done = apply(records, FileImageStore(place.images), rules, by=by, progress=progress)
    if progress is not None:
        click.echo("", err=True)
    _show_erased(done, form)


def _show_choice(choice: Choice, rules: Sequence[RetentionRule], form: str) -> None:
    files = {r.name: sum(of is r for of in choice.files.values()) for r in rules}
    if form == "json":
        echo_json(
            {
                "dry_run": True,
                "files": files,
                "size_bytes": choice.size_bytes,
                "held": choice.held,
                "needed": choice.needed,
                "more": choice.more,
            }
        )
        return
    more = ", and more after these" if choice.more else ""
    click.echo(f"{len(choice.files):,} files ({_size(choice.size_bytes)}) would be deleted{more}:")
    _show_files(files, choice.held, choice.needed)
    click.echo("Nothing was deleted.")


def _show_erased(done: Erased, form: str) -> None:
    if form == "json":
        echo_json({"dry_run": False, **asdict(done)})
        return
    total = sum(done.files.values())
    click.echo(f"{total:,} files ({_size(done.size_bytes)}) were deleted:")
    _show_files(done.files, done.held, done.needed)
    click.echo(_STAYS)


def _show_files(files: dict[str, int], held: int, needed: int) -> None:
    rows = [[f"{count:,}", name] for name, count in files.items()]
    rows += [
        [f"{held:,}", "kept: under a legal hold"],
        [f"{needed:,}", "kept: another inspection that is not yet due names them"],
    ]
    echo_columns(rows, right=(0,))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"
