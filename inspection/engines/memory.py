"""The evidence head of preset `anomaly`: how far each cell is from all that good parts showed.

    whitened cells -> squared distance to every stored vector (one 1x1 convolution) -> least
        -> root -> less the ordinary distance, over its spread -> evidence

A memory of cells as PatchCore has it (Roth et al. 2022, "Towards Total Recall in Industrial
Anomaly Detection", CVPR), written as plain layers: |x - m|^2 = |x|^2 - 2 x.m + |m|^2, so that the
same graph runs in every engine, in one pass with the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inspection.errors import EngineError


class MemoryHead(nn.Module):
    """Distance of each cell from the nearest stored one; about 0 for an ordinary cell.

    Args:
        components: of a whitened cell.
        vectors: how many cells are stored.
    """

    def __init__(self, components: int, vectors: int) -> None:
        super().__init__()
        self.compare = nn.Conv2d(components, vectors, 1)
        self.standardise = nn.Conv2d(1, 1, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, 1, h, w) evidence of (N, components, h, w) whitened cell features."""
        evidence: Tensor = self.standardise(self.distance(cells))
        return evidence

    def distance(self, cells: Tensor) -> Tensor:
        """(N, 1, h, w) distance from the nearest stored cell, 0 or more."""
        length = cells.square().sum(dim=1, keepdim=True)
        nearest = self.compare(cells).amin(dim=1, keepdim=True)
        distance: Tensor = (length + nearest).clamp_min(0.0).sqrt()
        return distance

    @torch.no_grad()
    def store(self, vectors: Tensor) -> None:
        """Remember these (M, components) whitened cells.

        Fewer than the head has room for fill the rest with the first of them, which alters no
        distance.

        Raises:
            EngineError: there are none, too many, or they are not finite.
        """
        room, components = self.compare.weight.shape[:2]
        if not 1 <= len(vectors) <= room or vectors.shape[1:] != (components,):
            raise EngineError(f"a memory of {room} x {components} for {tuple(vectors.shape)}")
        if not bool(torch.isfinite(vectors).all()):
            raise EngineError("a cell to remember is not a finite number")
        filled = torch.cat([vectors, vectors[:1].expand(room - len(vectors), -1)])
        weight = (-2 * filled)[:, :, None, None]
        self.compare.load_state_dict({"weight": weight, "bias": filled.square().sum(1)})

    @torch.no_grad()
    def scale(self, *, centre: float, spread: float) -> None:
        """Make the evidence (distance - centre) / spread.

        Raises:
            EngineError: the spread is not above 0.
        """
        if not spread > 0:
            raise EngineError(f"distances with a spread of {spread}")
        weight = torch.full_like(self.standardise.weight, 1 / spread)
        bias = torch.full_like(self.standardise.bias, -centre / spread)  # type: ignore[arg-type]
        self.standardise.load_state_dict({"weight": weight, "bias": bias})
