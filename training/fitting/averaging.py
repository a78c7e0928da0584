"""The moving average of a network's weights, which is what is kept of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@torch.no_grad()
def follow(
    average: Mapping[str, Tensor], now: Mapping[str, Tensor], step: int, decay: float
) -> None:
    """Move the averages, in place, towards what the tensors are now; counters are copied.

    Args:
        average: by the names in `now`, and changed here.
        now: the tensors as they are.
        step: how many steps there were: a young average forgets its start quickly.
        decay: what an old one keeps at each step.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for name, one in now.items():
        if one.is_floating_point():
            average[name].lerp_(one, 1 - kept)
        else:
            average[name].copy_(one)
