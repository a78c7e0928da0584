"""What goes into a package, beside the network: who it is, what was measured, how it was made.

plan, what was judged -> document -> report.json, report.html
                      -> split.csv, test.csv, training.toml, golden.npz -> the next version
"""

from __future__ import annotations

import getpass
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.engines.backbones import BACKBONES
from inspection.errors import ConfigurationError, PackageDamaged
from inspection.golden import FILE_NAME as GOLDEN_NAME
from inspection.golden import Golden
from inspection.package import PackageDocument, next_version, write_package
from inspection.verdict import Calibration, Certificate, OperatingPoint
from training.config import CONFIG_NAME, resolved_toml
from training.data.images import PreparedImages
from training.dividing.duplicates import perceptual_hashes
from training.dividing.sides import SPLIT_NAME
from training.dividing.split_file import split_csv_bytes
from training.measuring.comparison import comparison_report
from training.measuring.evaluation import part_csv_bytes
from training.report import (
    Report,
    calibration_card,
    data_card,
    environment,
    figures_card,
    identity_of,
    limits_card,
    report_bytes,
    split_card,
)
from training.reporting.curve_bands import curve_bands, score_histograms
from training.reporting.report_page.page import render_report
from training.reporting.report_page.pictures import take_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from inspection.engines.network import Architecture
    from inspection.engines.openvino import OpenVinoEngine
    from inspection.package import ModelPackage, Precision
    from inspection.recipe import Recipe
    from training.calibrate import Calibrated
    from training.evaluate import Evaluation, Predicted
    from training.fit import FitResult
    from training.measuring.precision import PrecisionStudy
    from training.operating_point import Chosen
    from training.plan import Plan

TEST_NAME = "test.csv"
ZONES_SAID = (
    "limits were chosen on the network's answers alone, before any zone rule; test figures and "
    "certificate are of the verdicts that are served, alignment and zone rules included"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A package with its limits and certificate, and its verdicts on the test parts."""

    package: ModelPackage
    engine: OpenVinoEngine
    calibrated: Calibrated
    chosen: Chosen
    predicted: Predicted
    evaluation: Evaluation


def blank_document(plan: Plan, architecture: Architecture, precision: Precision) -> PackageDocument:
    """Limits that let nothing pass, for the package that calibration runs on."""
    count = len(plan.recipe.classes)
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


def made_report(
    plan: Plan,
    result: FitResult,
    judged: Judged,
    document: PackageDocument,
    study: PrecisionStudy,
    comparison: Evaluation | None,
    seconds: Mapping[str, float],
) -> Report:
    """report.json: everything that was measured, and what it was measured on."""
    known = {backbone.name: backbone.licence for backbone in BACKBONES}
    backbone = plan.fitting.backbone
    if plan.settings.weights is None:
        licence = known.get(backbone, "not stated")
    else:
        licence = "that of the weights file that was given"
    calibration = document.calibration
    return Report(
        data=data_card(plan.manifest),
        split=split_card(plan.split, plan.taught, plan.split.fractions, pairs=plan.pairs),
        settings=plan_settings(plan),
        origins=dict(plan.origins),
        limits=limits_card(judged.chosen, calibration.slope, calibration.intercept),
        calibration=calibration_card(judged.calibrated, plan.recipe.classes),
        certificate=document.operating_point.certificate,
        test=figures_card(judged.evaluation),
        bands=curve_bands(judged.evaluation, seed=plan.settings.seed),
        histograms=score_histograms(judged.evaluation),
        comparison=None if comparison is None else comparison_report(comparison),
        precision=study,
        agreement=document.agreement,
        engine=judged.engine.description,
        identity=identity_of(document, made_by=_whoever()),
        licences={"data": plan.manifest.licence, f"backbone {backbone}": licence},
        environment=environment(judged.engine.description),
        warnings=(
            *judged.calibrated.warnings,
            *judged.chosen.warnings,
            *([ZONES_SAID] if plan.recipe.references else []),
        ),
        timings_s={**seconds, "all": round(sum(seconds.values()), 2)},
        history=tuple(dict(entry) for entry in result.history),
    )


def package_files(
    plan: Plan, folder: Path, judged: Judged, report: Report
) -> dict[str, bytes | Path]:
    """All files of the package but recipe.toml and what `write_package` makes itself."""
    manifest, document = plan.taught, judged.package.document
    pictures = take_pictures(
        manifest,
        plan.recipe,
        document,
        judged.predicted,
        judged.evaluation.parts,
        fit_rows=plan.split.fit,
    )
    hashes = perceptual_hashes(plan.manifest)
    return {
        "model.onnx": folder / "model.onnx",
        "model.safetensors": folder / "model.safetensors",
        "report.json": report_bytes(report),
        "report.html": render_report(report, pictures),
        SPLIT_NAME: split_csv_bytes(manifest, plan.split, hashes),
        TEST_NAME: part_csv_bytes(judged.evaluation),
        CONFIG_NAME: resolved_toml(plan).encode(),
        GOLDEN_NAME: golden_bytes(plan, judged),
        **plan.reference_files,
    }


def golden_bytes(plan: Plan, judged: Judged) -> bytes:
    """A few test images with the answers of the engine that serves: the two ends of the scores,
    and what lies nearest to where a verdict turns.
    """
    document, predicted = judged.package.document, judged.predicted
    probability = document.calibration.probabilities(predicted.scores)
    point = document.operating_point
    largest = probability.max(axis=1)
    near = [
        np.abs(probability - np.array(limit)).min(axis=1)
        for limit in (point.pass_below, point.fail_from)
    ]
    chosen = sorted(
        {int(np.argmin(largest)), int(np.argmax(largest)), *(int(np.argmin(d)) for d in near)}
    )
    images = PreparedImages(plan.manifest, plan.recipe, predicted.rows[chosen])
    return Golden.of(
        [images[i] for i in range(len(images))], [predicted.predictions[i] for i in chosen]
    ).as_bytes()


def write_next(
    weights: Path,
    document: PackageDocument,
    recipe: Recipe,
    files: Callable[[PackageDocument], Mapping[str, bytes | Path]],
) -> ModelPackage:
    """Write the next version; when another training took its number meanwhile, the one after.

    Args:
        weights: the folder of packages.
        document: its version is set here.
        recipe: of the package.
        files: all other files; they name the version too.
    """
    while True:
        numbered = replace(document, version=next_version(weights, document.model))
        place = weights / document.model / str(numbered.version)
        try:
            return write_package(weights, numbered, recipe, files(numbered))
        except PackageDamaged:
            raise
        except ConfigurationError:
            if not place.exists():
                raise


def _whoever() -> str:
    """The user's name; in a container whose user has none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


def plan_settings(plan: Plan) -> dict[str, Any]:
    """Every resolved value, without the paths of this machine."""
    return {
        "model": plan.model,
        "wanted_escape_rate": plan.settings.wanted_escape_rate,
        "wanted_overkill_rate": plan.settings.wanted_overkill_rate,
        "review_budget": plan.settings.review_budget,
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(plan.fitting).items()
            if name not in ("weights", "threads")
        },
    }
