"""`inspection simulate`: sets of images with known truth, to try everything with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.simulation.surfaces import Finish


@click.group()
def simulate() -> None:
    """Make sets of images whose truth is known."""


@simulate.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--parts", type=click.IntRange(1), default=2500, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--first", type=click.IntRange(0), default=0, help="Number of the first part. [default: 0]"
)
@click.option(
    "--views", type=click.IntRange(1, 2), default=1, help="Images of each part. [default: 1]"
)
@click.option(
    "--size", type=click.IntRange(128, 4096), default=1024, help="Pixels a side. [default: 1024]"
)
@click.option("--one-class", is_flag=True, help="Labels say `defect`, whichever it is.")
@click.option(
    "--least-rate",
    type=click.FloatRange(0, 3),
    default=0.0,
    help="Defects of each class to expect in a part, if the process makes fewer: a set to learn "
    "from, where rare classes are collected. [default: 0, as parts are cast]",
)
@click.option("--processes", type=click.IntRange(1), help="As many as there are cores if absent.")
def castings(
    folder: Path,
    parts: int,
    seed: int,
    first: int,
    views: int,
    size: int,
    least_rate: float,
    processes: int | None,
    *,
    one_class: bool,
) -> None:
    """Write radiographs of aluminium castings to FOLDER, 16-bit, with labels and truth.

    The same numbers give the same images. For a test set that shares no part with the first one,
    take --first from where that ended.
    """
    from training.progress import reporter
    from training.simulation.physics import Detector
    from training.simulation.writing import Order, write_set

    order = Order(
        parts=parts,
        seed=seed,
        first=first,
        views=views,
        one_class=one_class,
        least_rate=least_rate,
        detector=Detector(size_px=(size, size), pitch_mm=102.4 / size),
    )
    with reporter() as told:
        made = write_set(
            order,
            folder,
            processes=processes,
            progress=lambda done, total: told.progress("cast parts", done, total),
        )
    click.echo(f"images      {made.images} of {parts} parts in {folder}")
    click.echo(f"bad parts   {made.bad_parts}: more than their zones allow")
    for name, count in made.defects.items():
        click.echo(f"            {name} {count}")
    click.echo(f"digest      {made.digest}")
    frames = folder / "calibration"
    click.echo(
        f"next: inspection detector calibrate --station xray-1 --dark '{frames}/dark-*.tif' "
        f"--open '{frames}/open-*.tif'\n"
        f"      inspection data import {folder / 'labels.jsonl'} --name castings --product KN-42 "
        "--modality x-ray --calibration FILE.npz, which that names"
    )
    if made.defects:
        click.echo(f"      inspection train castings --recipe {folder / 'recipe.toml'}")


@simulate.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--faces", type=click.IntRange(1), default=800, help="Of each finish. [default: 800]")
@click.option(
    "--finish",
    "finishes",
    type=click.Choice(["brushed", "turned", "cast"]),
    multiple=True,
    help="All three if absent; may be repeated.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--first", type=click.IntRange(0), default=0, help="Number of the first face. [default: 0]"
)
@click.option(
    "--size", type=click.IntRange(64, 4096), default=512, help="Pixels a side. [default: 512]"
)
@click.option("--processes", type=click.IntRange(1), help="As many as there are cores if absent.")
def surfaces(
    folder: Path,
    faces: int,
    finishes: tuple[Finish, ...],
    seed: int,
    first: int,
    size: int,
    processes: int | None,
) -> None:
    """Write pictures of machined metal faces to FOLDER, 8-bit colour, with labels and masks."""
    from training.progress import reporter
    from training.simulation.surfaces import FINISHES
    from training.simulation.writing_faces import FaceOrder, write_faces

    order = FaceOrder(
        faces=faces,
        seed=seed,
        first=first,
        size_px=size,
        finishes=tuple(dict.fromkeys(finishes)) or FINISHES,
    )
    with reporter() as told:
        made = write_faces(
            order,
            folder,
            processes=processes,
            progress=lambda done, total: told.progress("light faces", done, total),
        )
    click.echo(f"images      {made.images} in {folder}")
    click.echo(f"bad faces   {made.bad_parts}")
    for name, count in made.defects.items():
        click.echo(f"            {name} {count}")
    click.echo(f"digest      {made.digest}")
    click.echo(f"next: inspection data import {folder / 'labels.csv'} --name faces")
