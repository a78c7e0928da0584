"""Scores become probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection.verdict import Calibration, ScoreTable
from training.calibrate import calibrate, fit_platt
from training.measuring.calibrate_tables import fit_isotonic, fit_venn_abers, pooled

Fit = Callable[
    [NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]
]


def test_probabilities_agree_with_frequencies() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (20_000, 1)).astype(np.float32)
    truth = 1 / (1 + np.exp(-(1.7 * scores - 0.6)))
    targets = (generator.random(scores.shape) < truth).astype(np.float32)
    fitted = calibrate(scores, targets, ["crack"])
    assert fitted.warnings == ()
    assert fitted.calibration.slope[0] == pytest.approx(1.7, abs=0.06)
    assert fitted.calibration.intercept[0] == pytest.approx(-0.6, abs=0.05)
    assert fitted.calibration.probabilities(scores).mean() == pytest.approx(
        targets.mean(), abs=1e-3
    )


def test_agrees_with_a_regression_by_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(1)
    scores = generator.normal(0, 1, 300)
    targets = (generator.random(300) < 1 / (1 + np.exp(-scores))).astype(np.float64)
    positive = targets.sum()
    soft = np.where(targets == 1, (positive + 1) / (positive + 2), 1 / (300 - positive + 2))
    both = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.concatenate([scores, scores])[:, np.newaxis],
        np.repeat([1, 0], 300),
        sample_weight=np.concatenate([soft, 1 - soft]),
    )
    slope, intercept = fit_platt(scores, targets)
    assert slope == pytest.approx(both.coef_[0, 0], abs=1e-4)
    assert intercept == pytest.approx(both.intercept_[0], abs=1e-4)


def test_separated_classes_stay_finite() -> None:
    scores = np.concatenate([np.full(20, -30.0), np.full(20, 30.0)])
    slope, intercept = fit_platt(scores, (scores > 0).astype(np.float64))
    assert 0 < slope < 1
    assert abs(intercept) < 1


def test_soft_labels_pull_probabilities_towards_them() -> None:
    scores = np.tile(np.array([-1.0, 1.0], dtype=np.float32), 500)[:, np.newaxis]
    targets = np.where(scores > 0, np.float32(2 / 3), np.float32(1 / 3))
    fitted = calibrate(scores, targets, ["crack"]).calibration
    assert fitted.probabilities(scores)[:2, 0] == pytest.approx([1 / 3, 2 / 3], abs=0.01)


def test_scores_that_point_the_wrong_way_are_kept_in_order_and_told() -> None:
    scores = np.linspace(-1, 1, 40, dtype=np.float32)[:, np.newaxis]
    fitted = calibrate(scores, (scores < 0).astype(np.float32), ["crack"])
    assert fitted.calibration.slope[0] > 0
    assert "crack" in fitted.warnings[0]
    probabilities = fitted.calibration.probabilities(scores)
    assert probabilities == pytest.approx(0.5, abs=0.05)


def test_a_class_that_no_part_shows_is_told_as_what_it_is() -> None:
    scores = np.linspace(-1, 1, 80, dtype=np.float32).reshape(40, 2)
    targets = np.stack([scores[:, 0] > 0, np.zeros(40)], axis=1).astype(np.float32)
    (warning,) = calibrate(scores, targets, ["crack", "void"]).warnings
    assert warning.startswith("void: no calibration image shows it")
    assert "higher scores" not in warning


def test_classes_are_calibrated_apart() -> None:
    generator = np.random.default_rng(3)
    scores = generator.normal(0, 1, (4000, 2)).astype(np.float32)
    logits = scores * np.array([1.0, 3.0]) + np.array([0.0, -1.0])
    targets = (generator.random(scores.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    fitted = calibrate(scores, targets, ["crack", "void"]).calibration
    assert fitted.slope == pytest.approx((1.0, 3.0), abs=0.25)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 1)), min_size=2, max_size=50))
@settings(max_examples=100, deadline=None)
def test_any_scores_give_a_usable_calibration(pairs: list[tuple[float, float]]) -> None:
    scores = np.array([[p[0]] for p in pairs], dtype=np.float32)
    targets = np.array([[p[1]] for p in pairs], dtype=np.float32)
    probabilities = calibrate(scores, targets, ["a"]).calibration.probabilities(scores)
    assert np.isfinite(probabilities).all()


def stepped(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of which only one limit tells anything: no logistic curve fits them."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, (count, 1)).astype(np.float32)
    truth = np.where(scores > 1, 0.92, 0.02)
    return scores, (generator.random(scores.shape) < truth).astype(np.float32)


def test_a_table_is_taken_where_a_curve_does_not_fit() -> None:
    scores, targets = stepped(500, 4)
    fitted = calibrate(scores, targets, ["crack"], groups=np.arange(500) // 4)
    assert fitted.methods[0] in ("isotonic", "venn-abers")
    losses = fitted.log_losses[0]
    assert set(losses) == {"platt", "isotonic", "venn-abers"}
    assert losses[fitted.methods[0]] < losses["platt"]
    new, shown = stepped(5000, 5)
    for low, high, truth in ((-np.inf, 0.5, 0.02), (1.5, np.inf, 0.92)):
        inside = (new > low) & (new < high)
        assert fitted.calibration.probabilities(new)[inside].mean() == pytest.approx(
            shown[inside].mean(), abs=0.06
        ), truth


def test_a_curve_is_kept_where_it_fits() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (500, 1)).astype(np.float32)
    targets = (generator.random(scores.shape) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    fitted = calibrate(scores, targets, ["crack"])
    assert fitted.methods == ("platt",)
    assert fitted.calibration.tables == ()


def test_few_parts_are_not_asked_for_a_table() -> None:
    scores, targets = stepped(120, 4)
    fitted = calibrate(scores, targets, ["crack"])
    assert fitted.methods == ("platt",)
    assert fitted.log_losses == ({},)


def test_few_groups_are_not_asked_for_a_table() -> None:
    scores, targets = stepped(500, 4)
    fitted = calibrate(scores, targets, ["crack"], groups=np.arange(500) % 4)
    assert fitted.methods == ("platt",)


def test_the_same_parts_give_the_same_calibration() -> None:
    scores, targets = stepped(500, 4)
    groups = np.arange(500) // 4
    one = calibrate(scores, targets, ["crack"], groups=groups)
    assert one == calibrate(scores, targets, ["crack"], groups=groups)


def test_isotonic_blocks_agree_with_scikit_learn() -> None:
    from sklearn.isotonic import isotonic_regression

    generator = np.random.default_rng(7)
    values, weights = generator.random(60), generator.integers(1, 5, 60).astype(np.float64)
    mean, start = pooled(values, weights)
    expanded = np.repeat(mean, np.diff(np.append(start, 60)))
    assert expanded == pytest.approx(isotonic_regression(values, sample_weight=weights))


def test_venn_abers_agrees_with_its_definition() -> None:
    """Of four parts, a fifth one at each of their scores, taken as good and as bad."""
    scores, targets = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
    at, probability = fit_venn_abers(scores, targets)
    assert at.tolist() == [1, 2, 3, 4]
    # p0 and p1 by hand: (0, 1/2), (1/3, 2/3), (1/3, 2/3), (1/2, 1)
    assert probability == pytest.approx([1 / 3, 1 / 2, 1 / 2, 2 / 3])


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 1)), min_size=2, max_size=40),
    st.sampled_from([fit_isotonic, fit_venn_abers]),
)
@settings(max_examples=100, deadline=None)
def test_any_table_keeps_the_order_of_scores(pairs: list[tuple[float, float]], fit: Fit) -> None:
    scores, targets = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    at, probability = fit(scores, targets)
    if len(at) < 2:
        return
    table = ScoreTable(scores=tuple(at.tolist()), probabilities=tuple(probability.tolist()))
    fitted = Calibration(slope=(0.05,), intercept=(0.0,), tables=(table,))
    asked = np.linspace(-60, 60, 2001, dtype=np.float32)[:, np.newaxis]
    read = fitted.probabilities(asked)[:, 0]
    assert ((read > 0) & (read < 1)).all()
    assert (np.diff(read) > 0).all()
