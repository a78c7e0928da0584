"""Verdicts of a set's images under the zones of the recipe, as the server gives them.

verdict of `decide`, the image once more at full resolution -> place -> accept, or misplaced
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from inspection.acceptance import accept, misplaced, place
from inspection.errors import DataError, ImageError, Unjudgeable
from inspection.frame import decode_image
from inspection.recipe import judged_pixels
from training.data.facts import flat_field_in
from training.data.images import WORKERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.engine import Prediction
    from inspection.recipe import Recipe
    from inspection.verdict import Calibration, OperatingPoint, Verdict
    from inspection.zones.registration import ReferenceView
    from training.manifest import Manifest


def under_zones(
    verdicts: Sequence[Verdict],
    rows: Sequence[int],
    predictions: Sequence[Prediction],
    *,
    manifest: Manifest,
    calibration: Calibration,
    operating_point: OperatingPoint,
    recipe: Recipe,
    views: Sequence[ReferenceView],
) -> list[Verdict]:
    """The verdicts once parts are aligned and their zones have had a say, in order.

    Args:
        verdicts: of `decide`.
        rows: numbers of the images in the set.
        predictions: what the engine answered.
        manifest: the set.
        calibration: the package's.
        operating_point: the package's.
        recipe: the package's, with references.
        views: the package's.

    Raises:
        DataError: an image is gone or cannot be read.
    """
    flat = None
    if recipe.flat_field:
        flat = flat_field_in(manifest.folder, manifest.calibration, manifest.name)

    def judged(one: tuple[Verdict, int, Prediction]) -> Verdict:
        verdict, number, prediction = one
        row = manifest.rows[number]
        path = manifest.file(row)
        try:
            pixels = judged_pixels(decode_image(path.read_bytes()), recipe, flat)
            placed = place(recipe, views, pixels, name=row.view)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
        except ImageError as error:
            raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error
        except Unjudgeable as error:
            return misplaced(verdict, error)
        return accept(verdict, prediction, calibration, operating_point, placed)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(judged, zip(verdicts, rows, predictions, strict=True)))
