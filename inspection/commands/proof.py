"""`inspection export-proof`, `inspection verify-proof`: a part with its proof, as one file.

export-proof  SERIAL FILE   records, images, proofs  ->  FILE
verify-proof  FILE          FILE alone               ->  what it proves, and what it does not
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_json, with_place
from inspection.errors import InputError
from inspection.proofs.check import check_archive
from inspection.proofs.key_files import read_or_make_key
from inspection.proofs.notes import VerifierKey
from inspection.stores.checkpoints import CheckpointMaker, key_path
from inspection.stores.files import FileImageStore
from inspection.stores.proofs import export_part, find_part, reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.commands.places import Place

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("export-proof")
@click.argument("serial")
@click.argument("file", type=_FILE)
@click.option("--product", help="Of the part; needed when several products have this serial.")
@click.option(
    "--key-file",
    type=_FILE,
    envvar="INSPECTION_CHECKPOINTS__KEY_FILE",
    help="The signing key, when a new checkpoint has to be made.  [default: checkpoint.key in the "
    "data folder]",
)
@with_place
def export_proof(
    serial: str, file: Path, product: str | None, key_file: Path | None, place: Place
) -> None:
    """Write all that is known of the part SERIAL into FILE, which must not be there yet.

    Proven against the last checkpoint that most witnesses signed; one is made when none reaches
    the part's last entry.
    """
    place.require(records=True)
    part = find_part(place.url, serial, product)
    last, signed = reach(place.url, part)
    if signed < last:
        key = read_or_make_key(key_file or key_path(place.data_dir))
        with closing(CheckpointMaker(place.url, key)) as maker:
            made = maker.make()
        click.echo(
            f"Made a checkpoint over {made.checkpoint.size:,} records; no witness has it yet.",
            err=True,
        )
    data = export_part(place.url, FileImageStore(place.images, read_only=True), part)
    _write(file, data)
    click.echo(f"{part.product} {part.root} is in {file}: {len(data):,} bytes")


@click.command("verify-proof")
@click.argument("file", type=_FILE)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VKEY",
    help="Verifier key of the records: one of those given must have signed.",
)
@click.option(
    "--witness-key",
    "witness_keys",
    multiple=True,
    metavar="VKEY",
    help="Verifier key of a witness: each of those given must have cosigned.",
)
@output_format
@click.pass_context
def verify_proof(
    ctx: click.Context, file: Path, keys: Sequence[str], witness_keys: Sequence[str], form: str
) -> None:
    """Check FILE: needs no server, no database, no network.

    Exit status 1 when something is wrong with it.
    """
    logs = [VerifierKey.parse(text) for text in keys]
    witnesses = [VerifierKey.parse(text) for text in witness_keys]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}", remedy="Name the file of a part."
        ) from error
    report = check_archive(data, keys=logs, witness_keys=witnesses)
    if form == "json":
        echo_json(
            {
                "ok": report.ok,
                "proven": report.proven,
                "unproven": report.unproven,
                "problems": report.problems,
            }
        )
    else:
        for title, lines in (
            ("WRONG:", report.problems),
            ("Proven:", report.proven if report.ok else []),
            ("Not proven:", report.unproven if report.ok else []),
        ):
            if lines:
                click.echo(title)
            for line in lines:
                click.echo(f"  - {line}")
    if not report.ok:
        ctx.exit(1)


def _write(path: Path, data: bytes) -> None:
    """A whole file under a new name, or none."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        finally:
            part.unlink()
    except FileExistsError:
        raise InputError(f"{path} exists", remedy="Move it away, or name another file.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}",
            remedy="Name a folder that this user may write to.",
        ) from error
