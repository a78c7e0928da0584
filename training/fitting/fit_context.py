"""Fitting the context: what whole images that look alike were.

    cell features -> mean, maximum, deviation -> standardised, projected -> kernel regression
        -> what each group would get without itself -> slope and intercept to log-odds

Closed form throughout: what an image, or a whole group, would get from all the others follows from
the same inverse (Rasmussen and Williams 2006, eq. 5.10 to 5.12), without fitting again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from inspection.engines.context import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.engines.context import Context
    from training.fitting.features import FeatureCache

BLOCK = 64

# The kernel's width: exp(-|x - m|^2 / d^2), d^2 the images' mean square distance from their mean;
# and the ridge, a share of the likeness that an image has to itself.
WIDTH, RIDGE = 1.0, 0.3

NEWTON_STEPS = 25


@torch.no_grad()
def fit_context(
    context: Context,
    features: FeatureCache,
    targets: Tensor,
    groups: Sequence[str],
) -> Tensor:
    """Fit the context in place.

    Args:
        context: with room for N images, or fewer: then evenly chosen ones are fitted on.
        features: of N images.
        targets: (N, K) in 0..1.
        groups: N names of lots or modules.

    Returns:
        (N, K) what it would say of each image without that image's whole group; NaN for images
        that it was not fitted on.
    """
    stored = torch.linspace(0, len(features) - 1, context.compare.out_features).round().long()
    summaries = torch.cat(
        [
            summarise(torch.from_numpy(features.cells[rows]).float().permute(0, 3, 1, 2))
            for rows in (one.numpy() for one in torch.split(stored, BLOCK))
        ]
    )
    projected = fit_projection(context, summaries)
    context.store(projected)
    kernel = context.likeness(projected).double()
    wanted = targets[stored].double()
    mean = wanted.mean(dim=0)
    ridge = RIDGE * torch.eye(len(kernel), dtype=torch.float64)
    inverse = torch.linalg.inv(kernel + ridge)
    weights = inverse @ (wanted - mean)
    names = [groups[index] for index in stored.tolist()]
    unseen = wanted - residuals(inverse, weights, names)
    slope, intercept = to_log_odds(unseen - mean, wanted)
    without = torch.full(targets.shape, torch.nan)
    without[stored] = ((unseen - mean) * slope + intercept).float()
    context.weigh.load_state_dict(
        {"weight": (weights * slope).T.float(), "bias": intercept.float()}
    )
    return without


def fit_projection(context: Context, summaries: Tensor) -> Tensor:
    """Standardise and project onto the leading directions; the (N, components) that come out.

    Distances are scaled for `Context.likeness`: their root mean square from the mean is WIDTH.
    """
    mean = summaries.mean(dim=0)
    deviation = summaries.std(dim=0).clamp_min(1e-6)
    standard = (summaries - mean) / deviation
    components = context.project.out_features
    found = min(components, *standard.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        directions = torch.svd_lowrank(standard, q=found, niter=2)[2]
    projected = standard @ directions
    scale = projected.square().sum(dim=1).mean().clamp_min(1e-12).rsqrt() / WIDTH
    weight = torch.zeros(components, summaries.shape[1])
    weight[:found] = (directions * scale / deviation[:, None]).T
    context.project.load_state_dict({"weight": weight, "bias": -(weight @ mean)})
    return F.linear(summaries, weight, -(weight @ mean))


def residuals(inverse: Tensor, weights: Tensor, groups: Sequence[str]) -> Tensor:
    """Target less what each image would get if its whole group were left out: (N, K).

    With fewer than three groups, each image is left out by itself.
    """
    names = sorted(set(groups))
    if len(names) < 3:
        return weights / inverse.diagonal()[:, None]
    left = torch.empty_like(weights)
    for name in names:
        own = torch.tensor([index for index, one in enumerate(groups) if one == name])
        left[own] = torch.linalg.solve(inverse[own][:, own], weights[own])
    return left


def to_log_odds(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) slope and intercept of the logistic regression of soft targets on values, both (N, K).

    Newton's method with a weak pull towards 0, which keeps it finite where values separate.
    """
    slopes, intercepts = [], []
    for column, wanted in zip(values.T, targets.T, strict=True):
        design = torch.stack([column, torch.ones_like(column)], dim=1)
        found = torch.zeros(2, dtype=design.dtype)
        for _ in range(NEWTON_STEPS):
            chance = torch.sigmoid(design @ found)
            curve = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-3 * torch.eye(2)
            found = found + torch.linalg.solve(curve, design.T @ (wanted - chance) - 1e-3 * found)
        slopes.append(found[0].clamp_min(0.0))
        intercepts.append(found[1])
    return torch.stack(slopes), torch.stack(intercepts)
