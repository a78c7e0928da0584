"""Which parts the model is fitted on, which its limits are chosen on, which measure it.

    Manifest -> units (grouping.py) -> seeded random orders -> the best balanced
                                                  -> fit | calibrate | test, or k folds

A part, a group or a duplicate that stood on two sides would make the figures better than the model
is: units keep them together, whole. `by="part-random"` exists for one purpose, to show how much a
random split flatters, and is never what a package is measured on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from inspection.errors import DataError
from training.dividing.grouping import Field, Grouping, choose_grouping, find_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.dividing.duplicates import Pair
    from training.dividing.grouping import Units
    from training.manifest import Manifest

By = Literal["group", "part-random", "file"]
Side = Literal["fit", "calibrate", "test"]
SIDES: tuple[Side, ...] = ("fit", "calibrate", "test")
FRACTIONS = (0.60, 0.15, 0.25)
DRAWS = 500  # orders of units that are tried; more changes little from here on
BY_PART = Grouping(fields=("part",), why="divided by part alone, at random, for comparison only")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Row numbers of a manifest, three sides. Each side is sorted.

    Attributes:
        fit, calibrate, test: (n,) int64 row numbers.
        seed: of the draw; with `by="file"`, of what the file left open.
        by: "group" for one that was drawn here, "file" for one that was brought along.
        digest: SHA-256 over which part lies on which side.
        grouped_by: the fields whose values do not stand on two sides.
        why: a sentence: what keeps parts together, and why that; or which file said so.
        fractions: wanted shares of the parts; what a file holds is what it holds.
    """

    fit: NDArray[np.int64]
    calibrate: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int
    by: By
    digest: str
    grouped_by: tuple[Field, ...] = ()
    why: str = ""
    fractions: tuple[float, float, float] = FRACTIONS

    def side(self, name: Side) -> NDArray[np.int64]:
        """The row numbers of a side."""
        sides: dict[Side, NDArray[np.int64]] = {
            "fit": self.fit,
            "calibrate": self.calibrate,
            "test": self.test,
        }
        return sides[name]

    def names(self) -> tuple[Side, ...]:
        """(N,) the side of each row."""
        count = sum(len(self.side(side)) for side in SIDES)
        number = np.zeros(count, dtype=np.int64)
        for i, side in enumerate(SIDES):
            number[self.side(side)] = i
        return tuple(SIDES[i] for i in number.tolist())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folds:
    """A manifest in `count` folds; every row is tested once.

    Attributes:
        of_row: (N,) int64, the fold of each row, from 0.
        digest, grouped_by, why: see `Split`.
    """

    of_row: NDArray[np.int64]
    count: int
    seed: int
    digest: str
    grouped_by: tuple[Field, ...]
    why: str

    def rows(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows to fit on, rows to test on)."""
        return np.flatnonzero(self.of_row != fold), np.flatnonzero(self.of_row == fold)


def split(
    manifest: Manifest,
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    by: Literal["group", "part-random"] = "group",
    group_by: Sequence[str] | None = None,
    pairs: Sequence[Pair] = (),
    needs_bad: bool = True,
) -> Split:
    """Divide a labelled set, every side with about its share of parts and of each class.

    Args:
        manifest: the set.
        seed: the same seed gives the same split of the same set.
        fractions: of the parts, for fit, calibrate and test; they add up to 1.
        by: what stays together: whole groups, or only parts (the labelled comparison).
        group_by: fields whose values stay together; what the source declares when absent.
        pairs: images that are one exposure twice; they stay together too.
        needs_bad: refuse when a side would hold only good or only bad parts.

    Raises:
        DataError: there are too few groups or bad parts, or too much hangs together.
    """
    check_fractions(fractions)
    grouping = BY_PART if by == "part-random" else choose_grouping(manifest, group_by)
    units = find_units(manifest, grouping, pairs)
    of_unit = _assign(_table(manifest, units), fractions, seed=seed, grouping=grouping)
    sides = of_unit[units.of_row]
    if needs_bad:
        check_both_kinds(manifest, sides, grouping)
    return split_of(manifest, sides, seed=seed, by=by, grouping=grouping, fractions=fractions)


def kfold(
    manifest: Manifest,
    k: int,
    seed: int = 0,
    *,
    group_by: Sequence[str] | None = None,
    pairs: Sequence[Pair] = (),
) -> Folds:
    """`k` folds, each with about the same number of parts and of each class.

    Raises:
        DataError: fewer than `k` units, or too much hangs together.
    """
    if k < 2:
        raise DataError(f"{k} folds: at least 2 are needed")
    grouping = choose_grouping(manifest, group_by)
    units = find_units(manifest, grouping, pairs)
    table = _table(manifest, units)
    of_row = _assign(table, (1 / k,) * k, seed=seed, grouping=grouping)[units.of_row]
    return Folds(
        of_row=of_row,
        count=k,
        seed=seed,
        digest=digest_of(manifest, of_row),
        grouped_by=grouping.fields,
        why=grouping.why,
    )


def former_split(
    manifest: Manifest,
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> Split:
    """The split that the first release made: by `group`, balanced by parts and bad parts alone.

    Packages of that release hold no split.csv; their test side is found again with this.

    Raises:
        DataError: see `split`.
    """
    grouping = Grouping(fields=("group",), why="as the first release divided")
    units = find_units(manifest, grouping, whole=False)
    table = _table(manifest, units)[:, :2]
    sides = _assign(table, fractions, seed=seed, grouping=grouping)[units.of_row]
    return split_of(manifest, sides, seed=seed, by="group", grouping=grouping, fractions=fractions)


def calibration_of(
    manifest: Manifest, rest: NDArray[np.int64], *, share: float, seed: int, units: Units
) -> NDArray[np.int64]:
    """Those rows out of `rest` that calibrate, about `share` of its parts, by whole units.

    Raises:
        DataError: the rest holds a single unit.
    """
    table = _table(manifest, units, rest)
    present = np.unique(units.of_row[rest])
    of_unit = np.zeros(units.count, dtype=np.int64)
    grouping = Grouping(fields=("part",), why="")
    of_unit[present] = _assign(table[present], (1 - share, share), seed=seed, grouping=grouping)
    return np.asarray(rest[of_unit[units.of_row[rest]] == 1], dtype=np.int64)


def split_of(
    manifest: Manifest,
    sides: NDArray[np.int64],
    *,
    seed: int,
    by: By,
    grouping: Grouping,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> Split:
    """The split that (N,) numbers of sides stand for: 0 fit, 1 calibrate, 2 test."""
    fit, calibrate, test = (np.flatnonzero(sides == i).astype(np.int64) for i in range(len(SIDES)))
    return Split(
        fit=fit,
        calibrate=calibrate,
        test=test,
        seed=seed,
        by=by,
        digest=digest_of(manifest, sides),
        grouped_by=grouping.fields,
        why=grouping.why,
        fractions=fractions,
    )


def digest_of(manifest: Manifest, sides: NDArray[np.int64] | Sequence[int]) -> str:
    """SHA-256 over which part lies on which side, (N,) numbers."""
    part_sides = sorted({(row.part, int(s)) for row, s in zip(manifest.rows, sides, strict=True)})
    text = json.dumps([manifest.digest, part_sides], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse shares that are not three, or do not add up to 1.

    Raises:
        DataError: they are not.
    """
    if len(fractions) != len(SIDES) or min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise DataError(f"fractions {fractions} do not add up to 1")


def check_both_kinds(manifest: Manifest, sides: NDArray[np.int64], grouping: Grouping) -> None:
    """Refuse sides that hold only good or only bad parts.

    Args:
        manifest: the set.
        sides: (N,) 0 fit, 1 calibrate, 2 test.
        grouping: for what the message says.

    Raises:
        DataError: one does; names it.
    """
    bad = manifest.bad
    for i, side in enumerate(SIDES):
        rows = sides == i
        if not bad[rows].any() or bad[rows].all():
            groups = "numbers" if grouping.fields == ("part",) else "groups"
            raise DataError(
                f"no balanced split: the parts for {side} would be all good or all bad",
                remedy=f"Bad parts in more {groups} are needed.",
            )


def _table(
    manifest: Manifest, units: Units, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """(U, 2 + K): parts, bad parts, and parts that show each class, of each unit."""
    unit = dict(zip(manifest.parts, units.of_row.tolist(), strict=True))
    shows: dict[str, set[str]] = {}
    chosen = manifest.rows if rows is None else [manifest.rows[i] for i in rows.tolist()]
    for row in chosen:
        shows.setdefault(row.part, set()).update(row.defects)
    table = np.zeros((units.count, 2 + len(manifest.classes)), dtype=np.float64)
    for part, defects in shows.items():
        table[unit[part], 0] += 1
        table[unit[part], 1] += bool(defects)
        for name in defects:
            table[unit[part], 2 + manifest.classes.index(name)] += 1
    return table[:, :2] if len(manifest.classes) == 1 else table


def _assign(
    table: NDArray[np.float64], fractions: Sequence[float], *, seed: int, grouping: Grouping
) -> NDArray[np.int64]:
    """(U,) the side of each unit: the best balanced of `DRAWS` random orders of the units.

    In each order the units go, one after the other, to the side that lacks most. What counts is
    first that no side lacks good parts or a class that has a unit for each, then the squared
    distance of all columns from their shares.

    Args:
        table: (U, C) counts; the first column is parts, the second bad parts.
        fractions: (S,) of the sides.
        seed: of the orders.
        grouping: for what a message says.
    """
    count, sides = len(table), len(fractions)
    if count < sides:
        what = "groups" if grouping.fields != ("part",) else "parts"
        raise DataError(
            f"{count} {what} cannot be divided into {sides}",
            remedy="Parts of more lots or modules are needed; or group them more finely, if "
            "they really are independent.",
        )
    wanted = np.asarray(fractions, dtype=np.float64)
    weight = table / np.maximum(table.sum(axis=0), 1)  # (U, C): share of each column
    generator = np.random.default_rng([seed, sides])
    draws = DRAWS if count <= 1000 else 20  # many small units balance by themselves
    orders = np.argsort(generator.random((draws, count)), axis=1)
    lacking = np.repeat(wanted[np.newaxis, :, np.newaxis], draws, axis=0)
    lacking = lacking.repeat(table.shape[1], axis=2)
    chosen = np.empty((draws, count), dtype=np.int64)
    every = np.arange(draws)
    for step in range(count):
        unit = orders[:, step]
        need = (lacking * weight[unit][:, np.newaxis, :]).sum(axis=2) / wanted
        side = np.argmax(need + 1e-9 * (lacking.sum(axis=2) / wanted), axis=1)
        lacking[every, side] -= weight[unit]
        chosen[every, unit] = side
    cost = (lacking**2 / wanted[:, np.newaxis]).sum(axis=(1, 2))
    empty = _empty_cells(table, chosen, sides)
    if not (empty[:, 0] == 0).any():
        raise DataError("no order of the groups fills every side of the split")
    best = np.lexsort((cost, empty.sum(axis=1), empty[:, 0]))[0]
    return np.asarray(chosen[int(best)])


def _empty_cells(
    table: NDArray[np.float64], chosen: NDArray[np.int64], sides: int
) -> NDArray[np.int64]:
    """(draws, C + 1): how many sides hold nothing of a column: parts, ..., and of good parts.

    A column with fewer units than sides is left out: something has to lack it.
    """
    kinds = np.column_stack([table, table[:, 0] - table[:, 1]]) > 0
    enough = kinds.sum(axis=0) >= sides
    held = np.stack([(chosen == side).astype(np.float64) @ kinds for side in range(sides)])
    empty: NDArray[np.int64] = ((held == 0) & enough).sum(axis=0)
    return empty
