"""`inspection data import`, and what names a data set on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from inspection.errors import DataError
from training.sources.choose import KINDS, Asked, read_source

if TYPE_CHECKING:
    from inspection.recipe import Flip
    from training.manifest import Manifest

DATASETS = click.option(
    "--datasets-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("datasets"),
    show_default=True,
    envvar="INSPECTION_DATASETS_DIR",
    help="The folder of data sets.",
)


NOT_STATED = "not stated"
KNOWN_FLIPS: tuple[Flip, ...] = ("horizontal", "vertical", "rot90")


def read_flips(
    _ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[Flip, ...] | None:
    """The flips in a list such as horizontal,vertical; "none" for none."""
    if text is None:
        return None
    names = [] if text == "none" else text.split(",")
    unknown = [name for name in names if name not in KNOWN_FLIPS]
    if unknown:
        known = ", ".join(KNOWN_FLIPS)
        raise click.BadParameter(f"{unknown[0]!r} is none of {known}, none", param=param)
    return tuple(flip for flip in KNOWN_FLIPS if flip in names)


@click.group()
def data() -> None:
    """Bring labelled images in, and look at them."""


@data.command("import")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "kind",
    type=click.Choice(KINDS),
    help="What SOURCE is; found out by itself when absent.",
)
@click.option("--name", required=True, help="Of the data set.")
@click.option("--product", help="As stations and the MES send it; the data set's name when absent.")
@click.option("--modality", type=click.Choice(["vision", "x-ray"]), help="vision when absent.")
@click.option("--flips", callback=read_flips, help="Turns under which a part stays such a part.")
@click.option("--part-from", metavar="REGEX", help="Where in the path the part stands.")
@click.option("--group-from", metavar="REGEX", help="Where in the path lot or module stand.")
@click.option(
    "--images-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the file names in COCO begin.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Of the detector that took them, for a recipe that flat-fields.",
)
@click.option("--licence", help="Of the images.")
@click.option("--origin", help="Where the images come from.")
@click.option("--reference", is_flag=True, help="Leave the images where they are.")
@click.option("--dry-run", is_flag=True, help="Say what was understood, and stop.")
@DATASETS
def import_(
    source: Path | None,
    kind: str | None,
    name: str,
    product: str | None,
    modality: Literal["vision", "x-ray"] | None,
    flips: tuple[Flip, ...] | None,
    part_from: str | None,
    group_from: str | None,
    images_dir: Path | None,
    calibration: Path | None,
    licence: str | None,
    origin: str | None,
    reference: bool,
    dry_run: bool,
    datasets_dir: Path,
) -> None:
    """Import labelled images: a new data set, or the next revision of one.

    \b
    SOURCE is
      a folder with `good` and a folder for every defect class,
        and with masks/CLASS beside them, if there are masks;
      a folder with train, test and ground_truth, or with images and masks;
      a CSV with the columns path,label and, if known, part, group,
        probability, lot, mould, captured_at, station, view, annotator;
      a JSONL manifest with the same keys, and regions; or a COCO JSON.

    Paths in files are relative to the file. Several lines about one image, by different
    annotators, are votes. The images of the package elpv-dataset need no SOURCE: --from elpv.

    Where the data set is there already, the next revision is made, after saying what changes;
    former revisions stay. What is not said here stays as it was in the newest.
    """  # noqa: D301
    from training.commands.show import echo
    from training.importing import check_set_name, describe, plan, survey, write_set
    from training.manifest import read_manifest, revision_numbers
    from training.places import require_writable
    from training.progress import reporter

    check_set_name(name)  # what would stop the import is found before the images are read
    place = datasets_dir / name
    former = read_manifest(place, complete=False) if revision_numbers(place) else None
    if not dry_run:
        require_writable(datasets_dir)

    if source is None and kind != "elpv":
        raise click.UsageError("SOURCE is missing: a folder or a file")
    asked = Asked(kind=kind, part_from=part_from, group_from=group_from, images_dir=images_dir)
    labelled = read_source(source, asked)
    told_flips = labelled.flips or (() if former is None else former.flips)
    with reporter() as told:
        surveyed = survey(labelled, told.progress)
    planned = plan(
        labelled,
        surveyed,
        name=name,
        product=product or labelled.product or (former.product if former else name),
        modality=modality or labelled.modality or (former.modality if former else "vision"),
        flips=told_flips if flips is None else flips,
        licence=licence or _stated(labelled.licence, None if former is None else former.licence),
        origin=origin or _stated(labelled.origin, None if former is None else former.origin),
        place=place,
        reference=reference,
        calibration=calibration,
    )
    for heading, text in describe(labelled, surveyed, planned):
        echo(f"{heading:<12}{text}")
    if dry_run:
        click.echo("nothing was written (--dry-run)", err=True)
        return
    with reporter() as told:
        written = write_set(planned, told.progress)
    if written is None:
        click.echo("the same set is there already; nothing was changed", err=True)
    made = written or planned.former or planned.manifest
    preset = "" if made.classes else " --preset anomaly"
    echo(f"{made.folder}  {made.reference}; next: inspection train {name}{preset}")


def _stated(said: str, former: str | None) -> str:
    """What the source states, or else what the former revision does."""
    return said if said != NOT_STATED or former is None else former


def find_set(
    datasets_dir: Path, reference: str, *, verify: bool = False, complete: bool = True
) -> Manifest:
    """The data set of a name such as knuckles, or its revision such as knuckles@2.

    See `training.manifest.read_manifest`.

    Raises:
        DataError: it is not there or does not hold.
    """
    from training.manifest import read_manifest

    name, revision = split_reference(reference)
    if not name or "/" in name or name.startswith("."):
        raise DataError(f"{name!r} is not the name of a data set in {datasets_dir}")
    return read_manifest(datasets_dir / name, revision=revision, verify=verify, complete=complete)


def split_reference(reference: str) -> tuple[str, int | None]:
    """Name and revision out of knuckles@2; no revision out of knuckles.

    Raises:
        DataError: what follows `@` is not the number of a revision.
    """
    name, at, number = reference.partition("@")
    if at and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise DataError(f"{reference!r}: a revision is a number, such as {name or 'NAME'}@2")
    return name, int(number) if at else None
