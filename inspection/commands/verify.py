"""`inspection verify`: does everything that is kept still agree with the hash tree?

the store, and what was noted elsewhere  ->  stores/verify.py  ->  what holds, what that proves
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.errors import InspectionError
from inspection.proofs.key_files import read_key
from inspection.proofs.notes import VerifierKey
from inspection.stores.checkpoints import key_path
from inspection.stores.files import FileImageStore
from inspection.stores.verify import Outside, TreeHead, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection.commands.places import Place
    from inspection.stores.verify import VerifyReport

_PROVES = """\
What this proves: no record, no row beside it, no image, evidence map or tree head was damaged or
changed by itself; no record was taken out from among the others, and their order is as it was
written."""
_CANNOT = """\
What it cannot prove: somebody who owns this machine can cut off the newest records, or rewrite
everything, so that it agrees again. Only what is kept elsewhere finds that out: hand checkpoints to
a witness (`inspection checkpoint --help`), or write this head down, on paper or on another
machine, and give it to a later check."""
_COVERED = """\
What was kept elsewhere agrees too: the first {covered:,} of {records:,} records are those that were
there when it was noted, whoever owns this machine. Whoever has both the machine and the place where
it was kept could still rewrite both."""


@click.command()
@with_place
@output_format
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="SIZE:ROOT",
    help="A tree head noted earlier, which must be found again. May be given several times.",
)
@click.option(
    "--witness",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A witness's file, whose checkpoints must be found again. May be given several times.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VKEY",
    help="Verifier key of these records' checkpoints, or of a witness. May be given several times.",
)
@click.pass_context
def verify(
    ctx: click.Context,
    place: Place,
    form: str,
    expected: Sequence[str],
    files: Sequence[Path],
    keys: Sequence[str],
) -> None:
    """Check the records against their hash tree, and every image against its digest.

    The server may go on meanwhile. Exit status 1 when something does not hold. The key of
    checkpoints in the data folder is used when none is given; a key from elsewhere proves more.
    """
    outside = Outside(
        heads=tuple(TreeHead.parse(text) for text in expected),
        files=tuple(files),
        keys=tuple(VerifierKey.parse(text) for text in keys),
    )
    place.require(records=True)
    if not keys:
        outside = Outside(heads=outside.heads, files=outside.files, keys=_own_key(place))
    images = FileImageStore(place.images, read_only=True)
    report = verify_store(
        place.url, images, outside=outside, progress=_progress(sys.stderr.isatty())
    )
    if form == "json":
        # The head as `--expect` takes it.
        echo_json({"ok": report.ok, **asdict(report), "head": str(report.head)})
    else:
        _show_report(report, place)
    if not report.ok:
        ctx.exit(1)


def _own_key(place: Place) -> tuple[VerifierKey, ...]:
    try:
        return (read_key(key_path(place.data_dir)).verifier,)
    except InspectionError:  # none was made here, or it is another user's: the report says so
        return ()


def _show_report(report: VerifyReport, place: Place) -> None:
    click.echo(f"Checked {place.shown} and {place.images}:")
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items()) or "none"
    rows = [
        [f"{report.records:,}", f"records ({kinds}): body, leaf, number, rows of other tables"],
        [f"{report.heads:,}", "tree heads: root over every record before"],
        [f"{report.images:,}", "images and evidence maps: file and digest"],
    ]
    if report.checkpoints:
        rows.append([f"{report.checkpoints:,}", "checkpoints: root over every record before"])
        rows.append([f"{report.signatures:,}", "signatures of checkpoints"])
    if report.outside:
        rows.append([f"{report.outside:,}", "heads and checkpoints that were noted elsewhere"])
    echo_columns(rows, right=(0,))
    if report.erased:
        click.echo(f"{report.erased:,} of the files were deleted, as records say.")
    if report.unchecked:
        click.echo(
            f"{report.unchecked:,} signatures were not checked: their keys were not given (--key)."
        )
    if report.extra_files:
        click.echo(
            f"{report.extra_files:,} more files that no record names: left by interrupted "
            "requests, or from requests that came meanwhile. They do no harm."
        )
    for note in report.notes:
        click.echo(note)
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
    if report.covered:
        click.echo(_COVERED.format(covered=report.covered, records=report.records))
    if report.covered < report.records or not report.records:
        click.echo(_CANNOT)
    click.echo("")
    click.echo(f"  inspection verify {place.options} --expect {report.head}")


def _progress(shown: bool) -> Callable[[int, int], None] | None:
    if not shown:
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else "\r"
        click.echo(f"{done:,} of {total:,} records{end}", nl=False, err=True)

    return show
