"""How sure the curves are: the grouped interval of a curve's height at some limits along it.

    parts -> limits -> the rate at each limit -> its interval, resampled by group -> band

A band holds at each limit by itself, not along the whole curve at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.measuring.intervals import GroupBootstrap, number_groups, rate_interval
from training.reporting.report_cards import BandPoint, Bands, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from training.measuring.evaluation import Evaluation

POINTS = 25  # limits along each curve: a band is smooth enough with them
DRAWS = 500  # a quarter of the figures': a band is looked at, not signed
BINS = 20


def curve_bands(evaluation: Evaluation, *, seed: int) -> Bands:
    """Bands of the ROC, precision and risk curves; empty where one kind of part is missing.

    Args:
        evaluation: of judged parts.
        seed: of the bootstrap.
    """
    parts = evaluation.parts
    bad = np.array([part.bad for part in parts], dtype=np.bool_)
    if not bad.any() or bad.all():
        return Bands()
    score = np.array([max(part.probabilities) for part in parts])
    groups = number_groups([part.group for part in parts])
    bootstrap = GroupBootstrap(groups, seed=seed, draws=DRAWS)

    def point(
        x: float,
        hits: NDArray[np.bool_],
        of: NDArray[np.bool_],
        nearness: NDArray[np.float64],
    ) -> BandPoint:
        low, high = rate_interval(hits, of, groups, bootstrap, nearness=nearness)
        return BandPoint(x=x, value=float((hits & of).sum() / of.sum()), low=low, high=high)

    roc, precision, risk = [], [], []
    for limit in _limits(score):
        called = score >= limit
        found = float((called & bad).sum() / bad.sum())
        alarms = float((called & ~bad).sum() / (~bad).sum())
        roc.append(point(alarms, called, bad, -np.abs(score - limit)))
        precision.append(point(found, bad, called, -score))
    sure, wrong = np.abs(score - 0.5), (score > 0.5) != bad
    for limit in _limits(sure):
        decided = sure >= limit
        risk.append(point(float(decided.mean()), wrong, decided, -sure))
    return Bands(
        roc=tuple(roc), precision_recall=tuple(_ascending(precision)), risk_coverage=tuple(risk)
    )


def score_histograms(evaluation: Evaluation) -> dict[str, Histogram]:
    """Where the parts lie on the scale of each class's probability."""
    edges = np.linspace(0, 1, BINS + 1)
    bad = np.array([part.bad for part in evaluation.parts], dtype=np.bool_)
    made = {}
    for k, name in enumerate(evaluation.classes):
        probability = np.array([part.probabilities[k] for part in evaluation.parts])
        shown = np.array([name in part.defects for part in evaluation.parts], dtype=np.bool_)

        def counted(
            chosen: NDArray[np.bool_], values: NDArray[np.float64] = probability
        ) -> tuple[int, ...]:
            return tuple(np.histogram(values[chosen], edges)[0].tolist())

        made[name] = Histogram(
            edges=tuple(edges.tolist()),
            good=counted(~bad),
            shown=counted(shown),
            other=counted(bad & ~shown),
        )
    return made


def _limits(values: NDArray[np.float64]) -> Iterable[float]:
    """Values from the highest to the lowest, about as many parts between each two."""
    ordered = np.unique(values)[::-1]
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), POINTS)).round().astype(np.int64)
    return [float(value) for value in ordered[np.unique(places)]]


def _ascending(points: list[BandPoint]) -> list[BandPoint]:
    return sorted(points, key=lambda point: point.x)
