"""report.json: everything that was measured on a package, with counts and intervals.

The dataclasses here and in `report_cards` are its schema; `report_schema()` gives it as JSON
Schema. Two trainings on the same data, seed and machine differ in times and dates, and in what
follows from times: how many parts the precision study judged and, with `--precision auto`, what it
chose.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.agreement import Agreement
from inspection.errors import DataError
from inspection.recipe import first_complaint
from inspection.verdict import Certificate, at_most
from training.data.rows import counted
from training.dividing.leaks import leaks
from training.measuring.precision import PrecisionStudy
from training.reporting.report_cards import (
    Bands,
    CalibrationCard,
    DataCard,
    FiguresCard,
    Histogram,
    Identity,
    LimitsCard,
    PartCount,
    SideCard,
    SplitCard,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inspection.package import ModelPackage, PackageDocument
    from training.calibrate import Calibrated
    from training.dividing.duplicates import Pair
    from training.manifest import Manifest
    from training.measuring.evaluation import Evaluation
    from training.operating_point import Chosen
    from training.split import Split

FORMAT: Literal[1] = 1
LIBRARIES = ("numpy", "onnx", "openvino", "scikit-learn", "scipy", "timm", "torch")
FIELDS = ("lot", "mould", "station", "view", "annotator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of report.json. What a former release did not write has a default.

    Attributes:
        test: what was measured on the test parts, judged by the packaged model.
        comparison: the same under a random split, where it was asked for.
        identity: which package this is the report of.
        origins: where each of the settings came from, in words.
        histograms: where the test parts lie on the scale of each class's probability.
        bands: how sure the curves of `test` are.
        calibration: how scores became probabilities.
        certificate: the package's; None in reports that hold it among the limits only.
        agreement: what other engines make of the test parts.
        history: loss of every epoch, and the grouped validation figure.
        seen: SHA-256 of every image to fit and calibrate on, as reports listed them before packages
            held split.csv.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: Literal[1] = FORMAT
    data: DataCard
    split: SplitCard
    settings: dict[str, Any]
    limits: LimitsCard
    test: FiguresCard
    comparison: dict[str, Any] | None
    precision: PrecisionStudy
    engine: str
    licences: dict[str, str]
    environment: dict[str, str]
    warnings: tuple[str, ...]
    timings_s: dict[str, float]
    identity: Identity | None = None
    origins: dict[str, str] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    bands: Bands = field(default_factory=Bands)
    calibration: CalibrationCard = field(default_factory=CalibrationCard)
    certificate: Certificate | None = None
    agreement: Agreement | None = None
    history: tuple[dict[str, float | int | str], ...] = ()
    seen: tuple[str, ...] = ()


def identity_of(
    document: PackageDocument, *, made_by: str, files: Mapping[str, str] | None = None
) -> Identity:
    """Who the package is.

    Args:
        document: what package.toml says, or will say.
        made_by: the user.
        files: SHA-256 of its files, without those of the report itself.
    """
    return Identity(
        model=document.model,
        version=document.version,
        created_at=document.created_at,
        made_by=made_by,
        code_version=document.code_version,
        backbone=document.backbone,
        preset=document.preset,
        precision=document.precision,
        files=dict(files or {}),
    )


def data_card(manifest: Manifest) -> DataCard:
    """What is known of the set."""
    rows = manifest.rows
    times = sorted(row.captured_at for row in rows if row.captured_at is not None)
    return DataCard(
        name=manifest.name,
        product=manifest.product,
        digest=manifest.digest,
        licence=manifest.licence,
        origin=manifest.origin,
        classes=manifest.classes,
        counts=manifest.counts(),
        labels=manifest.label_counts(),
        images=manifest.images,
        revision=manifest.revision,
        modality=manifest.modality,
        fields={name: counts for name in FIELDS if (counts := _counts_by(manifest, name))},
        captured=(times[0], times[-1]) if times else None,
        marked_images=sum(bool(row.marked) for row in rows),
        voted_images=sum(len(row.votes) > 1 for row in rows),
        doubtful_images=sum(0 < row.certainty < 1 for row in rows),
    )


def split_card(
    split: Split,
    manifest: Manifest,
    fractions: tuple[float, float, float],
    *,
    pairs: Sequence[Pair] | None = None,
) -> SplitCard:
    """How much lies on each side, and whether anything crosses.

    Args:
        split: of the manifest.
        manifest: the set.
        fractions: wanted shares of the parts.
        pairs: images that are one exposure twice; None when nobody looked for them.
    """
    bad = manifest.bad
    sides = {}
    for name, rows in (("fit", split.fit), ("calibrate", split.calibrate), ("test", split.test)):
        numbers = rows.tolist()
        sides[name] = SideCard(
            images=len(numbers),
            parts=len({manifest.rows[i].part for i in numbers}),
            bad_parts=len({manifest.rows[i].part for i in numbers if bad[i]}),
            groups=len({manifest.rows[i].group for i in numbers}),
        )
    kinds = None if pairs is None else Counter(pair.kind for pair in pairs)
    return SplitCard(
        by="file" if split.by == "file" else "group",
        seed=split.seed,
        digest=split.digest,
        fractions=fractions,
        sides=sides,
        grouped_by=tuple(split.grouped_by),
        why=split.why,
        duplicates=None if kinds is None else {"exact": kinds["exact"], "near": kinds["near"]},
        leaks=len(leaks(manifest, split, pairs or ())),
    )


def figures_card(evaluation: Evaluation) -> FiguresCard:
    """What was measured on the test parts, as the report keeps it."""
    return TypeAdapter(FiguresCard).validate_python(evaluation.summary())


def calibration_card(calibrated: Calibrated, classes: Sequence[str]) -> CalibrationCard:
    """Which way each class was calibrated, and what the others would have given."""
    return CalibrationCard(
        methods=dict(zip(classes, calibrated.methods, strict=True)),
        log_losses={
            name: {str(way): loss for way, loss in tried.items()}
            for name, tried in zip(classes, calibrated.log_losses, strict=True)
            if tried
        },
    )


def settings_card(training_toml: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Every setting by its key, such as "fit.epochs", and where each came from.

    Args:
        training_toml: the package's; a comment behind each value says its origin.
    """
    settings: dict[str, Any] = {}
    for key, value in tomllib.loads(training_toml).items():
        inner = value if isinstance(value, dict) else None
        settings |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    origins: dict[str, str] = {}
    section = ""
    for line in training_toml.splitlines():
        head = re.fullmatch(r"\[(.+)\]", line)
        section = f"{head[1]}." if head else section
        said = re.fullmatch(r"(\w+) = .*  # (.+)", line)
        if said:
            origins[f"{section}{said[1]}"] = said[2]
    return settings, origins


def limits_card(
    chosen: Chosen, slope: tuple[float, ...], intercept: tuple[float, ...]
) -> LimitsCard:
    """The limits as the report keeps them."""
    point, bound = chosen.operating_point, chosen.bound
    certificate = point.certificate
    return LimitsCard(
        slope=slope,
        intercept=intercept,
        pass_below=point.pass_below,
        fail_from=point.fail_from,
        novelty_limit=point.novelty_limit,
        review_share=chosen.review_share,
        review_budget=chosen.review_budget,
        wanted_escape_rate=certificate.wanted_escape_rate,
        escape_bound=certificate.escape_bound,
        naive_escape_bound=certificate.naive_escape_bound,
        confidence=certificate.confidence,
        escapes=bound.escapes,
        bad_parts=certificate.bad_parts,
        groups=certificate.groups,
        design_effect=bound.design_effect,
        effective_bad_parts=bound.effective_size,
        certified=certificate.certified,
        more_bad_parts_needed=certificate.more_bad_parts_needed,
        in_words=in_words(chosen),
    )


def in_words(chosen: Chosen) -> str:
    """The certificate as a sentence."""
    certificate, bound = chosen.operating_point.certificate, chosen.bound
    if not certificate.bad_parts:
        return certificate.in_words()
    held = (
        f"escape rate at most {at_most(certificate.escape_bound)} at {certificate.confidence:.0%} "
        f"confidence, from {counted(certificate.bad_parts, 'bad part')} in "
        f"{counted(certificate.groups, 'group')} ({bound.escapes} of them escaped; worth "
        f"{counted(round(bound.effective_size), 'independent part')}; "
        f"{at_most(certificate.naive_escape_bound)} if all were)"
    )
    if certificate.certified:
        return held
    wanted = f"{100 * certificate.wanted_escape_rate:.3g} %"
    more = counted(certificate.more_bad_parts_needed, "more bad part")
    if bound.bound > certificate.wanted_escape_rate:
        which = "cheapest ones" if chosen.cost is not None else "tightest these parts allow"
        return (
            f"cannot certify {wanted}: about {more} needed, in more groups. The limits are the "
            f"{which}: {held}"
        )
    if not chosen.scant:
        return f"cannot certify {wanted} on the parts that costs chose the limits on: {held}"
    scant = ", ".join(f"{name} {count}" for name, count in chosen.scant.items())
    return (
        f"cannot certify {wanted}: {more} needed, of the classes with too few ({scant}). All "
        f"classes together: {held}"
    )


def certificate_of(report: Report) -> Certificate:
    """What the package promises; reports of a former release hold it among the limits."""
    if report.certificate is not None:
        return report.certificate
    limits = report.limits
    return Certificate(
        wanted_escape_rate=limits.wanted_escape_rate,
        escape_bound=limits.escape_bound,
        naive_escape_bound=limits.naive_escape_bound,
        confidence=limits.confidence,
        bad_parts=limits.bad_parts,
        groups=limits.groups,
        certified=limits.certified,
        more_bad_parts_needed=limits.more_bad_parts_needed,
        escapes=limits.escapes,
    )


def environment(engine: str) -> dict[str, str]:
    """Versions of what the figures depend on; nothing that names a machine."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "inspection": importlib.metadata.version("inspection"),
        "engine": engine,
        **versions,
    }


def report_bytes(report: Report) -> bytes:
    """The file's bytes. Reports no longer list the images that were seen: split.csv does."""
    left_out = set() if report.seen else {"seen"}
    return _adapter().dump_json(report, indent=2, exclude=left_out) + b"\n"


def parse_report(data: bytes | str) -> Report:
    """The report in the bytes of report.json.

    Raises:
        DataError: it is not one of `inspection train`.
    """
    try:
        return _adapter().validate_json(data)
    except ValidationError as error:
        raise DataError(f"not a report of `inspection train`: {first_complaint(error)}") from error


def read_report(package: ModelPackage) -> Report:
    """The report of a package.

    Raises:
        DataError: it was not made by `inspection train`.
    """
    try:
        return _adapter().validate_json(json.dumps(package.report()))
    except ValidationError as error:
        raise DataError(
            f"the report of {package.reference} is not one of `inspection train`: "
            f"{first_complaint(error)}"
        ) from error


def report_schema() -> dict[str, Any]:
    """JSON Schema of report.json."""
    return _adapter().json_schema()


def _counts_by(manifest: Manifest, name: str) -> dict[str, PartCount]:
    """Images and parts for each value of a field; nothing when no row has one."""
    images: Counter[str] = Counter()
    parts: dict[str, set[str]] = {}
    bad: dict[str, set[str]] = {}
    for row in manifest.rows:
        voters = {vote.annotator for vote in row.votes} if name == "annotator" else set()
        value = getattr(row, name)
        for each in sorted(voters | ({value} if value is not None else set())):
            images[each] += 1
            parts.setdefault(each, set()).add(row.part)
            bad.setdefault(each, set()).update({row.part} if row.bad else ())
    return {
        each: PartCount(images=images[each], parts=len(parts[each]), bad_parts=len(bad[each]))
        for each in sorted(images)
    }


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)
