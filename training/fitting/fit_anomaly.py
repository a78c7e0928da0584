"""Fitting a memory of good parts: preset `anomaly`.

    features of good parts -> whitening -> all their cells -> those that lie furthest apart: the
        memory -> how far ordinary cells are from it -> evidence; and the novelty as everywhere

The cells are chosen as PatchCore does (Roth et al. 2022, section 3.2): greedily, each time the one
that is furthest from all chosen before it, so that rare but good appearances are remembered too.
That is the k-centre rule of T. Gonzalez ("Clustering to minimize the maximum intercluster
distance", 1985), at most twice as far from the best choice. The first cell is a random one and the
rest follow from it, so the same images give the same memory.

Figures for the number of cells and the grid: docs/decisions/0009-anomaly-preset.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inspection.engines.memory import MemoryHead
from inspection.errors import ConfigurationError
from training.fitting.fit_head import describe_rows, fit_novelty, fit_whitening

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.engines.network import InspectionNetwork
    from training.fit import FitSettings
    from training.fitting.features import FeatureCache

    Progress = Callable[[str, int, int], None]

POOL = 40_000  # cells that the memory is chosen from; bounds its time, not what it covers
STEP = 50  # choices between two words of progress
BLOCK = 32  # images whose distances are taken at once
LEAST_SPREAD = 1e-3  # of distances: cells that are all alike must not make a tiny one enormous


def fit_memory(
    network: InspectionNetwork,
    features: FeatureCache,
    settings: FitSettings,
    *,
    progress: Progress | None = None,
) -> None:
    """Fit whitening, memory and novelty in place, to features of good parts and nothing else.

    The distances that the evidence is measured by are those of the same parts' cells, a little
    short for that: limits are chosen on other parts.

    Raises:
        ConfigurationError: the network has no memory.
    """
    head = network.head
    if not isinstance(head, MemoryHead):
        raise ConfigurationError("the network has no memory", remedy="Use the preset `anomaly`.")
    cells = fit_whitening(network, features)
    generator = torch.Generator().manual_seed(settings.seed)
    pool = cells.flatten(0, 1)
    if len(pool) > POOL:
        pool = pool[torch.randperm(len(pool), generator=generator)[:POOL]]
    chosen = furthest_apart(pool, settings.memory, generator, progress)
    head.store(pool[chosen])
    fit_scale(head, cells)
    fit_novelty(network.novelty, describe_rows(cells))


@torch.no_grad()
def furthest_apart(
    pool: Tensor,
    count: int,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Tensor:
    """(min(count, n),) int64 rows of `pool`, (n, C), by the greedy k-centre rule.

    Stops early when every row is as good as chosen: equal rows are stored once.
    """
    lengths = pool.square().sum(1)
    chosen = [int(torch.randint(len(pool), (1,), generator=generator))]
    nearest = torch.full((len(pool),), torch.inf)
    for done in range(1, min(count, len(pool)) + 1):
        if progress is not None and (done % STEP == 0 or done == min(count, len(pool))):
            progress("memory", done, min(count, len(pool)))
        last = chosen[-1]
        distance = lengths + lengths[last] - 2 * (pool @ pool[last])
        nearest = torch.minimum(nearest, distance)
        nearest[last] = 0.0
        if done == min(count, len(pool)) or float(nearest.max()) <= 0:
            break
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


@torch.no_grad()
def fit_scale(head: MemoryHead, cells: Tensor) -> None:
    """Make the evidence 0 at the ordinary cell's distance and 1 a standard deviation above it.

    Args:
        head: with its memory stored.
        cells: (N, cells, C) of the training images.
    """
    distances = torch.cat(
        [
            head.distance(block.transpose(1, 2).unsqueeze(2)).flatten()
            for block in torch.split(cells, BLOCK)
        ]
    )
    spread = max(float(distances.std(correction=0)), LEAST_SPREAD)
    head.scale(centre=float(distances.mean()), spread=spread)
