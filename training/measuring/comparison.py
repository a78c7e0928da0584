"""The same model under a random split: how much that would flatter.

    cached features -> another split, by part alone -> fit -> calibrate -> limits -> figures

It is printed beside the real figures, labelled as a comparison, and nothing is packaged from it.
Scores come from the cached features (float16), not through a packaged model; the rest is the same
code. Parts of one lot or module stand on both sides of a random split, so the model has seen their
neighbours, which it never will have on tomorrow's parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inspection.engine import Prediction, split_outputs
from training.calibrate import calibrate
from training.data.images import PreparedImages
from training.evaluate import Evaluation, Predicted, judge_parts, measure, part_arrays
from training.fit import fit
from training.measuring.intervals import number_groups
from training.operating_point import choose_limits
from training.split import split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from inspection.package import PackageDocument
    from inspection.recipe import Recipe
    from training.fit import FitSettings
    from training.fitting.features import FeatureCache
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

WHY = (
    "A random split puts parts of one group on both sides; the model is then asked about "
    "neighbours of what it was taught, and looks better than it will be on new groups. Compare AUC "
    "and accuracy: escapes, overkill and reviews also depend on where each split's limits lie."
)
BLOCK = 64


def compare_random(
    manifest: Manifest,
    recipe: Recipe,
    settings: FitSettings,
    features: FeatureCache,
    document: PackageDocument,
    *,
    seed: int,
    review_budget: float,
    progress: Progress,
) -> Evaluation:
    """The figures that a random split of the same set would have given.

    Args:
        manifest: the set.
        recipe: the package's.
        settings: of the fit.
        features: of all rows of the manifest, in order.
        document: the package's; its wanted escape rate holds here too.
        seed: of split, fit and bootstrap.
        review_budget: as for the package.
        progress: called with (stage, done, total).
    """
    random = split(manifest, seed=seed, by="part-random")

    def stage(name: str, done: int, total: int) -> None:
        progress(f"{name} (random split)", done, total)

    result = fit(
        PreparedImages(manifest, recipe, random.fit),
        manifest.targets()[random.fit],
        [manifest.rows[row].group for row in random.fit.tolist()],
        settings,
        progress=stage,
        features=features.take(random.fit),
    )
    calibration_rows = _predict(result.network, features, random.calibrate, manifest)
    test_rows = _predict(result.network, features, random.test, manifest)
    targets = manifest.targets()[random.calibrate]
    calibration = calibrate(
        calibration_rows.scores,
        targets,
        recipe.classes,
        groups=number_groups([manifest.rows[row].group for row in random.calibrate.tolist()]),
        seed=seed,
    ).calibration
    probabilities = calibration.probabilities(calibration_rows.scores)
    probability, novelty, shows, groups = part_arrays(calibration_rows, manifest, probabilities)
    chosen = choose_limits(
        probability,
        novelty,
        shows,
        groups,
        wanted_escape_rate=document.operating_point.certificate.wanted_escape_rate,
        review_budget=review_budget,
        classes=recipe.classes,
        split_digest=random.digest,
        seed=seed,
    )
    parts = judge_parts(test_rows, manifest, calibration, chosen.operating_point, recipe)
    return measure(parts, recipe.classes, seed=seed)


@torch.no_grad()
def _predict(
    network: InspectionNetwork,
    features: FeatureCache,
    rows: NDArray[np.int64],
    manifest: Manifest,
) -> Predicted:
    """What the network says of cached features."""
    predictions: list[Prediction] = []
    for start in range(0, len(rows), BLOCK):
        cells = torch.from_numpy(features.cells[rows[start : start + BLOCK]]).float()
        finite = torch.zeros(len(cells), 1, 1, 1)  # the images were checked when features were made
        answers = network.readout(finite, cells.permute(0, 3, 1, 2))
        predictions.extend(split_outputs(*(each.numpy() for each in answers)))
    size = manifest.images.frame_size_px or network.architecture.input_size_px
    return Predicted(
        rows=rows, predictions=tuple(predictions), frame_sizes_px=(size,) * len(predictions)
    )


def comparison_report(evaluation: Evaluation) -> dict[str, Any]:
    """The comparison as plain values, with the sentence that says what it is."""
    return {"what": "random split, for comparison only", "why": WHY, **evaluation.summary()}
