"""`inspection backup`, `restore` and `fsck`: keeping the records through the loss of a disk.

backup [FOLDER]   records, images and calibrations into a folder; the next brings only what is new
restore FOLDER    a backup into an empty place, SQLite or PostgreSQL
fsck              what is missing, extra or damaged
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.stores.audit import note_act
from inspection.stores.backup import make_backup
from inspection.stores.files import FileImageStore
from inspection.stores.fsck import check_store
from inspection.stores.places import detectors_dir, last_backup
from inspection.stores.restore import check_backup
from inspection.stores.restore import restore as restore_backup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection.commands.places import Place
    from inspection.stores.fsck import FsckReport
    from inspection.stores.manifest import Manifest

_LISTED = 20

_folder = click.Path(path_type=Path, file_okay=False)


# --- backup ------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=_folder, required=False)
@with_place
@output_format
@click.pass_context
def backup(ctx: click.Context, folder: Path | None, place: Place, form: str) -> None:
    """Back up records, images, calibrations and access keys to FOLDER; the server may go on.

    FOLDER is DATA_DIR/backups/whole unless it is named. What it holds of these records stays and
    only what is new is added. Exit status 1 when the store lacks files that its records name.
    """
    place.require(records=True)
    target = folder or place.backups / "whole"
    images = FileImageStore(place.images, read_only=True)
    made = make_backup(
        *(place.url, images, target),
        detectors=detectors_dir(place.data_dir),
        progress=_progress("files"),
    )
    if not made.problems:
        with contextlib.suppress(OSError):  # the figure stays old then, and so does its alarm
            last_backup(place.data_dir).touch()
    if form == "json":
        echo_json(
            {
                "ok": not made.problems,
                "folder": str(made.folder),
                "manifest": asdict(made.manifest),
                "brought": made.brought,
                "removed": made.removed,
                "problems": list(made.problems),
            }
        )
    else:
        click.echo(f"Backed up {place.shown} and {place.images} to {made.folder}:")
        _show_manifest(made.manifest)
        click.echo(f"New in this folder: {made.brought:,} files.")
        if made.removed:
            click.echo(f"Taken out, as they were erased from the records: {made.removed:,} files.")
        if folder is None:
            click.echo("This is the same disk: copy the folder to another machine.")
        _show_problems("The store is not whole:", made.problems)
        if made.problems:
            click.echo("Run `inspection fsck`; an older backup may have what is missing.")
    if made.problems:
        ctx.exit(1)


# --- restore -----------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=_folder)
@click.option("--check", is_flag=True, help="Only read the whole backup and say whether it holds.")
@with_place
@output_format
@click.pass_context
def restore(ctx: click.Context, folder: Path, check: bool, place: Place, form: str) -> None:
    """Restore the backup in FOLDER to an empty data folder and database.

    It is checked wholly before anything is touched, and what was restored is checked after. Exit
    status 1 when something does not hold.
    """
    if check:
        _check(ctx, folder, form)
        return
    done = restore_backup(
        folder, data_dir=place.data_dir, url=place.url, progress=_progress("files")
    )
    what = f"a backup of {done.manifest.made_at}, tree head {done.manifest.head}"
    note_act(place.url, act="restored", detail=what)
    if form == "json":
        echo_json(
            {
                "ok": done.report.ok,
                "manifest": asdict(done.manifest),
                "records": place.shown,
                "problems": list(done.report.problems),
            }
        )
    else:
        click.echo(f"Restored to {place.shown} and {place.images}:")
        _show_manifest(done.manifest)
        _show_problems("What was restored is not whole:", done.report.problems)
        if done.report.ok:
            click.echo("Everything was checked again in its new place, and holds.")
            click.echo("Access keys are those of the backup: revoke what was revoked since.")
    if not done.report.ok:
        ctx.exit(1)


def _check(ctx: click.Context, folder: Path, form: str) -> None:
    checked = check_backup(folder, progress=_progress("files"))
    if form == "json":
        manifest = asdict(checked.manifest)
        echo_json({"ok": checked.ok, "manifest": manifest, "problems": list(checked.problems)})
    else:
        click.echo(f"Read the backup in {folder}:")
        _show_manifest(checked.manifest)
        _show_problems("It does not hold:", checked.problems)
        if checked.ok:
            click.echo("It holds: every file has its digest, and the records their tree.")
    if not checked.ok:
        ctx.exit(1)


def _show_manifest(manifest: Manifest) -> None:
    echo_columns(
        [
            [f"{manifest.tree_size:,}", f"records, as of {manifest.made_at}"],
            [f"{manifest.images:,}", f"images and maps, {manifest.image_bytes / 2**20:,.1f} MiB"],
        ],
        right=(0,),
    )
    click.echo(f"Tree head {manifest.head}")


# --- fsck --------------------------------------------------------------------------------------


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Make derived tables anew from the records, and clear stale leftovers.",
)
@with_place
@output_format
@click.pass_context
def fsck(ctx: click.Context, repair: bool, place: Place, form: str) -> None:
    """Find missing, extra and damaged records, rows and files.

    Records and images are never repaired: what they said can only come from a backup. Exit status
    1 when something does not hold.
    """
    place.require(records=True)
    found = check_store(place.url, place.images, repair=repair, progress=_progress("records"))
    if form == "json":
        echo_json(_as_json(found))
    else:
        _show_fsck(found, place)
    if not found.ok:
        ctx.exit(1)


def _as_json(found: FsckReport) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(found), default=str))
    return {"ok": found.ok, **plain}


def _show_fsck(found: FsckReport, place: Place) -> None:
    report = found.report
    click.echo(f"Checked {place.shown} and {place.images}:")
    unnamed = [each for each in found.extra if each.why == "unnamed"]
    leftover = [each for each in found.extra if each.why == "leftover"]
    echo_columns(
        [
            [f"{report.records:,}", "records, their tree, and every row made from them"],
            [f"{report.images:,}", "files that records name"],
            [f"{len(unnamed):,}", "whole files that no record names"],
            [f"{len(leftover):,}", "other files: what an interrupted write left, or a stranger's"],
        ],
        right=(0,),
    )
    for each in found.extra[:_LISTED]:
        click.echo(f"  {each.path} ({each.size_bytes:,} bytes)")
    if len(found.extra) > _LISTED:
        click.echo(f"  and {len(found.extra) - _LISTED:,} more; --format json lists them all")
    _show_problems("Repaired:", found.repaired)
    if found.cleared:
        click.echo(f"Cleared {found.cleared:,} stale leftovers.")
    _show_problems("DAMAGED. What does not hold:", report.problems)
    if report.ok:
        click.echo("Everything holds.")
    else:
        click.echo(
            "`inspection fsck --repair` makes derived tables anew. For the rest keep a copy of "
            "everything as it is, then restore the last good backup."
        )


# --- for all of them ---------------------------------------------------------------------------


def _show_problems(heading: str, problems: Sequence[str]) -> None:
    if problems:
        click.echo(heading)
        for problem in problems:
            click.echo(f"  - {problem}")


def _progress(what: str) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else "\r"
        click.echo(f"{done:,} of {total:,} {what}{end}", nl=False, err=True)

    return show
