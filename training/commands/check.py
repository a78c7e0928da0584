"""`inspection data check` and `relabel`: what is wrong with a set, and the corrections to it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from inspection.cli import EXIT_QUALITY
from inspection.errors import ConfigurationError, DataError
from training.commands.data import DATASETS, data, find_set, split_reference

if TYPE_CHECKING:
    from training.checking.findings import Check

WIDTH = 80
PAGE_NAME, REVIEW_NAME = "check.html", "review.csv"


@data.command("check")
@click.argument("name", metavar="DATASET")
@click.option("--quick", is_flag=True, help="Leave out label noise, which takes a network.")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Of what is printed.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for check.html and review.csv; checks/DATASET-REVISION when absent.",
)
@DATASETS
@click.pass_context
def check_data(
    ctx: click.Context, name: str, quick: bool, shape: str, out: Path | None, datasets_dir: Path
) -> None:
    """Say what is wrong with DATASET, worst first, in a table and as pictures.

    DATASET is a name such as knuckles, or a revision such as knuckles@2. Writes a page with
    pictures and review.csv, whose new_label a person fills in for `inspection data relabel`. Exits
    with 1 when an error stands.
    """
    from training.checking.page import page_text, verdict
    from training.checking.review import review_text
    from training.checking.run import check_set
    from training.commands.show import echo
    from training.fitting.checkpoint import write_whole
    from training.places import require_writable
    from training.progress import reporter

    manifest = find_set(datasets_dir, name, complete=False)
    out = out or Path("checks") / f"{manifest.name}-{manifest.revision}"
    require_writable(out)
    decided = _decided(out / REVIEW_NAME)
    with reporter() as told:
        check = check_set(manifest, quick=quick, progress=told.progress)
    command = shlex.join(
        ["inspection", "data", "relabel", manifest.name, "--from", str(out / REVIEW_NAME)]
    )
    page = out / PAGE_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: the former file holds what a person has decided. A spreadsheet knows
        # by the mark that the text is UTF-8.
        write_whole(out / REVIEW_NAME, review_text(check, decided).encode("utf-8-sig"))
        text = page_text(check, REVIEW_NAME, f'{command} --reason "..."')
        write_whole(page, text.encode())
    except OSError as error:
        raise ConfigurationError(f"{out}: {error.strerror or error}") from error
    if shape == "json":
        echo(json.dumps(check.document() | {"page": str(page)}, ensure_ascii=False, indent=2))
    else:
        _print_table(check)
        echo(verdict(check))
        echo(str(page))
    if not check.sound:
        ctx.exit(EXIT_QUALITY)


@data.command("relabel")
@click.argument("name", metavar="DATASET")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The review.csv of `inspection data check`, with new_label filled in.",
)
@click.option("--reason", required=True, help="Why, in words; it is kept with the revision.")
@DATASETS
def relabel_set(name: str, file: Path, reason: str, datasets_dir: Path) -> None:
    """Apply a reviewed list to DATASET, as its next revision.

    Only lines with new_label count: a label, several joined by `;`, or `exclude`. The former
    revision stays as it is.
    """
    from training.checking.review import read_decisions, relabelled
    from training.commands.show import echo
    from training.data.revisions import changes_between, write_revision
    from training.manifest import revision_numbers

    if not reason.strip():
        raise click.BadParameter("say why, in a few words", param_hint="--reason")
    manifest = find_set(datasets_dir, name, complete=False)  # a missing image may be excluded
    newest = max(revision_numbers(datasets_dir / split_reference(name)[0]))
    if manifest.revision != newest:
        raise DataError(
            f"{manifest.reference} is not the newest revision; that is {newest}",
            remedy=f"Review {manifest.name}@{newest}, so that what was changed since is kept.",
        )
    decisions = read_decisions(file)
    if not decisions:
        raise DataError(
            f"{file}: no line has a new_label",
            remedy="Fill in new_label where a label is wrong, or `exclude`.",
        )
    corrected = relabelled(manifest, decisions)
    changes = changes_between(manifest, corrected)
    if corrected.digest == manifest.digest:
        click.echo("all labels are so already; nothing was changed", err=True)
        return
    written = write_revision(
        corrected, reason=reason.strip(), parent=manifest.revision, after=newest
    )
    for path, before, after in changes.relabelled:
        echo(f"{path}: {before} -> {after}")
    for path in changes.redescribed:
        echo(f"{path}: label confirmed")
    for path in changes.removed:
        echo(f"{path}: excluded")
    echo(changes.in_words())
    echo(f"{written.folder}  {written.reference}; next: inspection train {written.name}")


def _decided(path: Path) -> dict[tuple[str, str], str]:
    """What a person has filled in already: checking again must not lose it."""
    from training.checking.review import read_decisions

    if not path.exists():
        return {}
    return {(each.path, each.sha256): each.new_label for each in read_decisions(path)}


def _print_table(check: Check) -> None:
    from rich.console import Console

    from training.commands.show import echo

    for heading, text in check.facts:
        echo(f"{heading:<12}{text}")
    if not check.findings:
        return
    table = Table(box=SIMPLE, pad_edge=False, show_lines=False)
    table.add_column("severity")
    table.add_column("finding", overflow="fold")
    table.add_column("cases", justify="right")
    colours = {"error": "bold red", "warning": "yellow", "note": "blue"}
    for finding in check.findings:
        said = Text(f"{finding.code}: {finding.text}")
        for case in finding.cases[:3]:
            paths = " and ".join(check.manifest.rows[row].path for row in case.rows)
            said.append(f"\n  {paths} ({case.said})", style="dim")
        said.append(f"\n→ {finding.remedy}")
        severity = Text(finding.severity, style=colours[finding.severity])
        table.add_row(severity, said, str(len(finding.cases) or ""))
    console = Console()
    width = console.width if console.is_terminal else WIDTH
    Console(width=min(width, 100)).print(table)
