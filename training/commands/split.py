"""`inspection data split`: divide a data set, look at the sides, keep them with the revision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.table import Table

from inspection.errors import ConfigurationError
from training.commands.data import DATASETS, data, find_set
from training.commands.options import leaks_told, read_names
from training.places import require_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.manifest import Manifest


@data.command("split")
@click.argument("name", metavar="DATASET")
@click.option("--folds", type=click.IntRange(2), help="So many numbered folds instead of sides.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--group-by",
    callback=read_names,
    help="What keeps parts together: group, lot, mould, date or part, joined by commas; the first "
    "of them that the source gave if absent.",
)
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Check and keep a split made elsewhere, a CSV with path,fold.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write path,fold here, and leave the revision's split as it is.",
)
@DATASETS
def split_set(
    name: str,
    folds: int | None,
    seed: int,
    group_by: tuple[str, ...] | None,
    file: Path | None,
    out: Path | None,
    datasets_dir: Path,
) -> None:
    """Divide DATASET so that no part, lot or duplicate stands on two sides.

    Says what each side holds, and keeps the split with the revision: `train` uses it from then on.
    With --folds, `train --fold I` tests on one of them.
    """
    if file is not None and folds is not None:
        raise click.UsageError("--from takes the folds that the file has: leave --folds out")
    manifest = find_set(datasets_dir, name)
    require_writable(manifest.revision_folder if out is None else out.parent)

    from training.commands.show import echo, print_table
    from training.dividing.duplicates import near_duplicates
    from training.dividing.saved_split import Made, save_split
    from training.dividing.split_file import check_folds, split_text
    from training.progress import reporter
    from training.split import digest_of, kfold, split

    with reporter() as told, leaks_told():
        pairs = near_duplicates(manifest, progress=told.progress)
        if file is not None:
            names, grouping = check_folds(file, manifest, group_by=group_by, pairs=pairs)
            fields, why = grouping.fields, f"as {file.name} says; checked: {grouping.why}"
        elif folds is not None:
            folded = kfold(manifest, folds, seed, group_by=group_by, pairs=pairs)
            names = tuple(str(number) for number in folded.of_row.tolist())
            fields, why = folded.grouped_by, folded.why
        else:
            needs_bad = bool(manifest.classes)
            made = split(manifest, seed=seed, group_by=group_by, pairs=pairs, needs_bad=needs_bad)
            names, fields, why = made.names(), made.grouped_by, made.why
    numbers = {side: number for number, side in enumerate(sorted(set(names)))}
    text = split_text(manifest, names)
    if out is None:
        place = save_split(
            manifest,
            text,
            Made(
                digest=digest_of(manifest, [numbers[each] for each in names]),
                seed=seed,
                group_by=fields,
                folds=len(numbers) if names[0].isdecimal() else 0,
                why=why,
            ),
        )
    else:
        place = _write(out, text)
    print_table(_sides_table(manifest, names))
    echo(why)
    echo(f"{place}  next: inspection train {name}{' --fold 0' if names[0].isdecimal() else ''}")


def _write(out: Path, text: str) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out}: {error.strerror or error}") from error
    return out


def _sides_table(manifest: Manifest, names: Sequence[str]) -> Table:
    """A line for every side: images, parts, groups, and the parts that show each class."""
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("side", "images", "parts", "bad", "groups", *manifest.classes):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    order = ("fit", "calibrate", "test")
    sides = sorted(set(names), key=lambda side: order.index(side) if side in order else int(side))
    for side in sides:
        rows = [row for row, name in zip(manifest.rows, names, strict=True) if name == side]
        bad = {row.part for row in rows if row.bad}
        shown = [
            len({row.part for row in rows if name in row.defects}) for name in manifest.classes
        ]
        counts = (len(rows), len({row.part for row in rows}), len(bad))
        groups = len({row.group for row in rows})
        table.add_row(side, *(str(count) for count in (*counts, groups, *shown)))
    return table
