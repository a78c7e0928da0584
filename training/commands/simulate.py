"""`inspection simulate`: sets of images with known truth, to try everything with."""

from __future__ import annotations

from pathlib import Path

import click


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
@click.option("--processes", type=click.IntRange(1), help="As many as there are cores if absent.")
def castings(
    folder: Path, parts: int, seed: int, first: int, views: int, size: int, processes: int | None
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
    click.echo(
        f"next: inspection data import {folder / 'labels.csv'} --name castings "
        "--product KN-42 --modality x-ray"
    )
