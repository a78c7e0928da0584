"""`inspection models`: what there is, what serves, and who decided it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inspection.errors import InspectionError
from inspection.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.package import ModelPackage
    from inspection.registry import Promotion

FORMATS = click.Choice(["table", "json"])


@click.group()
@click.option(
    "--weights-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("weights"),
    show_default=True,
    envvar="INSPECTION_WEIGHTS_DIR",
    help="The folder of model packages.",
)
@click.pass_context
def models(context: click.Context, weights_dir: Path) -> None:
    """List, show, promote and roll back model packages."""
    context.obj = Registry(weights_dir)


def _format_option(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("--format", "form", type=FORMATS, default="table", show_default=True)
    return option(command)


@models.command("list")
@_format_option
@click.pass_obj
def list_models(registry: Registry, form: str) -> None:
    """Every package, with its state and what its limits were shown to hold."""
    current = {(line.model, line.version): line for line in registry.current().values()}
    rows = [_row(registry, model, version, current) for model, version in registry.packages()]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        hint = "make one with `inspection train`"
        click.echo(f"no model packages in {registry.root}: {hint}", err=True)
        return
    table = Table(box=SIMPLE)
    for heading in ("model", "product", "state", "escape ≤", "certified", "made", "digest"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        bound = row["escape_bound"]
        table.add_row(
            row["model"],
            row["product"],
            row["state"],
            "" if bound is None else f"{bound:.1%}",
            {True: "yes", False: "no", None: ""}[row["certified"]],
            row["created_at"][:10],
            row["digest"][:12],
        )
    _print(table)


@models.command()
@click.argument("reference", metavar="MODEL@VERSION")
@_format_option
@click.pass_obj
def show(registry: Registry, reference: str, form: str) -> None:
    """Everything about one package; MODEL@promoted is the one in use."""
    package = registry.load(reference)
    document = package.document
    if form == "json":
        facts = {
            "reference": package.reference,
            "digest": package.digest,
            "files": dict(package.files),
            "document": asdict(document),
            "recipe_digest": package.recipe.digest,
            "report": package.report(),
        }
        click.echo(json.dumps(facts, indent=2))
        return
    point = document.operating_point
    table = Table(box=SIMPLE, show_header=False)
    made = f"{document.created_at} by release {document.code_version}, preset {document.preset}"
    rows = {
        "model": package.reference,
        "product": f"{package.recipe.product}, recipe revision {package.recipe.revision}",
        "made": made,
        "backbone": document.backbone,
        "precision": document.precision,
        "classes": ", ".join(package.recipe.classes),
        "pass below": ", ".join(f"{limit:.4f}" for limit in point.pass_below),
        "fail from": ", ".join(f"{limit:.4f}" for limit in point.fail_from),
        "novelty limit": f"{point.novelty_limit:.4g}",
        "certificate": point.certificate.in_words(),
        "package digest": package.digest,
        "weights digest": package.weights_digest,
        "data digest": document.data_digest,
        "folder": str(package.folder),
    }
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    _print(table)


@models.command()
@click.argument("reference", metavar="MODEL@VERSION")
@click.option("--accept-risk", metavar="REASON", help="Promote without a certificate, and say why.")
@click.pass_obj
def promote(registry: Registry, reference: str, accept_risk: str | None) -> None:
    """Put a package in force for its product; servers take it up when they start."""
    _say(registry.promote(reference, accept_risk=accept_risk))


@models.command()
@click.argument("product")
@click.pass_obj
def rollback(registry: Registry, product: str) -> None:
    """Put the package back in force that served PRODUCT before."""
    _say(registry.rollback(product))


@models.command()
@click.option("--product", help="Only this product.")
@_format_option
@click.pass_obj
def history(registry: Registry, product: str | None, form: str) -> None:
    """Who promoted what, when and on which evidence; oldest first."""
    lines = [line for line in registry.history() if product in (None, line.product)]
    if form == "json":
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    table = Table(box=SIMPLE)
    for heading in ("at", "action", "product", "model", "by", "certified", "accepted risk"):
        table.add_column(heading)
    for line in lines:
        certified = "yes" if line.certified else "no"
        moment = line.at[:19].replace("T", " ")
        risk = line.accepted_risk or ""
        table.add_row(moment, line.action, line.product, line.reference, line.by, certified, risk)
    _print(table)


def _row(
    registry: Registry,
    model: str,
    version: int,
    current: dict[tuple[str, int], Promotion],
) -> dict[str, Any]:
    reference = f"{model}@{version}"
    try:
        package: ModelPackage = registry.load(reference)
    except InspectionError as error:
        return {
            "model": reference,
            "product": "?",
            "state": f"damaged: {error}",
            "escape_bound": None,
            "certified": None,
            "created_at": "",
            "digest": "",
        }
    line = current.get((model, version))
    state = "candidate" if line is None else "promoted"
    if line is not None and line.digest != package.digest:
        state = "not the package that was promoted"
    certificate = package.document.operating_point.certificate
    return {
        "model": reference,
        "product": package.recipe.product,
        "state": state,
        "escape_bound": certificate.escape_bound,
        "certified": certificate.certified,
        "created_at": package.document.created_at,
        "digest": package.digest,
    }


def _say(line: Promotion) -> None:
    verb = "promoted" if line.action == "promote" else "rolled back to"
    click.echo(f"{line.product}: {verb} {line.reference} ({line.digest[:12]})")
    click.echo("A running server takes it up when it is restarted.", err=True)


def _print(table: Table) -> None:
    Console(soft_wrap=False, highlight=False).print(table)
