"""`inspection models`: what there is, what serves, and who decided it.

Comparing two models is statistics, and lives in the room of training: `ELSEWHERE` names it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from inspection.commands.groups import SharedGroup
from inspection.commands.models_tables import history_table, list_table, print_table, show_table
from inspection.commands.options import output_format, weights_dir_option
from inspection.errors import InspectionError
from inspection.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inspection.package import ModelPackage
    from inspection.registry import Promotion

COMMAND_GROUP: Final = "inspection.commands.models"
ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"compare": ("Say whether one of two models is really better.", "train")}
)
"""Help and extra of the commands of another room, by name."""


@click.group(cls=SharedGroup, entry_points=COMMAND_GROUP, elsewhere=ELSEWHERE)
@weights_dir_option
@click.pass_context
def models(context: click.Context, weights_dir: Path) -> None:
    """List, show, compare, promote, retire and roll back model packages."""
    context.obj = Registry(weights_dir)


def _other_folder(context: click.Context, _param: click.Parameter, folder: Path | None) -> None:
    if folder is not None:
        context.obj = Registry(folder)


def weights_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--weights-dir` after the command's name too."""
    return click.option(
        "--weights-dir",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_other_folder,
        expose_value=False,
        is_eager=True,
        help="The folder of model packages.",
    )(command)


def _by_option(command: Callable[..., None]) -> Callable[..., None]:
    name = "Who decides it, for the log; the account's name when absent."
    return click.option("--by", metavar="NAME", help=name)(command)


@models.command("list")
@output_format
@weights_option
@click.pass_obj
def list_models(registry: Registry, form: str) -> None:
    """Every package, its state, and what its limits were shown to hold."""
    history = registry.history()
    rows = [_row(registry, model, version, history) for model, version in registry.packages()]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        hint = "make one with `inspection train`"
        click.echo(f"no model packages in {registry.root}: {hint}", err=True)
        return
    print_table(list_table(rows))


@models.command()
@click.argument("reference", metavar="MODEL@VERSION")
@output_format
@weights_option
@click.pass_obj
def show(registry: Registry, reference: str, form: str) -> None:
    """Everything about one package; MODEL@promoted is the one in use."""
    package = registry.load(reference)
    history = registry.history()
    state = registry.state(package, history)
    lines = [line for line in history if line.digest == package.digest]
    if form == "table":
        print_table(show_table(package, state, lines))
        return
    report = package.report()
    seen = report.pop("seen", None)  # thousands of digests, which split.csv holds now
    if seen is not None:
        report["seen_images"] = len(seen)
    facts = {
        "reference": package.reference,
        "state": state,
        "digest": package.digest,
        "files": dict(package.files),
        "document": asdict(package.document),
        "recipe_digest": package.recipe.digest,
        "decisions": [asdict(line) for line in lines],
        "report": report,
    }
    click.echo(json.dumps(facts, indent=2))


@models.command()
@click.argument("reference", metavar="MODEL@VERSION")
@click.option(
    "--accept-risk", metavar="REASON", help="Promote whatever stands against it, and say why."
)
@_by_option
@weights_option
@click.pass_obj
def promote(registry: Registry, reference: str, accept_risk: str | None, by: str | None) -> None:
    """Put a package in force for its product; an older one too.

    Its certificate must hold, and no bad part may turn to pass under another engine.
    """
    line = registry.promote(reference, accept_risk=accept_risk, by=by)
    if line.evidence is not None:
        click.echo(f"certificate: {line.evidence.certificate}", err=True)
        click.echo(f"engines: {line.evidence.agreement}", err=True)
        for pair in _pairs_that_differ(registry.load(reference)):
            click.echo(f"  {pair}", err=True)
        for objection in line.evidence.objections:
            click.echo(f"accepted as a risk: {line.reference} {objection}", err=True)
    _say(line)


@models.command()
@click.argument("product")
@_by_option
@weights_option
@click.pass_obj
def rollback(registry: Registry, product: str, by: str | None) -> None:
    """Put the package back in force that served PRODUCT before."""
    _say(registry.rollback(product, by=by))


@models.command()
@click.argument("reference", metavar="MODEL@VERSION")
@click.option("--reason", metavar="WHY", required=True, help="Goes into the log.")
@_by_option
@weights_option
@click.pass_obj
def retire(registry: Registry, reference: str, reason: str, by: str | None) -> None:
    """Take a package out for good: it serves no more and is not promoted again."""
    before = registry.current()
    line = registry.retire(reference, reason=reason, by=by)
    _say(line)
    if line.product in before and line.product not in registry.current():
        click.echo(
            f"{line.product} has no model in force now: its parts are refused until you run "
            f"`inspection models rollback {line.product}` or promote another version.",
            err=True,
        )


@models.command()
@click.option("--product", help="Only this product.")
@output_format
@weights_option
@click.pass_obj
def history(registry: Registry, product: str | None, form: str) -> None:
    """Who decided what, when and on which evidence; oldest first."""
    lines = [line for line in registry.history() if product in (None, line.product)]
    if form == "json":
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    if not lines:
        click.echo("nothing was ever promoted: `inspection models promote MODEL@VERSION`", err=True)
        return
    print_table(history_table(lines))


def _row(
    registry: Registry, model: str, version: int, history: Sequence[Promotion]
) -> dict[str, Any]:
    reference = f"{model}@{version}"
    try:
        package = registry.load(reference)
    except InspectionError as error:
        return {
            "model": reference,
            "product": "?",
            "state": f"damaged: {error}",
            "escape_bound": None,
            "certified": None,
            "engines_agree": None,
            "created_at": "",
            "digest": "",
        }
    state: str = registry.state(package, history)
    named = {line.digest for line in history if line.reference == reference}
    if named and package.digest not in named:
        state = "not the package that was promoted"
    certificate = package.document.operating_point.certificate
    agreement = package.document.agreement
    return {
        "model": reference,
        "product": package.recipe.product,
        "state": state,
        "escape_bound": certificate.escape_bound,
        "certified": certificate.certified,
        "engines_agree": None if agreement is None else not agreement.bad_to_pass,
        "created_at": package.document.created_at,
        "digest": package.digest,
    }


def _pairs_that_differ(package: ModelPackage) -> list[str]:
    """A line for every two engines whose verdicts differ."""
    agreement = package.document.agreement
    return [
        f"{pair.first} -> {pair.second}: {pair.changes.in_words()}"
        for pair in (agreement.pairs if agreement else ())
        if pair.changes.flips
    ]


def _say(line: Promotion) -> None:
    verb = {"promote": "promoted", "rollback": "rolled back to", "retire": "retired"}[line.action]
    click.echo(f"{line.product}: {verb} {line.reference} ({line.digest[:12]}), by {line.by}")
    click.echo("A running server takes it up by itself.", err=True)
