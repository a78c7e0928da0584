"""`inspection export`: models for servers that are not this product's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import weights_dir_option
from inspection.registry import Registry
from inspection.triton_repository import ENGINE_CACHE, ExportOptions, export_to_triton

if TYPE_CHECKING:
    from inspection.triton_repository import Backend


@click.group()
def export() -> None:
    """Write models for other servers."""


@export.command()
@click.argument("package", metavar="MODEL@VERSION")
@click.argument("repository", metavar="REPO", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "tensorrt", "python"]),
    default="onnxruntime",
    show_default=True,
    help="The first two are for the official container and a GPU, `python` is for a CPU.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    help="Images in one run.  [default: 64; 8 with python]",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Copies of the network side by side.",
)
@click.option("--gpu", metavar="NAME", help="With tensorrt: the kind of GPU, such as l4.")
@click.option(
    "--engine-cache",
    metavar="FOLDER",
    default=ENGINE_CACHE,
    show_default=True,
    help="With tensorrt: where Triton keeps the engines that it builds.",
)
@weights_dir_option
def triton(
    package: str,
    repository: Path,
    backend: Backend,
    max_batch: int | None,
    instances: int,
    gpu: str | None,
    engine_cache: str,
    weights_dir: Path,
) -> None:
    """Write a package into a model repository of NVIDIA Triton.

    REPO is the folder that Triton is started with. What is in there is never overwritten.
    """
    options = ExportOptions(
        backend=backend,
        max_batch=max_batch,
        instances=instances,
        gpu=gpu,
        engine_cache=engine_cache,
    )
    done = export_to_triton(Registry(weights_dir).load(package), repository, options)
    state = "written to" if done.fresh else "already in"
    click.echo(f"{done.model} version {done.version} {state} {repository}", err=True)
    click.echo(done.folder)
