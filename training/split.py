"""Which parts the model is fitted on, which its limits are chosen on, which measure it.

    Manifest -> groups -> seeded random orders -> the best balanced -> fit | calibrate | test

A part, a group or a duplicate that stood on two sides would make the figures better than the model
is. `by="group"` keeps them together, and groups that share an image too;
`by="part-random"` exists for one purpose, to show
how much a random split flatters, and is never what a package is measured on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from inspection.errors import DataError
from training.rows import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.manifest import Manifest

By = Literal["group", "part-random"]
Side = Literal["fit", "calibrate", "test"]
SIDES: tuple[Side, ...] = ("fit", "calibrate", "test")
FRACTIONS = (0.60, 0.15, 0.25)
DRAWS = 500  # orders of groups that are tried; more changes little from here on


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Row numbers of a manifest, three sides. Each side is sorted.

    Attributes:
        fit, calibrate, test: (n,) int64 row numbers.
        digest: SHA-256 over which part lies on which side.
    """

    fit: NDArray[np.int64]
    calibrate: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int
    by: By
    digest: str

    def side(self, name: Side) -> NDArray[np.int64]:
        """The row numbers of a side."""
        sides: dict[Side, NDArray[np.int64]] = {
            "fit": self.fit,
            "calibrate": self.calibrate,
            "test": self.test,
        }
        return sides[name]


def split(
    manifest: Manifest,
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    by: By = "group",
) -> Split:
    """Divide a labelled set, every side with about its share of parts and of bad parts.

    Args:
        manifest: the set.
        seed: the same seed gives the same split of the same set.
        fractions: of the parts, for fit, calibrate and test; they add up to 1.
        by: what stays together: whole groups, or only parts (the labelled comparison).

    Raises:
        DataError: there are too few groups or bad parts.
    """
    if min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise DataError(f"fractions {fractions} do not add up to 1")
    sides = _assign(manifest, _units(manifest, by), fractions, seed=seed)
    if by == "group":
        check_no_leak(manifest, sides)
    made = {side: np.flatnonzero(sides == i).astype(np.int64) for i, side in enumerate(SIDES)}
    bad = manifest.bad
    for side, rows in made.items():
        if not bad[rows].any() or bad[rows].all():
            raise DataError(
                f"no balanced split: the parts for {side} would be all good or all bad",
                remedy=f"Bad parts in more {'groups' if by == 'group' else 'numbers'} are needed.",
            )
    part_sides = sorted({(row.part, int(s)) for row, s in zip(manifest.rows, sides, strict=True)})
    text = json.dumps([manifest.digest, part_sides], ensure_ascii=False, separators=(",", ":"))
    return Split(
        fit=made["fit"],
        calibrate=made["calibrate"],
        test=made["test"],
        seed=seed,
        by=by,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def folds(
    manifest: Manifest, k: int, *, seed: int, by: By = "group"
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`k` times (rows to fit on, rows to test on); every row is tested once.

    Raises:
        DataError: fewer than `k` groups.
    """
    sides = _assign(manifest, _units(manifest, by), (1 / k,) * k, seed=seed)
    if by == "group":
        check_no_leak(manifest, sides)
    return [
        (
            np.flatnonzero(sides != i).astype(np.int64),
            np.flatnonzero(sides == i).astype(np.int64),
        )
        for i in range(k)
    ]


def check_no_leak(manifest: Manifest, sides: NDArray[np.int64]) -> None:
    """Refuse sides that share a part, a group or the bytes of an image.

    Args:
        manifest: the set.
        sides: (N,) the side of each row.

    Raises:
        DataError: they do; names the first of them.
    """
    for what, keys in (
        ("parts", manifest.parts),
        ("groups", manifest.groups),
        ("images with the same bytes", tuple(row.sha256 for row in manifest.rows)),
    ):
        seen: dict[str, tuple[int, str]] = {}
        crossing: list[str] = []
        for key, side, row in zip(keys, sides.tolist(), manifest.rows, strict=True):
            first, path = seen.setdefault(key, (side, row.path))
            if first != side:
                crossing.append(f"{path} and {row.path}")
        if crossing:
            raise DataError(
                f"{len(crossing)} {what} would stand on two sides of the split, and every figure "
                f"would flatter: {listed(crossing)}",
                remedy="Take one of each pair out, or give both the same group.",
            )


def _units(manifest: Manifest, by: By) -> tuple[str, ...]:
    """(N,) what each row stays together with: its group or part, and all that share an image."""
    units = manifest.groups if by == "group" else manifest.parts
    leads_to: dict[str, str] = {}

    def first(unit: str) -> str:
        while unit in leads_to:
            unit = leads_to[unit]
        return unit

    holder: dict[str, str] = {}
    for row, unit in zip(manifest.rows, units, strict=True):
        one, other = sorted((first(unit), first(holder.setdefault(row.sha256, unit))))
        if one != other:
            leads_to[other] = one
    return tuple(first(unit) for unit in units)


def _assign(
    manifest: Manifest, units: Sequence[str], fractions: Sequence[float], *, seed: int
) -> NDArray[np.int64]:
    """(N,) the side of each row: the best balanced of `DRAWS` random orders of the units.

    In each order the units go, one after the other, to the side that lacks most; what counts is
    the squared distance of parts and bad parts from their shares.
    """
    names = sorted(set(units))
    if len(names) < len(fractions):
        raise DataError(
            f"{len(names)} groups cannot be divided into {len(fractions)}",
            remedy="Parts of more lots or modules are needed; or group them more finely, if "
            "they really are independent.",
        )
    number = {name: i for i, name in enumerate(names)}
    of_row = np.array([number[unit] for unit in units])
    size, bad_size = _part_counts(manifest, units, number)
    wanted = np.asarray(fractions, dtype=np.float64)
    scale = np.array([size.sum(), max(bad_size.sum(), 1)], dtype=np.float64)
    weight = np.stack([size, bad_size], axis=1) / scale  # (units, 2): share of parts, of bad parts
    generator = np.random.default_rng([seed, len(fractions)])
    draws = DRAWS if len(names) <= 1000 else 20  # many small units balance by themselves
    orders = np.argsort(generator.random((draws, len(names))), axis=1)
    lacking = np.repeat(wanted[np.newaxis, :, np.newaxis], draws, axis=0).repeat(2, axis=2)
    chosen = np.empty((draws, len(names)), dtype=np.int64)
    every = np.arange(draws)
    for step in range(len(names)):
        unit = orders[:, step]
        need = (lacking * weight[unit][:, np.newaxis, :]).sum(axis=2) / wanted
        side = np.argmax(need + 1e-9 * (lacking.sum(axis=2) / wanted), axis=1)
        lacking[every, side] -= weight[unit]
        chosen[every, unit] = side
    cost = (lacking**2 / wanted[:, np.newaxis]).sum(axis=(1, 2))
    filled = np.array([len(set(row.tolist())) == len(wanted) for row in chosen])
    if not filled.any():
        raise DataError("no order of the groups fills every side of the split")
    return np.asarray(chosen[int(np.argmin(np.where(filled, cost, np.inf)))][of_row])


def _part_counts(
    manifest: Manifest, units: Sequence[str], number: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(U,) parts and (U,) bad parts of each unit."""
    of_part = dict(zip(manifest.parts, units, strict=True))
    bad_of_part = dict(zip(manifest.parts, manifest.bad.tolist(), strict=True))
    parts = Counter(number[unit] for unit in of_part.values())
    bad = Counter(number[unit] for part, unit in of_part.items() if bad_of_part[part])
    rows = range(len(number))
    return np.array([parts[i] for i in rows]), np.array([bad[i] for i in rows])
