"""From a labelled set to a model package, top to bottom.

    Plan -> features -> fit -> export -> calibrate -> limits -> test, read once -> certificate
         -> other arithmetic, other engines -> report, package

Calibration, limits and every figure come from the exported graph, in a real package, on the engine
and at the precision that will serve. The test parts are judged once the limits stand.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspection.engines.detail import STRIDE
from inspection.engines.export import export_onnx
from inspection.engines.network import save_network
from inspection.engines.openvino import OpenVinoEngine
from inspection.package import ModelPackage, Precision, next_version, write_package
from training.calibrate import calibrate
from training.data.allowed import allowed_mm
from training.data.good_only import good_rows
from training.data.images import PreparedImages
from training.data.regions import prepared_lengths, prepared_masks
from training.evaluate import Evaluation, Predicted, measure_predicted, part_arrays, predict
from training.fit import FitResult, extract_features, fit
from training.fitting.checkpoint import RunFolder
from training.fitting.features import FeatureCache
from training.fitting.ranks import is_leader
from training.fitting.resume import RUNS_NAME, keep_settings
from training.manifest import verify_images
from training.measuring.agreement import GOOD_SAMPLE, study_agreement
from training.measuring.certify import certify
from training.measuring.comparison import compare_random
from training.measuring.intervals import number_groups
from training.measuring.operating_point_good import calibrate_good_only, choose_limits_good_only
from training.measuring.precision import study_precision
from training.operating_point import choose_limits
from training.package_files import Judged, blank_document, made_report, package_files, write_next
from training.places import require_writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from inspection.package import PackageDocument
    from training.calibrate import Calibrated
    from training.operating_point import Chosen
    from training.plan import Plan
    from training.progress import Reporter
    from training.report import Report

MASK_PX = 64  # the longer side of the masks that teach: finer than any evidence map


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A package, and what was measured on the way."""

    package: ModelPackage
    report: Report
    evaluation: Evaluation
    comparison: Evaluation | None


@dataclass(slots=True)
class Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a step; the same one again adds up."""
        begun = time.perf_counter()
        yield
        spent = time.perf_counter() - begun
        self.seconds[step] = round(self.seconds.get(step, 0.0) + spent, 2)


def train(plan: Plan, weights: Path, reporter: Reporter) -> Trained | None:
    """Make the next version of a model under `weights`.

    Returns None in a process that only helps another one to fit (`torchrun`).

    Raises:
        InspectionError: whatever is wrong with images, disk or engine; no package is left behind,
            and of preset `full` a checkpoint.
    """
    clock = Clock()
    next_version(weights, plan.model)  # a name that will not do is refused before the work,
    require_writable(weights / plan.model)  # so is a folder without rights,
    verify_images(plan.manifest)  # and so is a damaged image: not after ten minutes
    run = _run_folder(plan, weights) if plan.settings.preset == "full" else None
    rows = _fit_rows(plan)
    features = None
    if plan.settings.preset != "full":
        with clock("features"):
            images = PreparedImages(plan.manifest, plan.recipe, rows)
            features = extract_features(images, plan.fitting, progress=reporter.progress)
    with clock("fit"):
        result = _fit(plan, rows, features, run, reporter)
    if not is_leader():
        return None
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
                plan.taught,
                judged.predicted,
                progress=reporter.progress,
                wanted=plan.settings.precision,
                whole=plan.settings.whole_precision,
            )
        if study.chosen != "f32":
            judged.engine.close()
            judged = _judge(plan, folder, result, study.chosen, clock, reporter)
        with clock("other engines"):
            agreement = study_agreement(
                judged.package,
                plan.taught,
                judged.predicted,
                served=judged.engine.description,
                progress=reporter.progress,
                good_parts=None if plan.settings.whole_agreement else GOOD_SAMPLE,
            )
        comparison = None
        if plan.settings.compare_random and features is not None:
            with clock("random comparison"):
                every = _all_features(plan, rows, features, reporter)
                comparison = compare_random(
                    plan.manifest,
                    plan.recipe,
                    plan.fitting,
                    every,
                    judged.package.document,
                    seed=plan.settings.seed,
                    review_budget=plan.settings.review_budget,
                    progress=reporter.progress,
                )
        document = replace(judged.package.document, agreement=agreement)
        judged.engine.close()
        reports: list[Report] = []

        def files(numbered: PackageDocument) -> Mapping[str, bytes | Path]:
            reports.append(
                made_report(plan, result, judged, numbered, study, comparison, clock.seconds)
            )
            return package_files(plan, folder, judged, reports[-1])

        package = write_next(weights, document, plan.recipe, files)
    if run is not None:
        run.finish()
    return Trained(
        package=package, report=reports[-1], evaluation=judged.evaluation, comparison=comparison
    )


def _fit_rows(plan: Plan) -> NDArray[np.int64]:
    """The rows to fit on: for `anomaly`, the good ones."""
    if plan.settings.preset == "anomaly":
        return good_rows(plan.taught, plan.split.fit)
    return plan.split.fit


def _run_folder(plan: Plan, weights: Path) -> RunFolder | None:
    """Where a long training leaves its checkpoints, and finds them again.

    Of several processes the leader alone begins one; the others only read what is gone on from.
    """
    if not is_leader() and not plan.settings.resume:
        return None
    identity = {
        "data": plan.manifest.digest,
        "split": plan.split.digest,
        "recipe": plan.recipe.digest,
        "settings": plan.fitting,
        "cores": plan.fitting.cores,
        "versions": f"{version('inspection')}, torch {version('torch')}",
    }
    runs = weights / plan.model / RUNS_NAME
    run = RunFolder.open(runs, identity, resume=plan.settings.resume)
    if is_leader():
        keep_settings(plan, run.folder)
    return run


def _fit(
    plan: Plan,
    rows: NDArray[np.int64],
    features: FeatureCache | None,
    run: RunFolder | None,
    reporter: Reporter,
) -> FitResult:
    manifest = plan.taught
    groups = manifest.groups
    masks = lengths = allowed = None
    height, width = plan.recipe.input_size_px
    if plan.fitting.detail:
        allowed = allowed_mm(plan.recipe, (height // STRIDE, width // STRIDE))
    if any(manifest.rows[row].regions for row in rows.tolist()):
        longest = max(height, width) // STRIDE if plan.fitting.detail else MASK_PX
        shrunk = longest / max(height, width, longest)
        size = max(1, round(height * shrunk)), max(1, round(width * shrunk))
        masks = prepared_masks(manifest, plan.recipe, rows, size_px=size)
        if allowed is not None and any(
            region.allowed for row in manifest.rows for region in row.regions
        ):
            lengths = prepared_lengths(manifest, plan.recipe, rows, size_px=size)
    return fit(
        PreparedImages(manifest, plan.recipe, rows),
        manifest.targets()[rows],
        [groups[row] for row in rows.tolist()],
        plan.fitting,
        masks=masks,
        allowed=allowed,
        lengths=lengths,
        progress=reporter.progress,
        say=reporter.say,
        features=features,
        run=run,
    )


def _all_features(
    plan: Plan, rows: NDArray[np.int64], features: FeatureCache, reporter: Reporter
) -> FeatureCache:
    """The features of every image of the set, out of those of the images to fit on."""
    others = np.setdiff1d(np.arange(len(plan.manifest.rows)), rows)
    images = PreparedImages(plan.manifest, plan.recipe, others)
    rest = extract_features(images, plan.fitting, progress=reporter.progress)
    return FeatureCache.put_together([(rows, features), (others, rest)])


def _judge(
    plan: Plan,
    folder: Path,
    result: FitResult,
    precision: Precision,
    clock: Clock,
    reporter: Reporter,
) -> Judged:
    """Package the graph, fit calibration and limits through it, then judge the test parts."""
    manifest, recipe, seed = plan.taught, plan.recipe, plan.settings.seed
    with clock("package"):
        blank = blank_document(plan, result.network.architecture, precision)
        files: dict[str, bytes | Path] = {
            "model.onnx": folder / "model.onnx",
            "model.safetensors": folder / "model.safetensors",
            "report.json": b"{}\n",
            **plan.reference_files,
        }
        draft = write_package(folder / f"blank-{precision}", blank, recipe, files)
        engine = OpenVinoEngine.for_package(draft)
    with clock("calibrate"):
        rows = plan.split.calibrate
        seen = predict(engine, manifest, recipe, rows, reporter.progress, stage="calibrate")
        calibrated, chosen = limits_from(plan, seen)
        document = replace(
            blank,
            calibration=calibrated.calibration,
            operating_point=chosen.operating_point,
        )
    with clock("test"):
        predicted = predict(
            engine, manifest, recipe, plan.split.test, reporter.progress, stage="test"
        )
        evaluation = measure_predicted(
            predicted,
            manifest,
            document.calibration,
            document.operating_point,
            recipe,
            seed=seed,
            views=draft.views,
        )
        certificate = certify(
            evaluation.parts,
            wanted_escape_rate=plan.settings.wanted_escape_rate,
            classes=recipe.classes,
            seed=seed,
        )
        point = replace(document.operating_point, certificate=certificate)
        document = replace(document, operating_point=point)
        package = write_package(folder / f"limits-{precision}", document, recipe, files)
    return Judged(
        package=package,
        engine=engine,
        calibrated=calibrated,
        chosen=chosen,
        predicted=predicted,
        evaluation=evaluation,
    )


def limits_from(plan: Plan, seen: Predicted) -> tuple[Calibrated, Chosen]:
    """Calibration and limits, from the serving engine's answers for the calibration rows."""
    settings, manifest = plan.settings, plan.taught
    if not manifest.bad[seen.rows].any():  # preset `anomaly`; the others were refused before
        calibrated = calibrate_good_only(seen.scores, review_budget=settings.review_budget)
        probabilities = calibrated.calibration.probabilities(seen.scores)
        probability, novelty, _, groups = part_arrays(seen, manifest, probabilities)
        return calibrated, choose_limits_good_only(
            probability,
            novelty,
            groups,
            wanted_escape_rate=settings.wanted_escape_rate,
            review_budget=settings.review_budget,
            split_digest=plan.split.digest,
        )
    calibrated = calibrate(
        seen.scores,
        manifest.targets()[seen.rows],
        plan.recipe.classes,
        groups=number_groups([manifest.rows[row].group for row in seen.rows.tolist()]),
        seed=settings.seed,
    )
    probabilities = calibrated.calibration.probabilities(seen.scores)
    probability, novelty, shows, groups = part_arrays(seen, manifest, probabilities)
    return calibrated, choose_limits(
        probability,
        novelty,
        shows,
        groups,
        wanted_escape_rate=settings.wanted_escape_rate,
        wanted_overkill_rate=settings.wanted_overkill_rate,
        review_budget=settings.review_budget,
        classes=plan.recipe.classes,
        split_digest=plan.split.digest,
        costs=settings.costs,
        seed=settings.seed,
    )
