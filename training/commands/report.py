"""`inspection report`: the page that a person reads, prints and signs."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import weights_dir_option
from inspection.errors import ConfigurationError, DataError
from inspection.package import load_package
from inspection.registry import Registry

if TYPE_CHECKING:
    from inspection.package import ModelPackage

PAGE, FIGURES = "report.html", "report.json"


@click.command()
@click.argument("package", metavar="PACKAGE", required=False)
@click.option("--open", "show", is_flag=True, help="Open it in the browser, where there is one.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a copy to this file; it carries the package's digest.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "json"]),
    default="html",
    show_default=True,
    help="The page to sign, or the same figures for programs.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of report.json, and stop.")
@weights_dir_option
def report(
    package: str | None,
    show: bool,
    out: Path | None,
    form: str,
    schema: bool,
    weights_dir: Path,
) -> None:
    """Where the report of PACKAGE (MODEL@VERSION or a folder) lies.

    The report is one HTML file, made when the model was trained. It needs nothing but itself: copy
    it to a stick, print it, sign it. Every figure in it is also in report.json (--format json).
    """
    if schema:
        from training.report import report_schema

        click.echo(json.dumps(report_schema(), indent=2))
        return
    if package is None:
        raise click.UsageError("Missing argument 'PACKAGE': MODEL@VERSION or a folder.")
    loaded = _find(package, weights_dir)
    if form == "json":
        if show:
            raise click.UsageError("--open goes with the page, not with --format json")
        _give_figures(loaded, out)
        return
    place = loaded.folder / PAGE
    if out is not None:
        _write(out, _copy(loaded))
        place = out
    elif PAGE not in loaded.files:
        raise DataError(
            f"{loaded.reference} has no {PAGE}: an earlier release made it",
            remedy=f"`inspection report {package} --out FILE` makes one from its {FIGURES}.",
        )
    click.echo(str(place))
    if show:
        _open(place)


def _find(reference: str, weights_dir: Path) -> ModelPackage:
    """The package of this name, or in this folder.

    Raises:
        NotFound: there is none. PackageDamaged: its digests do not hold.
    """
    folder = Path(reference)
    if (folder / "package.toml").exists():
        return load_package(folder)
    if "@" not in reference:
        raise DataError(
            f"there is no model package in {reference}",
            remedy="Name it as MODEL@VERSION, or by its folder; `inspection models list` shows "
            "what there is.",
        )
    return Registry(weights_dir).load(reference)


def _copy(loaded: ModelPackage) -> bytes:
    """The page with the package's digest; made from report.json where the package has none."""
    from training.reporting.report_page.stamp import stamped

    if PAGE in loaded.files:
        return stamped(loaded.read(PAGE), loaded.digest)

    from training.report import identity_of, read_report
    from training.reporting.report_page.page import render_report

    found = read_report(loaded)
    files = {name: digest for name, digest in loaded.files.items() if name != FIGURES}
    identity = identity_of(loaded.document, made_by="somebody not on record", files=files)
    return stamped(render_report(replace(found, identity=identity)), loaded.digest)


def _give_figures(loaded: ModelPackage, out: Path | None) -> None:
    data = loaded.read(FIGURES)
    if out is None:
        click.echo(data.decode(), nl=False)
        return
    _write(out, data)
    click.echo(str(out))


def _write(place: Path, data: bytes) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(
            f"{place}: {error.strerror or error}",
            remedy="Name a file in a folder that you may write to.",
        ) from error


def _open(place: Path) -> None:
    """In a browser; without a screen a text browser would take the terminal, so none is tried."""
    screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not (screen and webbrowser.open(place.resolve().as_uri())):
        click.echo("no browser could be opened here; open the file above yourself", err=True)
