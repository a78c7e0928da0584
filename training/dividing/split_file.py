"""Splits as files: one made elsewhere or saved with a revision, and the record in a package.

    path,fold                                  fit, calibrate, test; train, val, test; or 0, 1, ...
    sha256,part,group,side,perceptual_hash     a package's split.csv; as good for another training

A file is taken as it is: every row of the set once, nothing else, and nothing that crosses. Its
paths may be those of the source, also whole ones of another machine; `;` may stand for `,`.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError
from training.data.rows import counted, listed
from training.dividing.grouping import Grouping, choose_grouping, find_units
from training.dividing.leaks import leaks_between, refuse
from training.split import (
    FRACTIONS,
    SIDES,
    Split,
    calibration_of,
    check_both_kinds,
    split_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.dividing.duplicates import Pair
    from training.manifest import Manifest
    from training.split import Side

COLUMNS = ("path", "fold")
PACKAGE_COLUMNS = ("sha256", "part", "group", "side", "perceptual_hash")
HASH_DIGITS = 64  # 256 bits in hex
_WHOLE = re.compile(r"/|[A-Za-z]:/")  # how a path begins that names its disk too
_HASH = re.compile(f"[0-9a-f]{{{HASH_DIGITS}}}")
NAMES: Mapping[str, Side] = {
    "fit": "fit",
    "train": "fit",
    "calibrate": "calibrate",
    "val": "calibrate",
    "valid": "calibrate",
    "validation": "calibrate",
    "test": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """One image that a package was made from.

    Attributes:
        side: where it stood.
        perceptual_hash: 256 bits; see `training.dividing.duplicates`.
    """

    sha256: str
    part: str
    group: str
    side: Side
    perceptual_hash: int


def split_text(manifest: Manifest, folds: Iterable[str | int]) -> str:
    """`path,fold` for every row, as text of a CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    pairs = zip(manifest.rows, folds, strict=True)
    writer.writerows(sorted((row.path, fold) for row, fold in pairs))
    return text.getvalue()


def split_csv_bytes(manifest: Manifest, split: Split, hashes: Sequence[int]) -> bytes:
    """A package's split.csv: which image, part and group stood on which side.

    Args:
        manifest: the set.
        split: of it.
        hashes: (N,) the perceptual hash of each row; see `training.dividing.duplicates`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PACKAGE_COLUMNS)
    for row, side, bits in zip(manifest.rows, split.names(), hashes, strict=True):
        writer.writerow((row.sha256, row.part, row.group, side, f"{bits:0{HASH_DIGITS}x}"))
    return text.getvalue().encode()


def parse_split_csv(data: bytes, source: str) -> tuple[SplitRow, ...]:
    """The rows of a package's split.csv.

    Raises:
        DataError: it is not one; names the line.
    """
    columns, lines = _lines(data, source)
    if tuple(columns) != PACKAGE_COLUMNS:
        raise DataError(f"{source}: columns {', '.join(columns)}; not {', '.join(PACKAGE_COLUMNS)}")
    rows = []
    for number, cells in lines:
        side = next((side for side in SIDES if side == cells["side"]), None)
        if side is None or not _HASH.fullmatch(cells["perceptual_hash"]):
            raise DataError(f"{source}, line {number}: no side, or no perceptual hash")
        rows.append(
            SplitRow(
                sha256=cells["sha256"],
                part=cells["part"],
                group=cells["group"],
                side=side,
                perceptual_hash=int(cells["perceptual_hash"], 16),
            )
        )
    return tuple(rows)


def read_folds(path: Path, manifest: Manifest) -> tuple[str, ...]:
    """(N,) what the file says of each row: the name of a side, or the number of a fold.

    Raises:
        DataError: the file misses rows, names images that are not in the set, or names one in two
            folds; lists them.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    columns, lines = _lines(data, str(path))
    if tuple(columns) == PACKAGE_COLUMNS:
        key, value = "sha256", "side"
        places: dict[str, list[int]] = {}
        for i, row in enumerate(manifest.rows):
            places.setdefault(row.sha256, []).append(i)
    elif set(COLUMNS) <= set(columns):
        key, value = COLUMNS
        places = _places(manifest)
    else:
        raise DataError(
            f"{path}: columns {', '.join(columns)}; wanted path, fold",
            remedy="A split is a CSV with a line `path,fold` for every image of the set.",
        )
    return _matched(manifest, str(path), [(cells[key], cells[value]) for _, cells in lines], places)


def split_from_file(
    path: Path,
    manifest: Manifest,
    *,
    fold: int | None = None,
    seed: int = 0,
    group_by: Sequence[str] | None = None,
    pairs: Sequence[Pair] = (),
    fractions: tuple[float, float, float] = FRACTIONS,
    needs_bad: bool = True,
) -> Split:
    """The split that a file holds, checked.

    With numbered folds, `fold` is the test side. What the file does not call `calibrate` is drawn
    by whole units from what is not tested, in the proportion of `fractions`.

    Raises:
        DataLeak: a part, a declared group, an exact or a near-duplicate crosses.
        DataError: see `read_folds`; or `fold` is missing or not among the file's.
    """
    names, grouping = check_folds(path, manifest, group_by=group_by, pairs=pairs)
    sides = _sides(path, names, fold)
    if not (sides == 1).any():
        units = find_units(manifest, grouping, pairs, whole=False)
        share = fractions[1] / (fractions[0] + fractions[1])
        rest = np.flatnonzero(sides == 0).astype(np.int64)
        sides[calibration_of(manifest, rest, share=share, seed=seed, units=units)] = 1
    if needs_bad:
        check_both_kinds(manifest, sides, grouping)
    what = path.name if fold is None else f"{path.name}, tested on fold {fold}"
    said = Grouping(fields=grouping.fields, why=f"as {what} says; checked: {grouping.why}")
    return split_of(manifest, sides, seed=seed, by="file", grouping=said, fractions=fractions)


def check_folds(
    path: Path, manifest: Manifest, *, group_by: Sequence[str] | None, pairs: Sequence[Pair]
) -> tuple[tuple[str, ...], Grouping]:
    """(N,) what the file says of each row, and what keeps parts together: nothing crosses.

    Names of sides are those of `SIDES`; numbers stay as they are.

    Raises:
        DataError, DataLeak: see `split_from_file`.
    """
    folds = read_folds(path, manifest)
    unknown = sorted({name for name in folds if not name.isdecimal() and name.lower() not in NAMES})
    numbered = {name.isdecimal() for name in folds}
    if unknown or len(numbered) > 1:
        what = f"unknown folds: {listed(unknown)}" if unknown else "numbers and names are mixed"
        raise DataError(
            f"{path}: {what}",
            remedy="A fold is fit, calibrate or test; train, val or test; or a number from 0.",
        )
    names = tuple(str(int(name)) if name.isdecimal() else NAMES[name.lower()] for name in folds)
    grouping = choose_grouping(manifest, group_by)
    shown = [f"fold {name}" if name.isdecimal() else name for name in names]
    refuse(leaks_between(manifest, shown, grouping.fields, pairs))
    return names, grouping


def _lines(data: bytes, source: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns, and (line number, cells) of every line."""
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        mark = ";" if ";" in first and "," not in first else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        columns = list(reader.fieldnames or ())
        lines = [(reader.line_num, cells) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source} is not a CSV in UTF-8: {error}") from error
    torn = [number for number, cells in lines if None in cells or None in cells.values()]
    if torn:
        raise DataError(f"{source}, line {torn[0]}: wanted {len(columns)} cells")
    return columns, lines


def _places(manifest: Manifest) -> dict[str, list[int]]:
    """Rows by path, and by what a path ends with."""
    places: dict[str, list[int]] = {}
    for i, row in enumerate(manifest.rows):
        parts = row.path.split("/")
        for start in range(len(parts)):
            places.setdefault("/".join(parts[start:]), []).append(i)
    for i, row in enumerate(manifest.rows):
        places[row.path] = [i]
    return places


def _matched(
    manifest: Manifest,
    source: str,
    said: Sequence[tuple[str, str]],
    places: Mapping[str, Sequence[int]],
) -> tuple[str, ...]:
    """(N,) the fold of each row, after every complaint that the file deserves."""
    folds: dict[int, str] = {}
    unknown, unclear, twice = [], [], []
    for name, fold in said:
        rows = _rows_of(name, places)
        same = {manifest.rows[i].sha256 for i in rows}
        if not rows:
            unknown.append(name)
        elif len(rows) > 1 and len(same) > 1:
            unclear.append(name)
        elif any(folds.get(i, fold.strip()) != fold.strip() for i in rows):
            twice.append(name)
        else:
            folds.update(dict.fromkeys(rows, fold.strip()))
    missing = [row.path for i, row in enumerate(manifest.rows) if i not in folds]
    for wrong, what in (
        (unknown, f"that are not in {manifest.name}"),
        (unclear, "that could mean several; write the whole path"),
        (twice, "in two folds"),
        (missing, "of the set that are missing in the file") if not unknown else ([], ""),
    ):
        if wrong:
            raise DataError(
                f"{source}: {counted(len(wrong), 'image')} {what}: {listed(wrong)}",
                remedy=f"`inspection data split {manifest.name} --out FILE` writes a file of "
                "every image to begin with.",
            )
    return tuple(folds[i] for i in range(len(manifest.rows)))


def _rows_of(name: str, places: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """The rows that a path means; of a whole path, by the longest end of it that is known."""
    plain = name.strip().replace("\\", "/").removeprefix("./")
    if name in places or plain in places:
        return places[name if name in places else plain]
    if not _WHOLE.match(plain):
        return ()
    parts = plain.split("/")
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return next((places[end] for end in ends if end in places), ())


def _sides(path: Path, names: Sequence[str], fold: int | None) -> NDArray[np.int64]:
    """(N,) 0 fit, 1 calibrate, 2 test; a file without `calibrate` leaves it out.

    Raises:
        DataError: `fold` is missing, not among the file's, or out of place; or a side is empty.
    """
    if names[0].isdecimal():
        known = sorted({int(name) for name in names})
        if fold not in known or len(known) < 2:
            asked = "which is to be tested?" if fold is None else f"fold {fold} is not among them"
            raise DataError(
                f"{path} holds the folds {listed([str(number) for number in known])}: {asked}",
                remedy=f"Add --fold {known[0]}, or another one of them.",
            )
        return np.array([2 if int(name) == fold else 0 for name in names], dtype=np.int64)
    if fold is not None:
        raise DataError(
            f"{path} names its sides, so there is no fold {fold}", remedy="Leave --fold out."
        )
    numbers = {side: number for number, side in enumerate(SIDES)}
    sides = np.array([numbers[NAMES[name]] for name in names], dtype=np.int64)
    for side in ("fit", "test"):
        if side not in names:
            raise DataError(f"{path}: no image is on the side {side}")
    return sides
