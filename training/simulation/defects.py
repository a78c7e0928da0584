"""Defects as aluminium that is missing along the beam, in mm: each with its own physics and size.

    gas pore            ellipsoid full of gas, sizes after a power law
    shrinkage cavity    a few ellipsoids grown into each other
    shrinkage sponge    many small pores on a Levy flight: clustered, without a scale of its own
    less dense          sand, oxide: a body of 0.4 to 0.8 of the density of aluminium
    more dense          iron sludge, tool steel: a body that absorbs 2 to 4 times as much
    crack               a thin jagged gap; it shows as far as the beam runs along it
    cold shut           a smooth shallow seam where two fronts of metal met

After the defects of Mery, "Computer Vision for X-Ray Testing" (2nd ed. 2021, ch. 8), which are
superimposed by Beer-Lambert; the classes are those of ASTM E155/E2422 and E505/E2973. Severity here
is our own, 1 to 5 by size: the standards grade by reference plates, which cannot be computed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.simulation.casting import Pose

    Map = NDArray[np.float32]

DefectClass = Literal[
    "gas-porosity",
    "shrinkage-cavity",
    "shrinkage-sponge",
    "inclusion-less-dense",
    "inclusion-more-dense",
    "crack",
    "cold-shut",
]
CLASSES: Final[tuple[DefectClass, ...]] = (
    "gas-porosity",
    "shrinkage-cavity",
    "shrinkage-sponge",
    "inclusion-less-dense",
    "inclusion-more-dense",
    "crack",
    "cold-shut",
)
SEVERITY_FROM_MM: Final = (0.0, 0.6, 1.0, 2.0, 4.0)
"""Level n of severity begins at this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An ellipsoid. `at_mm` in part coordinates; `missing` is the share of aluminium it lacks.

    Negative where it absorbs more than aluminium.
    """

    at_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    missing: float = 1.0

    def matrix(self) -> NDArray[np.float64]:
        """M of x' M x = 1, in part coordinates."""
        spun = _rotation(self.turn)
        inverse: NDArray[np.float64] = spun @ np.diag(1 / np.square(self.half_axes_mm)) @ spun.T
        return inverse


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """A gap along a line in part coordinates: `width_mm` across, `depth_mm` along z.

    `smooth` spreads the width over a soft edge, as of a cold shut.
    """

    points_mm: tuple[tuple[float, float, float], ...]
    width_mm: float
    depth_mm: float
    smooth: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One defect of a part.

    Attributes:
        size_mm: its largest extent, as a caliper on the part would find it.
        depth_mm: of its middle, along z from the middle of the part.
    """

    defect_class: DefectClass
    at_mm: tuple[float, float, float]
    size_mm: float
    bodies: tuple[Body, ...] = ()
    seam: Seam | None = None

    @property
    def severity(self) -> int:
        """1 to 5 by size."""
        return sum(self.size_mm >= limit for limit in SEVERITY_FROM_MM)

    @property
    def depth_mm(self) -> float:
        """Of its middle, along z from the middle of the part."""
        return self.at_mm[2]


# --- growing them --------------------------------------------------------------------------------


def power_law(rng: np.random.Generator, low: float, high: float, exponent: float = 2.5) -> float:
    """A size between low and high, drawn with density as size to the power of -exponent."""
    k = 1 - exponent
    u = rng.uniform()
    return float((low**k + u * (high**k - low**k)) ** (1 / k))


def grow(
    defect_class: DefectClass,
    at_mm: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    size_mm: float | None = None,
) -> Defect:
    """A defect of this class at this place; its size follows its class unless it is given."""
    if defect_class == "gas-porosity":
        size = size_mm or power_law(rng, 0.3, 4.0)
        flat = rng.uniform(0.75, 1.0, size=2)
        body = Body(
            at_mm=at_mm,
            half_axes_mm=(size / 2, size / 2 * flat[0], size / 2 * flat[1]),
            turn=_any_turn(rng),
        )
        return Defect(defect_class=defect_class, at_mm=at_mm, size_mm=size, bodies=(body,))
    if defect_class in ("inclusion-less-dense", "inclusion-more-dense"):
        size = size_mm or power_law(rng, 0.4, 3.0)
        dense = defect_class == "inclusion-more-dense"
        missing = -rng.uniform(1.0, 3.0) if dense else rng.uniform(0.2, 0.6)
        bodies = _clump(rng, at_mm, size, count=3, spread=0.25, missing=float(missing))
        return _of_bodies(defect_class, at_mm, bodies)
    if defect_class == "shrinkage-cavity":
        size = size_mm or power_law(rng, 1.0, 7.0, 2.0)
        bodies = _clump(rng, at_mm, size, count=int(rng.integers(5, 11)), spread=0.35, missing=1.0)
        return _of_bodies(defect_class, at_mm, bodies)
    if defect_class == "shrinkage-sponge":
        return _sponge(at_mm, rng, size_mm or power_law(rng, 2.0, 9.0, 1.8))
    return _seam(defect_class, at_mm, rng, size_mm)


def _clump(
    rng: np.random.Generator,
    at_mm: tuple[float, float, float],
    size_mm: float,
    *,
    count: int,
    spread: float,
    missing: float,
) -> tuple[Body, ...]:
    """Ellipsoids grown into each other within about `size_mm`."""
    bodies, place = [], np.array(at_mm)
    for _ in range(count):
        radius = size_mm * rng.uniform(0.15, 0.3)
        bodies.append(
            Body(
                at_mm=(float(place[0]), float(place[1]), float(place[2])),
                half_axes_mm=(
                    radius,
                    radius * rng.uniform(0.5, 1.0),
                    radius * rng.uniform(0.4, 0.9),
                ),
                turn=_any_turn(rng),
                missing=missing,
            )
        )
        step = rng.normal(0.0, spread * size_mm / 2, size=3) * (1.0, 1.0, 0.5)
        place = np.array(at_mm) + np.clip(place - at_mm + step, -0.35 * size_mm, 0.35 * size_mm)
    return tuple(bodies)


def _sponge(at_mm: tuple[float, float, float], rng: np.random.Generator, size_mm: float) -> Defect:
    """Small pores on a Levy flight (steps as a power law, Mandelbrot 1982) inside `size_mm`."""
    bodies, offset = [], np.zeros(3)
    for _ in range(int(rng.integers(25, 60) * min(size_mm / 4, 2.0) + 5)):
        radius = power_law(rng, 0.08, 0.5, 2.8)
        x, y, z = np.array(at_mm) + offset
        bodies.append(
            Body(
                at_mm=(float(x), float(y), float(z)),
                half_axes_mm=(radius, radius * 0.8, radius * 0.8),
                turn=_any_turn(rng),
            )
        )
        direction = rng.normal(size=3)
        step = power_law(rng, 0.1, size_mm / 2, 2.0) * direction / np.linalg.norm(direction)
        step[2] *= 0.5
        offset = offset + step
        if np.linalg.norm(offset) > size_mm / 2:
            offset *= rng.uniform(0.0, 0.5)
    return _of_bodies("shrinkage-sponge", at_mm, tuple(bodies))


def _seam(
    defect_class: DefectClass,
    at_mm: tuple[float, float, float],
    rng: np.random.Generator,
    size_mm: float | None,
) -> Defect:
    crack = defect_class == "crack"
    length = size_mm or (rng.uniform(3.0, 14.0) if crack else rng.uniform(6.0, 20.0))
    steps = max(int(length / (0.4 if crack else 1.0)), 4)
    heading = rng.uniform(0, 2 * math.pi)
    bend = rng.normal(0.0, 0.35, size=steps) if crack else np.full(steps, rng.normal(0, 0.04))
    headings = heading + (bend if crack else np.cumsum(bend))
    path = np.cumsum(length / steps * np.stack([np.cos(headings), np.sin(headings)]), axis=1)
    path -= path.mean(axis=1, keepdims=True)
    points = tuple((float(at_mm[0] + x), float(at_mm[1] + y), at_mm[2]) for x, y in path.T)
    seam = Seam(
        points_mm=points,
        width_mm=float(rng.uniform(0.06, 0.2) if crack else rng.uniform(0.4, 1.0)),
        depth_mm=float(rng.uniform(1.5, 5.0) if crack else rng.uniform(0.4, 1.0)),
        smooth=not crack,
    )
    ends = np.array(points)[:, :2]
    extent = float(np.max(np.linalg.norm(ends[:, None] - ends[None], axis=2)))
    return Defect(defect_class=defect_class, at_mm=at_mm, size_mm=extent, seam=seam)


def _of_bodies(
    defect_class: DefectClass, at_mm: tuple[float, float, float], bodies: tuple[Body, ...]
) -> Defect:
    """With the size that these bodies have together, seen along z."""
    corners = [
        np.array(body.at_mm[:2]) + np.sqrt(np.diag(np.linalg.inv(body.matrix())))[:2] * sign
        for body in bodies
        for sign in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    points = np.array(corners)
    extent = float(np.max(np.linalg.norm(points[:, None] - points[None], axis=2)))
    return Defect(defect_class=defect_class, at_mm=at_mm, size_mm=extent, bodies=bodies)


# --- seeing them ---------------------------------------------------------------------------------


def missing_mm(
    defect: Defect, pose: Pose, size_px: tuple[int, int], pitch_mm: float
) -> tuple[Map, slice, slice]:
    """Aluminium that a defect takes from the rays, mm, and the rows and columns it lies in.

    Where bodies overlap the longest path counts, not the sum. Empty outside the image.
    """
    if defect.seam is not None:
        return _seam_missing(defect.seam, pose, size_px, pitch_mm)
    reach = max(max(body.half_axes_mm) for body in defect.bodies) + 2 * pitch_mm
    points = [pose.project(*body.at_mm) for body in defect.bodies]
    rows, columns = _window(points, reach, size_px, pitch_mm)
    x, y = _pixels(rows, columns, size_px, pitch_mm)
    most = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    least = np.zeros_like(most)
    for body, place in zip(defect.bodies, points, strict=True):
        path = np.float32(body.missing) * _path(body, pose, x - place[0], y - place[1], pitch_mm)
        np.maximum(most, path, out=most)
        np.minimum(least, path, out=least)
    return most + least, rows, columns


def _path(body: Body, pose: Pose, x: Map, y: Map, pitch_mm: float) -> Map:
    """Length of each ray inside an ellipsoid, mm; `x`, `y` are from its middle, in the image.

    A ray p + s d meets x'Mx = 1 where s^2 A + 2 s B + C = 0: the path is 2 sqrt(B^2 - A C) / A.
    The sub-pixel edge is the blur's business; half axes are at least a quarter of a pixel.
    """
    turn, tilt = math.radians(pose.turn_deg), pose.tilt
    spin = np.array(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    lean = np.array(
        [[math.cos(tilt), 0, math.sin(tilt)], [0, 1, 0], [-math.sin(tilt), 0, math.cos(tilt)]]
    )
    to_image = spin @ lean
    least = Body(
        at_mm=body.at_mm,
        half_axes_mm=(
            max(body.half_axes_mm[0], pitch_mm / 4),
            max(body.half_axes_mm[1], pitch_mm / 4),
            max(body.half_axes_mm[2], pitch_mm / 4),
        ),
        turn=body.turn,
    )
    m = to_image @ least.matrix() @ to_image.T
    a = m[2, 2]
    b = m[0, 2] * x + m[1, 2] * y
    c = m[0, 0] * x * x + 2 * m[0, 1] * x * y + m[1, 1] * y * y - 1
    inside = np.maximum(b * b - a * c, 0.0)
    return np.asarray(2 * np.sqrt(inside) / a, dtype=np.float32)


def _seam_missing(
    seam: Seam, pose: Pose, size_px: tuple[int, int], pitch_mm: float
) -> tuple[Map, slice, slice]:
    """A gap of width w and depth h over a soft line: w h is kept, whatever the pixels.

    Tilted by an angle, the beam leaves the gap after w / sin; it sees no more than that of h.
    """
    points = [pose.project(*point) for point in seam.points_mm]
    sigma = max(seam.width_mm / (2 if seam.smooth else 3.5), pitch_mm / 2)
    rows, columns = _window(points, 4 * sigma + pitch_mm, size_px, pitch_mm)
    x, y = _pixels(rows, columns, size_px, pitch_mm)
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        distance = np.hypot(x - x0 - along * dx, y - y0 - along * dy)
        np.minimum(nearest, distance.astype(np.float32), out=nearest)
    seen = seam.depth_mm
    if pose.tilt:
        seen = min(seen / math.cos(pose.tilt), seam.width_mm / abs(math.sin(pose.tilt)))
    across = seam.width_mm * seen / (math.sqrt(2 * math.pi) * sigma)
    return (
        np.asarray(across * np.exp(-(nearest**2) / (2 * sigma**2)), dtype=np.float32),
        rows,
        columns,
    )


def _window(
    points: list[tuple[float, float]], reach: float, size_px: tuple[int, int], pitch_mm: float
) -> tuple[slice, slice]:
    found = []
    for axis, size in ((1, size_px[0]), (0, size_px[1])):
        low = min(point[axis] for point in points) - reach
        high = max(point[axis] for point in points) + reach
        first = math.floor(low / pitch_mm + (size - 1) / 2)
        last = math.ceil(high / pitch_mm + (size - 1) / 2) + 1
        found.append(slice(min(max(first, 0), size), min(max(last, 0), size)))
    return found[0], found[1]


def _pixels(
    rows: slice, columns: slice, size_px: tuple[int, int], pitch_mm: float
) -> tuple[Map, Map]:
    height, width = size_px
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) - (width - 1) / 2) * pitch_mm
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) - (height - 1) / 2) * pitch_mm
    return x[np.newaxis, :].astype(np.float32), y[:, np.newaxis].astype(np.float32)


def _any_turn(rng: np.random.Generator) -> tuple[float, float, float]:
    a, b, c = rng.uniform(0, 2 * math.pi, size=3)
    return float(a), float(b), float(c)


def _rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """About z, then y, then z."""
    first, second, third = angles

    def about_z(angle: float) -> NDArray[np.float64]:
        return np.array(
            [
                [math.cos(angle), -math.sin(angle), 0],
                [math.sin(angle), math.cos(angle), 0],
                [0, 0, 1],
            ]
        )

    about_y = np.array(
        [
            [math.cos(second), 0, math.sin(second)],
            [0, 1, 0],
            [-math.sin(second), 0, math.cos(second)],
        ]
    )
    spun: NDArray[np.float64] = about_z(third) @ about_y @ about_z(first)
    return spun
