"""From scores to probabilities, a class at a time, by whichever way foretells the labels best.

    scores, labels -> folds by group -> log loss of each way -> Platt | isotonic | Venn-Abers

    Platt       a logistic curve: J. Platt, "Probabilistic outputs for support vector machines",
                1999, with the Newton method of H.-T. Lin, C.-J. Lin and R. C. Weng, "A note on
                Platt's probabilistic outputs for support vector machines", Machine Learning 68,
                2007
    isotonic    see `training.measuring.calibrate_tables`
    Venn-Abers  see `training.measuring.calibrate_tables`

A table has as many parameters as parts, so it must earn its place: it is tried only with
`FEWEST_FOR_TABLE` parts of either kind, and taken only when its log loss on folds that it did not
see is lower than Platt's by more than a standard error over groups (the rule of L. Breiman et al.,
"Classification and Regression Trees", 1984, section 3.4.3). Targets may be soft (annotators'
probability) throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from inspection.verdict import Calibration, ScoreTable
from training.measuring.calibrate_tables import fit_isotonic, fit_venn_abers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Method = Literal["platt", "isotonic", "venn-abers", "good-only"]
    Fit = Callable[
        [NDArray[np.float64], NDArray[np.float64]],
        tuple[NDArray[np.float64], NDArray[np.float64]],
    ]

STEPS = 100
RIDGE = 1e-12
SHOWN = 0.5  # the soft label from which an image counts as showing a class
WEAK_SLOPE = 0.01  # of the log-odds per standard deviation: order kept, next to no confidence
# Scores are float32: a spread below this is rounding, and a slope fitted to it would overflow.
LEAST_SPREAD = 1e-6
FEWEST_FOR_TABLE = 50  # of either kind: a rate among fewer is known to no better than 7 points
FOLDS = 5
TABLES: Mapping[Method, Fit] = {"isotonic": fit_isotonic, "venn-abers": fit_venn_abers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration, and what a person should know of how it came about.

    Attributes:
        methods: how each class was calibrated.
        log_losses: of each class, the cross-validated log loss of every way that was tried; empty
            where there were too few parts to try any but Platt's.
    """

    calibration: Calibration
    warnings: tuple[str, ...]
    methods: tuple[Method, ...]
    log_losses: tuple[Mapping[Method, float], ...]


def calibrate(
    scores: NDArray[np.float32],
    targets: NDArray[np.float32],
    classes: Sequence[str],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Calibrated:
    """Fit every class.

    Args:
        scores: (n, K) of the serving engine, of parts that the fit never saw.
        targets: (n, K) soft labels in 0..1.
        classes: K names, for warnings.
        groups: (n,) number of each row's group, which no fold divides; every row by itself when
            absent.
        seed: of the folds.
    """
    rows = np.arange(len(scores)) if groups is None else groups
    folds = _folds(rows, seed)
    slopes, intercepts, warnings, tables = [], [], [], []
    methods: list[Method] = []
    losses: list[Mapping[Method, float]] = []
    for k, name in enumerate(classes):
        column, target = scores[:, k].astype(np.float64), targets[:, k].astype(np.float64)
        slope, intercept, why = _curve(column, target)
        if why is not None:
            warnings.append(f"{name}: {why}; its probabilities are next to constant")
        slopes.append(slope)
        intercepts.append(intercept)
        method, tried = _choose(column, target, rows, folds) if why is None else ("platt", {})
        methods.append(method)
        losses.append(tried)
        tables.append(ScoreTable() if method == "platt" else _table(method, column, target))
    used = any(table.scores for table in tables)
    return Calibrated(
        calibration=Calibration(
            slope=tuple(slopes), intercept=tuple(intercepts), tables=tuple(tables) if used else ()
        ),
        warnings=tuple(warnings),
        methods=tuple(methods),
        log_losses=tuple(losses),
    )


def _curve(
    scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, float, str | None]:
    """Slope and intercept, and what is wrong where they could not be learnt."""
    shown = targets >= SHOWN
    slope, intercept = fit_platt(scores, targets)
    if slope > 0 and shown.any() and not shown.all():
        return slope, intercept, None
    mean = float(np.clip(_smooth(targets).mean(), 1e-6, 1 - 1e-6))
    slope = WEAK_SLOPE / _spread(scores)
    intercept = float(np.log(mean / (1 - mean))) - slope * float(scores.mean())
    if not shown.any() or shown.all():
        return slope, intercept, f"{'every' if shown.any() else 'no'} calibration image shows it"
    return slope, intercept, "on the calibration parts, higher scores do not mean more defects"


def _choose(
    scores: NDArray[np.float64],
    targets: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> tuple[Method, Mapping[Method, float]]:
    """The way with the least log loss on unseen folds; Platt unless another is clearly better."""
    shown = int((targets >= SHOWN).sum())
    if min(shown, len(targets) - shown) < FEWEST_FOR_TABLE or len(np.unique(groups)) < FOLDS:
        return "platt", {}
    every: tuple[Method, ...] = ("platt", *TABLES)
    lost = {name: np.zeros(len(targets)) for name in every}
    for fold in range(FOLDS):
        held, rest = folds == fold, folds != fold
        slope, intercept, _ = _curve(scores[rest], targets[rest])
        for name, loss in lost.items():
            table = ScoreTable() if name == "platt" else _table(name, scores[rest], targets[rest])
            fitted = Calibration(slope=(slope,), intercept=(intercept,), tables=(table,))
            read = fitted.probabilities(scores[held][:, np.newaxis].astype(np.float32))[:, 0]
            loss[held] = _log_loss(read, targets[held])
    means = {name: float(loss.mean()) for name, loss in lost.items()}
    best = min(TABLES, key=lambda name: means[name])
    gain = lost["platt"] - lost[best]
    by_group = np.bincount(np.unique(groups, return_inverse=True)[1], weights=gain - gain.mean())
    error = math.sqrt(float((by_group**2).sum())) / len(gain)
    return best if gain.mean() > error else "platt", means


def _table(method: Method, scores: NDArray[np.float64], targets: NDArray[np.float64]) -> ScoreTable:
    """The knots of isotonic regression or Venn-Abers; none when they say the same everywhere."""
    at, probability = TABLES[method](scores, targets)
    if len(at) < 2:
        return ScoreTable()
    return ScoreTable(scores=tuple(at.tolist()), probabilities=tuple(probability.tolist()))


def _folds(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(n,) a fold for every row: groups in a random order, each into the fold that is smallest."""
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(FOLDS, dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(names)).tolist():
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += sizes[group]
    return fold_of[member]


def _log_loss(probability: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.asarray(-(target * np.log(safe) + (1 - target) * np.log1p(-safe)))


def fit_platt(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """(slope, intercept) with the least cross-entropy between targets and the logistic curve.

    Targets are drawn in as Platt does, by one part more of each kind, so that the answer is finite
    even when the scores separate the kinds.

    Args:
        scores: (n,).
        targets: (n,) in 0..1.
    """
    scale = _spread(scores)
    centre = float(scores.mean())
    x = (scores - centre) / scale
    t = _smooth(targets)
    mean = float(t.mean())
    a, b = 0.0, float(np.log(mean / (1 - mean)))
    loss = _cross_entropy(x, t, a, b)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(a * x + b)))
        gradient = np.array([((p - t) * x).sum(), (p - t).sum()])
        if np.abs(gradient).max() < 1e-9:
            break
        w = p * (1 - p)
        hessian = np.array([[(w * x * x).sum(), (w * x).sum()], [(w * x).sum(), w.sum()]])
        step = np.linalg.solve(hessian + RIDGE * np.eye(2), gradient)
        descent = float(gradient @ step)
        size = 1.0
        tried = _cross_entropy(x, t, a - step[0], b - step[1])
        while tried >= loss - 1e-4 * size * descent and size > 1e-10:
            size /= 2
            tried = _cross_entropy(x, t, a - size * step[0], b - size * step[1])
        if tried >= loss:
            break  # the arithmetic cannot tell any better
        a, b, loss = a - size * float(step[0]), b - size * float(step[1]), tried
    return a / scale, b - a * centre / scale


def _spread(scores: NDArray[np.float64]) -> float:
    """Their standard deviation; 1 when they are all the same score."""
    spread = float(scores.std())
    return spread if spread > LEAST_SPREAD * max(1.0, float(np.abs(scores).max())) else 1.0


def _smooth(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = float(targets.sum())
    high = (positive + 1) / (positive + 2)
    low = 1 / (len(targets) - positive + 2)
    return np.asarray(low + targets * (high - low))


def _cross_entropy(x: NDArray[np.float64], t: NDArray[np.float64], a: float, b: float) -> float:
    z = a * x + b
    return float((np.logaddexp(0, z) - t * z).sum())
