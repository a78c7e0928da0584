"""The detail branch: evidence of small faint defects, with filters learnt from every pixel.

    image (grey levels) -> logarithm -> less what is around, at three sizes, as signed logarithms
                                     -> level: how thick the metal is
        -> convolutions at 1/2, 1/4 -> + what the zones allow there (with zones)
        -> convolutions at 1/4, 1/8 and 1/16 -> back up to 1/4 -> evidence

Behind d mm of metal the beam is as exp(-mu d), so in the logarithm a pore of a given size is as
deep in a thick wall as in a thin one. What is around is a Gaussian mean: an edge of the casting is
fifty times as strong as a pore, and the signed logarithm leaves both where a network can tell them.
It bends what lies on an edge with the edge, though; next to a narrower mean the slope of a fillet
all but vanishes, and the pore on it does not.
Two lateral ways bring the coarse maps down to the fine one (Lin et al., "Feature pyramid networks
for object detection", CVPR 2017); the blocks are those of He et al., "Deep residual learning", CVPR
2016. A cell sees some 17 mm around it at 0.1 mm a pixel. Only the zones tell it where it is: a pore
of 1 mm is refused in a sealing face and allowed beside it, and pictures of both are alike
(docs/decisions/0029-zones-in-the-network.md).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

__all__ = ["DARKEST", "MULTIPLE", "STRIDE", "Detail", "told"]

STRIDE: Final = 4
"""Pixels of the input along one cell of the evidence map."""

MULTIPLE: Final = 16
"""What the input's sides must be a multiple of, for its coarser maps to cover all of it."""

DARKEST: Final = 1 / 512
"""Share of the window; below it there is nothing to take a logarithm of."""

AROUND_PX: Final = (8.0, 4.0, 2.0)
"""Standard deviations of the means of what is around."""

FAINT: Final = (0.03, 0.02, 0.015)
"""Contrasts with each from which the logarithm begins to bend."""

LEAST_MM, MOST_MM = 0.1, 16.0
"""What zones allow is told between these: below is as good as nothing, above as anything."""

START: Final = -4.0
"""Evidence everywhere before anything was learnt: nearly every cell shows nothing."""


class Detail(nn.Module):
    """Evidence of each 4 x 4 pixels.

    Args:
        window: (low, high) grey levels: low is dark, high the open beam.
        width: of the finest maps, even; the coarser ones have 1.5, 3 and 4 times as many.
        classes: how many defect classes.
        grid: (h, w) of what zones allow, a cell of evidence each; None for a recipe without zones.
    """

    def __init__(
        self,
        window: tuple[float, float],
        width: int,
        classes: int,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.allowed: Tensor | None
        self.low, self.high = window
        half, quarter, eighth, sixteenth = width, 3 * width // 2, 3 * width, 4 * width
        for number, sigma in enumerate(AROUND_PX):
            reach = round(3 * sigma)
            place = torch.arange(-reach, reach + 1, dtype=torch.float64)
            mean = torch.exp(-place.square() / (2 * sigma**2))
            self.register_buffer(f"mean_{number}", (mean / mean.sum()).float())
        self.stem = nn.Sequential(_layer(len(AROUND_PX) + 1, half, 5, 2), _layer(half, half))
        self.down = _layer(half, quarter, 3, 2)
        self.zones = nn.Conv2d(classes, quarter, 1, bias=False) if grid else None
        self.register_buffer("allowed", torch.zeros(1, classes, *grid) if grid else None)
        self.finest = nn.Sequential(_Block(quarter), _Block(quarter))
        self.middle = nn.Sequential(_layer(quarter, eighth, 3, 2), _Block(eighth), _Block(eighth))
        self.coarse = nn.Sequential(
            _layer(eighth, sixteenth, 3, 2), _Block(sixteenth), _Block(sixteenth)
        )
        self.to_middle = nn.Conv2d(sixteenth, eighth, 1)
        self.in_middle = _layer(eighth, eighth)
        self.to_finest = nn.Conv2d(eighth, quarter, 1)
        self.in_finest = _layer(quarter, quarter)
        self.last = nn.Conv2d(quarter, classes, 1)
        nn.init.constant_(self.last.bias, START)  # type: ignore[arg-type]

    @torch.no_grad()
    def allow(self, allowed: Tensor) -> None:
        """Keep what the zones allow: (K, h, w), mm."""
        if self.allowed is None:
            raise ValueError("the branch was made without zones")
        self.allowed.copy_(told(allowed))

    def forward(self, image: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(N, K, H / 4, W / 4) evidence of (N, 1, H, W) grey levels; float32, multiples of 16.

        `allowed` is (N, K, H / 4, W / 4) as `told` gives it, where the images are but squares.
        """
        maps = self.down(self.stem(self.seen(image)))
        if self.zones is not None:
            maps = maps + self.zones(self.allowed if allowed is None else allowed)
        finest = self.finest(maps)
        middle = self.middle(finest)
        coarse = self.coarse(middle)
        middle = self.in_middle(middle + _twice(self.to_middle(coarse)))
        evidence: Tensor = self.last(self.in_finest(finest + _twice(self.to_finest(middle))))
        return evidence

    def seen(self, image: Tensor) -> Tensor:
        """(N, 4, H, W): contrast with what is around, at each size, and level."""
        relative = (image - self.low) / (self.high - self.low)
        level = torch.log(relative.clamp_min(DARKEST))
        maps = []
        for number, faint in enumerate(FAINT):
            mean: Tensor = getattr(self, f"mean_{number}")
            around = F.pad(level, (len(mean) // 2,) * 4, mode="replicate")
            around = F.conv2d(around, mean[None, None, None, :])
            around = F.conv2d(around, mean[None, None, :, None])
            contrast = (level - around) / faint
            maps.append(torch.sign(contrast) * torch.log1p(contrast.abs()))
        return torch.cat([*maps, level + 1.0], dim=1)


def told(allowed: Tensor) -> Tensor:
    """What zones allow, in mm, as the branch is told: octaves."""
    return torch.log2(allowed.clamp(LEAST_MM, MOST_MM))


class _Block(nn.Module):
    """Two layers, and a way past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = _layer(width, width)
        self.outer = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        added: Tensor = F.relu(maps + self.norm(self.outer(self.inner(maps))))
        return added


def _layer(inputs: int, width: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _twice(maps: Tensor) -> Tensor:
    """Each cell as four."""
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")
