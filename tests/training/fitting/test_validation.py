"""Groups laid aside while a network is tuned, and the area under the ROC curve of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from training.fitting.validation import lay_aside, mean_auc


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=120),
    st.integers(0, 99),
)
def test_whole_groups_are_laid_aside_or_none(parts: list[tuple[int, bool]], seed: int) -> None:
    groups = [f"lot-{group}" for group, _ in parts]
    targets = np.array([[bad] for _, bad in parts], np.float32)
    aside = lay_aside(groups, targets, 0.2, seed)
    taken = {groups[row] for row in aside}
    left = {group for row, group in enumerate(groups) if row not in set(aside.tolist())}
    assert not taken & left
    assert len(aside) <= 0.4 * len(parts)
    if len(aside):
        rest = np.setdiff1d(np.arange(len(parts)), aside)
        assert 0 < targets[aside].mean() < 1
        assert 0 < targets[rest].mean() < 1
    assert (aside == lay_aside(groups, targets, 0.2, seed)).all()


def test_none_are_laid_aside_when_none_are_wanted_or_there_are_few() -> None:
    targets = np.tile([[0.0], [1.0]], (20, 1)).astype(np.float32)
    many = [f"lot-{index // 4}" for index in range(40)]
    assert len(lay_aside(many, targets, 0.1, 0)) == 4
    assert len(lay_aside(many, targets, 0.0, 0)) == 0
    assert len(lay_aside(["lot-1", "lot-2"] * 20, targets, 0.1, 0)) == 0


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_the_area_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([[score] for score, _ in pairs], np.float32)
    targets = np.array([[bad] for _, bad in pairs], np.float32)
    if 0 < targets.mean() < 1:
        assert np.isclose(mean_auc(scores, targets), roc_auc_score(targets[:, 0], scores[:, 0]))
