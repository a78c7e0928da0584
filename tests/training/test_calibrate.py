"""Scores become probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.calibrate import calibrate, fit_platt


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
