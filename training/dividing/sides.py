"""Which images of a set a package may be measured on, and what is to be said of the figures.

the package's own set   -> the side asked for, as its split.csv says; flattering unless it is test
another set             -> all of it, less the parts that the package was made from and those that
                           share a group with them

Packages of the first release have no split.csv: their split is made again and checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import ConfigurationError, DataError
from training.data.rows import counted, listed
from training.dividing.duplicates import perceptual_hashes
from training.dividing.grouping import choose_grouping, group_names
from training.dividing.overlap import overlap
from training.dividing.split_file import parse_split_csv
from training.split import former_split

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from training.dividing.split_file import SplitRow
    from training.manifest import Manifest
    from training.report import Report

    Progress = Callable[[str, int, int], None]

FLATTERS = "seen in training: these figures flatter"
UNSEEN = "not seen in training"
SPLIT_NAME = "split.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Rows of a manifest to judge.

    Attributes:
        rows: (n,) row numbers.
        seen: whether the model, or its limits, were made from these images, or may have been.
        excluded_parts: parts left out because the model was made from them.
        note: what to print with the figures.
        groups: (N,) of every row of the set: what its part shares its history with; None for a
            package that does not say it: the set's own then.
    """

    rows: NDArray[np.int64]
    seen: bool
    excluded_parts: int
    note: str
    groups: tuple[str, ...] | None = None


def side_to_judge(
    package: ModelPackage,
    report: Report,
    manifest: Manifest,
    part: Literal["test", "calibrate", "fit", "all"],
    *,
    progress: Progress | None = None,
) -> Side:
    """The rows that `inspection evaluate` judges.

    Args:
        package: its split.csv says what it was made from.
        report: of the package; of a former one, its seed gives the split again.
        manifest: the set.
        part: the side of the package's own set; "all" for another set.
        progress: told how many images were hashed, to find near-duplicates.

    Raises:
        DataError: a side is asked of a set that the package was not made from, or every part of
            another set was used in training.
        ConfigurationError: a former package, which this release would divide otherwise.
    """
    own = manifest.digest == package.document.data_digest
    recorded = _recorded(package)
    if part == "all" and own:
        every = np.arange(len(manifest.rows), dtype=np.int64)
        groups = _groups_of(recorded, manifest)
        return Side(rows=every, seen=True, excluded_parts=0, note=FLATTERS, groups=groups)
    if part == "all":
        if recorded is None:
            return _unseen_of_former(package, report, manifest)
        return _unseen(package, recorded, manifest, progress)
    if not own:
        raise DataError(
            f"{package.reference} was made from other data than {manifest.name} holds now, so "
            f"there is no {part} side",
            remedy="Use --part all for a set that the model was not made from.",
        )
    if recorded is None:
        rows = _side_of_former(package, report, manifest, part)
    else:
        of_image = {(row.sha256, row.part): row.side for row in recorded}
        sides = [of_image.get((row.sha256, row.part)) for row in manifest.rows]
        if None in sides:
            missing = [r.path for r, side in zip(manifest.rows, sides, strict=True) if side is None]
            raise DataError(
                f"{SPLIT_NAME} of {package.reference} does not name every image of "
                f"{manifest.name}: {listed(missing)}"
            )
        rows = np.flatnonzero(np.array(sides) == part).astype(np.int64)
    seen = part != "test"
    return Side(
        rows=rows,
        seen=seen,
        excluded_parts=0,
        note=FLATTERS if seen else UNSEEN,
        groups=_groups_of(recorded, manifest),
    )


def _groups_of(recorded: tuple[SplitRow, ...] | None, manifest: Manifest) -> tuple[str, ...] | None:
    """The groups that the package's split kept together; None where no record says it."""
    if recorded is None:
        return None
    of_part = {row.part: row.group for row in recorded}
    return tuple(of_part.get(row.part, row.group) for row in manifest.rows)


def _recorded(package: ModelPackage) -> tuple[SplitRow, ...] | None:
    """What the package was made from; None for one of the first release."""
    if SPLIT_NAME not in package.files:
        return None
    return parse_split_csv(package.read(SPLIT_NAME), f"{package.reference}/{SPLIT_NAME}")


def _unseen(
    package: ModelPackage,
    recorded: tuple[SplitRow, ...],
    manifest: Manifest,
    progress: Progress | None,
) -> Side:
    """Another set, without the parts that share an image, a name, a group or nearly an image."""
    groups = group_names(manifest, choose_grouping(manifest).fields)
    found = overlap(
        recorded,
        manifest,
        perceptual_hashes(manifest, progress=progress),
        same_product=manifest.product == package.recipe.product,
        groups=groups,
    )
    return _without(package, manifest, found.parts, found.in_words, groups)


def _without(
    package: ModelPackage,
    manifest: Manifest,
    used: frozenset[str],
    said: str,
    groups: tuple[str, ...],
) -> Side:
    left = [i for i, row in enumerate(manifest.rows) if row.part not in used]
    if not left:
        raise DataError(
            f"{package.reference} was made from images of every part of {manifest.name}, or of its "
            f"group: {said}",
            remedy="Measure it on parts that it has not seen.",
        )
    return Side(
        rows=np.array(left, dtype=np.int64),
        seen=False,
        excluded_parts=len(used),
        note=f"{UNSEEN}; {said}",
        groups=groups,
    )


def _side_of_former(
    package: ModelPackage,
    report: Report,
    manifest: Manifest,
    part: Literal["test", "calibrate", "fit"],
) -> NDArray[np.int64]:
    """The split of the first release, made again from the report's seed and checked."""
    sides = former_split(manifest, seed=report.split.seed, fractions=report.split.fractions)
    if sides.digest != package.document.operating_point.split_digest:
        raise ConfigurationError(
            "this release divides the data otherwise than the one that made the package",
            remedy="Evaluate with the release in the package's code_version.",
        )
    return sides.side(part)


def _unseen_of_former(package: ModelPackage, report: Report, manifest: Manifest) -> Side:
    """Another set, without the parts that share an image with what the package was made from."""
    groups = group_names(manifest, choose_grouping(manifest).fields)
    known = set(report.seen)
    if not known:
        note = (
            "whether the model has seen some of these images cannot be checked unless it is "
            "trained again: its report does not list its images"
        )
        rows = np.arange(len(manifest.rows), dtype=np.int64)
        return Side(rows=rows, seen=True, excluded_parts=0, note=note, groups=groups)
    used = frozenset(row.part for row in manifest.rows if row.sha256 in known)
    said = f"{counted(len(used), 'part')} left out that the model was made from"
    none = "no image of it was in training"
    return _without(package, manifest, used, said if used else none, groups)
