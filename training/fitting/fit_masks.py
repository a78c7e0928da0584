"""What people drew, as targets for single cells of the evidence map.

masks (1 defect, 0 none, NaN unknown) -> the map's grid -> cross-entropy of the known cells
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from inspection.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def checked_masks(
    masks: NDArray[np.float32] | None, targets: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The masks as contiguous float32, (N, K, h, w); None when nothing is known of any place.

    Raises:
        InputError: their shape does not go with the (N, K) targets, a value lies outside 0..1, or
            an image shows a place of a defect that its label denies.
    """
    if masks is None:
        return None
    held = np.ascontiguousarray(masks, dtype=np.float32)
    if held.ndim != 4 or held.shape[:2] != targets.shape:
        raise InputError(f"masks of shape {held.shape} for targets of shape {targets.shape}")
    unknown = True
    for index, (one, wanted) in enumerate(zip(held, targets, strict=True)):
        nobody = np.isnan(one)
        unknown = unknown and bool(nobody.all())
        if not ((one >= 0) & (one <= 1) | nobody).all():
            raise InputError("masks lie between 0 and 1, or are NaN where the place is unknown")
        if (((one > 0).any(axis=(1, 2))) & (wanted == 0)).any():
            raise InputError(
                f"image {index} has a region of a defect that its label says it does not show"
            )
    return None if unknown else held


def on_cells(masks: NDArray[np.float32], height: int, width: int) -> Tensor:
    """(N, K, height, width) float32: 1 in cells that a defect touches, NaN in unknown ones."""
    held = torch.from_numpy(masks)
    size = (height, width)
    touched = F.adaptive_max_pool2d(held.nan_to_num(0.0), size) > 0
    unknown = F.adaptive_max_pool2d(held.isnan().float(), size) > 0
    return torch.where(unknown & ~touched, torch.nan, touched.float())


def shares(mask: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(K, height, width): the share of each cell that a defect covers; NaN where any is unknown.

    A mask of (K, h, w) coarser than that gives each of its cells to all those in it.
    """
    size = (height, width)
    held = torch.from_numpy(mask)[None]
    if held.shape[-2] < height or held.shape[-1] < width:
        return F.interpolate(held, size, mode="nearest")[0].numpy()
    return F.adaptive_avg_pool2d(held, size)[0].numpy()


def places_loss(evidence: Tensor, places: Tensor) -> Tensor:
    """Cross-entropy of evidence against the known cells; both of the same shape.

    Cells with a defect, which are few, weigh together as much as all the others; 0 where no cell
    is known.
    """
    known = ~places.isnan()
    target = torch.where(known, places, 0.0)
    bad, good = (target > 0).float(), (known & (target == 0)).float()
    weights = bad / bad.sum().clamp_min(1.0) + good / good.sum().clamp_min(1.0)
    kinds = (bad.any().float() + good.any().float()).clamp_min(1.0)
    each = F.binary_cross_entropy_with_logits(evidence, target, weight=weights, reduction="sum")
    return each / kinds
