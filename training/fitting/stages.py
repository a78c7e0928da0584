"""A network in two parts: early stages that stay as they are, and late ones that are tuned.

    image -> [early stages -> cells of their maps, hidden map] -> [tuned stages -> evidence]

The early stages run once for each view of each image; their answers are kept, and only the tuned
stages run in every epoch, which is most of the time of tuning a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from inspection.engines.backbones import FIRST_STAGE
from inspection.engines.network import on_grid
from inspection.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork, Trunk


class EarlyStages(nn.Module):
    """The window, the stem and the first stages of a trunk whose backbone has stages.

    Args:
        trunk: whose modules are used, not copied.
        count: how many stages.
        grid: (height, width) of the trunk's cells.
    """

    def __init__(self, trunk: Trunk, count: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.trunk, self.count, self.grid = trunk, count, grid

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (N, c, h, w) of these stages' maps and the last map (N, C, H', W')."""
        hidden: Tensor = self.trunk.taps.stem(self.trunk.normalised(image))  # type: ignore[misc]
        maps = []
        for index, stage in enumerate(self.trunk.taps.stages[: self.count]):
            hidden = stage(hidden)
            if index >= FIRST_STAGE:
                maps.append(on_grid(hidden, *self.grid))
        return torch.cat(maps, dim=1), hidden


class TunedStages(nn.Module):
    """The tuned copy of the late stages, and everything up to its evidence.

    Args:
        network: with a tuned copy; its modules are used, not copied.
        dropout: share of whitened components hidden in training, others for each image.
    """

    def __init__(self, network: InspectionNetwork, dropout: float) -> None:
        super().__init__()
        stages, evidence = network.trunk.tuned, network.tuned
        if stages is None or evidence is None:
            raise InputError("this network has no tuned stages")
        self.stages, self.whitening, self.head = stages, evidence.whitening, evidence.head
        self.hide = nn.Dropout2d(dropout)

    def forward(self, cells: Tensor, hidden: Tensor) -> Tensor:
        """(N, K, h, w) float32 evidence from what `EarlyStages` said."""
        height, width = cells.shape[-2:]
        maps = [cells]
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(on_grid(hidden, height, width))
        whitened = self.hide(self.whitening(torch.cat(maps, dim=1)))
        # Pooling exponentiates: it stays in float32 whatever the device.
        evidence: Tensor = self.head(whitened.float())
        return evidence


class WholeNetwork(nn.Module):
    """From grey levels to evidence, when every stage is tuned.

    Args:
        network: its modules are used, not copied.
        dropout: see `TunedStages`.
    """

    def __init__(self, network: InspectionNetwork, dropout: float) -> None:
        super().__init__()
        self.trunk, self.whitening, self.head = network.trunk, network.whitening, network.head
        self.hide = nn.Dropout2d(dropout)

    @property
    def stages(self) -> list[nn.Module]:
        """The backbone's parts, first to last."""
        taps = self.trunk.taps
        if taps.stem is None:
            return list(taps.stages[0].children())
        return [taps.stem, *taps.stages]

    def forward(self, image: Tensor) -> Tensor:
        """(N, K, h, w) float32 evidence of (N, C, H, W) images."""
        evidence: Tensor = self.head(self.hide(self.whitening(self.trunk(image))).float())
        return evidence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EarlyAnswers:
    """What the early stages said of every view of every image.

    Attributes:
        cells: (V, N, c, h, w) float16.
        hidden: (V, N, C, H', W') float16.
        ways: (V, N) int64, which of the `orientations` each view has.
        source: what they depend on, apart from the images.
    """

    cells: NDArray[np.float16]
    hidden: NDArray[np.float16]
    ways: NDArray[np.int64]
    source: tuple[object, ...]

    def __post_init__(self) -> None:
        if self.cells.ndim != 5 or not (
            self.cells.shape[:2] == self.hidden.shape[:2] == self.ways.shape
        ):
            raise InputError(f"answers of shapes {self.cells.shape} and {self.hidden.shape}")

    @property
    def views(self) -> int:
        """How many of each image."""
        return len(self.cells)

    def take(self, indices: NDArray[np.integer]) -> EarlyAnswers:
        """Those of these images, in this order."""
        return EarlyAnswers(
            cells=self.cells[:, indices],
            hidden=self.hidden[:, indices],
            ways=self.ways[:, indices],
            source=self.source,
        )

    def of(self, rows: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) and (n, C, H', W') float32 of these rows, each in its own view."""
        where = (views.numpy(), rows.numpy())
        cells = torch.from_numpy(self.cells[where]).float()
        return cells, torch.from_numpy(self.hidden[where]).float()
