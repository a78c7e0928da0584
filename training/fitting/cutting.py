"""What is cut out of an image to learn from, and around which cells.

image, (h, w) of places or evidence -> cells of marks, peaks of evidence -> Square around each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from inspection.engines.detail import STRIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 192  # and along what is kept, so that it may lie elsewhere each time
MARKED = 6  # of an image, at most
FOOLED = 4
APART = 4  # cells around a peak in which it is the highest, and around a mark that is no error
FLOOR = -3.0  # evidence below which nobody is fooled
LEVELS = 65_535


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Square:
    """What is kept of one place of an image.

    Attributes:
        pixels: (S, S) of the window.
        places: (K, S / 4, S / 4), the share of each cell that a defect covers; NaN where unknown.
        lengths: (K, S / 4, S / 4) mm of what people marked there, allowed or not; NaN where
            unknown, and nothing at all where there are no zones.
        corner: (row, column) of its first cell in the image.
    """

    pixels: NDArray[np.uint16]
    places: NDArray[np.float16]
    lengths: NDArray[np.float16]
    corner: tuple[int, int]

    @property
    def cells(self) -> tuple[slice, slice]:
        """Where it lies in an image's evidence."""
        (row, column), (_, height, width) = self.corner, self.places.shape
        return slice(row, row + height), slice(column, column + width)


def around(
    image: NDArray[np.float32],
    places: NDArray[np.float32],
    lengths: NDArray[np.float16],
    cell: tuple[int, int],
    low: float,
    high: float,
) -> Square:
    """What lies around a cell, as far as there is something."""
    spans = []
    for middle, side in zip(cell, image.shape, strict=True):
        kept = min(KEPT, side)
        start = min(max(STRIDE * middle - kept // 2, 0), side - kept) // STRIDE * STRIDE
        spans.append((start, start + kept))
    (top, bottom), (left, right) = spans
    relative = (image[top:bottom, left:right] - low) * (LEVELS / (high - low))
    pixels = np.rint(np.clip(relative, 0, LEVELS)).astype(np.uint16)
    rows = slice(top // STRIDE, bottom // STRIDE)
    columns = slice(left // STRIDE, right // STRIDE)
    return Square(
        pixels=pixels,
        places=places[:, rows, columns].astype(np.float16),
        lengths=lengths[:, rows, columns],
        corner=(top // STRIDE, left // STRIDE),
    )


def one_each(touched: NDArray[np.bool_], generator: np.random.Generator) -> list[tuple[int, int]]:
    """A cell of each thing that was marked."""
    count, labels = cv2.connectedComponents(touched.astype(np.uint8))
    things = generator.permutation(np.arange(1, count))[:MARKED]
    cells = []
    for thing in things:
        rows, columns = np.nonzero(labels == thing)
        one = int(generator.integers(len(rows)))
        cells.append((int(rows[one]), int(columns[one])))
    return cells


def peaks(
    evidence: NDArray[np.float32],
    touched: NDArray[np.bool_],
    most: int = FOOLED,
    floor: float = FLOOR,
) -> list[tuple[int, int]]:
    """The strongest cells of (K, h, w) evidence that stand alone and away from every mark."""
    held = torch.from_numpy(evidence).amax(dim=0)[None, None]
    marks = torch.from_numpy(touched.astype(np.float32))[None, None]
    side = 2 * APART + 1
    highest = F.max_pool2d(held, side, 1, APART) == held
    away = F.max_pool2d(marks, side, 1, APART) == 0
    alone = torch.where(highest & away, held, -torch.inf).flatten()
    values, cells = alone.topk(min(most, len(alone)))
    width = evidence.shape[-1]
    return [
        divmod(cell, width)
        for value, cell in zip(values.tolist(), cells.tolist(), strict=True)
        if value > floor
    ]
