"""The cards of report.json: what was measured and settled, a dataclass a topic.

Fields that a former release did not write have defaults, so that its reports can still be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import ConfigDict

from training.data.facts import ImageFacts
from training.measuring.evaluation import Curves
from training.measuring.heatmap_quality import HeatmapQuality
from training.measuring.metrics import Figure, SliceFigures, WorstPart
from training.measuring.metrics_curves import Reliability

_CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which package this is the report of, and what made it.

    The package's own digest covers report.json and so cannot stand in it; those of its other files
    can.

    Attributes:
        created_at: RFC 3339, in UTC.
        made_by: the user who ran the training.
        files: SHA-256 of the package's other files, by name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    model: str
    version: int
    created_at: str
    made_by: str
    code_version: str
    backbone: str
    preset: str
    precision: str
    files: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """`name@version`, as every command takes it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCount:
    """How many there are of something."""

    images: int
    parts: int
    bad_parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """What the model was made from.

    Attributes:
        counts: images, parts, groups and bad parts.
        labels: images that show good parts, and each class.
        fields: by "lot", "mould", "station", "view" and "annotator", then by value; only what the
            set names.
        captured: first and last time of capture.
        marked_images: bad images whose defects are marked by polygons or masks.
        voted_images: images that several annotators labelled.
        doubtful_images: labels that the annotators were not sure of.
    """

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
    revision: int | None = None
    modality: str | None = None
    fields: dict[str, dict[str, PartCount]] = field(default_factory=dict)
    captured: tuple[str, str] | None = None
    marked_images: int = 0
    voted_images: int = 0
    doubtful_images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCard:
    """How much lies on one side of the split."""

    images: int
    parts: int
    bad_parts: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCard:
    """How the set was divided; seed and digest are enough to do it again and check it.

    Attributes:
        by: "group" for a split that was drawn here, "file" for one that was brought along.
        grouped_by: the fields whose values never stand on two sides.
        why: what keeps parts together, and why that.
        duplicates: pairs of images that are one exposure twice, "exact" and "near", all of them
            on one side; None when nobody looked for them.
        leaks: pairs that cross the split: 0, or there would be no report; None when a former
            release made it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    by: Literal["group", "file"]
    seed: int
    digest: str
    fractions: tuple[float, float, float]
    sides: dict[str, SideCard]
    grouped_by: tuple[str, ...] = ()
    why: str = ""
    duplicates: dict[str, int] | None = None
    leaks: int | None = None


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
class CalibrationCard:
    """How scores became probabilities; see `training.calibrate`.

    Attributes:
        methods: how each class was calibrated.
        log_losses: of each class, the cross-validated log loss of every way that was tried.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    methods: dict[str, str] = field(default_factory=dict)
    log_losses: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCard:
    """The wrong verdicts, the surest first; see `training.measuring.metrics`."""

    escapes: tuple[WorstPart, ...] = ()
    overkills: tuple[WorstPart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresCard:
    """`Evaluation.summary()` of the test parts, judged by the packaged model."""

    confidence: float
    parts: int
    bad_parts: int
    groups: int
    dispositions: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    figures: dict[str, Figure]
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    class_figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    slices: dict[str, dict[str, SliceFigures]] = field(default_factory=dict)
    reliability: dict[str, Reliability] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    worst: WorstCard = field(default_factory=WorstCard)
    heatmap: dict[str, HeatmapQuality] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many test parts lie where on the scale of one class's probability.

    Attributes:
        edges: of the bins, one more than there are.
        good, shown, other: parts in each bin: good ones, those that show the class, and bad ones
            that show another class only.
    """

    edges: tuple[float, ...]
    good: tuple[int, ...]
    shown: tuple[int, ...]
    other: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandPoint:
    """A point of a curve, with the grouped interval of its height at this limit."""

    x: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """How sure the curves are, at some limits along them; see `training.reporting.curve_bands`."""

    roc: tuple[BandPoint, ...] = ()
    precision_recall: tuple[BandPoint, ...] = ()
    risk_coverage: tuple[BandPoint, ...] = ()
