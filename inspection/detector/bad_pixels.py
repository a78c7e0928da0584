"""Which pixels of a detector are not to be believed, and how they lie together.

    mean dark, mean open, noise of both  ->  a mask for each kind  ->  BadPixels  ->  clusters

The kinds follow ASTM E2597 (bad pixels: dead, over- and under-responding, noisy, non-uniform, bad
neighbourhood; clusters and their kernels). Every rule compares a pixel with its surroundings, so a
beam that is brighter in the middle makes none bad.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

from inspection.detector.flat_field import ENOUGH_NEIGHBOURS, blind_squares, good_neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]

KINDS: Final = ("dead", "saturated", "over", "under", "hot", "noisy", "uneven", "surrounded")

DEAD: Final = 0.1
"""Of the surroundings' answer to the beam: below it a pixel does not answer at all."""
UNDER, OVER = 0.6, 1.3
"""Of the median of 21 x 21 pixels (E2597: under- and over-responding)."""
HOT: Final = 0.1
"""Of the open beam: so far above its surroundings a pixel is without any beam."""
NOISY: Final = 6.0
"""Times the detector's median noise (E2597)."""
UNEVEN: Final = 0.01
"""Difference from the median of 9 x 9 pixels after flat-fielding (E2597: non-uniform)..."""
UNEVEN_NOISE: Final = 6.0
"""...and at least so many times what noise alone makes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """How bad pixels lie together.

    Attributes:
        count: groups of two and more that touch, corners too.
        largest_px: pixels in the largest of them; 1 when single ones are all there is.
        kernel_px: pixels with fewer than five good ones around them (E2597: cluster kernel pixels);
            they are filled from farther away.
        blind: squares that hide a defect, see `flat_field.BLIND_PX`; an image whose judged region
            holds one is not judged.
    """

    count: int
    largest_px: int
    kernel_px: int
    blind: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BadPixels:
    """The mask, and how many pixels each of KINDS made bad; a pixel counts for the first kind."""

    mask: NDArray[np.bool_]
    kinds: dict[str, int]


def find_bad_pixels(
    *,
    offset: Map,
    gain: Map,
    noise_dark: Map,
    noise_open: Map,
    halves: tuple[Map, Map],
    saturated: NDArray[np.bool_],
    open_frames: int,
) -> BadPixels:
    """All bad pixels of a detector.

    Args:
        offset: (H, W) mean levels without beam.
        gain: (H, W) what the open beam adds to them.
        noise_dark: (H, W) standard deviation of a pixel from frame to frame, without beam.
        noise_open: the same in the open beam.
        halves: `gain` from every other open frame, and from the rest.
        saturated: (H, W) pixels at the top of their range in an open frame.
        open_frames: how many there were.
    """
    around = local_median(gain, 7)
    good_noise = float(np.median(noise_open))
    dead = gain < DEAD * np.maximum(around, np.float32(np.median(gain)) * DEAD)
    flat = halves[0] / np.maximum(halves[1], np.float32(1))
    even = local_median(flat.astype(np.float32), 3)
    from_noise = 2 * good_noise / np.sqrt(open_frames) / np.maximum(gain, 1)
    limit = np.maximum(UNEVEN, UNEVEN_NOISE * from_noise)
    dark_noise = max(float(np.median(noise_dark)), 0.3)  # that of rounding to whole levels
    masks = {
        "dead": dead,
        "saturated": saturated,
        "over": gain > OVER * around,
        "under": gain < UNDER * around,
        "hot": offset - local_median(offset, 7) > HOT * around,
        "noisy": (noise_dark > NOISY * dark_noise) | (noise_open > NOISY * max(good_noise, 0.3)),
        "uneven": np.abs(flat - even) > limit,
    }
    bad = np.zeros(gain.shape, dtype=np.bool_)
    kinds = {}
    for name, mask in masks.items():
        kinds[name] = int(np.count_nonzero(mask & ~bad))
        bad |= mask
    surrounded = (good_neighbours(bad) == 0) & ~bad
    kinds["surrounded"] = int(np.count_nonzero(surrounded))
    return BadPixels(mask=bad | surrounded, kinds=kinds)


def clusters_of(bad: NDArray[np.bool_]) -> Clusters:
    """How the bad pixels lie together."""
    found, _, boxes, _ = cv2.connectedComponentsWithStats(bad.astype(np.uint8), connectivity=8)
    sizes = boxes[1:found, cv2.CC_STAT_AREA]
    return Clusters(
        count=int(np.count_nonzero(sizes > 1)),
        largest_px=int(sizes.max(initial=0)),
        kernel_px=int(np.count_nonzero(bad & (good_neighbours(bad) < ENOUGH_NEIGHBOURS))),
        blind=len(blind_squares(bad)),
    )


def local_median(image: Map, block: int) -> Map:
    """(H, W) median of about 3 x 3 blocks around each pixel: the median of their medians."""
    height, width = image.shape
    rows, columns = -(-height // block), -(-width // block)
    down, across = rows * block - height, columns * block - width
    mode: Literal["reflect", "edge"] = "reflect" if min(image.shape) > block else "edge"
    whole = np.pad(image, ((0, down), (0, across)), mode=mode)
    cells = whole.reshape(rows, block, columns, block).transpose(0, 2, 1, 3)
    medians = np.median(cells.reshape(rows, columns, block * block), axis=2).astype(np.float32)
    smooth = cv2.medianBlur(np.pad(medians, 1, mode="edge"), 3)[1:-1, 1:-1]
    wide = cv2.resize(smooth, (columns * block, rows * block), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide[:height, :width], dtype=np.float32)
