"""Labelled sets as preset `anomaly` sees them: parts are good, or they are not.

    manifest, whatever its classes -> the same rows with the one class "anomaly"

The kinds of defect play no part, so a set may have none at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError
from training.data.rows import counted
from training.data.taught import taught_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.data.rows import Row
    from training.manifest import Manifest

ANOMALY = "anomaly"
CLASSES = (ANOMALY,)
FEWEST_GOOD = 10  # to fit on: of 20 images, about so many are left beside calibration and test


def as_anomaly(manifest: Manifest) -> Manifest:
    """The same images, every kind of defect called `anomaly`, of which there may be none."""
    if manifest.classes == CLASSES:
        return manifest
    return taught_as(manifest, [_renamed(row) for row in manifest.rows], classes=CLASSES)


def good_rows(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of `rows` that show good parts: all that `anomaly` is fitted on.

    Raises:
        DataError: they are fewer than a memory can be made of.
    """
    good = np.asarray(rows, dtype=np.int64)[~manifest.bad[rows]]
    if len(good) < FEWEST_GOOD:
        raise DataError(
            f"{counted(len(good), 'image')} of good parts to fit on; preset `anomaly` needs "
            f"{FEWEST_GOOD}",
            remedy="Import more good parts; 20 images in all are enough to begin with.",
        )
    return good


def _renamed(row: Row) -> Row:
    """The row with its defects called `anomaly`; its certainty stays, single votes do not."""
    regions = tuple(replace(region, defect=ANOMALY) for region in row.regions)
    return replace(row, label=ANOMALY if row.bad else row.label, votes=(), regions=regions)
