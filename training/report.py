"""report.json: everything that was measured on a package, with counts and intervals.

The dataclasses below are its schema; `report_schema()` gives it as JSON Schema. Two trainings
on the same data, seed and machine differ in times and dates, and in what follows from times: how
many parts the precision study judged and, with `--precision auto`, what it chose.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import DataError
from inspection.recipe import first_complaint
from training.manifest import ImageFacts
from training.precision import PrecisionStudy
from training.rows import counted

if TYPE_CHECKING:
    from inspection.package import ModelPackage
    from training.manifest import Manifest
    from training.operating_point import Chosen
    from training.split import Split

FORMAT: Literal[1] = 1
LIBRARIES = ("numpy", "onnx", "openvino", "scikit-learn", "scipy", "timm", "torch")
_CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """What the model was made from."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    name: str
    product: str
    digest: str
    licence: str
    origin: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    labels: dict[str, int]
    images: ImageFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCard:
    """How much lies on one side of the split."""

    images: int
    parts: int
    bad_parts: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCard:
    """How the set was divided; seed and digest are enough to do it again and check it."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    by: Literal["group"]
    seed: int
    digest: str
    fractions: tuple[float, float, float]
    sides: dict[str, SideCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsCard:
    """The limits, and the bound of the escape rate behind them, in numbers and words."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    pass_below: tuple[float, ...]
    fail_from: tuple[float, ...]
    novelty_limit: float
    review_share: float
    review_budget: float
    wanted_escape_rate: float
    escape_bound: float
    naive_escape_bound: float
    confidence: float
    escapes: int
    bad_parts: int
    groups: int
    design_effect: float
    effective_bad_parts: float
    certified: bool
    more_bad_parts_needed: int
    in_words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of report.json.

    Attributes:
        test: `Evaluation.summary()` of the test parts, judged by the packaged model.
        comparison: the same under a random split, where it was asked for.
        history: loss of every epoch.
        seen: SHA-256 of every image to fit and calibrate on, sorted.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    format: Literal[1] = FORMAT
    data: DataCard
    split: SplitCard
    settings: dict[str, Any]
    limits: LimitsCard
    test: dict[str, Any]
    comparison: dict[str, Any] | None
    precision: PrecisionStudy
    engine: str
    licences: dict[str, str]
    environment: dict[str, str]
    warnings: tuple[str, ...]
    timings_s: dict[str, float]
    history: tuple[dict[str, float | int | str], ...] = field(default=())
    seen: tuple[str, ...] = field(default=())


def data_card(manifest: Manifest) -> DataCard:
    """What is known of the set."""
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
    )


def split_card(
    split: Split, manifest: Manifest, fractions: tuple[float, float, float]
) -> SplitCard:
    """How much lies on each side."""
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
    return SplitCard(
        by="group", seed=split.seed, digest=split.digest, fractions=fractions, sides=sides
    )


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
    held = (
        f"escape rate at most {certificate.escape_bound:.1%} at {certificate.confidence:.0%} "
        f"confidence, from {counted(certificate.bad_parts, 'bad part')} in "
        f"{counted(certificate.groups, 'group')} ({bound.escapes} of them escaped; worth "
        f"{counted(round(bound.effective_size), 'independent part')}; "
        f"{certificate.naive_escape_bound:.1%} if all were)"
    )
    if certificate.certified:
        return held
    wanted = f"{100 * certificate.wanted_escape_rate:.3g} %"
    more = counted(certificate.more_bad_parts_needed, "more bad part")
    if bound.bound > certificate.wanted_escape_rate:
        return (
            f"cannot certify {wanted}: about {more} needed, in more groups. The limits are the "
            f"tightest these parts allow: {held}"
        )
    scant = ", ".join(f"{name} {count}" for name, count in chosen.scant.items())
    return (
        f"cannot certify {wanted}: {more} needed, of the classes with too few ({scant}). All "
        f"classes together: {held}"
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
    """The file's bytes."""
    return _adapter().dump_json(report, indent=2) + b"\n"


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


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)
