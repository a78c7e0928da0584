"""What the image as a whole is like: evidence that goes to every cell alike.

    cell features -> mean, maximum, deviation of each -> one 1x1 projection
        -> likeness to every stored training image -> weighted sum -> evidence of the whole image

Kernel regression with a Gaussian kernel (Rasmussen and Williams 2006, "Gaussian Processes for
Machine Learning", eq. 2.25 and 2.27), written as plain layers: |x - m|^2 = |x|^2 - 2 x.m + |m|^2,
so that the same graph runs in every engine. Its answer is added to each cell of the evidence map;
pooling the map still gives the score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Context", "summarise"]


class Context(nn.Module):
    """Evidence of whole images, by their likeness to stored ones.

    Args:
        features: of a cell, before whitening.
        components: of the projected summary.
        images: how many training images are stored.
        classes: how many defect classes.
    """

    def __init__(self, features: int, components: int, images: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(3 * features, components)
        self.compare = nn.Linear(components, images)
        self.weigh = nn.Linear(images, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(N, K, 1, 1) evidence of (N, C, h, w) cell features."""
        evidence: Tensor = self.weigh(self.likeness(self.project(summarise(features))))
        return evidence[:, :, None, None]

    def likeness(self, projected: Tensor) -> Tensor:
        """(N, images) in 0..1, 1 for the same image, of (N, components)."""
        nearness: Tensor = self.compare(projected) - projected.square().sum(dim=1, keepdim=True)
        return nearness.clamp_max(0.0).exp()

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiply the evidence by this."""
        self.weigh.weight.mul_(factor)
        self.weigh.bias.mul_(factor)

    @torch.no_grad()
    def store(self, projected: Tensor) -> None:
        """Store these (images, components), scaled so that likeness is exp(-distance^2)."""
        self.compare.load_state_dict(
            {"weight": 2 * projected, "bias": -projected.square().sum(dim=1)}
        )


def summarise(features: Tensor) -> Tensor:
    """(N, 3 C): mean, maximum and standard deviation over the grid of (N, C, h, w) features."""
    mean = features.mean(dim=(2, 3))
    deviation = (features - mean[:, :, None, None]).square().mean(dim=(2, 3)).sqrt()
    return torch.cat([mean, features.amax(dim=(2, 3)), deviation], dim=1)
