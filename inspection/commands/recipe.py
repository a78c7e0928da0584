"""`inspection recipe`: what a recipe says, in words and as a drawing of its zones.

recipe.toml | MODEL@VERSION  ->  validated, its reference views too  ->  words, PNG, JSON

Beginning a recipe from a data set lives in the room of training: `ELSEWHERE` names it.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click
import cv2

from inspection.commands.groups import SharedGroup
from inspection.commands.options import output_format, weights_dir_option
from inspection.display import shown
from inspection.errors import ConfigurationError, InputError
from inspection.package import load_package
from inspection.recipe import dump_recipe, load_recipe
from inspection.references import reference_views
from inspection.registry import Registry
from inspection.zones.drawing import draw_zones
from inspection.zones.rules import rule_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from inspection.recipe import Recipe
    from inspection.zones.registration import ReferenceView
    from inspection.zones.shapes import Rule

COMMAND_GROUP: Final = "inspection.commands.recipe"
ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"draft": ("Begin a recipe from a data set and a reference view.", "train")}
)


@click.group(cls=SharedGroup, entry_points=COMMAND_GROUP, elsewhere=ELSEWHERE)
def recipe() -> None:
    """Show and check how a product is inspected: docs/recipe.md has every key."""


@recipe.command()
@click.argument("source", metavar="RECIPE|MODEL@VERSION")
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the zones over the reference view.",
)
@click.option("--view", metavar="NAME", help="Which view to draw, of a recipe that has several.")
@weights_dir_option
@output_format
def show(source: str, png: Path | None, view: str | None, weights_dir: Path, form: str) -> None:
    """Say what a recipe demands, once it and its reference views hold."""
    found, views = _load(source, weights_dir)
    if png is not None:
        _draw(found, views, view, png)
    if form == "json":
        click.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=2))
        return
    for line in in_words(found):
        click.echo(line)
    if png is not None:
        click.echo(f"drawn: {png}", err=True)


def in_words(found: Recipe) -> Iterator[str]:
    """The recipe as lines for people."""
    kind = {1: "grey", 3: "colour"}[found.channels]
    height, width = found.input_size_px
    yield f"{found.product}, revision {found.revision} ({found.modality}, {found.bits}-bit {kind})"
    if found.frame_size_px is not None:
        yield f"  frames    {found.frame_size_px[1]} x {found.frame_size_px[0]} pixels"
    low, high = found.window
    yield f"  network   {width} x {height} pixels, window {low:g} to {high:g}"
    if found.pitch_mm is not None:
        yield f"  pixel     {found.pitch_mm:g} mm on the part"
    yield f"  classes   {', '.join(found.classes)}"
    if found.views is not None:
        yield f"  views     {', '.join(found.views)}"
    for each in found.references:
        view = f" of view {each.view}" if each.view else ""
        yield (
            f"  reference {each.file}{view}: shift at most {each.max_shift_mm:g} mm, turn "
            f"{each.max_turn_deg:g} deg, agreement at least {each.least_agreement:g}"
        )
    if found.severity_from_mm:
        levels = ", ".join(f"{n} from {mm:g}" for n, mm in enumerate(found.severity_from_mm, 1))
        yield f"  severity  {levels} mm"
    if found.display is not None:
        yield (
            f"  display   percentiles {found.display.low_percentile:g} to "
            f"{found.display.high_percentile:g}, contrast {found.display.contrast}"
        )
    if found.references:
        yield "zones, the first that a defect touches counts:"
    for number, zone in enumerate(found.zones, start=1):
        yield f"{number:4} {zone.name}{f' (view {zone.view})' if zone.view else ''}"
        yield from _rules(zone.rules)
    if found.references:
        yield "   - elsewhere"
        yield from _rules(found.elsewhere)


def _rules(rules: Sequence[Rule]) -> Iterator[str]:
    others = "any other class" if any(rule.defects for rule in rules) else "any class"
    for rule in rules:
        yield f"       {', '.join(rule.defects) or others}: {rule_in_words(rule)}"
    if all(rule.defects for rule in rules):
        yield f"       {others}: none allowed"


def _load(source: str, weights_dir: Path) -> tuple[Recipe, tuple[ReferenceView, ...]]:
    path = Path(source)
    if "@" in source and not path.exists():
        package = Registry(weights_dir).load(source)
        return package.recipe, package.views
    if path.is_dir() and (path / "package.toml").exists():
        package = load_package(path)
        return package.recipe, package.views
    found = load_recipe(path)
    return found, reference_views(found, path.parent)


def _draw(found: Recipe, views: Sequence[ReferenceView], name: str | None, target: Path) -> None:
    """Write the drawing.

    Raises:
        InputError: the recipe has no reference view, or several and none of this name.
        ConfigurationError: it cannot be written.
    """
    chosen = [each for each in views if name is None or each.reference.view == name]
    if len(chosen) != 1 or found.pitch_mm is None:
        named = ", ".join(str(each.reference.view) for each in views if each.reference.view)
        raise InputError(
            f"there is no one reference view to draw over{f': {named}' if named else ''}",
            remedy="Name one with --view, or give the recipe [[references]] (docs/recipe.md).",
        )
    zones = [zone for zone in found.zones if zone.view == chosen[0].reference.view]
    picture = draw_zones(shown(chosen[0].whole, found.display), zones, found.pitch_mm)
    done, data = cv2.imencode(".png", picture)
    try:
        if not done:
            raise OSError("the picture could not be encoded")
        target.write_bytes(bytes(data))
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or error}",
            remedy="Name a file in a folder that is there.",
        ) from error


def _as_json(found: Recipe) -> dict[str, Any]:
    return {"digest": found.digest, **tomllib.loads(dump_recipe(found))}
