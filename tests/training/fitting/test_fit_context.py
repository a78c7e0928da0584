"""The context: what an image is like as a whole, and what leaving its group out would change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inspection.engines.context import Context, summarise
from training.fitting.features import FeatureCache
from training.fitting.fit_context import fit_context, residuals, to_log_odds

FEATURES, IMAGES = 6, 40


def cells(seed: int = 0) -> tuple[FeatureCache, torch.Tensor, list[str]]:
    """Images whose first feature is higher when they are bad."""
    generator = np.random.default_rng(seed)
    bad = np.arange(IMAGES) % 2
    held = generator.normal(0, 1, (IMAGES, 3, 3, FEATURES))
    held[..., 0] += 2.0 * bad[:, None, None]
    labels = torch.from_numpy(bad[:, None].astype(np.float32))
    groups = [f"lot-{index // 8}" for index in range(IMAGES)]
    return FeatureCache(cells=held.astype(np.float16), source=()), labels, groups


def evidence(context: Context, features: FeatureCache) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = context(torch.from_numpy(features.cells).float().permute(0, 3, 1, 2))
    return answer


def test_images_like_bad_ones_are_bad() -> None:
    features, labels, groups = cells()
    context = Context(FEATURES, 8, IMAGES, 1)
    fit_context(context, features, labels, groups)
    others, _, _ = cells(seed=1)
    answer = evidence(context, others)
    assert answer.shape == (IMAGES, 1, 1, 1)
    assert (answer.flatten() > 0).float().eq(labels.flatten()).float().mean() > 0.9


def test_fewer_images_than_there_are_may_be_stored() -> None:
    features, labels, groups = cells()
    context = Context(FEATURES, 8, 10, 1)
    without = fit_context(context, features, labels, groups)
    assert int(without.isnan().logical_not().sum()) == 10
    assert evidence(context, features).isfinite().all()


def test_leaving_a_group_out_in_closed_form_is_leaving_it_out() -> None:
    features, labels, groups = cells()
    summaries = summarise(torch.from_numpy(features.cells).float().permute(0, 3, 1, 2)).double()
    kernel = torch.exp(-(torch.cdist(summaries, summaries) ** 2) / 50)
    ridge = 0.3
    inverse = torch.linalg.inv(kernel + ridge * torch.eye(IMAGES, dtype=torch.float64))
    wanted = labels.double() - 0.5
    quick = wanted - residuals(inverse, inverse @ wanted, groups)
    for name in sorted(set(groups)):
        own = torch.tensor([one == name for one in groups])
        rest = kernel[~own][:, ~own]
        rest = rest + ridge * torch.eye(len(rest), dtype=torch.float64)
        slow = kernel[own][:, ~own] @ torch.linalg.solve(rest, wanted[~own])
        assert torch.allclose(quick[own], slow)


def test_log_odds_are_those_of_a_logistic_regression() -> None:
    values = torch.linspace(-2, 2, 400, dtype=torch.float64)[:, None]
    slope, intercept = to_log_odds(values, torch.sigmoid(3 * values - 1))
    assert slope.item() == pytest.approx(3, abs=0.05)
    assert intercept.item() == pytest.approx(-1, abs=0.05)
    backwards, _ = to_log_odds(values, torch.sigmoid(-values))
    assert backwards.item() == 0
