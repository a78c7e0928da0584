"""`inspection data list`, `show` and `remove`: the data sets that are here, and their revisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.table import Table

from inspection.commands.options import weights_dir_option
from inspection.errors import DataError
from training.commands.data import DATASETS, data, find_set, split_reference

if TYPE_CHECKING:
    from training.manifest import Manifest

SHORT = 12  # characters of a digest that tell sets apart at sight


@data.command("list")
@DATASETS
def list_sets(datasets_dir: Path) -> None:
    """The data sets that are here, each by its newest revision."""
    from training.commands.show import print_table
    from training.manifest import DESCRIPTION_NAME, read_manifest, revision_numbers

    folders = sorted(
        path for path in datasets_dir.glob("*") if path.is_dir() and not path.name.startswith(".")
    )
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in (
        *("name", "product", "images", "parts", "bad", "groups"),
        *("revision", "of", "digest"),
    ):
        table.add_column(heading)
    for folder in folders:
        numbers = revision_numbers(folder)
        if not numbers and not (folder / DESCRIPTION_NAME).exists():
            continue
        try:
            manifest = read_manifest(folder)
        except DataError as error:
            table.add_row(folder.name, f"not usable: {error}")
            continue
        counts = manifest.counts()
        cells = [str(counts[key]) for key in ("images", "parts", "bad_parts", "groups")]
        table.add_row(
            *(manifest.name, manifest.product, *cells),
            *(str(manifest.revision), str(len(numbers)), manifest.digest[:SHORT]),
        )
    if not table.row_count:
        click.echo(f"no data sets in {datasets_dir}: `inspection data import` makes one", err=True)
        return
    print_table(table)


@data.command("show")
@click.argument("name", metavar="DATASET[@REVISION]")
@click.option("--verify", is_flag=True, help="Compare every image with its SHA-256.")
@DATASETS
def show_set(name: str, verify: bool, datasets_dir: Path) -> None:
    """What is known of a data set, and the revisions that it has."""
    from training.commands.show import echo, print_table

    manifest = find_set(datasets_dir, name, verify=verify)
    counts, images = manifest.counts(), manifest.images
    size = images.frame_size_px
    placed = sum(bool(row.marked) for row in manifest.rows)
    voted = sum(bool(row.votes) for row in manifest.rows)
    lines = {
        "product": f"{manifest.product} ({manifest.modality})",
        "revision": f"{manifest.revision}{_origin_of(manifest)}",
        "images": f"{counts['images']}, in {counts['parts']} parts and {counts['groups']} groups",
        "bad parts": str(counts["bad_parts"]),
        "classes": ", ".join(f"{key} {n}" for key, n in manifest.label_counts().items()),
        "regions": f"{placed} images say where their defects are" if placed else "none",
        "votes": f"{voted} images were labelled by several" if voted else "none",
        "pixels": f"{images.bits} bits, {'grey' if images.channels == 1 else 'colour'}",
        "size": f"{size[1]} x {size[0]}" if size else "several",
        "grey levels": f"{images.grey_range[0]} to {images.grey_range[1]}",
        "flips": ", ".join(manifest.flips) or "none",
        "calibration": manifest.calibration.digest if manifest.calibration else "none",
        "licence": manifest.licence,
        "origin": manifest.origin.strip(),
        "digest": manifest.digest,
    }
    for heading, text in lines.items():
        echo(f"{heading:<12}{text}")
    print_table(_revisions(manifest))


@data.command("remove")
@click.argument("name", metavar="DATASET[@REVISION]")
@click.option("--yes", is_flag=True, help="Do not ask, and remove what models were made from.")
@DATASETS
@weights_dir_option
def remove_set(name: str, yes: bool, datasets_dir: Path, weights_dir: Path) -> None:
    """Remove a revision of a data set, or the whole of it.

    Images and masks that were copied into the set go with the last revision that names them;
    referenced ones, and what people put beside the set, stay. Asks first; refuses what a model
    under the weights folder was made from, unless --yes.
    """
    from training.commands.show import echo
    from training.data.revisions import remove_revision
    from training.data.rows import counted, listed
    from training.manifest import read_manifest, revision_numbers

    plain, revision = split_reference(name)
    newest = find_set(datasets_dir, plain, complete=False)
    numbers = revision_numbers(newest.folder)
    doomed = numbers if revision is None else (revision,)
    manifests = [read_manifest(newest.folder, revision=number, complete=False) for number in doomed]
    what = f"{plain}@{revision}" if revision is not None else plain
    images = max(len(manifest.rows) for manifest in manifests)
    digests = ", ".join(manifest.digest[:SHORT] for manifest in manifests)
    click.echo(
        f"{what}: {counted(len(doomed), 'revision')} of {len(numbers)}, "
        f"{counted(images, 'image')}, digest {digests}",
        err=True,
    )
    models = _models_made_from({manifest.digest for manifest in manifests}, weights_dir)
    if models and not yes:
        raise DataError(
            f"{what} is what {listed(models)} was made from; without it no figure of a model can "
            "be measured again",
            remedy="Add --yes to remove it all the same.",
        )
    if not yes:
        if not sys.stdin.isatty():
            raise DataError(f"{what} is removed for good", remedy="Add --yes.")
        click.confirm(f"Remove {what} for good?", abort=True, err=True)
    deleted = sum(remove_revision(newest.folder, number) for number in doomed)
    echo(f"removed {what}; {counted(deleted, 'file')} deleted")


def _origin_of(manifest: Manifest) -> str:
    said = [] if manifest.parent is None else [f"made from revision {manifest.parent}"]
    said += [text for text in (manifest.reason, manifest.created_at) if text]
    return f" ({'; '.join(said)})" if said else ""


def _revisions(manifest: Manifest) -> Table:
    from training.manifest import read_manifest, revision_numbers

    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("revision", "made", "images", "bad parts", "digest", "why"):
        table.add_column(heading)
    for number in revision_numbers(manifest.folder):
        try:
            each = read_manifest(manifest.folder, revision=number, complete=False)
        except DataError as error:
            table.add_row(str(number), "", "", "", "", f"not usable: {error}")
            continue
        counts = each.counts()
        table.add_row(
            *(str(number), each.created_at or "", str(counts["images"]), str(counts["bad_parts"])),
            *(each.digest[:SHORT], each.reason or ""),
        )
    return table


def _models_made_from(digests: set[str], weights_dir: Path) -> list[str]:
    """The packages that name one of these sets; one that cannot be read may be one of them."""
    from inspection.errors import ConfigurationError
    from inspection.registry import Registry

    found = []
    registry = Registry(weights_dir)
    for model, version in registry.packages():
        reference = f"{model}@{version}"
        try:
            package = registry.load(reference)
        except ConfigurationError:
            found.append(f"{reference} (damaged: it may be)")
            continue
        if package.document.data_digest in digests:
            found.append(reference)
    return found
