"""Figures and certificates for people at a terminal: 80 columns, no more lines than a screen."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from training.data.rows import counted
from training.reporting.report_page.words import form_of, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from training.measuring.evaluation import Evaluation
    from training.measuring.metrics import Figure
    from training.measuring.precision import PrecisionStudy
    from training.package import Trained
    from training.report import Report

WIDTH = 80
MOST_WARNINGS = 3
NAMES = {
    "escape_rate": "escape rate (bad passed)",
    "overkill_rate": "overkill rate (good failed)",
    "review_rate": "review rate (to a person)",
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "f1": "F1 at one half",
    "accuracy": "accuracy at one half",
}


def figure_table(figures: Mapping[str, Figure]) -> Table:
    """A line for every figure: value, both intervals, n."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("value", "95 % interval", "if independent", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, figure in figures.items():
        count = f"{figure.hits} of {figure.parts}" if figure.hits is not None else f"{figure.parts}"
        table.add_row(
            NAMES.get(key, key),
            form_of(key)(figure.value),
            span(key, figure.low, figure.high),
            span(key, figure.naive_low, figure.naive_high),
            count,
        )
    return table


def span(key: str, low: float, high: float) -> str:
    """An interval, rounded outwards, the unit named once."""
    form = form_of(key)
    return f"{form(low, -1).removesuffix(' %')} - {form(high, 1)}"


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


def show_figures(evaluation: Evaluation) -> None:
    """Print figures, classes and dispositions, to stdout."""
    summary = evaluation.summary()
    print_table(figure_table(evaluation.figures))
    classes = class_table(summary)
    if classes is not None:
        print_table(classes)
    echo(dispositions_line(summary))


def precision_line(study: PrecisionStudy) -> str:
    """What the precision study found, in a line."""
    if not study.parts:
        return f"{study.chosen}; {study.reason}"
    times = ", ".join(f"{name} {ms:.1f} ms an image" for name, ms in study.ms_per_image.items())
    return f"{study.chosen} ({study.reason}); {times}"


def show_trained(trained: Trained) -> None:
    """Print what a training measured, to stdout: what a person decides on, within a screen."""
    for line in summary_lines(trained.report):
        echo(line)


def summary_lines(report: Report) -> list[str]:
    """The lines of `show_trained`: at most 23, of at most 80 columns."""
    from training.report import certificate_of

    test, certificate = report.test, certificate_of(report)
    name = report.data.name if report.identity is None else report.identity.reference
    words = certificate.in_words()
    lines = [
        *_wrapped(
            f"{name}, measured on {counted(test.parts, 'test part')} ({test.bad_parts} bad) in "
            f"{counted(test.groups, 'group')} that it had not seen:"
        ),
        *_printed(figure_table(test.figures)),
        *_wrapped(f"certificate: {words}", hang=4),
        *_wrapped(f"verdicts: {dispositions_line({'dispositions': test.dispositions})}", hang=4),
    ]
    if len(test.classes) > 1:
        each = ", ".join(
            f"{name} {counts['escapes']} of {counts['bad_parts']}"
            for name, counts in test.classes.items()
        )
        lines += _wrapped(f"escapes by class: {each}", hang=4)[:2]
    lines += _wrapped(f"limits: {_limits(report)}", hang=4)[:2]
    if report.agreement is not None:
        lines += _wrapped(f"engines: {report.agreement.in_words()}", hang=4)[:2]
    else:
        lines += _wrapped(f"precision: {precision_line(report.precision)}", hang=4)[:2]
    lines += _comparison(report)
    return [*lines, *_warnings(report.warnings, room=22 - len(lines)), _seconds(report)]


def print_table(table: Table) -> None:
    """To stdout, as wide as its terminal; uncut where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def echo(text: str) -> None:
    """A line of a result."""
    click.echo(text)


def _limits(report: Report) -> str:
    limits = report.limits
    pairs = list(zip(limits.pass_below, limits.fail_from, strict=True))
    names = report.data.classes if len(set(pairs)) > 1 else ("",)
    shown = "; ".join(
        f"{name}{': ' if name else ''}pass below {low:.3g}, fail from "
        f"{f'{high:.3g}' if high <= 1 else 'nowhere'}"
        for name, (low, high) in zip(names, pairs, strict=False)
    )
    return (
        f"{shown}; novel above {limits.novelty_limit:.3g}; {percent(limits.review_share)} of the "
        f"calibration parts go to review (budget {percent(limits.review_budget)})"
    )


def _comparison(report: Report) -> list[str]:
    """What a random split would have shown, in two lines at most."""
    other = None if report.comparison is None else report.comparison.get("figures", {})
    if not other:
        return []
    figures = ", ".join(
        f"{NAMES[key]} {form_of(key)(other[key]['value'])}"
        for key in ("auc", "accuracy")
        if key in other
    )
    return _wrapped(
        f"random split, for comparison only: {figures}: neighbours of what it was taught, so it "
        "looks better than it is",
        hang=4,
    )


def _warnings(warnings: Iterable[str], *, room: int) -> list[str]:
    """As many warnings as there is room for; the report has all."""
    told: list[str] = []
    ordered = list(warnings)
    for number, warning in enumerate(ordered):
        lines = _wrapped(f"warning: {warning}", hang=4)
        left = len(ordered) - number
        if len(told) + len(lines) + (left > 1) > room or number == MOST_WARNINGS:
            return [*told, f"{counted(left, 'more warning')} in the report"]
        told += lines
    return told


def _seconds(report: Report) -> str:
    times = dict(report.timings_s)
    total = times.pop("all", sum(times.values()))
    slowest = sorted(times.items(), key=lambda item: -item[1])[:3]
    steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in slowest)
    return textwrap.shorten(f"made in {total:.0f} s: {steps}", WIDTH, placeholder=" ...")


def _printed(table: Table) -> list[str]:
    console = Console(width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _wrapped(text: str, *, hang: int = 0) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, subsequent_indent=" " * hang)
