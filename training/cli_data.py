"""`inspection data`: bring labelled images in, and look at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.box import SIMPLE
from rich.table import Table

from inspection.errors import DataError

if TYPE_CHECKING:
    from inspection.recipe import Flip
    from training.manifest import Manifest
    from training.sources import Labelled

DATASETS = click.option(
    "--datasets-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("datasets"),
    show_default=True,
    envvar="INSPECTION_DATASETS_DIR",
    help="The folder of data sets.",
)


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
    type=click.Choice(["folders", "table", "elpv"]),
    help="What SOURCE is; found out by itself when absent.",
)
@click.option("--name", required=True, help="Of the data set.")
@click.option("--product", help="As stations and the MES send it; the data set's name when absent.")
@click.option("--modality", type=click.Choice(["vision", "x-ray"]), help="vision when absent.")
@click.option("--flips", callback=read_flips, help="Turns under which a part stays such a part.")
@click.option("--part-from", metavar="REGEX", help="Where in the path the part stands.")
@click.option("--group-from", metavar="REGEX", help="Where in the path lot or module stand.")
@click.option("--licence", help="Of the images.")
@click.option("--origin", help="Where the images come from.")
@click.option("--reference", is_flag=True, help="Leave the images where they are.")
@click.option("--replace", is_flag=True, help="Take the place of a set of this name.")
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
    licence: str | None,
    origin: str | None,
    reference: bool,
    replace: bool,
    dry_run: bool,
    datasets_dir: Path,
) -> None:
    """Import labelled images from SOURCE.

    SOURCE is a folder that holds `good` and a folder for every defect class; or a CSV with the
    columns path,label[,part,group,probability,lot,mould,captured_at], paths relative to it. The
    images of the package elpv-dataset need no SOURCE: --from elpv.
    """
    from training.cli_show import echo
    from training.importing import check_set_name, describe, plan, survey, write_set
    from training.places import require_writable
    from training.progress import reporter

    check_set_name(name)  # what would stop the import is found before the images are read
    if not dry_run:
        require_writable(datasets_dir)

    labelled = _read(source, kind, part_from, group_from)
    with reporter() as told:
        surveyed = survey(labelled, told.progress)
    manifest = plan(
        labelled,
        surveyed,
        name=name,
        product=product or labelled.product or name,
        modality=modality or labelled.modality or "vision",
        flips=labelled.flips if flips is None else flips,
        licence=licence or labelled.licence,
        origin=origin or labelled.origin,
        place=datasets_dir / name,
        reference=reference,
    )
    for heading, text in describe(labelled, surveyed, manifest):
        echo(f"{heading:<12}{text}")
    if dry_run:
        click.echo("nothing was written (--dry-run)", err=True)
        return
    with reporter() as told:
        written = write_set(
            manifest,
            labelled,
            surveyed,
            reference=reference,
            replace=replace,
            progress=told.progress,
        )
    if not written:
        click.echo("the same set is there already; nothing was changed", err=True)
    echo(f"{manifest.folder}  next: inspection train {name}")


@data.command("list")
@DATASETS
def list_sets(datasets_dir: Path) -> None:
    """The data sets that are here."""
    from training.cli_show import print_table
    from training.manifest import DESCRIPTION_NAME, read_manifest

    folders = sorted(path.parent for path in datasets_dir.glob(f"*/{DESCRIPTION_NAME}"))
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    if not folders:
        click.echo(f"no data sets in {datasets_dir}: `inspection data import` makes one", err=True)
        return
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("name", "product", "images", "parts", "bad", "groups", "digest"):
        table.add_column(heading)
    for folder in folders:
        try:
            manifest = read_manifest(folder)
        except DataError as error:
            table.add_row(folder.name, f"not usable: {error}")
            continue
        counts = manifest.counts()
        numbers = [str(counts[key]) for key in ("images", "parts", "bad_parts", "groups")]
        table.add_row(manifest.name, manifest.product, *numbers, manifest.digest[:12])
    print_table(table)


@data.command()
@click.argument("name", metavar="DATASET")
@click.option("--verify", is_flag=True, help="Compare every image with its SHA-256.")
@DATASETS
def show(name: str, verify: bool, datasets_dir: Path) -> None:
    """What is known of a data set."""
    from training.cli_show import echo

    manifest = find_set(datasets_dir, name, verify=verify)
    counts, images = manifest.counts(), manifest.images
    size = images.frame_size_px
    lines = {
        "product": f"{manifest.product} ({manifest.modality})",
        "images": f"{counts['images']}, in {counts['parts']} parts and {counts['groups']} groups",
        "bad parts": str(counts["bad_parts"]),
        "classes": ", ".join(f"{key} {n}" for key, n in manifest.label_counts().items()),
        "pixels": f"{images.bits} bits, {'grey' if images.channels == 1 else 'colour'}",
        "size": f"{size[1]} x {size[0]}" if size else "several",
        "grey levels": f"{images.grey_range[0]} to {images.grey_range[1]}",
        "flips": ", ".join(manifest.flips) or "none",
        "licence": manifest.licence,
        "origin": manifest.origin.strip(),
        "digest": manifest.digest,
    }
    for heading, text in lines.items():
        echo(f"{heading:<12}{text}")


def find_set(datasets_dir: Path, name: str, *, verify: bool = False) -> Manifest:
    """The data set of this name.

    Raises:
        DataError: it is not there or does not hold.
    """
    from training.manifest import read_manifest

    if not name or "/" in name or name.startswith("."):
        raise DataError(f"{name!r} is not the name of a data set in {datasets_dir}")
    return read_manifest(datasets_dir / name, verify=verify)


def _read(
    source: Path | None, kind: str | None, part_from: str | None, group_from: str | None
) -> Labelled:
    from training.sources.elpv import read_elpv
    from training.sources.folders import read_folders
    from training.sources.table import read_table

    if kind == "elpv":
        return read_elpv(source)
    if source is None:
        raise click.UsageError("SOURCE is missing: a folder or a CSV")
    if not source.exists():
        raise DataError(f"{source} is not there")
    if kind == "table" or (kind is None and source.is_file()):
        if part_from or group_from:
            raise click.UsageError("--part-from and --group-from go with class folders")
        return read_table(source)
    return read_folders(source, part_from=part_from, group_from=group_from)
