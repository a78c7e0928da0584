"""What two models made of the same parts, none of which either was made from.

test.csv, split.csv of both packages -> parts that both held out -> PairedParts
a data set -> parts that neither has seen -> both engines         -> PairedParts
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import DataError
from training.data.good_only import CLASSES as ANOMALY_CLASSES
from training.data.rows import counted
from training.data.taught import grouped_as
from training.dividing.sides import side_to_judge
from training.dividing.split_file import parse_split_csv
from training.evaluate import in_words_of, predict
from training.measuring.agreement import judge
from training.measuring.evaluation import FORMULA
from training.measuring.intervals import number_groups
from training.report import read_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from inspection.verdict import Disposition
    from training.manifest import Manifest
    from training.measuring.evaluation import PartResult

    Progress = Callable[[str, int, int], None]

COLUMNS = ("sha256", "part", "group", "label", "bad", "disposition")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPart:
    """A row of test.csv, as far as it is compared.

    Attributes:
        sha256: of its first image.
        score: the largest probability of its classes.
    """

    sha256: str
    part: str
    group: str
    label: str
    bad: bool
    score: float
    disposition: Disposition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedParts:
    """The same n parts, judged twice.

    Attributes:
        groups: of each part; parts that either package holds for one group are in one.
        bad: (n,).
        first_dispositions, second_dispositions: of each part.
        first_scores, second_scores: (n,) float64, higher is more likely bad.
        notes: which parts were left out, and why.
    """

    groups: tuple[str, ...]
    bad: NDArray[np.bool_]
    first_dispositions: tuple[Disposition, ...]
    second_dispositions: tuple[Disposition, ...]
    first_scores: NDArray[np.float64]
    second_scores: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def held_out_by_both(first: ModelPackage, second: ModelPackage) -> PairedParts:
    """The parts that both packages were tested on, as each of them judged them then.

    An image counts as the same by its bytes. What the other package was fitted or calibrated on is
    left out, by image and by part; so is what the two data sets label differently, where a model
    that knows no kinds of defect only says good or bad.

    Raises:
        NotFound: a package of an earlier release, without test.csv.
        DataError: a file in a package is not what its name says.
        PackageDamaged: a file was altered.
    """
    _check_same_product(first, second)
    judged = [
        {row.sha256: row for row in parse_test_csv(package.read("test.csv"), package.reference)}
        for package in (first, second)
    ]
    images, names = _made_from(first)
    other_images, other_names = _made_from(second)
    images, names = images | other_images, names | other_names
    shared = [digest for digest in judged[0] if digest in judged[1]]
    seen = {
        digest
        for digest in shared
        if digest in images or {judged[0][digest].part, judged[1][digest].part} & names
    }
    held = [digest for digest in shared if digest not in seen]
    kinds = all(package.recipe.classes != ANOMALY_CLASSES for package in (first, second))
    same = [d for d in held if _same_label(judged[0][d], judged[1][d], kinds=kinds)]
    notes = []
    for package, rows in zip((first, second), judged, strict=True):
        if len(rows) > len(shared):
            only = counted(len(rows) - len(shared), "test part")
            notes.append(f"{only} of {package.reference} left out that the other was not tested on")
    if seen:
        notes.append(f"{counted(len(seen), 'part')} left out that one of them was made from")
    if len(same) < len(held):
        notes.append(
            f"{counted(len(held) - len(same), 'part')} left out that their data sets label "
            "differently"
        )
    return _paired([judged[0][d] for d in same], [judged[1][d] for d in same], notes)


def unseen_by_both(
    first: ModelPackage, second: ModelPackage, manifest: Manifest, progress: Progress
) -> PairedParts:
    """The parts of a data set that neither package was made from, judged by both now.

    Raises:
        DataError: the set does not fit a package, holds nothing new, or an image cannot be used.
        EngineError: a package's network cannot be run.
    """
    _check_same_product(first, second)
    sides = []
    for package in (first, second):
        in_words_of(package.recipe, manifest)  # refuses a set that the package is not for
        own = manifest.digest == package.document.data_digest
        report = read_report(package)
        part: Literal["test", "all"] = "test" if own else "all"
        sides.append(side_to_judge(package, report, manifest, part, progress=progress))
    parts = [{manifest.rows[i].part for i in side.rows.tolist()} for side in sides]
    both = parts[0] & parts[1]
    rows = np.array([i for i, row in enumerate(manifest.rows) if row.part in both], dtype=np.int64)
    if not len(rows):
        raise DataError(
            f"{manifest.name} holds no part that neither model was made from",
            remedy="Compare them on newer parts.",
        )
    notes = [f"{p.reference}: {side.note}" for p, side in zip((first, second), sides, strict=True)]
    judged: list[list[JudgedPart]] = []
    for package, side in zip((first, second), sides, strict=True):
        grouped = manifest if side.groups is None else grouped_as(manifest, side.groups)
        seen = in_words_of(package.recipe, grouped)
        engine = OpenVinoEngine.for_package(package)
        try:
            stage = f"judge with {package.reference}"
            predicted = predict(engine, seen, package.recipe, rows, progress, stage=stage)
        finally:
            engine.close()
        judged.append([_judged(part) for part in judge(package, seen, predicted)])
    return _paired(judged[0], judged[1], notes)


def parse_test_csv(data: bytes, source: str) -> tuple[JudgedPart, ...]:
    """The rows of a package's test.csv.

    Raises:
        DataError: it is not one; names the line.
    """
    try:
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        scores = [name for name in columns if name.lstrip("'").startswith("probability_")]
        if not set(COLUMNS) <= set(columns) or not scores:
            raise DataError(f"test.csv of {source} lacks columns: it has {', '.join(columns)}")
        rows = [(reader.line_num, cells) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"test.csv of {source} is not a CSV in UTF-8: {error}") from error
    parts, known = [], set()
    for number, cells in rows:
        try:
            part = _read_row(cells, scores)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"test.csv of {source}, line {number}: {error}") from error
        if part.sha256 in known:
            raise DataError(f"test.csv of {source}, line {number}: an image for the second time")
        known.add(part.sha256)
        parts.append(part)
    return tuple(parts)


def _read_row(cells: Mapping[str, str], scores: Sequence[str]) -> JudgedPart:
    said: dict[str, Disposition] = {"pass": "pass", "fail": "fail", "review": "review"}
    score = max(float(cells[name]) for name in scores)
    if not all(0 <= float(cells[name]) <= 1 for name in scores) or not math.isfinite(score):
        raise ValueError("a probability lies outside 0..1")
    if cells["bad"] not in ("0", "1") or not cells["sha256"]:
        raise ValueError("neither bad nor good, or no image")
    return JudgedPart(
        sha256=cells["sha256"],
        part=_plain(cells["part"]),
        group=_plain(cells["group"]),
        label=_plain(cells["label"]),
        bad=cells["bad"] == "1",
        score=score,
        disposition=said[cells["disposition"]],
    )


def _plain(cell: str) -> str:
    """A cell as it was before an apostrophe kept spreadsheets from taking it for a formula."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _judged(part: PartResult) -> JudgedPart:
    return JudgedPart(
        sha256=part.sha256,
        part=part.part,
        group=part.group,
        label=part.label,
        bad=part.bad,
        score=max(part.probabilities),
        disposition=part.disposition,
    )


def _made_from(package: ModelPackage) -> tuple[set[str], set[str]]:
    """Images (SHA-256) and parts that a package was fitted or calibrated on."""
    rows = parse_split_csv(package.read("split.csv"), f"split.csv of {package.reference}")
    used = [row for row in rows if row.side != "test"]
    return {row.sha256 for row in used}, {row.part for row in used}


def _paired(
    first: Sequence[JudgedPart], second: Sequence[JudgedPart], notes: Sequence[str]
) -> PairedParts:
    return PairedParts(
        groups=_groups_of_both([part.group for part in first], [part.group for part in second]),
        bad=np.array([part.bad for part in first], dtype=np.bool_),
        first_dispositions=tuple(part.disposition for part in first),
        second_dispositions=tuple(part.disposition for part in second),
        first_scores=np.array([part.score for part in first], dtype=np.float64),
        second_scores=np.array([part.score for part in second], dtype=np.float64),
        notes=tuple(notes),
    )


def _same_label(one: JudgedPart, other: JudgedPart, *, kinds: bool) -> bool:
    return one.bad == other.bad and (one.label == other.label or not kinds)


def _groups_of_both(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """(n,) groups such that parts which either side keeps together are in one."""
    if not first:
        return ()
    one, other = number_groups(first), number_groups(second)
    count = int(one.max()) + 1
    nodes = count + int(other.max()) + 1
    links = coo_array((np.ones(len(one), dtype=np.int8), (one, count + other)), (nodes, nodes))
    joined = connected_components(links, directed=False)[1]
    return tuple(str(joined[number]) for number in one.tolist())


def _check_same_product(first: ModelPackage, second: ModelPackage) -> None:
    if first.digest == second.digest:
        raise DataError(
            f"{first.reference} is compared with itself", remedy="Name two different packages."
        )
    if first.recipe.product != second.recipe.product:
        raise DataError(
            f"{first.reference} judges {first.recipe.product}, {second.reference} "
            f"{second.recipe.product}",
            remedy="Compare models of one product.",
        )
