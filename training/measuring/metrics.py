"""Figures over judged parts, each with its interval and the number of parts behind it.

    parts -> figures of the whole | of each class | of each lot, mould, station, view

What a rate is a share of:

    escape_rate     bad parts (of a class: those that show it) that pass
    overkill_rate   good parts that fail (of a class: that fail because of it)
    review_rate     parts (of a class: those that show it) that go to a person
    auc, average_precision
                    by the largest probability; of a class, by its own, between parts that show it
                    and all others
    f1              of "above one half" against the label, by the same probability
    accuracy        the same, right answers among all parts; of the whole only
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.measuring.intervals import (
    GroupBootstrap,
    clopper_pearson,
    curve_interval,
    number_groups,
    ranking,
    rate_interval,
)
from training.measuring.statistics import delong_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.measuring.evaluation import PartResult

CONFIDENCE = 0.95
SLICED_BY = ("lot", "mould", "station", "view")
FEWEST = 10  # parts of a kind from which a slice says a rate of them; fewer are only counted


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
class SliceFigures:
    """What was measured on the parts of one lot, mould, station or view.

    Attributes:
        parts, bad_parts, groups: how many there are; of a view, how many images.
        escapes: bad parts that passed.
        overkills: good parts that failed.
        reviews: parts that went to a person.
        figures: those of `escape_rate`, `overkill_rate`, `review_rate` and `auc` that rest on at
            least `FEWEST` parts of each kind they need.
    """

    parts: int
    bad_parts: int
    groups: int
    escapes: int
    overkills: int
    reviews: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstPart:
    """A part on which the verdict was wrong.

    Attributes:
        probability: the largest of its classes'.
        margin: how far beyond its limit the wrong verdict was, as a probability, not below 0.
    """

    path: str
    part: str
    group: str
    label: str
    probability: float
    margin: float
    disposition: str


class Measured:
    """Judged parts as arrays, and the figures that can be taken of them.

    Args:
        parts: at least one.
        seed: of the bootstrap.
    """

    def __init__(self, parts: Sequence[PartResult], *, seed: int) -> None:
        self.bad = np.array([part.bad for part in parts])
        self.said = np.array([part.disposition for part in parts])
        self.probability = np.array([part.probabilities for part in parts])
        self.largest = self.probability.max(axis=1)
        self.groups = number_groups([part.group for part in parts])
        self.seed = seed
        self.every = np.ones(len(parts), dtype=np.bool_)
        self._bootstrap = GroupBootstrap(self.groups, seed=seed)

    def rate(
        self, hits: NDArray[np.bool_], of: NDArray[np.bool_], nearness: NDArray[np.float64]
    ) -> Figure:
        """The share of `hits` among `of`.

        Args:
            hits: (n,) parts that count.
            of: (n,) parts that could count.
            nearness: (n,) larger for parts that come nearer to counting; see `rate_interval`.
        """
        n, happened = int(of.sum()), int((hits & of).sum())
        low, high = rate_interval(
            hits, of, self.groups, self._bootstrap, nearness=nearness, confidence=CONFIDENCE
        )
        naive_low, naive_high = clopper_pearson(happened, n, confidence=CONFIDENCE)
        return Figure(
            value=happened / n,
            low=low,
            high=high,
            naive_low=naive_low,
            naive_high=naive_high,
            parts=n,
            groups=len(np.unique(self.groups[of])),
            hits=happened,
        )

    def curves(self, score: NDArray[np.float64], shown: NDArray[np.bool_]) -> dict[str, Figure]:
        """AUC and average precision of a score; `shown` holds parts of both kinds."""
        auc, precision = ranking(score, shown)
        aucs, precisions = self._bootstrap.ranking(score, shown)
        alone = np.arange(len(score))
        single = GroupBootstrap(alone, seed=self.seed).ranking(score, shown)[1]
        naive = curve_interval(precision, single, shown, alone, confidence=CONFIDENCE)
        return {
            "auc": self._curve(
                auc, aucs, shown, delong_interval(score, shown, confidence=CONFIDENCE)
            ),
            "average_precision": self._curve(precision, precisions, shown, naive),
        }

    def auc(self, score: NDArray[np.float64], shown: NDArray[np.bool_]) -> Figure:
        """The AUC alone."""
        drawn, _ = self._bootstrap.ranking(score, shown)
        naive = delong_interval(score, shown, confidence=CONFIDENCE)
        return self._curve(ranking(score, shown)[0], drawn, shown, naive)

    def f1(self, score: NDArray[np.float64], shown: NDArray[np.bool_]) -> Figure | None:
        """F1 of "above one half"; None when nothing lies above and nothing is shown.

        F1 = 2 J / (1 + J), where J is the share of right answers among the parts that are called
        bad or are it: a rate like any other, whose interval is carried over.
        """
        called = score > 0.5
        either = called | shown
        if not either.any():
            return None
        share = self.rate(called & shown, either, -np.abs(score - 0.5))

        def carried(value: float) -> float:
            return 2 * value / (1 + value)

        return Figure(
            value=carried(share.value),
            low=carried(share.low),
            high=carried(share.high),
            naive_low=carried(share.naive_low),
            naive_high=carried(share.naive_high),
            parts=len(score),
            groups=len(np.unique(self.groups)),
        )

    def _curve(
        self,
        value: float,
        drawn: NDArray[np.float64],
        shown: NDArray[np.bool_],
        naive: tuple[float, float],
    ) -> Figure:
        low, high = curve_interval(value, drawn, shown, self.groups, confidence=CONFIDENCE)
        return Figure(
            value=value,
            low=min(low, naive[0]),
            high=max(high, naive[1]),
            naive_low=naive[0],
            naive_high=naive[1],
            parts=len(shown),
            groups=len(np.unique(self.groups)),
        )


def whole_figures(parts: Sequence[PartResult], *, seed: int) -> dict[str, Figure]:
    """The figures of all parts together; those that need bad or good parts only where they are."""
    made = Measured(parts, seed=seed)
    bad, score = made.bad, made.largest
    doubt = -np.abs(score - 0.5)
    figures: dict[str, Figure] = {}
    if bad.any():
        figures["escape_rate"] = made.rate(made.said == "pass", bad, -score)
    if not bad.all():
        figures["overkill_rate"] = made.rate(made.said == "fail", ~bad, score)
    figures["review_rate"] = made.rate(made.said == "review", made.every, doubt)
    if bad.any() and not bad.all():
        figures |= made.curves(score, bad)
    f1 = made.f1(score, bad)
    if f1 is not None:
        figures["f1"] = f1
    figures["accuracy"] = made.rate((score > 0.5) == bad, made.every, doubt)
    return figures


def class_figures(
    parts: Sequence[PartResult], classes: Sequence[str], *, seed: int
) -> dict[str, dict[str, Figure]]:
    """The figures of every class that has parts to show them; a part may count in several."""
    made = Measured(parts, seed=seed)
    figures: dict[str, dict[str, Figure]] = {}
    for k, name in enumerate(classes):
        score = made.probability[:, k]
        shown = np.array([name in part.defects for part in parts])
        own: dict[str, Figure] = {}
        if shown.any():
            own["escape_rate"] = made.rate(made.said == "pass", shown, -made.largest)
        if not made.bad.all():
            because = np.array([name in part.failed_by for part in parts])
            fails = because & (made.said == "fail")
            own["overkill_rate"] = made.rate(fails, ~made.bad, score)
        if shown.any():
            own["review_rate"] = made.rate(made.said == "review", shown, -np.abs(score - 0.5))
        if shown.any() and not shown.all():
            own |= made.curves(score, shown)
        f1 = made.f1(score, shown)
        if f1 is not None:
            own["f1"] = f1
        figures[name] = own
    return figures


def slice_figures(
    parts: Sequence[PartResult], images: Sequence[PartResult], *, seed: int
) -> dict[str, dict[str, SliceFigures]]:
    """The same by lot, mould, station and view, each where two or more of it are named.

    Args:
        parts: judged parts; one without a lot is in no lot's slice, and so on.
        images: their images judged one by one: a part is seen in several views, and each of these
            is a verdict of its own.
        seed: of the bootstrap.
    """
    slices: dict[str, dict[str, SliceFigures]] = {}
    for field in SLICED_BY:
        members: dict[str, list[PartResult]] = defaultdict(list)
        for part in images if field == "view" else parts:
            value = getattr(part, field)
            if value is not None:
                members[value].append(part)
        if len(members) > 1:
            slices[field] = {name: _slice(members[name], seed) for name in sorted(members)}
    return slices


def worst_escapes(parts: Sequence[PartResult]) -> tuple[WorstPart, ...]:
    """The bad parts that passed, the surest first."""
    wrong = [part for part in parts if part.bad and part.disposition == "pass"]
    shown = [_wrong(part, max(0.0, -part.pass_margin)) for part in wrong]
    return tuple(sorted(shown, key=lambda part: (-part.margin, part.probability, part.path)))


def worst_overkills(parts: Sequence[PartResult]) -> tuple[WorstPart, ...]:
    """The good parts that failed, the surest first."""
    wrong = [part for part in parts if not part.bad and part.disposition == "fail"]
    shown = [_wrong(part, max(0.0, part.fail_margin)) for part in wrong]
    return tuple(sorted(shown, key=lambda part: (-part.margin, -part.probability, part.path)))


def _wrong(part: PartResult, margin: float) -> WorstPart:
    return WorstPart(
        path=part.path,
        part=part.part,
        group=part.group,
        label=part.label,
        probability=max(part.probabilities),
        margin=margin,
        disposition=part.disposition,
    )


def _slice(parts: Sequence[PartResult], seed: int) -> SliceFigures:
    made = Measured(parts, seed=seed)
    bad, said, score = made.bad, made.said, made.largest
    figures: dict[str, Figure] = {}
    if bad.sum() >= FEWEST:
        figures["escape_rate"] = made.rate(said == "pass", bad, -score)
    if (~bad).sum() >= FEWEST:
        figures["overkill_rate"] = made.rate(said == "fail", ~bad, score)
    if len(parts) >= FEWEST:
        figures["review_rate"] = made.rate(said == "review", made.every, -np.abs(score - 0.5))
    if min(bad.sum(), (~bad).sum()) >= FEWEST:
        figures["auc"] = made.auc(score, bad)
    return SliceFigures(
        parts=len(parts),
        bad_parts=int(bad.sum()),
        groups=len(np.unique(made.groups)),
        escapes=int((bad & (said == "pass")).sum()),
        overkills=int((~bad & (said == "fail")).sum()),
        reviews=int((said == "review").sum()),
        figures=figures,
    )
