"""Which images of a set a package may be measured on, and what is to be said of the figures.

the package's own set   -> the side asked for; flattering unless it is the test side
another set             -> all of it, less the parts that the package was made from
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import ConfigurationError, DataError
from training.rows import counted
from training.split import split

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from training.manifest import Manifest
    from training.report import Report

FLATTERS = "seen in training: these figures flatter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Rows of a manifest to judge.

    Attributes:
        rows: (n,) row numbers.
        seen: whether the model, or its limits, were made from these images.
        excluded_parts: parts left out because the model was made from them.
        note: what to print with the figures.
    """

    rows: NDArray[np.int64]
    seen: bool
    excluded_parts: int
    note: str


def side_to_judge(
    package: ModelPackage,
    report: Report,
    manifest: Manifest,
    part: Literal["test", "calibrate", "fit", "all"],
) -> Side:
    """The rows that `inspection evaluate` judges.

    The split is made again from the seed in the report and checked against its digest.

    Raises:
        DataError: a side is asked of a set that the package was not made from, or every part of
            another set was used in training.
        ConfigurationError: this release divides the data otherwise.
    """
    every = np.arange(len(manifest.rows), dtype=np.int64)
    own = manifest.digest == package.document.data_digest
    if part == "all" and own:
        return Side(rows=every, seen=True, excluded_parts=0, note=FLATTERS)
    if part == "all":
        return _unseen(package, report, manifest)
    if not own:
        raise DataError(
            f"{package.reference} was made from other data than {manifest.name} holds now, so "
            f"there is no {part} side",
            remedy="Use --part all for a set that the model was not made from.",
        )
    sides = split(manifest, seed=report.split.seed, fractions=report.split.fractions)
    if sides.digest != package.document.operating_point.split_digest:
        raise ConfigurationError(
            "this release divides the data otherwise than the one that made the package",
            remedy="Evaluate with the release in the package's code_version.",
        )
    seen = part != "test"
    note = FLATTERS if seen else "not seen in training"
    return Side(rows=sides.side(part), seen=seen, excluded_parts=0, note=note)


def _unseen(package: ModelPackage, report: Report, manifest: Manifest) -> Side:
    """Another set, without the parts that share an image with what the package was made from."""
    known = set(report.seen)
    if not known:
        note = (
            "whether the model has seen some of these images cannot be checked unless it is "
            "trained again: its report does not list its images"
        )
        rows = np.arange(len(manifest.rows), dtype=np.int64)
        return Side(rows=rows, seen=False, excluded_parts=0, note=note)
    used = {row.part for row in manifest.rows if row.sha256 in known}
    left = [i for i, row in enumerate(manifest.rows) if row.part not in used]
    if not left:
        raise DataError(
            f"{package.reference} was made from images of every part of {manifest.name}",
            remedy="Measure it on parts that it has not seen.",
        )
    note = "not seen in training"
    if used:
        note += f"; {counted(len(used), 'part')} left out that the model was made from"
    return Side(
        rows=np.array(left, dtype=np.int64), seen=False, excluded_parts=len(used), note=note
    )
