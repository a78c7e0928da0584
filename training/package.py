"""From a labelled set to a model package, top to bottom.

    Manifest -> split -> features -> fit -> export -> calibrate -> limits -> evaluate -> package

Calibration, limits and every figure come from the exported graph, in a real package, on the engine
and at the precision that will serve. The test parts are judged once the limits stand.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspection.engines.backbones import BACKBONES
from inspection.engines.export import export_onnx
from inspection.engines.network import save_network
from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import ConfigurationError, PackageDamaged
from inspection.package import (
    ModelPackage,
    PackageDocument,
    Precision,
    next_version,
    write_package,
)
from inspection.verdict import Calibration, Certificate, OperatingPoint
from training.calibrate import calibrate
from training.comparison import compare_random, comparison_report
from training.evaluate import (
    Evaluation,
    Predicted,
    judge_parts,
    measure,
    part_arrays,
    predict,
)
from training.fit import FitResult, extract_features, fit
from training.images import PreparedImages
from training.manifest import verify_images
from training.operating_point import Chosen, choose_limits
from training.places import require_writable
from training.plan import Plan, plan_settings
from training.precision import PrecisionStudy, study_precision
from training.report import (
    Report,
    data_card,
    environment,
    limits_card,
    report_bytes,
    split_card,
)
from training.split import FRACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.recipe import Recipe
    from training.features import FeatureCache
    from training.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A package, and what was measured on the way."""

    package: ModelPackage
    report: Report
    evaluation: Evaluation
    comparison: Evaluation | None


@dataclass(slots=True)
class _Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        spent = time.perf_counter() - begun
        self.seconds[step] = round(self.seconds.get(step, 0.0) + spent, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A package with its limits, and its verdicts on the test parts."""

    package: ModelPackage
    engine: OpenVinoEngine
    chosen: Chosen
    warnings: tuple[str, ...]
    predicted: Predicted
    evaluation: Evaluation


def train(plan: Plan, weights: Path, reporter: Reporter) -> Trained:
    """Make the next version of a model under `weights`.

    Raises:
        InspectionError: whatever is wrong with images, disk or engine; nothing is left behind.
    """
    clock = _Clock()
    next_version(weights, plan.model)  # a name that will not do is refused before the work,
    require_writable(weights / plan.model)  # so is a folder without rights,
    verify_images(plan.manifest)  # and so is a damaged image: not after ten minutes
    features = None
    if plan.settings.compare_random:
        with clock("features"):
            every = np.arange(len(plan.manifest.rows))
            images = PreparedImages(plan.manifest, plan.recipe, every)
            features = extract_features(images, plan.fitting, progress=reporter.progress)
    result = _fit(plan, features, clock, reporter)
    with tempfile.TemporaryDirectory(prefix="inspection-train-") as scratch:
        folder = Path(scratch)
        with clock("export"):
            export_onnx(result.network, folder / "model.onnx")
            save_network(result.network, folder / "model.safetensors")
        judged = _judge(plan, folder, result, "f32", clock, reporter)
        with clock("precision"):
            study = study_precision(
                judged.package,
                judged.engine,
                plan.manifest,
                judged.predicted,
                progress=reporter.progress,
                wanted=plan.settings.precision,
                whole=plan.settings.whole_precision,
            )
        if study.chosen != "f32":
            judged.engine.close()
            judged = _judge(plan, folder, result, study.chosen, clock, reporter)
        comparison = None
        if features is not None:
            with clock("random comparison"):
                comparison = compare_random(
                    plan.manifest,
                    plan.recipe,
                    plan.fitting,
                    features,
                    judged.package.document,
                    seed=plan.settings.seed,
                    review_budget=plan.settings.review_budget,
                    progress=reporter.progress,
                )
        report = _report(plan, result, judged, study, comparison, clock)
        judged.engine.close()
        files = {**_files(folder), "report.json": report_bytes(report)}
        package = _write_next(weights, judged.package.document, plan.recipe, files)
    return Trained(
        package=package, report=report, evaluation=judged.evaluation, comparison=comparison
    )


def _fit(plan: Plan, features: FeatureCache | None, clock: _Clock, reporter: Reporter) -> FitResult:
    rows = plan.split.fit
    groups = plan.manifest.groups
    with clock("fit"):
        result = fit(
            PreparedImages(plan.manifest, plan.recipe, rows),
            plan.manifest.targets()[rows],
            [groups[row] for row in rows.tolist()],
            plan.fitting,
            progress=reporter.progress,
            features=None if features is None else features.take(rows),
        )
    spent = result.seconds.get("features", 0.0)
    if features is None and spent:  # counted apart, as it is when features are shared
        clock.seconds["features"] = round(spent, 2)
        clock.seconds["fit"] = round(clock.seconds["fit"] - spent, 2)
    return result


def _judge(
    plan: Plan,
    folder: Path,
    result: FitResult,
    precision: Precision,
    clock: _Clock,
    reporter: Reporter,
) -> _Judged:
    """Package the graph, fit calibration and limits through it, then judge the test parts."""
    manifest, recipe = plan.manifest, plan.recipe
    with clock("package"):
        blank = _blank_document(plan, result, precision)
        files: dict[str, bytes | Path] = {**_files(folder), "report.json": b"{}\n"}
        root = folder / f"blank-{precision}"
        engine = OpenVinoEngine.for_package(write_package(root, blank, recipe, files))
    with clock("calibrate"):
        rows = plan.split.calibrate
        seen = predict(engine, manifest, recipe, rows, reporter.progress, stage="calibrate")
        calibrated = calibrate(seen.scores, manifest.targets()[rows], recipe.classes)
        probabilities = calibrated.calibration.probabilities(seen.scores)
        probability, novelty, shows, groups = part_arrays(seen, manifest, probabilities)
        chosen = choose_limits(
            probability,
            novelty,
            shows,
            groups,
            wanted_escape_rate=plan.settings.wanted_escape_rate,
            review_budget=plan.settings.review_budget,
            classes=recipe.classes,
            split_digest=plan.split.digest,
            seed=plan.settings.seed,
        )
        document = replace(
            blank,
            calibration=calibrated.calibration,
            operating_point=chosen.operating_point,
        )
        package = write_package(folder / f"limits-{precision}", document, recipe, files)
    with clock("test"):
        predicted = predict(
            engine, manifest, recipe, plan.split.test, reporter.progress, stage="test"
        )
        document = package.document
        parts = judge_parts(
            predicted, manifest, document.calibration, document.operating_point, package.recipe
        )
        evaluation = measure(parts, recipe.classes, seed=plan.settings.seed)
    return _Judged(
        package=package,
        engine=engine,
        chosen=chosen,
        warnings=(*calibrated.warnings, *chosen.warnings),
        predicted=predicted,
        evaluation=evaluation,
    )


def _blank_document(plan: Plan, result: FitResult, precision: Precision) -> PackageDocument:
    """Limits that let nothing pass, for the package that calibration runs on."""
    count = len(plan.recipe.classes)
    architecture = result.network.architecture
    nothing = Certificate(
        wanted_escape_rate=plan.settings.wanted_escape_rate,
        escape_bound=1.0,
        naive_escape_bound=1.0,
        confidence=0.95,
        bad_parts=0,
        groups=0,
        certified=False,
        more_bad_parts_needed=0,
    )
    return PackageDocument(
        model=plan.model,
        version=1,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        code_version=version("inspection"),
        backbone=f"{architecture.backbone} sha256:{architecture.backbone_sha256 or 'none'}",
        preset=plan.settings.preset,
        precision=precision,
        data_digest=plan.manifest.digest,
        calibration=Calibration(slope=(1.0,) * count, intercept=(0.0,) * count),
        operating_point=OperatingPoint(
            pass_below=(0.0,) * count,
            fail_from=(1.0,) * count,
            novelty_limit=0.0,
            split_digest=plan.split.digest,
            certificate=nothing,
        ),
    )


def _write_next(
    weights: Path, document: PackageDocument, recipe: Recipe, files: dict[str, bytes | Path]
) -> ModelPackage:
    """Write the next version; when another training took its number meanwhile, the one after."""
    while True:
        number = next_version(weights, document.model)
        place = weights / document.model / str(number)
        try:
            return write_package(weights, replace(document, version=number), recipe, files)
        except PackageDamaged:
            raise
        except ConfigurationError:
            if not place.exists():
                raise


def _files(folder: Path) -> dict[str, bytes | Path]:
    return {name: folder / name for name in ("model.onnx", "model.safetensors")}


def _report(
    plan: Plan,
    result: FitResult,
    judged: _Judged,
    study: PrecisionStudy,
    comparison: Evaluation | None,
    clock: _Clock,
) -> Report:
    known = {backbone.name: backbone.licence for backbone in BACKBONES}
    backbone = plan.settings.backbone
    if plan.settings.weights is None:
        licence = known.get(backbone, "not stated")
    else:
        licence = "that of the weights file that was given"
    calibration = judged.package.document.calibration
    return Report(
        data=data_card(plan.manifest),
        split=split_card(plan.split, plan.manifest, FRACTIONS),
        settings=plan_settings(plan),
        limits=limits_card(judged.chosen, calibration.slope, calibration.intercept),
        test=judged.evaluation.summary(),
        comparison=None if comparison is None else comparison_report(comparison),
        precision=study,
        engine=judged.engine.description,
        licences={"data": plan.manifest.licence, f"backbone {backbone}": licence},
        environment=environment(judged.engine.description),
        warnings=judged.warnings,
        timings_s={**clock.seconds, "all": round(sum(clock.seconds.values()), 2)},
        history=tuple(result.history),
        seen=tuple(
            sorted(
                {
                    plan.manifest.rows[row].sha256
                    for side in (plan.split.fit, plan.split.calibrate)
                    for row in side.tolist()
                }
            )
        ),
    )
