"""Small radiographs for the branches that read pixels: a faint spot beside an edge far stronger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork

STRIDE = 4
RADIUS = 4


class Radiographs:
    """A ramp with a step; every other one is bad and has a spot of `RADIUS` pixels.

    Args:
        count: how many; the odd ones are bad.
        seed: of everything drawn.
        side: pixels along.
        contrast: of the spot.
        small: whether each has a spot of half the radius, too, which nobody marked.
    """

    def __init__(
        self, count: int, seed: int, *, side: int, contrast: float, small: bool = False
    ) -> None:
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[:side, :side].astype(np.float32)
        edge = side // 10
        self.held: list[NDArray[np.float32]] = []
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        self.masks = np.zeros((count, 1, side, side), np.float32)
        for index in range(count):
            step = generator.integers(side * 5 // 16, side * 11 // 16)
            clean = (20_000 + 60 * rows) * np.where(columns < step, 1.0, 1.6)
            if small:
                away = distance(rows, columns, generator.integers(edge, side - edge, 2))
                clean = clean * np.where(away < RADIUS / 2, 1 + contrast, 1.0)
            if index % 2:
                away = distance(rows, columns, generator.integers(edge, side - edge, 2))
                self.masks[index, 0] = away < RADIUS
                clean = clean * np.where(away < RADIUS, 1 + contrast, 1.0)
            noise = generator.normal(0, 0.004, (side, side))
            self.held.append((clean * (1 + noise)).astype(np.float32)[np.newaxis])

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index]


def distance(rows: Any, columns: Any, at: Any) -> Any:
    return np.hypot(rows - at[0], columns - at[1])


def answers(
    network: InspectionNetwork, parts: Radiographs
) -> tuple[NDArray[np.float32], list[bool]]:
    """(N, 1) scores, and of each bad part whether the hottest cell shows its spot."""
    import torch

    with torch.no_grad():
        score, evidence, _ = network(torch.from_numpy(np.stack(parts.held)))
    side = parts.masks.shape[-1]
    assert evidence.shape[2:] == (side // STRIDE, side // STRIDE)
    hottest = evidence[1::2, 0].flatten(1).argmax(dim=1).numpy()
    rows, columns = np.unravel_index(hottest, evidence.shape[2:])
    points = []
    for index, row, column in zip(range(1, len(parts), 2), rows, columns, strict=True):
        cell = np.s_[row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
        points.append(bool(parts.masks[index, 0][cell].any()))
    return score.numpy(), points
