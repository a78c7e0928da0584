"""Metal faces under a raking light, as a colour camera sees them, with defects of known place.

    finish (brushed, turned, cast) -> height, um -> + scratches, dents, pits -> slopes
      -> light from one low side: diffuse and glossy -> stains, tint -> exposure, noise -> 8 bits

The gloss is that of a rough metal after Ward (1992, "Measuring and modeling anisotropic
reflection", eq. 5): narrow across the grain, wide along it. Lengths are in pixels but for heights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

from inspection.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]

Finish = Literal["brushed", "turned", "cast"]
SurfaceClass = Literal["scratch", "dent", "pit", "stain"]
FINISHES: Final[tuple[Finish, ...]] = ("brushed", "turned", "cast")
SURFACE_CLASSES: Final[tuple[SurfaceClass, ...]] = ("scratch", "dent", "pit", "stain")

PIXEL_UM: Final = 40.0
LIGHT_ELEVATION_DEG: Final = 22.0
TINT: Final = (1.0, 0.985, 0.955)
"""Red, green and blue of aluminium under the lamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDefect:
    """One defect: its class, its mask on the face (H, W) bool, its largest extent in mm."""

    defect_class: SurfaceClass
    mask: NDArray[np.bool_]
    size_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """One face. `image` is (H, W, 3) uint8 in RGB order."""

    finish: Finish
    image: NDArray[np.uint8]
    defects: tuple[SurfaceDefect, ...]


def make_surface(
    number: int,
    seed: int,
    *,
    finish: Finish,
    size_px: int = 512,
    rate: float = 0.2,
) -> Surface:
    """Face `number` of the set that `seed` stands for; the same two always give the same bits.

    Args:
        number: of the face.
        seed: of the set.
        finish: how the face was made.
        size_px: of a side, 64 to 4096.
        rate: expected number of defects of each class.
    """
    if not 64 <= size_px <= 4096:
        raise DataError("a face has 64 to 4096 pixels a side")
    rng = np.random.default_rng([seed, number, FINISHES.index(finish), 11])
    height, grain = _finish(finish, size_px, rng)
    albedo = np.ones((size_px, size_px), dtype=np.float32)
    defects = []
    for name in SURFACE_CLASSES:
        for _ in range(min(int(rng.poisson(rate)), 4)):
            change, shade, mask = _GROWN[name](size_px, rng)
            height += change
            albedo *= shade
            defects.append(SurfaceDefect(defect_class=name, mask=mask, size_mm=_extent_mm(mask)))
    light = float(rng.normal(0, 4)) + 35.0
    image = _expose(_shade(height, grain, light) * albedo, rng)
    return Surface(finish=finish, image=image, defects=tuple(defects))


# --- finishes ------------------------------------------------------------------------------------


def _finish(finish: Finish, size: int, rng: np.random.Generator) -> tuple[Map, Map]:
    """Height in um, and the direction of the grain in radians, at every pixel."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    if finish == "brushed":
        lines = rng.standard_normal((size, 2 * size), dtype=np.float32)
        streaks = cv2.blur(lines, (121, 1))[:, size // 2 : size // 2 + size]
        height = 14 * streaks + 0.3 * rng.standard_normal((size, size), dtype=np.float32)
        return _float(height), np.zeros_like(x)
    if finish == "turned":
        middle = (size * rng.uniform(0.3, 0.7), size * rng.uniform(-0.6, -0.2))
        radius = np.hypot(x - middle[0], y - middle[1])
        feed = 7.0 + float(rng.normal(0, 0.3))
        wobble = cv2.GaussianBlur(rng.standard_normal(4 * size).astype(np.float32)[None], (0, 0), 6)
        jitter = 5 * np.interp(radius, np.arange(4 * size), wobble[0])
        groove = np.abs(((radius + jitter) / feed) % 1.0 - 0.5)
        height = 9 * groove + 0.5 * rng.standard_normal((size, size), dtype=np.float32)
        grain = np.arctan2(y - middle[1], x - middle[0]) + np.pi / 2
        return _float(height), _float(grain)
    height = np.zeros((size, size), dtype=np.float32)
    for scale, rms in ((1.5, 1.4), (4.0, 4.0), (12.0, 7.0)):
        layer = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), scale)
        height += np.float32(rms) * layer / layer.std()
    return _float(height), np.zeros_like(x)


# --- defects: change of height (um), factor on reflectance, mask ---------------------------------


def _scratch(size: int, rng: np.random.Generator) -> tuple[Map, Map, NDArray[np.bool_]]:
    length, angle = rng.uniform(0.1, 0.5) * size, rng.uniform(0, math.pi)
    x0, y0 = rng.uniform(0.2, 0.8, size=2) * size
    bend = rng.normal(0, 0.06) * length
    steps = np.linspace(-0.5, 0.5, 24)
    along = steps * length
    across = bend * (1 - 4 * steps**2)
    xs = x0 + along * math.cos(angle) - across * math.sin(angle)
    ys = y0 + along * math.sin(angle) + across * math.cos(angle)
    line = np.zeros((size, size), dtype=np.uint8)
    points = np.round(np.stack([xs, ys], axis=1) * 16).astype(np.int32)
    cv2.polylines(line, [points[:, None]], isClosed=False, color=255, shift=4, thickness=1)
    distance = cv2.distanceTransform(255 - line, cv2.DIST_L2, 5)
    width = rng.uniform(0.8, 2.2)
    depth = rng.uniform(12, 40)
    # A furrow with the metal that it threw up on either side.
    profile = -depth * np.exp(-((distance / width) ** 2)) + 0.35 * depth * np.exp(
        -(((distance - 2.2 * width) / width) ** 2)
    )
    return _float(profile), np.ones((size, size), np.float32), distance <= 2 * width


def _dent(size: int, rng: np.random.Generator) -> tuple[Map, Map, NDArray[np.bool_]]:
    radius = rng.uniform(0.03, 0.08) * size
    distance = _round(size, radius, rng)
    depth = rng.uniform(60, 140)
    bowl = -depth * np.exp(-(distance**2) * 2) + 0.12 * depth * np.exp(-((distance - 1.3) ** 2) * 9)
    return _float(bowl), np.ones((size, size), np.float32), distance <= 1.1


def _pit(size: int, rng: np.random.Generator) -> tuple[Map, Map, NDArray[np.bool_]]:
    distance = _round(size, rng.uniform(2.0, 5.5), rng)
    inside = 1 / (1 + np.exp(np.clip((distance - 1) * 8, -40, 40)))
    # Light that goes into a pit hardly comes out.
    return _float(-80 * inside), _float(1 - 0.75 * inside), distance <= 1.2


def _stain(size: int, rng: np.random.Generator) -> tuple[Map, Map, NDArray[np.bool_]]:
    distance = _round(size, rng.uniform(0.05, 0.16) * size, rng)
    ragged = cv2.GaussianBlur(
        rng.standard_normal((size, size), dtype=np.float32), (0, 0), size / 40
    )
    distance = distance + 0.5 * ragged / ragged.std() * 0.35
    inside = 1 / (1 + np.exp(np.clip((distance - 1) * 14, -40, 40)))
    shade = 1 - rng.uniform(0.12, 0.3) * inside
    return np.zeros((size, size), np.float32), _float(shade), distance <= 1.0


_GROWN: Final = {"scratch": _scratch, "dent": _dent, "pit": _pit, "stain": _stain}


def _round(size: int, radius: float, rng: np.random.Generator) -> Map:
    """Distance from a place, in radii of a slightly flattened disc."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x0, y0 = rng.uniform(0.15, 0.85, size=2) * size
    angle, flat = rng.uniform(0, math.pi), rng.uniform(0.7, 1.0)
    u = (x - x0) * math.cos(angle) + (y - y0) * math.sin(angle)
    v = (y - y0) * math.cos(angle) - (x - x0) * math.sin(angle)
    return _float(np.hypot(u, v / flat) / radius)


# --- light ---------------------------------------------------------------------------------------


def _shade(height_um: Map, grain: Map, azimuth_deg: float) -> Map:
    """Reflected light, 1 where a plane face would send all it gets."""
    slope_x = cv2.Sobel(height_um, cv2.CV_32F, 1, 0, scale=0.125) / PIXEL_UM
    slope_y = cv2.Sobel(height_um, cv2.CV_32F, 0, 1, scale=0.125) / PIXEL_UM
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    elevation, azimuth = math.radians(LIGHT_ELEVATION_DEG), math.radians(azimuth_deg)
    to_light = (
        math.cos(elevation) * math.cos(azimuth),
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    )
    facing = (-slope_x * to_light[0] - slope_y * to_light[1] + to_light[2]) / length
    diffuse = np.maximum(facing, 0.0)
    # Half way between the light and the camera above.
    half = np.array([to_light[0], to_light[1], to_light[2] + 1])
    half /= np.linalg.norm(half)
    tilt_x, tilt_y = half[0] / half[2] + slope_x, half[1] / half[2] + slope_y
    along = tilt_x * np.cos(grain) + tilt_y * np.sin(grain)
    across = tilt_y * np.cos(grain) - tilt_x * np.sin(grain)
    glossy = np.exp(-((along / 0.22) ** 2) - (across / 0.75) ** 2)
    return _float(0.55 * diffuse / math.sin(elevation) + 0.5 * glossy)


def _expose(light: Map, rng: np.random.Generator) -> NDArray[np.uint8]:
    """8 bits a channel: fall-off towards the corners, shot noise, read noise."""
    size = light.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    # Somebody set the exposure up: the middle of the range for the middle of the face.
    level = light / np.median(light) * (1 - 0.12 * (x**2 + y**2)) * rng.normal(0.62, 0.02)
    colour = np.clip(level[..., np.newaxis] * np.array(TINT), 0.0, 4.0)
    electrons = 9_000 * colour
    noisy = electrons + rng.standard_normal(colour.shape) * np.sqrt(electrons + 15**2)
    return np.asarray(np.clip(np.rint(noisy / 9_000 * 200), 0, 255), dtype=np.uint8)


def _extent_mm(mask: NDArray[np.bool_]) -> float:
    if not mask.any():
        return 0.0
    points = cv2.findNonZero(mask.astype(np.uint8))
    (_, _), (width, height), _ = cv2.minAreaRect(points)
    return float(max(width, height) * PIXEL_UM / 1000)


def _float(values: NDArray[np.floating]) -> Map:
    return np.asarray(values, dtype=np.float32)
