"""The verbs of training, a function each.

    data import -> train -> evaluate

Results go to stdout, talk to stderr.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from inspection.errors import ConfigurationError, RecipeError
from inspection.package import check_model_name, load_package
from inspection.registry import Registry
from training.cli_data import DATASETS, data, find_set, read_flips
from training.places import require_writable

if TYPE_CHECKING:
    from inspection.package import ModelPackage
    from inspection.recipe import Flip
    from training.manifest import Manifest

__all__ = ["data", "evaluate", "train"]

SMALLEST_PX = 32  # below it the backbone's last stage would be a single cell
WEIGHTS = click.option(
    "--weights-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("weights"),
    show_default=True,
    envvar="INSPECTION_WEIGHTS_DIR",
    help="The folder of model packages.",
)


def _size(_ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """(height, width) out of "300" or "300x400"."""
    if text is None:
        return None
    numbers = text.lower().split("x")
    if len(numbers) not in (1, 2) or not all(number.isdigit() for number in numbers):
        raise click.BadParameter(f"{text!r} is not a size such as 300 or 300x400", param=param)
    size = int(numbers[0]), int(numbers[-1])
    if min(size) < SMALLEST_PX:
        raise click.BadParameter(f"{text}: sizes begin at {SMALLEST_PX} pixels", param=param)
    return size


def _share(_ctx: click.Context, param: click.Parameter, share: float) -> float:
    """A share that is a number: `nan` passes every comparison of a range."""
    if not math.isfinite(share):
        raise click.BadParameter(f"{share} is not a share between 0 and 1", param=param)
    return share


def _model(_ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """A name that will do as a folder's."""
    if name is not None:
        try:
            check_model_name(name)
        except RecipeError as error:
            raise click.BadParameter(str(error), param=param) from error
    return name


@click.command()
@click.argument("name", metavar="DATASET")
@click.option("--preset", type=click.Choice(["fast", "full"]), default="fast", show_default=True)
@click.option(
    "--escape-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=_share,
    default=0.01,
    show_default=True,
    help="The share of bad parts that may pass.",
)
@click.option(
    "--review-budget",
    type=click.FloatRange(0, 1),
    callback=_share,
    default=0.15,
    show_default=True,
    help="The largest share of parts that may go to a person.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--model", callback=_model, help="Name of the package; the data set's when absent.")
@click.option("--backbone", help="timm's name of the backbone; its weights file by BACKBONE=FILE.")
@click.option("--size", callback=_size, help="Input size, 300 or HEIGHTxWIDTH; 300 when absent.")
@click.option("--epochs", type=click.IntRange(1), help="The preset's when absent.")
@click.option(
    "--flips", callback=read_flips, help="horizontal,vertical,rot90; the data set's when absent."
)
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
    default="f32",
    show_default=True,
    help="What serves: float32, or what OpenVINO picks if that is quicker and flips no verdict.",
)
@click.option("--whole-precision", is_flag=True, help="Compare precisions on all test parts.")
@DATASETS
@WEIGHTS
def train(
    name: str,
    preset: str,
    escape_rate: float,
    review_budget: float,
    seed: int,
    model: str | None,
    backbone: str | None,
    size: tuple[int, int] | None,
    epochs: int | None,
    flips: tuple[Flip, ...] | None,
    serial_length: int | None,
    recipe: Path | None,
    compare_random: bool,
    precision: Literal["f32", "auto"],
    whole_precision: bool,
    datasets_dir: Path,
    weights_dir: Path,
) -> None:
    """Make the next model from the labelled set DATASET.

    Splits it by group (60 % to fit, 15 % for calibration and limits, 25 % to test), fits, chooses
    limits for the wanted escape rate, measures the packaged model, and writes the package.
    """
    if compare_random and preset != "fast":
        raise click.UsageError("--compare-random goes with --preset fast")
    manifest = find_set(datasets_dir, name)  # before the large libraries, which take seconds

    from inspection.engines.backbones import DEFAULT_BACKBONE
    from training.cli_show import echo, show_trained
    from training.package import train as make
    from training.plan import TrainSettings, plan_settings, resolve
    from training.progress import reporter

    backbone_name, _, weights_file = (backbone or DEFAULT_BACKBONE).partition("=")
    plan = resolve(
        manifest,
        TrainSettings(
            preset="full" if preset == "full" else "fast",
            model=model,
            wanted_escape_rate=escape_rate,
            review_budget=review_budget,
            seed=seed,
            backbone=backbone_name,
            weights=Path(weights_file) if weights_file else None,
            input_size_px=size,
            epochs=epochs,
            flips=flips,
            serial_length=serial_length,
            recipe_file=recipe,
            compare_random=compare_random,
            precision=precision,
            whole_precision=whole_precision,
        ),
    )
    require_writable(weights_dir / plan.model)
    click.echo(f"data: {_counts(manifest)}", err=True)
    for key, value in plan_settings(plan).items():
        click.echo(f"  {key} = {value}", err=True)
    with reporter() as told:
        trained = make(plan, weights_dir, told)
    show_trained(trained)
    echo(f"{trained.package.folder}  next: inspection models promote {trained.package.reference}")


@click.command()
@click.argument("package", metavar="PACKAGE")
@click.argument("dataset", metavar="DATASET")
@click.option(
    "--part",
    type=click.Choice(["test", "calibrate", "fit", "all"]),
    default="test",
    show_default=True,
    help="Which side of the package's own split.",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a line for every part to this file.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@DATASETS
@WEIGHTS
def evaluate(
    package: str,
    dataset: str,
    part: Literal["test", "calibrate", "fit", "all"],
    csv_file: Path | None,
    form: str,
    datasets_dir: Path,
    weights_dir: Path,
) -> None:
    """Measure PACKAGE (MODEL@VERSION or a folder) on parts of DATASET.

    The split is made again from the seed in the package's report and checked against its digest, so
    that the test parts are those that the model has never seen; figures of another side flatter,
    and say so. A set that the model was not made from is judged with --part all, without the parts
    that the model was made from.
    """
    from inspection.engines.openvino import OpenVinoEngine
    from training.cli_show import echo, show_figures
    from training.evaluate import evaluate as judge
    from training.progress import reporter
    from training.report import read_report
    from training.rows import counted
    from training.sides import side_to_judge

    loaded = _find_package(package, weights_dir)
    report = read_report(loaded)
    manifest = find_set(datasets_dir, dataset)
    side = side_to_judge(loaded, report, manifest, part)
    if csv_file is not None:
        require_writable(csv_file.parent)
    engine = OpenVinoEngine.for_package(loaded)
    with reporter() as told:
        result = judge(
            loaded, engine, manifest, side.rows, seed=report.split.seed, progress=told.progress
        )
    engine.close()
    if csv_file is not None:
        try:
            csv_file.parent.mkdir(parents=True, exist_ok=True)
            csv_file.write_text(result.as_csv(), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{csv_file}: {error.strerror or error}") from error
        click.echo(f"wrote {len(result.parts)} parts to {csv_file}", err=True)
    summary = result.summary()
    if form == "json":
        document = {
            "package": loaded.reference,
            "digest": loaded.digest,
            "part": part,
            "seen_in_training": side.seen,
            "excluded_parts": side.excluded_parts,
            "note": side.note,
            **summary,
        }
        echo(json.dumps(document, indent=2))
        return
    echo(
        f"{loaded.reference} on {dataset}, {part}: {summary['parts']} parts "
        f"({summary['bad_parts']} bad) in {counted(summary['groups'], 'group')}, on "
        f"{engine.description}; {side.note}"
    )
    show_figures(result)


def _counts(manifest: Manifest) -> str:
    counts = manifest.counts()
    return (
        f"{manifest.name}, product {manifest.product}: {counts['images']} images, "
        f"{counts['parts']} parts ({counts['bad_parts']} bad) in {counts['groups']} groups; "
        f"{manifest.licence}"
    )


def _find_package(reference: str, weights_dir: Path) -> ModelPackage:
    folder = Path(reference)
    if "@" not in reference and (folder / "package.toml").exists():
        return load_package(folder)
    return Registry(weights_dir).load(reference)
