"""The evidence map back on the image: regions for findings, and a picture for people.

evidence (K, h, w) -> local probability -> frame pixels -> boxes | overlay PNG
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.display import shown
from inspection.errors import RecordError
from inspection.recipe import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.display import Display
    from inspection.frame import Frame

FONT = cv2.FONT_HERSHEY_SIMPLEX


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logistic function, without overflow; float64 of the same shape."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values.astype(np.float64))))


def region_of_evidence(local: NDArray[np.float64], judged: Region, *, limit: float) -> Region:
    """The box, in frame pixels, around the strongest connected spot of a class.

    Args:
        local: (h, w) local probability in [0, 1] over the judged region.
        judged: the rectangle of the frame that the map covers.
        limit: cells at or above it belong to a spot; when none is, the strongest cell alone does.
    """
    peak = np.unravel_index(int(np.argmax(local)), local.shape)
    mask = (local >= min(limit, float(local[peak]))).astype(np.uint8)
    _, labels = cv2.connectedComponents(mask, connectivity=8)
    rows, columns = np.nonzero(labels == labels[peak])
    scale_y, scale_x = judged.height / local.shape[0], judged.width / local.shape[1]
    top = int(np.floor(rows.min() * scale_y))
    left = int(np.floor(columns.min() * scale_x))
    bottom = int(np.ceil((rows.max() + 1) * scale_y))
    right = int(np.ceil((columns.max() + 1) * scale_x))
    return Region(
        top=judged.top + top,
        left=judged.left + left,
        height=max(1, min(bottom, judged.height) - top),
        width=max(1, min(right, judged.width) - left),
    )


def overlay_png(
    frame: Frame,
    local: NDArray[np.float64],
    judged: Region,
    *,
    boxes: Sequence[Region] = (),
    labels: Sequence[str] = (),
    display: Display | None = None,
    alpha: float = 0.5,
    longest_px: int = 1024,
) -> bytes:
    """The image in grey with the evidence over it, as an 8-bit RGB PNG for people to look at.

    Args:
        frame: the original image; only the picture is windowed to 8 bits, never the evidence.
        local: (h, w) local probability in [0, 1].
        judged: the rectangle of the frame that `local` covers.
        boxes: findings to outline, in frame pixels.
        labels: what stands at each box, in ASCII, such as "1.4 mm"; nothing when absent.
        display: how the image is shown; windowed to the 0.5 and 99.5 percentiles when absent.
        alpha: strength of the colour where the local probability is 1; 0 shows the image alone.
        longest_px: the picture's longer side is at most this.
    """
    picture = shown(frame.pixels, display)
    heat = np.zeros(frame.size_px, dtype=np.float32)
    heat[judged.top : judged.top + judged.height, judged.left : judged.left + judged.width] = (
        cv2.resize(
            np.clip(local, 0, 1).astype(np.float32),
            (judged.width, judged.height),
            interpolation=cv2.INTER_LINEAR,
        )
    )
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = (alpha * heat)[..., np.newaxis]
    mixed = (picture * (1 - weight) + colour * weight).astype(np.uint8)
    thick = max(1, round(max(frame.size_px) / 300))
    for box, label in zip(boxes, labels or [""] * len(boxes), strict=True):
        corner = (box.left + box.width - 1, box.top + box.height - 1)
        cv2.rectangle(mixed, (box.left, box.top), corner, (255, 255, 0), thick)
        above = (box.left, max(box.top - 2 * thick, 12 * thick))
        cv2.putText(mixed, label, above, FONT, 0.45 * thick, (255, 255, 0), thick, cv2.LINE_AA)
    scale = longest_px / max(frame.size_px)
    if scale < 1:
        smaller = cv2.resize(mixed, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mixed = np.asarray(smaller, dtype=np.uint8)
    done, data = cv2.imencode(".png", mixed)
    if not done:
        raise RecordError("the overlay could not be encoded")
    return bytes(data)
