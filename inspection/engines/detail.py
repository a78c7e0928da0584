"""The detail branch: evidence of small faint defects, with filters learnt from every pixel.

    image (grey levels) -> logarithm -> less what is around, as a signed logarithm
                                     -> level: how thick the metal is
        -> convolutions at 1/2, 1/4, 1/8 and 1/16 -> back up to 1/4 -> evidence

Behind d mm of metal the beam is as exp(-mu d), so in the logarithm a pore of a given size is as
deep in a thick wall as in a thin one. What is around is a Gaussian mean: an edge of the casting is
fifty times as strong as a pore, and the signed logarithm leaves both where a network can tell them.
Two lateral ways bring the coarse maps down to the fine one (Lin et al., "Feature pyramid networks
for object detection", CVPR 2017); the blocks are those of He et al., "Deep residual learning", CVPR
2016. A cell sees some 17 mm around it at 0.1 mm a pixel, and nothing tells it where it is.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from inspection.engines.fine import DARKEST

__all__ = ["MULTIPLE", "STRIDE", "Detail"]

STRIDE: Final = 4
"""Pixels of the input along one cell of the evidence map."""

MULTIPLE: Final = 16
"""What the input's sides must be a multiple of."""

AROUND_PX: Final = 8.0
"""Standard deviation of the mean of what is around."""

FAINT: Final = 0.03
"""A contrast from which the logarithm begins to bend."""

START: Final = -4.0
"""Evidence everywhere before anything was learnt: nearly every cell shows nothing."""


class Detail(nn.Module):
    """Evidence of each 4 x 4 pixels.

    Args:
        window: (low, high) grey levels: low is dark, high the open beam.
        width: of the finest maps, even; the coarser ones have 1.5, 3 and 4 times as many.
        classes: how many defect classes.
    """

    def __init__(self, window: tuple[float, float], width: int, classes: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.low, self.high = window
        half, quarter, eighth, sixteenth = width, 3 * width // 2, 3 * width, 4 * width
        reach = round(3 * AROUND_PX)
        place = torch.arange(-reach, reach + 1, dtype=torch.float64)
        mean = torch.exp(-place.square() / (2 * AROUND_PX**2))
        self.register_buffer("mean", (mean / mean.sum()).float())
        self.stem = nn.Sequential(_layer(2, half, 5, 2), _layer(half, half))
        self.finest = nn.Sequential(_layer(half, quarter, 3, 2), _Block(quarter), _Block(quarter))
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

    def forward(self, image: Tensor) -> Tensor:
        """(N, K, H / 4, W / 4) evidence of (N, 1, H, W) grey levels; float32, multiples of 16."""
        finest = self.finest(self.stem(self.seen(image)))
        middle = self.middle(finest)
        coarse = self.coarse(middle)
        middle = self.in_middle(middle + _twice(self.to_middle(coarse)))
        evidence: Tensor = self.last(self.in_finest(finest + _twice(self.to_finest(middle))))
        return evidence

    def seen(self, image: Tensor) -> Tensor:
        """(N, 2, H, W): contrast with what is around, and level."""
        relative = (image - self.low) / (self.high - self.low)
        level = torch.log(relative.clamp_min(DARKEST))
        reach = len(self.mean) // 2
        around = F.pad(level, (reach,) * 4, mode="replicate")
        around = F.conv2d(around, self.mean[None, None, None, :])
        around = F.conv2d(around, self.mean[None, None, :, None])
        contrast = (level - around) / FAINT
        contrast = torch.sign(contrast) * torch.log1p(contrast.abs())
        return torch.cat([contrast, level + 1.0], dim=1)


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
