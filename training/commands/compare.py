"""`inspection models compare`: whether one of two models is really better."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.table import Table

from inspection.commands.models import weights_option
from inspection.commands.models_tables import print_table
from training.commands.data import DATASETS, find_set

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.registry import Registry
    from training.measuring.compare import Comparison


@click.command()
@click.argument("first", metavar="MODEL@VERSION")
@click.argument("second", metavar="MODEL@VERSION")
@click.option("--dataset", metavar="NAME", help="Judge the parts of this set that are new to both.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@DATASETS
@weights_option
@click.pass_obj
def compare(
    registry: Registry,
    first: str,
    second: str,
    dataset: str | None,
    seed: int,
    form: str,
    datasets_dir: Path,
) -> None:
    """Say whether one of two models is really better.

    Takes the parts that both packages held out and neither was made from, with the verdicts that
    each gave when it was tested; with --dataset, both judge that set's parts now.
    """
    from training.measuring.compare import compare as test
    from training.measuring.paired_parts import held_out_by_both, unseen_by_both
    from training.progress import reporter

    packages = registry.load(first), registry.load(second)
    if dataset is None:
        parts = held_out_by_both(*packages)
    else:
        manifest = find_set(datasets_dir, dataset)
        with reporter() as told:
            parts = unseen_by_both(*packages, manifest, told.progress)
    found = test(packages[0].reference, packages[1].reference, parts, seed=seed)
    if form == "json":
        facts = asdict(found)
        for name in ("misses", "overkills", "reviews", "auc"):
            facts[name]["real"] = getattr(found, name).real
        click.echo(json.dumps({**facts, "in_words": found.in_words()}, indent=2))
        return
    for sentence in found.in_words():
        click.echo(sentence)
    for kind in ("bad", "good"):
        print_table(_table(found, kind))
    for note in found.notes:
        click.echo(f"note: {note}")


def _table(found: Comparison, kind: str) -> Table:
    """How many parts of a kind got which verdict of each model."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(f"{kind} parts: {found.first} says")
    counts = found.tables[kind]
    for verdict in counts:
        table.add_column(f"{found.second}: {verdict}", justify="right")
    for verdict, row in counts.items():
        table.add_row(verdict, *(str(count) for count in row.values()))
    return table
