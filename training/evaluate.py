"""What a packaged model does to parts it has not seen.

    rows -> decode, prepare (as serving) -> Engine.infer -> decide (as serving) -> parts -> figures

An image is judged exactly as the server would judge it. A part that several images show is as bad
as its worst image: it fails when one fails, and passes when all pass.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.errors import DataError
from inspection.verdict import decide
from training.images import PreparedImages
from training.intervals import (
    GroupBootstrap,
    clopper_pearson,
    curve_interval,
    delong_interval,
    number_groups,
    ranking,
    rate_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage
    from inspection.recipe import Recipe
    from inspection.verdict import Calibration, Disposition, OperatingPoint
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

CONFIDENCE = 0.95
WORST_FIRST: tuple[Disposition, ...] = ("fail", "review", "pass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    Attributes:
        value: the figure.
        low, high: its interval when parts of a group resemble each other; the one to read.
        naive_low, naive_high: the interval as if every part were independent.
        parts, groups: how many it was measured on.
        hits: how many of the parts it counts; None when it is no count.
    """

    value: float
    low: float
    high: float
    naive_low: float
    naive_high: float
    parts: int
    groups: int
    hits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """What was decided on one part.

    Attributes:
        path: of its first image.
        label: all its images' labels.
        probabilities: the largest of its images', a class each.
    """

    path: str
    part: str
    group: str
    label: str
    bad: bool
    probabilities: tuple[float, ...]
    novelty: float
    disposition: Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures on a number of parts, and what they were made from."""

    classes: tuple[str, ...]
    parts: tuple[PartResult, ...]
    figures: Mapping[str, Figure]
    confidence: float = CONFIDENCE

    def summary(self) -> dict[str, Any]:
        """Counts and figures as plain values, for reports."""
        table = {kind: dict.fromkeys(reversed(WORST_FIRST), 0) for kind in ("good", "bad")}
        for part in self.parts:
            table["bad" if part.bad else "good"][part.disposition] += 1
        return {
            "confidence": self.confidence,
            "parts": len(self.parts),
            "bad_parts": sum(part.bad for part in self.parts),
            "groups": len({part.group for part in self.parts}),
            "dispositions": table,
            "classes": self.by_class(),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }

    def by_class(self) -> dict[str, dict[str, int]]:
        """Bad parts and escapes of each class; a part with two defects counts in both."""
        counts = {name: {"bad_parts": 0, "escapes": 0} for name in self.classes}
        for part in self.parts:
            for name in part.label.split(";") if part.bad else ():
                counts[name]["bad_parts"] += 1
                counts[name]["escapes"] += part.disposition == "pass"
        return counts

    def as_csv(self) -> str:
        """A line for every part."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = [f"probability_{name}" for name in self.classes]
        writer.writerow(["path", "part", "group", "label", *columns, "novelty", "disposition"])
        for part in self.parts:
            numbers = [*part.probabilities, part.novelty]
            head = [part.path, part.part, part.group, part.label]
            writer.writerow([*head, *map(repr, numbers), part.disposition])
        return text.getvalue()


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
    check_fits(package.recipe, manifest)
    predicted = predict(engine, manifest, package.recipe, rows, progress, stage="judge parts")
    document = package.document
    parts = judge_parts(
        predicted, manifest, document.calibration, document.operating_point, package.recipe
    )
    return measure(parts, package.recipe.classes, seed=seed)


def check_fits(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a set that the recipe is not for.

    Raises:
        DataError: product or classes differ.
    """
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
) -> tuple[PartResult, ...]:
    """What is decided on each part that the rows show, in the order of the rows."""
    images: dict[str, list[PartResult]] = {}
    answers = zip(
        predicted.rows.tolist(), predicted.predictions, predicted.frame_sizes_px, strict=True
    )
    for number, prediction, size in answers:
        row = manifest.rows[number]
        verdict = decide(prediction, calibration, operating_point, recipe, size)
        images.setdefault(row.part, []).append(
            PartResult(
                path=row.path,
                part=row.part,
                group=row.group,
                label=row.label,
                bad=row.bad,
                probabilities=tuple(verdict.probability[name] for name in recipe.classes),
                novelty=prediction.novelty,
                disposition=verdict.disposition,
            )
        )
    return tuple(_worst(shown) for shown in images.values())


def measure(parts: Sequence[PartResult], classes: tuple[str, ...], *, seed: int) -> Evaluation:
    """Figures over judged parts.

    Raises:
        DataError: they are all good or all bad.
    """
    bad = np.array([part.bad for part in parts])
    if not bad.any() or bad.all():
        raise DataError(
            "the parts are all good or all bad: neither escapes and overkill nor AUC have a meaning"
        )
    said = np.array([part.disposition for part in parts])
    score = np.array([max(part.probabilities) for part in parts])
    groups = number_groups([part.group for part in parts])
    every = np.ones(len(parts), dtype=np.bool_)
    bootstrap = GroupBootstrap(groups, seed=seed)

    def rate(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> Figure:
        n, happened = int(of.sum()), int((hits & of).sum())
        low, high = rate_interval(hits, of, groups, bootstrap, confidence=CONFIDENCE)
        naive_low, naive_high = clopper_pearson(happened, n, confidence=CONFIDENCE)
        return Figure(
            value=happened / n,
            low=low,
            high=high,
            naive_low=naive_low,
            naive_high=naive_high,
            parts=n,
            groups=len(np.unique(groups[of])),
            hits=happened,
        )

    def curve(value: float, drawn: NDArray[np.float64], naive: tuple[float, float]) -> Figure:
        low, high = curve_interval(value, drawn, bad, groups, confidence=CONFIDENCE)
        return Figure(
            value=value,
            low=min(low, naive[0]),
            high=max(high, naive[1]),
            naive_low=naive[0],
            naive_high=naive[1],
            parts=len(parts),
            groups=len(np.unique(groups)),
        )

    auc, precision = ranking(score, bad)
    aucs, precisions = bootstrap.ranking(score, bad)
    alone = np.arange(len(parts))
    single = GroupBootstrap(alone, seed=seed).ranking(score, bad)[1]
    figures = {
        "escape_rate": rate(said == "pass", bad),
        "overkill_rate": rate(said == "fail", ~bad),
        "review_rate": rate(said == "review", every),
        "auc": curve(auc, aucs, delong_interval(score, bad, confidence=CONFIDENCE)),
        "average_precision": curve(
            precision,
            precisions,
            curve_interval(precision, single, bad, alone, confidence=CONFIDENCE),
        ),
        "accuracy": rate((score > 0.5) == bad, every),
    }
    return Evaluation(classes=classes, parts=tuple(parts), figures=figures)


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
    labels = sorted({name for image in shown if image.bad for name in image.label.split(";")})
    first = shown[0]
    return PartResult(
        path=first.path,
        part=first.part,
        group=first.group,
        label=";".join(labels) or first.label,
        bad=bool(labels),
        probabilities=tuple(
            max(values) for values in zip(*(i.probabilities for i in shown), strict=True)
        ),
        novelty=max(image.novelty for image in shown),
        disposition=min((image.disposition for image in shown), key=WORST_FIRST.index),
    )
