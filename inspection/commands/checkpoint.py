"""`inspection checkpoint`: sign the present head of the hash tree, and hand it to witnesses.

checkpoint         sign, keep, hand on
checkpoint init    make the key; print its public half
checkpoint key     print the public half again
checkpoint show    print the last checkpoint
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_json, with_place
from inspection.errors import NotFound
from inspection.proofs.key_files import make_key, read_key, read_or_make_key
from inspection.proofs.witnesses import parse_witness
from inspection.stores.checkpoints import CheckpointMaker, key_path, latest_checkpoint
from inspection.stores.database import open_engine, translated
from inspection.stores.migrate import require_current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.commands.places import Place
    from inspection.stores.checkpoints import Made

_ELSEWHERE = """\
The key is in {path}. Whoever can read that file can sign any history, so it had better lie where
the owner of the records does not get at it: another user's folder, another disk (--key-file).
Give the line above to everybody who is to check these records, by a way that does not lead through
this machine; and hand checkpoints to a witness elsewhere (--witness), for a key alone only says
whose history it is, not that there is no other."""

_key_file = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="INSPECTION_CHECKPOINTS__KEY_FILE",
    show_envvar=True,
    help="The signing key.  [default: checkpoint.key in the data folder]",
)


@click.group(invoke_without_command=True)
@with_place
@output_format
@_key_file
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    metavar="WITNESS",
    help="A file elsewhere, or 'URL VKEY' of a witness. May be given several times.",
)
@click.pass_context
def checkpoint(
    ctx: click.Context,
    place: Place,
    form: str,
    key_file: Path | None,
    witnesses: Sequence[str],
) -> None:
    """Sign the head of the hash tree as it is now, and hand it to witnesses.

    The key is made when there is none. Exit status 1 when a witness does not have the checkpoint.
    """
    if ctx.invoked_subcommand is not None:
        return
    named = [parse_witness(text) for text in witnesses]
    place.require(records=True)
    require_current(place.url)
    path = key_file or key_path(place.data_dir)
    fresh = not path.exists()
    key = read_or_make_key(path)
    if fresh:
        click.echo(str(key.verifier), err=True)
        click.echo(_ELSEWHERE.format(path=path), err=True)
    with closing(CheckpointMaker(place.url, key, named)) as maker:
        made = maker.make()
    if form == "json":
        echo_json(_as_json(made))
    else:
        click.echo(str(made.note), nl=False)
    for each in made.handed:
        if each.error is not None:
            click.echo(f"error: {each.witness}: {each.error}", err=True)
            click.echo(f"  → {each.error.remedy}", err=True)
    if not named:
        click.echo(
            "No witness has it: kept on this machine alone it proves little against its owner.",
            err=True,
        )
    if not made.witnessed:
        ctx.exit(1)


@checkpoint.command()
@click.argument("name", required=False)
@with_place
@_key_file
def init(name: str | None, place: Place, key_file: Path | None) -> None:
    """Make the key that signs, and print its public half.

    NAME is what these records are called in checkpoints for ever, such as plant.example/line-1.
    """
    place.require()
    path = key_file or key_path(place.data_dir)
    click.echo(str(make_key(path, name).verifier))
    click.echo(_ELSEWHERE.format(path=path), err=True)


@checkpoint.command()
@with_place
@_key_file
def key(place: Place, key_file: Path | None) -> None:
    """Print the public half of the key that signs."""
    place.require()
    click.echo(str(read_key(key_file or key_path(place.data_dir)).verifier))


@checkpoint.command()
@with_place
def show(place: Place) -> None:
    """Print the last checkpoint, as it was signed and witnessed."""
    place.require(records=True)
    require_current(place.url)
    engine = open_engine(place.url, read_only=True)
    try:
        with translated("the checkpoints cannot be read"), engine.begin() as connection:
            note = latest_checkpoint(connection)
    finally:
        engine.dispose()
    if note is None:
        raise NotFound("there is no checkpoint yet", remedy="Make one: `inspection checkpoint`.")
    click.echo(str(note), nl=False)


def _as_json(made: Made) -> dict[str, object]:
    return {
        "size": made.checkpoint.size,
        "root": made.checkpoint.root.hex(),
        "note": str(made.note),
        "witnesses": [
            {"witness": each.witness, "error": None if each.error is None else str(each.error)}
            for each in made.handed
        ],
    }
