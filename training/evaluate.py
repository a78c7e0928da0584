"""What a packaged model does to parts it has not seen.

    rows -> decode, prepare (as serving) -> Engine.infer -> decide, zones (as serving) -> images
         -> parts
         -> training.measuring.evaluation, training.measuring.heatmap_quality

An image is judged exactly as the server would judge it. A part that several images show is as bad
as its worst image: it fails when one fails, and passes when all pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError
from inspection.verdict import decide
from training.data.good_only import CLASSES as ANOMALY_CLASSES
from training.data.good_only import as_anomaly
from training.data.images import PreparedImages
from training.measuring.evaluation import WORST_FIRST, Evaluation, PartResult, measure
from training.measuring.heatmap_quality import heatmap_quality
from training.measuring.intervals import number_groups
from training.measuring.metrics import Figure
from training.measuring.under_zones import under_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage
    from inspection.recipe import Recipe
    from inspection.verdict import Calibration, OperatingPoint
    from inspection.zones.registration import ReferenceView
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

__all__ = [
    "Evaluation",
    "Figure",
    "PartResult",
    "Predicted",
    "evaluate",
    "in_words_of",
    "join_images",
    "judge_images",
    "judge_parts",
    "measure",
    "measure_predicted",
    "part_arrays",
    "predict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The engine's answers for some rows of a manifest, in order."""

    rows: NDArray[np.int64]
    predictions: tuple[Prediction, ...]
    frame_sizes_px: tuple[tuple[int, int], ...]

    @property
    def scores(self) -> NDArray[np.float32]:
        """(n, K)."""
        return np.stack([prediction.scores for prediction in self.predictions])

    @property
    def novelty(self) -> NDArray[np.float64]:
        """(n,)."""
        return np.array([prediction.novelty for prediction in self.predictions])


def evaluate(
    package: ModelPackage,
    engine: Engine,
    manifest: Manifest,
    rows: NDArray[np.int64],
    *,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Judge the parts of some rows with a package and measure.

    Args:
        package: the recipe, calibration and limits that the verdicts follow.
        engine: runs this package's network.
        manifest: the set.
        rows: (n,) row numbers.
        seed: of the bootstrap; the same seed and rows give the same figures.
        progress: called with (stage, done, total).

    Raises:
        DataError: the set is of another product or has other classes, or an image cannot be used.
    """
    recipe, document = package.recipe, package.document
    manifest = in_words_of(recipe, manifest)
    predicted = predict(engine, manifest, recipe, rows, progress, stage="judge parts")
    return measure_predicted(
        predicted,
        manifest,
        document.calibration,
        document.operating_point,
        recipe,
        seed=seed,
        views=package.views,
    )


def measure_predicted(
    predicted: Predicted,
    manifest: Manifest,
    calibration: Calibration,
    operating_point: OperatingPoint,
    recipe: Recipe,
    *,
    seed: int,
    views: Sequence[ReferenceView] = (),
) -> Evaluation:
    """Judge what the engine answered, and measure all that can be: parts, views, evidence maps.

    Args:
        predicted: the engine's answers.
        manifest: the set.
        calibration: the package's.
        operating_point: the package's.
        recipe: the package's.
        seed: of the bootstrap.
        views: the reference views of a recipe with zones, whose rules then have had their say.

    Raises:
        DataError: the parts are all good or all bad, and the model was taught defects; or a mask
            of the set cannot be used.
    """
    images = judge_images(predicted, manifest, calibration, operating_point, recipe, views=views)
    return measure(
        join_images(images),
        recipe.classes,
        seed=seed,
        images=images,
        heatmap=heatmap_quality(predicted, manifest, calibration, recipe, seed=seed),
        good_only=recipe.classes == ANOMALY_CLASSES,
    )


def in_words_of(recipe: Recipe, manifest: Manifest) -> Manifest:
    """The set as a recipe's model takes it: every defect an anomaly for one that knows no other.

    Raises:
        DataError: the recipe is not for this set: product or classes differ.
    """
    if recipe.classes == ANOMALY_CLASSES:
        manifest = as_anomaly(manifest)
    if manifest.product != recipe.product:
        raise DataError(
            f"the model judges {recipe.product}, the data set {manifest.name} holds "
            f"{manifest.product}"
        )
    unknown = sorted(set(manifest.classes) - set(recipe.classes))
    if unknown:
        raise DataError(
            f"the data set has labels that the model does not know: {', '.join(unknown)}"
        )
    return manifest


def predict(
    engine: Engine,
    manifest: Manifest,
    recipe: Recipe,
    rows: NDArray[np.int64],
    progress: Progress,
    *,
    stage: str,
) -> Predicted:
    """Run the engine over rows, one image at a time, while the next ones are prepared.

    So is a station's image judged when it comes alone, and on a CPU it is also quicker than batches
    are.
    """
    images = PreparedImages(manifest, recipe, rows)
    predictions: list[Prediction] = []
    sizes: list[tuple[int, int]] = []
    progress(stage, 0, len(images))
    for image, size in images.ahead():
        predictions.extend(engine.infer([image]))
        sizes.append(size)
        progress(stage, len(sizes), len(images))
    return Predicted(
        rows=np.asarray(rows), predictions=tuple(predictions), frame_sizes_px=tuple(sizes)
    )


def judge_parts(
    predicted: Predicted,
    manifest: Manifest,
    calibration: Calibration,
    operating_point: OperatingPoint,
    recipe: Recipe,
    *,
    views: Sequence[ReferenceView] = (),
) -> tuple[PartResult, ...]:
    """What is decided on each part that the rows show, in the order of the rows."""
    return join_images(
        judge_images(predicted, manifest, calibration, operating_point, recipe, views=views)
    )


def judge_images(
    predicted: Predicted,
    manifest: Manifest,
    calibration: Calibration,
    operating_point: OperatingPoint,
    recipe: Recipe,
    *,
    views: Sequence[ReferenceView] = (),
) -> tuple[PartResult, ...]:
    """What is decided on each image by itself, in the order of the rows.

    Without `views`, it is what the network says alone, whatever zones the recipe has.
    """
    verdicts = [
        decide(prediction, calibration, operating_point, recipe, size)
        for prediction, size in zip(predicted.predictions, predicted.frame_sizes_px, strict=True)
    ]
    if views:
        verdicts = under_zones(
            verdicts,
            predicted.rows.tolist(),
            predicted.predictions,
            manifest=manifest,
            calibration=calibration,
            operating_point=operating_point,
            recipe=recipe,
            views=views,
        )
    answers = zip(predicted.rows.tolist(), predicted.predictions, verdicts, strict=True)
    column = {name: k for k, name in enumerate(manifest.classes)}
    targets = manifest.targets()
    results = []
    for number, prediction, verdict in answers:
        row = manifest.rows[number]
        probabilities = np.array([verdict.probability[name] for name in recipe.classes])
        standing = {finding.defect_class for finding in verdict.findings}
        above_pass = probabilities - operating_point.pass_below
        above_fail = probabilities - operating_point.fail_from
        results.append(
            PartResult(
                path=row.path,
                part=row.part,
                group=row.group,
                label=row.label,
                bad=row.bad,
                probabilities=tuple(probabilities.tolist()),
                novelty=prediction.novelty,
                disposition=verdict.disposition,
                sha256=row.sha256,
                lot=row.lot,
                mould=row.mould,
                station=row.station,
                view=row.view,
                targets=tuple(
                    float(targets[number, column[name]]) if name in column else 0.0
                    for name in recipe.classes
                ),
                failed_by=tuple(
                    name
                    for name, margin in zip(recipe.classes, above_fail.tolist(), strict=True)
                    if margin >= 0 and name in standing
                ),
                pass_margin=float(above_pass.max()),
                fail_margin=float(above_fail.max()),
            )
        )
    return tuple(results)


def join_images(images: Sequence[PartResult]) -> tuple[PartResult, ...]:
    """Images of one part as one result, in the order in which parts first occur."""
    shown: dict[str, list[PartResult]] = {}
    for image in images:
        shown.setdefault(image.part, []).append(image)
    return tuple(_worst(each) for each in shown.values())


def part_arrays(
    predicted: Predicted, manifest: Manifest, probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """What limits are chosen on: (n, K) largest probabilities, (n,) largest novelty, (n, K) whether
    the part shows the class, (n,) group.

    Args:
        predicted: (n) answers.
        manifest: the set.
        probabilities: (n, K) calibrated.
    """
    rows = [manifest.rows[number] for number in predicted.rows.tolist()]
    names, member = np.unique([row.part for row in rows], return_inverse=True)
    largest = np.full((len(names), probabilities.shape[1]), -np.inf)
    np.maximum.at(largest, member, probabilities)
    novelty = np.full(len(names), -np.inf)
    np.maximum.at(novelty, member, predicted.novelty)
    shows = np.zeros(largest.shape, dtype=np.bool_)
    classes = manifest.classes
    np.logical_or.at(
        shows, member, np.array([[name in row.defects for name in classes] for row in rows])
    )
    group_of = {row.part: row.group for row in rows}
    return largest, novelty, shows, number_groups([group_of[name] for name in names.tolist()])


def _worst(shown: Sequence[PartResult]) -> PartResult:
    if len(shown) == 1:
        return shown[0]
    labels = sorted({name for image in shown for name in image.defects})
    first = shown[0]
    return replace(
        first,
        label=";".join(labels) or first.label,
        bad=bool(labels),
        probabilities=_largest([image.probabilities for image in shown]),
        novelty=max(image.novelty for image in shown),
        disposition=min((image.disposition for image in shown), key=WORST_FIRST.index),
        lot=_joined([image.lot for image in shown]),
        mould=_joined([image.mould for image in shown]),
        station=_joined([image.station for image in shown]),
        view=_joined([image.view for image in shown]),
        targets=_largest([image.targets for image in shown]),
        failed_by=tuple(dict.fromkeys(name for image in shown for name in image.failed_by)),
        pass_margin=max(image.pass_margin for image in shown),
        fail_margin=max(image.fail_margin for image in shown),
    )


def _largest(values: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(max(column) for column in zip(*values, strict=True))


def _joined(names: Sequence[str | None]) -> str | None:
    """All that the images say, each once."""
    return ";".join(dict.fromkeys(name for name in names if name is not None)) or None
