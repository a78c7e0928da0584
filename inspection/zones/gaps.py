"""How far outlines and zones lie from each other: distances, crossings, what lies inside what.

Outlines are convex hulls, down to a line or a single point; zones are any simple polygon. All are
(n, 2) corners (x, y), in pixels or in millimetres, and so are the distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Corners = NDArray[np.float64]

ALONG: Final = np.linspace(0.0, 1.0, 9)
"""Where a side is asked whether it leaves every zone."""


def gap(a: Corners, b: Corners) -> float:
    """The smallest distance between two shapes; 0 where they touch, overlap or hold each other."""
    if _cross(a, b) or _holds(a, b[:1]).any() or _holds(b, a[:1]).any():
        return 0.0
    return min(float(to_sides(a, b).min()), float(to_sides(b, a).min()))


def distances(points: Corners, shape: Corners) -> NDArray[np.float64]:
    """(n,) distance of each point to the shape; 0 inside."""
    return np.asarray(np.where(_holds(shape, points), 0.0, to_sides(points, shape)))


def to_sides(points: Corners, shape: Corners) -> NDArray[np.float64]:
    """(n,) distance of each point to the nearest side."""
    along = np.roll(shape, -1, axis=0) - shape
    squared = np.maximum((along**2).sum(axis=1), 1e-12)
    to = points[:, np.newaxis] - shape
    share = np.clip((to * along).sum(axis=2) / squared, 0.0, 1.0)[..., np.newaxis]
    return np.asarray(np.linalg.norm(to - share * along, axis=2).min(axis=1))


def leaves_all(outline: Corners, polygons: list[Corners]) -> bool:
    """Whether some point along the outline's sides lies in none of the polygons."""
    along = np.roll(outline, -1, axis=0) - outline
    points = (outline[:, np.newaxis] + ALONG[:, np.newaxis] * along[:, np.newaxis]).reshape(-1, 2)
    inside = np.zeros(len(points), dtype=np.bool_)
    for polygon in polygons:
        inside |= _holds(polygon, points)
    return not inside.all()


def _holds(shape: Corners, points: Corners) -> NDArray[np.bool_]:
    """(n,) whether each point lies inside the shape or on its side; a line holds none."""
    if len(shape) < 3:
        return np.zeros(len(points), dtype=np.bool_)
    polygon = shape.astype(np.float32)
    return np.array(
        [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) >= 0 for x, y in points],
        dtype=np.bool_,
    )


def _cross(a: Corners, b: Corners) -> bool:
    """Whether a side of one goes right through a side of the other."""
    one, other = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)

    def turns(start: Corners, end: Corners, points: Corners) -> NDArray[np.float64]:
        side, to = (end - start)[:, np.newaxis], points - start[:, np.newaxis]
        return np.asarray(side[..., 0] * to[..., 1] - side[..., 1] * to[..., 0])

    apart = turns(a, one, b) * turns(a, one, other) < 0
    return bool((apart & (turns(b, other, a) * turns(b, other, one) < 0).T).any())
