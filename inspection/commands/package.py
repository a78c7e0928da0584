"""`inspection package`: a model as one file, out of one box and into another."""

from __future__ import annotations

from pathlib import Path

import click

from inspection.commands.options import weights_dir_option
from inspection.package_archive import export_package, import_package
from inspection.registry import Registry

_FILE = click.Path(path_type=Path)


@click.group()
def package() -> None:
    """Carry a model from one box to another as one verified file."""


@package.command("export")
@click.argument("reference", metavar="MODEL@VERSION")
@click.argument("file", type=_FILE)
@weights_dir_option
def export_model(reference: str, file: Path, weights_dir: Path) -> None:
    """Write a package into FILE, which must not be there yet."""
    manifest = export_package(Registry(weights_dir), reference, file)
    click.echo(f"{manifest.reference} is in {file}: {manifest.total_bytes:,} bytes")
    click.echo(f"package digest: {manifest.digest}")
    click.echo(f"On the other box: inspection package import {file.name}", err=True)


@package.command("import")
@click.argument("file", type=_FILE)
@weights_dir_option
def import_model(file: Path, weights_dir: Path) -> None:
    """Verify FILE and put the package in it among the others.

    It serves nothing until it is promoted.
    """
    registry = Registry(weights_dir)
    package = import_package(registry, file)
    click.echo(f"{package.reference} is in {package.folder}")
    click.echo(f"package digest: {package.digest}")
    state = registry.state(package)
    if state == "candidate":
        following = f"inspection models --weights-dir {weights_dir} promote {package.reference}"
        click.echo(
            "Compare the digest with what export printed; then put it in force for "
            f"{package.recipe.product}:\n  {following}",
            err=True,
        )
    else:
        click.echo(f"By this box's log it is {state}.", err=True)
