"""What has to stay together in a split: which fields say so, and the units that follow from them.

    group | lot | mould | day | part      -> rows that share a value ─┐
    parts, exact and near-duplicates      -> rows that share one ─────┴─> units, whole on one side

Whoever joins too much is told: a unit that swallowed most of a set leaves nothing to measure on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from inspection.errors import DataError
from training.data.rows import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from training.dividing.duplicates import Pair
    from training.manifest import Manifest

Field = Literal["group", "lot", "mould", "date", "part"]
FIELDS: tuple[Field, ...] = get_args(Field)
DECLARED: tuple[Field, ...] = ("group", "lot", "mould")  # what a source says on purpose
CHAINED_LIMIT = 0.40  # the largest share of parts that may hang together through chains of links
SINGLE_LIMIT = 0.75  # ... that may share one group: the rest has to calibrate and to test
_DAY = re.compile(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Which fields keep parts together.

    Attributes:
        fields: parts that agree in any of them stay together.
        why: a sentence for the person.
    """

    fields: tuple[Field, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """What a split may not tear apart.

    Attributes:
        of_row: (N,) int64, the unit of each row; 0, 1, ... in the order of the units' names.
        count: how many there are.
    """

    of_row: NDArray[np.int64]
    count: int


def keys(manifest: Manifest, field: Field) -> tuple[str | None, ...]:
    """(N,) the value of the field in each row; None where the source gave none."""
    rows = manifest.rows
    if field == "date":
        return tuple(_day(row.captured_at) for row in rows)
    if field == "group":  # the part's own name stands there when the source gave none
        return tuple(None if row.group == row.part else row.group for row in rows)
    return tuple(getattr(row, field) for row in rows)


def choose_grouping(manifest: Manifest, wanted: Sequence[str] | None = None) -> Grouping:
    """The fields that were asked for; else the first one that the source gave.

    Args:
        manifest: the set.
        wanted: names of `FIELDS`.

    Raises:
        DataError: a name is unknown, no row has a value for it, or `part` is to tear groups apart
            that the source declared.
    """
    given = {field: sum(key is not None for key in keys(manifest, field)) for field in FIELDS}
    if wanted:
        return Grouping(fields=_checked(manifest, wanted, given), why=_asked(manifest, wanted))
    for field in FIELDS:
        if given[field]:
            return Grouping(fields=(field,), why=_found(manifest, field, given[field]))
    raise AssertionError("every row has a part")


def find_units(
    manifest: Manifest, grouping: Grouping, pairs: Iterable[Pair] = (), *, whole: bool = True
) -> Units:
    """Rows joined by part, by the fields, and by being one image.

    Args:
        manifest: the set.
        grouping: which fields.
        pairs: of rows that are one exposure twice, such as `near_duplicates` finds.
        whole: refuse when one unit holds too much of the set.

    Raises:
        DataError: it does; names what holds it together.
    """
    links = _links(manifest, grouping, pairs)
    labels = _components(len(manifest.rows), links.values())
    if whole:
        _refuse_swallowed(manifest, grouping, links, labels)
    names: dict[int, str] = {}
    first = keys(manifest, grouping.fields[0])
    for label, key, row in zip(labels.tolist(), first, manifest.rows, strict=True):
        name = row.part if key is None else key
        names[label] = min(name, names.get(label, name))
    order = sorted(names, key=lambda label: (names[label], label))
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return Units(of_row=number[labels], count=len(order))


def group_names(manifest: Manifest, fields: Sequence[Field]) -> tuple[str, ...]:
    """(N,) what each row shares its history with, for bounds that resample by group.

    Args:
        manifest: the set.
        fields: of `Split.grouped_by`; rows that hang together through any of them have one name.
    """
    chosen = tuple(fields) or ("part",)
    units = find_units(manifest, Grouping(fields=chosen, why=""), whole=False)
    names: dict[int, str] = {}
    for unit, key, part in zip(
        units.of_row.tolist(), keys(manifest, chosen[0]), manifest.parts, strict=True
    ):
        name = part if key is None else key
        names[unit] = min(name, names.get(unit, name))
    return tuple(names[unit] for unit in units.of_row.tolist())


def _checked(
    manifest: Manifest, wanted: Sequence[str], given: Mapping[Field, int]
) -> tuple[Field, ...]:
    fields = tuple(field for field in FIELDS if field in wanted)
    unknown = sorted(set(wanted) - set(FIELDS))
    if unknown:
        raise DataError(
            f"nothing can be grouped by {listed(unknown)}", remedy=f"Choose: {', '.join(FIELDS)}."
        )
    for field in fields:
        if not given[field]:
            there = [name for name in FIELDS if given[name]]
            raise DataError(
                f"{manifest.name} names no {field} for any part, so it cannot be grouped by it",
                remedy=f"Group by {' or '.join(there)}, or import the set with that column.",
            )
    declared = [field for field in DECLARED if given[field]]
    if fields == ("part",) and declared:
        raise DataError(
            f"{manifest.name} declares a {declared[0]} for its parts; a split by part alone would "
            "put parts of one on both sides, and every figure would flatter",
            remedy=f"Group by {' or '.join(declared)}.",
        )
    if given["group"] and "group" not in fields:  # what was declared on purpose always holds
        fields = ("group", *fields)
    return fields


def _asked(manifest: Manifest, wanted: Sequence[str]) -> str:
    also = any(key is not None for key in keys(manifest, "group")) and "group" not in wanted
    more = ", and the group that the source declared," if also else ""
    return f"kept together by {' and '.join(wanted)}{more} as asked for"


def _found(manifest: Manifest, field: Field, rows: int) -> str:
    values = len(set(keys(manifest, field)) - {None})
    if field == "part":
        return (
            "kept together by part alone: the source names no group, lot, mould or date, so parts "
            "of one batch may stand on both sides"
        )
    names = {"group": "the group", "lot": "lot", "mould": "mould", "date": "day of capture"}
    reasons = {
        "group": "the source gives it",
        "lot": "no group is given, but lots are",
        "mould": "neither group nor lot is given, but moulds are",
        "date": "neither group, lot nor mould is given, but times of capture are",
    }
    alone = len(manifest.rows) - rows
    rest = f"; {counted(alone, 'image')} without one by part" if alone else ""
    return f"kept together by {names[field]} ({values} of them{rest}): {reasons[field]}"


def _day(text: str | None) -> str | None:
    found = None if text is None else _DAY.match(text)
    return None if found is None else "-".join(found.groups())


def _links(
    manifest: Manifest, grouping: Grouping, pairs: Iterable[Pair]
) -> dict[str, NDArray[np.int64]]:
    """(n, 2) joined rows for each reason, the reason in words."""
    links = {"parts": _same(manifest.parts)}
    for field in grouping.fields:
        if field != "part":
            links[f"{field}s"] = _same(keys(manifest, field))
    links["images that occur twice"] = _same([row.sha256 for row in manifest.rows])
    near = [(pair.first, pair.second) for pair in pairs]
    links["near-duplicate images"] = np.array(near, dtype=np.int64).reshape(-1, 2)
    return links


def _same(values: Sequence[str | None]) -> NDArray[np.int64]:
    """(n, 2) each row with the row before it that has the same value."""
    last: dict[str, int] = {}
    joined = []
    for i, value in enumerate(values):
        if value is None:
            continue
        if value in last:
            joined.append((last[value], i))
        last[value] = i
    return np.array(joined, dtype=np.int64).reshape(-1, 2)


def _components(rows: int, links: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(N,) the component of each row."""
    edges = np.concatenate(list(links))
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), (rows,) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _refuse_swallowed(
    manifest: Manifest,
    grouping: Grouping,
    links: Mapping[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
) -> None:
    held, total, largest = _largest(manifest, labels)
    share = held / total
    shared = set(zip(*(keys(manifest, field) for field in grouping.fields), strict=True))
    inside = {
        tuple(keys(manifest, field)[i] for field in grouping.fields)
        for i in np.flatnonzero(labels == largest).tolist()
    }
    chained = len(inside) > 1 or None in next(iter(inside))
    if len(shared) < 2 or share <= (CHAINED_LIMIT if chained else SINGLE_LIMIT):
        return
    what = f"{held} of {total} parts ({share:.0%}) would have to stay on one side of the split"
    if not chained:
        field, name = grouping.fields[0], next(iter(inside))[0]
        raise DataError(
            f"{what}: all of {field} {name}",
            remedy="Parts of more lots or modules are needed to calibrate and to test on.",
        )
    reasons = [
        reason
        for reason in links
        if reason != "parts"
        and _largest(
            manifest,
            _components(len(labels), [link for other, link in links.items() if other != reason]),
        )[0]
        <= CHAINED_LIMIT * total
    ] or [reason for reason, link in links.items() if reason != "parts" and len(link)]
    if reasons in (["near-duplicate images"], ["images that occur twice"]):
        remedy = (
            f"`inspection data check {manifest.name}` shows these images; keep one of each chain."
        )
    elif len(grouping.fields) > 1:
        one = next(field for field in grouping.fields if f"{field}s" in reasons or field == "group")
        remedy = f"Group by fewer fields, such as --group-by {one}."
    else:
        remedy = "Group by another field (--group-by), or import the set with finer groups."
    raise DataError(f"{what}: {' and '.join(reasons)} chain them together", remedy=remedy)


def _largest(manifest: Manifest, labels: NDArray[np.int64]) -> tuple[int, int, int]:
    """(parts of the largest component, all parts, its label)."""
    of_part = dict(zip(manifest.parts, labels.tolist(), strict=True))
    sizes = np.bincount(np.fromiter(of_part.values(), dtype=np.int64))
    return int(sizes.max()), len(of_part), int(np.argmax(sizes))
