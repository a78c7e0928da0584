"""The zones drawn over the picture of a reference view, numbered as the list beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.zones.shapes import Zone

# Okabe and Ito's colours, which most of the colour-blind can tell apart; blue, green, red.
COLOURS: Final = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
LONGEST_PX: Final = 1024


def draw_zones(
    picture: NDArray[np.uint8], zones: Sequence[Zone], pitch_mm: float
) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: the picture, the longer side at most 1024, with every zone's number.

    OpenCV's fonts are ASCII, so zones go by their number; their names stand in the list.

    Args:
        picture: (H, W, 3) uint8, blue, green, red, of the reference view.
        zones: in the recipe's order.
        pitch_mm: size of a pixel of `picture` on the part.
    """
    height, width = picture.shape[:2]
    shrink = min(1.0, LONGEST_PX / max(height, width))
    size = (round(width * shrink), round(height * shrink))
    drawn = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    # The last zone lies under the others, as in the order that counts.
    for number, zone in reversed(list(enumerate(zones, start=1))):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        corners = np.rint(middle + np.array(zone.polygon) / pitch_mm * shrink).astype(np.int32)
        veil = drawn.copy()
        cv2.fillPoly(veil, [corners], colour)
        drawn = np.asarray(cv2.addWeighted(veil, 0.18, drawn, 0.82, 0), dtype=np.uint8)
        cv2.polylines(drawn, [corners], True, colour, 2, cv2.LINE_AA)
    for number, zone in enumerate(zones, start=1):
        corners = np.rint(middle + np.array(zone.polygon) / pitch_mm * shrink).astype(np.int32)
        _badge(drawn, str(number), _inside(zones, number - 1, corners, size, pitch_mm, shrink))
    return drawn


def _inside(
    zones: Sequence[Zone],
    index: int,
    corners: NDArray[np.int32],
    size: tuple[int, int],
    pitch_mm: float,
    shrink: float,
) -> tuple[int, int]:
    """The place of the zone that is farthest from its border and from the zones before it."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    for earlier in zones[:index]:
        other = np.rint(middle + np.array(earlier.polygon) / pitch_mm * shrink).astype(np.int32)
        cv2.fillPoly(mask, [other], 0)
    if not mask.any():  # wholly under earlier ones: it never counts, and its number shows where
        cv2.fillPoly(mask, [corners], 1)
    bordered = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(bordered, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(column) - 1, int(row) - 1


def _badge(picture: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    (width, height), _ = cv2.getTextSize(text, FONT, 0.6, 2)
    cv2.circle(picture, at, 8 + width // 2, (20, 20, 20), -1, cv2.LINE_AA)
    cv2.circle(picture, at, 8 + width // 2, (255, 255, 255), 1, cv2.LINE_AA)
    corner = (at[0] - width // 2, at[1] + height // 2)
    cv2.putText(picture, text, corner, FONT, 0.6, (255, 255, 255), 2, cv2.LINE_AA)
