"""Figures and certificates as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.evaluate import Evaluation, Figure
    from training.package import Trained
    from training.precision import PrecisionStudy

NAMES = {
    "escape_rate": ("escape rate", "bad parts passed"),
    "overkill_rate": ("overkill rate", "good parts failed"),
    "review_rate": ("review rate", "parts sent to a person"),
    "auc": ("ROC AUC", "bad scored above good"),
    "average_precision": ("average precision", ""),
    "accuracy": ("accuracy", "probability above one half"),
}
PERCENT = ("escape_rate", "overkill_rate", "review_rate", "accuracy")


def figure_table(
    figures: Mapping[str, Figure], comparison: Mapping[str, Figure] | None = None
) -> Table:
    """A line for every figure: value, both intervals, n; and the comparison beside it."""
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("figure", "value", "95 % interval", "if independent", "n"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    if comparison is not None:
        table.add_column("random split (comparison only)", justify="right")
    for key, figure in figures.items():
        name, what = NAMES[key]
        shape = _percent if key in PERCENT else _fraction
        count = f"{figure.hits} of {figure.parts}" if figure.hits is not None else f"{figure.parts}"
        cells = [
            f"{name} ({what})" if what else name,
            shape(figure.value),
            f"{shape(figure.low)} - {shape(figure.high)}",
            f"{shape(figure.naive_low)} - {shape(figure.naive_high)}",
            f"{count}, {figure.groups} groups",
        ]
        if comparison is not None:
            other = comparison[key]
            cells.append(f"{shape(other.value)} ({shape(other.low)} - {shape(other.high)})")
        table.add_row(*cells)
    return table


def dispositions_line(summary: Mapping[str, Any]) -> str:
    """How good and bad parts were judged, in a line."""
    parts = []
    for kind in ("good", "bad"):
        said = summary["dispositions"][kind]
        parts.append(f"{kind}: " + ", ".join(f"{n} {name}" for name, n in said.items()))
    return "; ".join(parts)


def class_table(summary: Mapping[str, Any]) -> Table | None:
    """Bad parts and escapes of each class; None when there is only one."""
    if len(summary["classes"]) < 2:
        return None
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("class")
    for heading in ("bad parts", "escapes"):
        table.add_column(heading, justify="right")
    for name, counts in summary["classes"].items():
        table.add_row(name, str(counts["bad_parts"]), str(counts["escapes"]))
    return table


def show_figures(evaluation: Evaluation, comparison: Mapping[str, Figure] | None = None) -> None:
    """Print figures, classes and dispositions, to stdout."""
    summary = evaluation.summary()
    print_table(figure_table(evaluation.figures, comparison))
    classes = class_table(summary)
    if classes is not None:
        print_table(classes)
    echo(dispositions_line(summary))


def precision_line(study: PrecisionStudy) -> str:
    """What the precision study found, in a line."""
    if not study.parts:
        return f"precision: {study.chosen}; {study.reason}"
    times = ", ".join(f"{name} {ms:.1f} ms an image" for name, ms in study.ms_per_image.items())
    of = "all test parts" if study.whole else "a sample of the test parts"
    kinds = ", ".join(f"{count} {kind}" for kind, count in study.flips.items()) or "none"
    return (
        f"precision: {study.chosen} ({study.reason}); {times}; flips on {study.parts} parts, {of}: "
        f"{kinds}; largest difference of a probability {study.largest_difference:.4f}"
    )


def show_trained(trained: Trained) -> None:
    """Print what a training measured, to stdout."""
    report = trained.report
    side = report.split.sides["test"]
    echo(
        f"Measured on {side.parts} test parts ({side.bad_parts} bad) in {side.groups} groups that "
        f"neither fit nor limits have seen, through the packaged model on {report.engine}:"
    )
    comparison = trained.comparison
    show_figures(trained.evaluation, None if comparison is None else comparison.figures)
    if report.comparison is not None:
        echo(f"Random split, for comparison only: {report.comparison['why']}")
    limits = report.limits
    pairs = list(zip(limits.pass_below, limits.fail_from, strict=True))
    names = report.data.classes if len(set(pairs)) > 1 else ("",)
    shown = "; ".join(
        f"{name}{': ' if name else ''}pass below {low:.4g}, fail from {high:.4g}"
        for name, (low, high) in zip(names, pairs, strict=False)
    )
    echo(
        f"limits: {shown}, novel above {limits.novelty_limit:.3g}; {limits.review_share:.1%} of "
        f"the calibration parts go to review (budget {limits.review_budget:.1%})"
    )
    echo(f"certificate: {limits.in_words}")
    echo(precision_line(report.precision))
    for warning in report.warnings:
        echo(f"warning: {warning}")
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in report.timings_s.items())
    echo(f"seconds: {steps}")


def print_table(table: Table) -> None:
    """To stdout, as wide as its terminal; uncut where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def echo(text: str) -> None:
    """A line of a result."""
    click.echo(text)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _fraction(value: float) -> str:
    return f"{value:.3f}"
