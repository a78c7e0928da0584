"""The verbs of training; here `train`, the others in modules of their own.

    data import -> data check -> data split -> train -> evaluate

Results go to stdout, talk to stderr.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from inspection.commands.options import weights_dir_option
from training.commands.check import check_data, relabel_set
from training.commands.data import DATASETS, data, find_set, read_flips
from training.commands.evaluate import evaluate
from training.commands.options import (
    FirstPage,
    leaks_told,
    read_costs,
    read_model,
    read_names,
    read_share,
    read_size,
)
from training.commands.sets import list_sets, remove_set, show_set
from training.commands.split import split_set
from training.places import require_writable

if TYPE_CHECKING:
    from training.config import Wish
    from training.manifest import Manifest
    from training.plan import Plan, Resolved

__all__ = [
    "check_data",
    "data",
    "evaluate",
    "list_sets",
    "relabel_set",
    "remove_set",
    "show_set",
    "split_set",
    "train",
]

SIZES = {
    "s": "tf_efficientnet_lite0",
    "m": "tf_efficientnet_lite1",
    "l": "tf_efficientnet_lite2",
    "lite0": "tf_efficientnet_lite0",
    "lite1": "tf_efficientnet_lite1",
    "lite2": "tf_efficientnet_lite2",
}
FIRST = (
    *("preset", "model", "escape_rate", "costs", "review_budget", "seed", "split"),
    *("backbone_size", "resume", "preview", "config", "assignments"),
)
# The command's option -> key in the TOML.
KEYS = {
    "preset": "preset",
    "model": "model",
    "split": "data.split",
    "fold": "data.fold",
    "group_by": "data.group_by",
    "seed": "data.seed",
    "flips": "data.flips",
    "serial_length": "data.serial_length",
    "recipe": "data.recipe",
    "compare_random": "data.compare_random",
    "backbone": "fit.backbone",
    "size": "fit.input_size_px",
    "epochs": "epochs",
    "escape_rate": "limits.escape_rate",
    "overkill_rate": "limits.overkill_rate",
    "review_budget": "limits.review_budget",
    "costs": "limits.costs",
    "precision": "engine.precision",
    "whole_precision": "engine.whole_precision",
}


@click.command(cls=FirstPage, first=FIRST, epilog="More options: inspection train --help-all")
@click.argument("name", metavar="DATASET")
@click.option(
    "--preset",
    type=click.Choice(["fast", "full", "anomaly"]),
    help="fast: a minute, frozen features (default). full: fine-tunes everything. anomaly: from "
    "good parts only.",
)
@click.option("--model", callback=read_model, help="Name of the package; the data set's if absent.")
@click.option(
    "--escape-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=read_share,
    help="The share of bad parts that may pass. [default: 0.01]",
)
@click.option(
    "--overkill-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=read_share,
    help="The share of good parts that may fail, as far as the review budget allows it.",
)
@click.option(
    "--costs",
    callback=read_costs,
    metavar="COSTS",
    help="Limits from costs instead: escape=500,overkill=20,review=3.",
)
@click.option(
    "--review-budget",
    type=click.FloatRange(0, 1),
    callback=read_share,
    help="The largest share of parts that may go to a person. [default: 0.15]",
)
@click.option("--seed", type=click.IntRange(0), help="Of every random draw. [default: 0]")
@click.option(
    "--split",
    metavar="FILE",
    help="A split made elsewhere, a CSV with path,fold; or auto. The one that `data split` saved "
    "if absent, else one is drawn.",
)
@click.option(
    "--backbone-size",
    type=click.Choice(list(SIZES)),
    help="One EfficientNet-Lite size up or down: s is lite0 (default), m lite1, l lite2.",
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished training.")
@click.option("--preview", is_flag=True, help="Write what the network will see, and stop.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A TOML of settings; --print-config shows one.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any value of the TOML, such as fit.hidden=64; may be given again.",
)
@click.option("--print-config", is_flag=True, help="Print every value and its origin, and stop.")
@click.option("--fold", type=click.IntRange(0), help="Which numbered fold of the split to test on.")
@click.option("--group-by", callback=read_names, help="What keeps parts together: lot,mould,date.")
@click.option("--backbone", help="timm's name of the backbone; its weights file by BACKBONE=FILE.")
@click.option("--size", callback=read_size, help="Input size, 300 or HEIGHTxWIDTH.")
@click.option("--epochs", type=click.IntRange(1), help="The preset's if absent.")
@click.option("--flips", callback=read_flips, help="horizontal,vertical,rot90; or none.")
@click.option(
    "--serial-length", type=click.IntRange(2), help="Of a mark, check character included."
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A recipe file instead of one made from the data set.",
)
@click.option("--compare-random", is_flag=True, help="Measure a random split too, to compare.")
@click.option(
    "--precision",
    type=click.Choice(["f32", "auto"]),
    help="What serves: float32, or what OpenVINO picks if that is quicker and flips no verdict.",
)
@click.option("--whole-precision", is_flag=True, help="Compare precisions on all test parts.")
@click.option(
    "--progress",
    "style",
    type=click.Choice(["auto", "json"]),
    default="auto",
    help="json: a JSON object a line on stderr, for a program that watches.",
)
@DATASETS
@weights_dir_option
def train(
    name: str,
    config: Path | None,
    assignments: tuple[str, ...],
    print_config: bool,
    resume: bool,
    preview: bool,
    style: Literal["auto", "json"],
    datasets_dir: Path,
    weights_dir: Path,
    **options: Any,
) -> None:
    """Make the next model from the labelled set DATASET.

    Divides it so that no part, lot or duplicate stands on two sides (60 % to fit, 15 % for
    calibration and limits, 25 % to test), fits, chooses limits for the wanted escape rate, measures
    the packaged model, and writes the package. The model that serves now goes on serving.
    """
    if options["compare_random"] and options["preset"] in ("full", "anomaly"):
        raise click.UsageError("--compare-random goes with --preset fast")
    if options["backbone"] and options["backbone_size"]:
        raise click.UsageError("--backbone and --backbone-size say the same: give one of them")
    manifest = find_set(datasets_dir, name)  # before the large libraries, which take seconds

    from training.commands.show import echo, show_trained
    from training.config import config_text, gather, settings_of
    from training.fitting.resume import settings_to_resume
    from training.package import train as make
    from training.plan import resolve, resolve_values
    from training.progress import reporter

    wishes = gather(manifest, config=config, flags=_flags(options), assignments=assignments)
    if resume:
        wishes = settings_to_resume(weights_dir, manifest, wishes)
    settings = replace(settings_of(wishes), resume=resume)
    origins = {key: wish.origin for key, wish in wishes.items()}
    if print_config:
        echo(config_text(resolve_values(manifest, settings), origins).rstrip())
        return
    if preview:
        _preview(resolve_values(manifest, settings), weights_dir)
        return
    with reporter(style) as told, leaks_told():
        plan = resolve(manifest, settings, origins=origins, progress=told.progress)
        require_writable(weights_dir / plan.model)
        told.say(f"data: {_counts(manifest)}")
        told.say(f"split: {_sides(plan)}; {plan.split.why}")
        if plan.fitting.detail:
            told.say(f"places: {_places(plan)}")
        told.say(config_text(plan).rstrip())
        trained = make(plan, weights_dir, told)
    if trained is None:  # one of several processes that fit together; the first one tells
        return
    show_trained(trained)
    echo(f"{trained.package.folder}  next: inspection models promote {trained.package.reference}")


def _flags(options: dict[str, Any]) -> dict[str, Wish]:
    """What the command line says, by key."""
    from training.config import Wish, check_value

    size = options.pop("backbone_size")
    given = {name: each for name, each in options.items() if each is not None and each is not False}
    flags = {}
    for name, value in given.items():
        key, flag = KEYS[name], f"--{name.replace('_', '-')}"
        if name == "backbone":
            backbone, _, weights = value.partition("=")
            if weights:
                flags["fit.weights"] = Wish(value=Path(weights), origin=flag)
            flags[key] = Wish(value=backbone, origin=flag)
            continue
        checked = value if key == "epochs" else check_value(key, value, flag)
        flags[key] = Wish(value=checked, origin=flag)
    if size is not None:
        flags["fit.backbone"] = Wish(value=SIZES[size], origin="--backbone-size")
    return flags


def _preview(resolved: Resolved, weights_dir: Path) -> None:
    """Write the contact sheet of what the network will see."""
    from training.commands.show import echo
    from training.fitting.preview import write_preview
    from training.plan import taught

    path = weights_dir / f"{resolved.model}-preview.png"
    require_writable(path.parent)
    manifest = taught(resolved.manifest, resolved.settings.preset)
    sheet = write_preview(
        manifest, resolved.recipe, resolved.fitting, path, seed=resolved.settings.seed
    )
    for line in sheet.lines:
        echo(line)
    echo(f"{sheet.path}  next: inspection train {resolved.manifest.name}")


def _counts(manifest: Manifest) -> str:
    counts = manifest.counts()
    return (
        f"{manifest.reference}, product {manifest.product}: {counts['images']} images, "
        f"{counts['parts']} parts ({counts['bad_parts']} bad) in {counts['groups']} groups; "
        f"{manifest.licence}"
    )


def _sides(plan: Plan) -> str:
    """Such as "fit 60 parts, calibrate 15, test 25"."""
    from training.split import SIDES

    parts = plan.manifest.parts
    counts = [len({parts[i] for i in plan.split.side(side).tolist()}) for side in SIDES]
    return ", ".join(f"{side} {count} parts" for side, count in zip(SIDES, counts, strict=True))


def _places(plan: Plan) -> str:
    """What there is to learn from of where defects lie, and whether zones are told."""
    from training.data.allowed import tells_zones
    from training.data.rows import counted

    manifest = plan.manifest
    bad = [row for row, each in zip(manifest.rows, manifest.bad, strict=True) if each]
    marked = sum(bool(row.marked) for row in bad)
    allowed = sum(region.allowed for row in manifest.rows for region in row.regions)
    said = f"{marked} of {counted(len(bad), 'bad image')} are marked"
    if marked < len(bad):
        said += "; in the others it is guessed what is wrong, and learnt from that"
    if not tells_zones(plan.recipe):
        return said
    said += "; the network is told what the zones allow"
    if allowed:
        return f"{said}, and learns from {counted(allowed, 'region')} marked as allowed"
    return f"{said}, but no region is marked as allowed: it cannot learn how long is too long"
