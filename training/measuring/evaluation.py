"""Judged parts and all that is measured on them: what reports, tables and CSV files are made from.

parts, images -> measure -> Evaluation -> summary (report.json) | test.csv
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.errors import DataError
from training.data.rows import GOOD
from training.measuring.metrics import (
    CONFIDENCE,
    Figure,
    SliceFigures,
    WorstPart,
    class_figures,
    slice_figures,
    whole_figures,
    worst_escapes,
    worst_overkills,
)
from training.measuring.metrics_curves import (
    PrecisionPoint,
    Reliability,
    RiskPoint,
    RocPoint,
    precision_curve,
    reliability,
    risk_curve,
    roc_curve,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.verdict import Disposition
    from training.measuring.heatmap_quality import HeatmapQuality

WORST_FIRST: tuple[Disposition, ...] = ("fail", "review", "pass")
WHOLE = "all"  # the name of "whatever the class" among classes; no class may be called so
WORST_KEPT = 24  # worst parts in a summary; the evaluation itself keeps all
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for one


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """What was decided on one part, or on one image of it.

    Attributes:
        path: of its first image.
        label: all its images' labels.
        probabilities: the largest of its images', a class each.
        sha256: of the first image.
        lot, mould, station, view: as the set gives them; several joined by ";".
        targets: soft label of each class; empty when not known.
        failed_by: the classes at or above their fail limit, and not allowed by a zone.
        pass_margin: the largest distance of a class above its pass limit; below 0 for a pass,
            but for one that a zone's rules let pass.
        fail_margin: the same of its fail limit; 0 or more is a fail unless the part is novel.
    """

    path: str
    part: str
    group: str
    label: str
    bad: bool
    probabilities: tuple[float, ...]
    novelty: float
    disposition: Disposition
    sha256: str = ""
    lot: str | None = None
    mould: str | None = None
    station: str | None = None
    view: str | None = None
    targets: tuple[float, ...] = ()
    failed_by: tuple[str, ...] = ()
    pass_margin: float = 0.0
    fail_margin: float = 0.0

    @property
    def defects(self) -> tuple[str, ...]:
        """The classes that the label names; none for good."""
        return tuple(self.label.split(";")) if self.bad else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What other limits would have done, whatever the class; empty where one kind is missing."""

    roc: tuple[RocPoint, ...] = ()
    precision_recall: tuple[PrecisionPoint, ...] = ()
    risk_coverage: tuple[RiskPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures on a number of parts, and what they were made from.

    Attributes:
        parts: as judged.
        figures: of all parts together, by name; see `training.measuring.metrics`.
        class_figures: the same by class.
        slices: by "lot", "mould", "station", "view" where the set names two or more, then by value.
        reliability: by class.
        curves: by the largest probability.
        worst_escapes, worst_overkills: all wrong verdicts, the surest first.
        heatmap: by class, and `WHOLE` for the map as it is drawn; empty without marked defects.
        confidence: of every interval.
    """

    classes: tuple[str, ...]
    parts: tuple[PartResult, ...]
    figures: Mapping[str, Figure]
    class_figures: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, SliceFigures]] = field(default_factory=dict)
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    worst_escapes: tuple[WorstPart, ...] = ()
    worst_overkills: tuple[WorstPart, ...] = ()
    heatmap: Mapping[str, HeatmapQuality] = field(default_factory=dict)
    confidence: float = CONFIDENCE

    def summary(self) -> dict[str, Any]:
        """Counts, figures and curves as plain values, for reports."""
        table = {kind: dict.fromkeys(reversed(WORST_FIRST), 0) for kind in ("good", "bad")}
        for part in self.parts:
            table["bad" if part.bad else "good"][part.disposition] += 1
        return {
            "confidence": self.confidence,
            "parts": len(self.parts),
            "bad_parts": sum(part.bad for part in self.parts),
            "groups": len({part.group for part in self.parts}),
            "dispositions": table,
            "confusion": self.confusion(),
            "classes": self.by_class(),
            "figures": _plain(self.figures),
            "class_figures": _plain(self.class_figures),
            "slices": _plain(self.slices),
            "reliability": _plain(self.reliability),
            "curves": _plain(self.curves),
            "worst": {
                "escapes": _plain(self.worst_escapes[:WORST_KEPT]),
                "overkills": _plain(self.worst_overkills[:WORST_KEPT]),
            },
            "heatmap": _plain(self.heatmap),
        }

    def by_class(self) -> dict[str, dict[str, int]]:
        """Bad parts and escapes of each class; a part with two defects counts in both."""
        counts = {name: {"bad_parts": 0, "escapes": 0} for name in self.classes}
        for part in self.parts:
            for name in part.defects:
                counts[name]["bad_parts"] += 1
                counts[name]["escapes"] += part.disposition == "pass"
        return counts

    def confusion(self) -> dict[str, dict[str, int]]:
        """Dispositions of good parts and of those that show each class."""
        table: dict[str, dict[str, int]] = {
            name: dict.fromkeys(reversed(WORST_FIRST), 0) for name in (GOOD, *self.classes)
        }
        for part in self.parts:
            for name in part.defects or (GOOD,):
                table[name][part.disposition] += 1
        return table

    def as_csv(self) -> str:
        """A line for every part (RFC 4180); no cell begins as a formula of a spreadsheet would."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        head = ("path", "sha256", "part", "group", "lot", "mould", "station", "view", "label")
        numbers = [f"probability_{name}" for name in self.classes]
        writer.writerow([*head, "bad", *map(_cell, numbers), "novelty", "disposition"])
        for part in self.parts:
            named = [_cell(getattr(part, name) or "") for name in head]
            values = [*part.probabilities, part.novelty]
            writer.writerow([*named, int(part.bad), *map(repr, values), part.disposition])
        return text.getvalue()


def measure(
    parts: Sequence[PartResult],
    classes: tuple[str, ...],
    *,
    seed: int,
    images: Sequence[PartResult] = (),
    heatmap: Mapping[str, HeatmapQuality] | None = None,
    good_only: bool = False,
) -> Evaluation:
    """Everything that can be measured on judged parts.

    Args:
        parts: as judged.
        classes: of the recipe.
        seed: of the bootstrap.
        images: the same parts' images one by one, for the figures by view.
        heatmap: of `training.measuring.heatmap_quality`, where defects are marked.
        good_only: measure parts that are all good too, for a model that was taught no defects;
            figures that need bad parts are then missing.

    Raises:
        DataError: they are all good or all bad.
    """
    bad = np.array([part.bad for part in parts])
    if not len(bad) or bad.all() or not (bad.any() or good_only):
        raise DataError(
            "the parts are all good or all bad: neither escapes and overkill nor AUC have a meaning"
        )
    score = np.array([max(part.probabilities) for part in parts])
    return Evaluation(
        classes=classes,
        parts=tuple(parts),
        figures=whole_figures(parts, seed=seed),
        class_figures=class_figures(parts, classes, seed=seed),
        slices=slice_figures(parts, images or parts, seed=seed),
        reliability=_reliability(parts, classes),
        curves=Curves(
            roc=roc_curve(score, bad) if bad.any() else (),
            precision_recall=precision_curve(score, bad) if bad.any() else (),
            risk_coverage=risk_curve(score, bad),
        ),
        worst_escapes=worst_escapes(parts),
        worst_overkills=worst_overkills(parts),
        heatmap=heatmap or {},
    )


def part_csv_bytes(evaluation: Evaluation) -> bytes:
    """A line for every part as the bytes of a file, such as the package's test.csv."""
    return evaluation.as_csv().encode()


def _reliability(parts: Sequence[PartResult], classes: Sequence[str]) -> dict[str, Reliability]:
    made = {}
    for k, name in enumerate(classes):
        target = [
            part.targets[k] if part.targets else float(name in part.defects) for part in parts
        ]
        probability = np.array([part.probabilities[k] for part in parts])
        made[name] = reliability(probability, np.array(target))
    return made


def _cell(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as dictionaries and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value
