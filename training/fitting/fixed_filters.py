"""Fixed filters of every pixel, and a small head on them: small faint spots and lines, roughly.

    image (grey levels) -> logarithm -> five sizes, each half the one before; in each of them
        second derivatives of a Gaussian -> strength of a ridge, of a blob, of an edge
        openings and closings            -> what is too small for the window
    -> strongest of every 4 x 4 pixels -> signed logarithm -> three 1x1 layers -> evidence

Behind d mm of metal the beam is as exp(-mu d), so in the logarithm a pore of a given size is as
deep in a thick wall as in a thin one, and a slope or a ramp has no second derivative. Eigenvalues
of the Hessian tell blobs from ridges (Lindeberg, "Feature detection with automatic scale
selection", International Journal of Computer Vision 30, 1998; times sigma squared, which makes
scales comparable); an opening keeps edges of large things and takes away what is smaller than its
window (Serra, "Image Analysis and Mathematical Morphology", 1982).

The filters are fixed; the layers after them are learnt, from labels alone if need be: so little
cannot learn parts by heart. There is no position among the features, so a part may lie elsewhere;
the level, which tells how thick the metal is, is one.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from inspection.engines.detail import DARKEST, STRIDE

SCALES: Final = ((1.2,), (1.2, 1.7), (1.2, 1.7), (1.2, 1.7), (1.2, 1.7))
"""Standard deviations in pixels of each size: from 1.2 to 27 pixels of the input."""

WINDOWS: Final = ((), (7,), (7, 11), (9,), ())
"""Sides of the openings' windows, in pixels of each size: 14, 28, 44 and 72 of the input."""

WHOLE_CELLS: Final = 2
"""From this size on a pixel is a cell, or more; these sizes also say how bright it is."""

PER_CENT: Final = 100.0
DERIVATIVES: Final = 5
REACH: Final = 5  # pixels from the middle of a kernel
TINY: Final = 1e-12  # a root has no slope at 0


def derivatives(sigma: float, reach: int) -> Tensor:
    """(5, 1, k, k) kernels of d2/dx2, d2/dy2, d2/dxdy, d/dx, d/dy of a Gaussian.

    Times sigma squared, or sigma; second derivatives of a constant are exactly 0 in sum.
    """
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    smooth = torch.exp(-x.square() / (2 * sigma**2))
    smooth = smooth / smooth.sum()
    first = -x / sigma * smooth
    second = (x.square() / sigma**2 - 1) * smooth
    second = second - second.sum() * smooth
    kernels = [
        torch.outer(smooth, second),
        torch.outer(second, smooth),
        torch.outer(first, first),
        torch.outer(smooth, first),
        torch.outer(first, smooth),
    ]
    return torch.stack(kernels)[:, None].float()


class FixedFilters(nn.Module):
    """The fixed filters, and what they say of each cell.

    Args:
        window: (low, high) grey levels: low is dark, high the open beam.
    """

    def __init__(self, window: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = window
        for index, scales in enumerate(SCALES):
            kernels = torch.cat([derivatives(one, REACH) for one in scales])
            self.register_buffer(f"kernels{index}", kernels)

    def forward(self, image: Tensor) -> Tensor:
        """(N, FEATURES, H / 4, W / 4) float32 of (N, 1, H, W) grey levels."""
        relative = (image - self.low) / (self.high - self.low)
        picture = PER_CENT * torch.log(relative.clamp_min(DARKEST))
        found: list[Tensor] = []
        for size, windows in enumerate(WINDOWS):
            if size:
                picture = F.avg_pool2d(picture, 2)
            for curved, edge in strengths(picture, self.get_buffer(f"kernels{size}")):
                for one in curved:
                    found += [on_cells(one, size)]
                    if size < WHOLE_CELLS:
                        found += [-on_cells(-one, size)]
                found += [on_cells(edge, size)]
            for window in windows:
                found += [on_cells(one, size) for one in small_parts(picture, window)]
            if size >= WHOLE_CELLS:
                found += [on_cells(picture, size)]
        cells = torch.cat(found, dim=1)
        return torch.sign(cells) * torch.log(cells.abs() + 1.0)


def strengths(picture: Tensor, kernels: Tensor) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
    """For each scale: (strength of a bright ridge, of a bright blob), strength of an edge.

    The two are the Hessian's eigenvalues, turned round: positive where it is brighter than around
    in one direction, in both. Dark ones are negative.
    """
    padded = F.pad(picture, (REACH,) * 4, mode="replicate")
    found = []
    for scale in torch.split(F.conv2d(padded, kernels), DERIVATIVES, dim=1):
        xx, yy, xy, x, y = torch.split(scale, 1, dim=1)
        middle = (xx + yy) / 2
        apart = (((xx - yy) / 2).square() + xy.square() + TINY).sqrt()
        edge = (x.square() + y.square() + TINY).sqrt()
        found.append(((apart - middle, -apart - middle), edge))
    return found


def small_parts(picture: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """What an opening takes away (small and bright), and what a closing fills (small and dark)."""
    opened = _highest(-_highest(-picture, window), window)
    closed = -_highest(-_highest(picture, window), window)
    return picture - opened, closed - picture


def _highest(picture: Tensor, window: int) -> Tensor:
    half = window // 2
    along = F.max_pool2d(picture, (1, window), 1, (0, half))
    return F.max_pool2d(along, (window, 1), 1, (half, 0))


def on_cells(picture: Tensor, size: int) -> Tensor:
    """The strongest of each cell; where one pixel of this size is a cell or more, it is drawn."""
    if size < WHOLE_CELLS:
        return F.max_pool2d(picture, STRIDE >> size)
    if size == WHOLE_CELLS:
        return picture
    factor = float(1 << (size - WHOLE_CELLS))
    return F.interpolate(picture, scale_factor=factor, mode="bilinear", align_corners=False)


def _names() -> tuple[str, ...]:
    """The features in the order of `FixedFilters`: "ridge 2x1.7 max", "small bright 4x7", ..."""
    found: list[str] = []
    for size, windows in enumerate(WINDOWS):
        times = 1 << size
        signs = ("",) if size >= WHOLE_CELLS else (" max", " min")
        for scale in SCALES[size]:
            found += [f"{kind} {times}x{scale}{s}" for kind in ("ridge", "blob") for s in signs]
            found += [f"edge {times}x{scale}"]
        found += [f"small {kind} {times}x{one}" for one in windows for kind in ("bright", "dark")]
        if size >= WHOLE_CELLS:
            found += [f"level {times}"]
    return tuple(found)


NAMES: Final = _names()
"""What describes a cell, in order; "2x1.7" is 1.7 pixels of an image of half the size."""

FEATURES: Final = len(NAMES)


class GuessHead(nn.Module):
    """Three 1x1 convolutions: evidence of each cell by itself.

    Args:
        hidden: width of the first layer; the second one has half of it.
        classes: how many defect classes.
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(FEATURES, hidden, 1)
        self.second = nn.Conv2d(hidden, hidden // 2, 1)
        self.last = nn.Conv2d(hidden // 2, classes, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, K, h, w) evidence of (N, FEATURES, h, w)."""
        evidence: Tensor = self.last(F.silu(self.second(F.silu(self.first(cells)))))
        return evidence

    def of_rows(self, rows: Tensor) -> Tensor:
        """The same for (..., FEATURES) rows: (..., K)."""
        for layer in (self.first, self.second):
            rows = F.silu(F.linear(rows, layer.weight[:, :, 0, 0], layer.bias))
        return F.linear(rows, self.last.weight[:, :, 0, 0], self.last.bias)


class Guess(nn.Module):
    """Filters and head: the evidence of an image."""

    def __init__(self, window: tuple[float, float], hidden: int, classes: int) -> None:
        super().__init__()
        self.filters = FixedFilters(window)
        self.head = GuessHead(hidden, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(N, K, H / 4, W / 4) evidence of (N, 1, H, W) grey levels."""
        evidence: Tensor = self.head(self.filters(image))
        return evidence
