"""`inspection evaluate`: a packaged model, measured on parts that it has not seen.

package, set -> side of the split -> verdicts -> figures | CSV | an exit status
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from inspection.commands.options import weights_dir_option
from inspection.errors import ConfigurationError, DataError, QualityGateError
from inspection.package import load_package
from inspection.registry import Registry
from training.commands.data import DATASETS, find_set
from training.commands.options import read_share
from training.places import require_writable

if TYPE_CHECKING:
    from inspection.package import ModelPackage


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
    "--max-escape-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=read_share,
    help="Exit with status 1 unless the bound of the escape rate, at 95 %, is at most this.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@DATASETS
@weights_dir_option
def evaluate(
    package: str,
    dataset: str,
    part: Literal["test", "calibrate", "fit", "all"],
    csv_file: Path | None,
    max_escape_rate: float | None,
    form: str,
    datasets_dir: Path,
    weights_dir: Path,
) -> None:
    """Measure PACKAGE (MODEL@VERSION or a folder) on parts of DATASET.

    Which parts are test parts is read from the package, so that they are those that the model has
    never seen; figures of another side flatter, and say so. A set that the model was not made from
    is judged with --part all, without the parts that the model was made from.
    """
    from inspection.engines.openvino import OpenVinoEngine
    from training.commands.show import echo, show_figures
    from training.data.rows import counted
    from training.data.taught import grouped_as
    from training.dividing.sides import side_to_judge
    from training.evaluate import evaluate as judge
    from training.measuring.certify import certify
    from training.measuring.evaluation import part_csv_bytes
    from training.progress import reporter
    from training.report import read_report

    loaded = _find_package(package, weights_dir)
    report = read_report(loaded)
    manifest = find_set(datasets_dir, dataset)
    if csv_file is not None:
        require_writable(csv_file.parent)
    engine = OpenVinoEngine.for_package(loaded)
    with reporter() as told:
        side = side_to_judge(loaded, report, manifest, part, progress=told.progress)
        if max_escape_rate is not None and side.seen:
            raise DataError(
                f"no escape rate can be shown on these parts: {side.note}",
                remedy="Leave --max-escape-rate out, or measure on parts that the model has not "
                "seen.",
            )
        judged = manifest if side.groups is None else grouped_as(manifest, side.groups)
        result = judge(
            loaded, engine, judged, side.rows, seed=report.split.seed, progress=told.progress
        )
    engine.close()
    if csv_file is not None:
        try:
            csv_file.parent.mkdir(parents=True, exist_ok=True)
            csv_file.write_bytes(part_csv_bytes(result))
        except OSError as error:
            raise ConfigurationError(f"{csv_file}: {error.strerror or error}") from error
        click.echo(f"wrote {len(result.parts)} parts to {csv_file}", err=True)
    summary = result.summary()
    held = certify(
        result.parts,
        wanted_escape_rate=max_escape_rate
        or loaded.document.operating_point.certificate.wanted_escape_rate,
        classes=loaded.recipe.classes,
        seed=report.split.seed,
    )
    if form == "json":
        facts = {
            "package": loaded.reference,
            "digest": loaded.digest,
            "part": part,
            "seen_in_training": side.seen,
            "excluded_parts": side.excluded_parts,
            "note": side.note,
            "escape_bound": held.escape_bound,
            "in_words": held.in_words(),
            **summary,
        }
        echo(json.dumps(facts, indent=2))
    else:
        echo(
            f"{loaded.reference} on {dataset}, {part}: {summary['parts']} parts "
            f"({summary['bad_parts']} bad) in {counted(summary['groups'], 'group')}, on "
            f"{engine.description}; {side.note}"
        )
        show_figures(result)
        echo(held.in_words())
        for line in filter(None, [held.fails_in_words()]):
            echo(line)
    if max_escape_rate is not None and not held.certified:
        raise QualityGateError(
            f"an escape rate of {max_escape_rate:.4g} is not shown: the bound is "
            f"{held.escape_bound:.4g}, and every class needs enough bad parts",
            remedy=f"{held.in_words()}.",
        )


def _find_package(reference: str, weights_dir: Path) -> ModelPackage:
    folder = Path(reference)
    if "@" not in reference and (folder / "package.toml").exists():
        return load_package(folder)
    return Registry(weights_dir).load(reference)
