"""Reports for tests: real figures over made-up verdicts, so that no network has to be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection.engine import Prediction
from inspection.verdict import Calibration
from tests.labelled_sets import bare_manifest
from training.data.rows import Row
from training.evaluate import Predicted, join_images, judge_images
from training.measuring.evaluation import Evaluation, measure
from training.measuring.precision import PrecisionStudy
from training.operating_point import choose_limits
from training.recipe_for import recipe_for
from training.report import (
    Report,
    data_card,
    environment,
    figures_card,
    limits_card,
    split_card,
)
from training.reporting.curve_bands import curve_bands, score_histograms
from training.reporting.report_cards import Identity
from training.split import FRACTIONS, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.recipe import Recipe
    from inspection.verdict import OperatingPoint
    from training.manifest import Manifest

GRID = 6  # cells of an evidence map, each way
CURVE = 1.3  # slope of the calibration that the made-up scores have


def rows_of(
    lots: int, per_lot: int, classes: Sequence[str], *, name: str = "{lot}-{part:02d}"
) -> list[Row]:
    """In each lot four parts in ten are bad, of the classes in turn."""
    rows: list[Row] = []
    for lot in range(lots):
        for part in range(per_lot):
            label = "good"
            if classes and part % 5 in (1, 3):
                label = classes[(lot + part) % len(classes)]
            serial = name.format(lot=f"L{lot:02d}", part=part)
            rows.append(
                Row(
                    path=f"images/{serial}.png".replace("<", "(").replace(">", ")"),
                    sha256=f"{len(rows):064x}",
                    label=label,
                    part=serial,
                    group=f"L{lot:02d}",
                    lot=f"L{lot:02d}",
                    station=f"S{part % 2}",
                )
            )
    return rows


def predicted(manifest: Manifest, numbers: Sequence[int], *, seed: int = 0) -> Predicted:
    """Answers that are right more often than not, each with a warm spot in its evidence."""
    generator = np.random.default_rng(seed)
    answers = []
    for number in numbers:
        shown = np.array([name in manifest.rows[number].defects for name in manifest.classes])
        scores = generator.normal(3.0 * shown - 1.5, 1.2).astype(np.float32)
        evidence = np.full((len(scores), GRID, GRID), -4, dtype=np.float32)
        evidence[:, 2, 3] = scores
        answers.append(Prediction(scores=scores, evidence=evidence, novelty=1 + generator.random()))
    size = manifest.images.frame_size_px or (48, 48)
    return Predicted(
        rows=np.array(numbers), predictions=tuple(answers), frame_sizes_px=(size,) * len(numbers)
    )


def evaluated(
    manifest: Manifest, recipe: Recipe, answers: Predicted, point: OperatingPoint
) -> Evaluation:
    """What these answers come to."""
    calibration = flat_calibration(len(recipe.classes))
    images = judge_images(answers, manifest, calibration, point, recipe)
    parts = join_images(images)
    good_only = not any(part.bad for part in parts)
    return measure(parts, recipe.classes, seed=0, images=images, good_only=good_only)


def flat_calibration(count: int) -> Calibration:
    """The same curve for every class."""
    return Calibration(slope=(CURVE,) * count, intercept=(0.0,) * count)


def report_of(manifest: Manifest, *, wanted: float = 0.2) -> Report:
    """A whole report, its figures measured as a training's are."""
    divided = split(manifest, seed=0)
    recipe = recipe_for(manifest, input_size_px=(64, 64))
    calibration = flat_calibration(len(manifest.classes))
    held = predicted(manifest, divided.calibrate.tolist(), seed=1)
    shows = [
        [name in manifest.rows[number].defects for name in manifest.classes]
        for number in divided.calibrate.tolist()
    ]
    chosen = choose_limits(
        calibration.probabilities(held.scores),
        held.novelty,
        np.array(shows),
        np.unique([manifest.rows[i].group for i in divided.calibrate], return_inverse=True)[1],
        wanted_escape_rate=wanted,
        review_budget=0.2,
        classes=manifest.classes,
        split_digest=divided.digest,
    )
    answers = predicted(manifest, divided.test.tolist(), seed=2)
    evaluation = evaluated(manifest, recipe, answers, chosen.operating_point)
    return Report(
        identity=Identity(
            model="plates",
            version=3,
            created_at="2026-11-21T08:00:00Z",
            made_by="q.engineer",
            code_version="0.1.0",
            backbone="tf_efficientnet_lite0 sha256:00",
            preset="fast",
            precision="f32",
            files={"model.safetensors": "ab" * 32},
        ),
        data=data_card(manifest),
        split=split_card(divided, manifest, FRACTIONS, pairs=()),
        settings={"preset": "fast", "learning_rate": 0.004, "flips": ["horizontal"]},
        origins={"preset": "--preset", "learning_rate": "the preset's default"},
        limits=limits_card(chosen, calibration.slope, calibration.intercept),
        certificate=chosen.operating_point.certificate,
        test=figures_card(evaluation),
        comparison=None,
        histograms=score_histograms(evaluation),
        bands=curve_bands(evaluation, seed=0),
        precision=PrecisionStudy(
            engine_choice="f32",
            chosen="f32",
            parts=0,
            whole=False,
            flips={},
            bad_to_pass=0,
            largest_difference=0.0,
            ms_per_image={},
            reason="OpenVINO picks f32 by itself here",
        ),
        engine="OpenVINO CPU f32",
        licences={"data": manifest.licence, "backbone": "Apache-2.0"},
        environment=environment("OpenVINO CPU f32"),
        warnings=chosen.warnings,
        timings_s={"features": 4.0, "head": 6.0, "all": 10.0},
        history=tuple(
            {
                "stage": "head",
                "epoch": n + 1,
                "loss": 0.7 / (n + 1),
                "validation_auc": 0.9 - 0.1 / (n + 1),
            }
            for n in range(6)
        ),
    )


def plates_report(
    classes: Sequence[str] = ("scratch",), *, lots: int = 16, per_lot: int = 10
) -> Report:
    """The report of generated plates."""
    return report_of(bare_manifest(rows_of(lots, per_lot, classes), classes))
