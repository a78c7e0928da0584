"""A casting like a steering knuckle, as thickness of aluminium along the beam.

    outline (arms, hub) -> plate -> + ribs, bosses -> x holes -> + casting tolerances -> thickness

Every feature is a capsule (a segment with a radius; a disc where the segment has no length) in part
coordinates: millimetres from the middle of the part, x to the right, y down, z towards the tube.
Features lie in slabs at their own z. A view tilted by an angle about the vertical axis stretches
the path by 1 / cos and moves each slab by z tan, so what is at another depth moves against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Map = NDArray[np.float32]

Zone = Literal["sealing", "boss", "rib", "body"]
ZONES: Final[tuple[Zone, ...]] = ("sealing", "boss", "rib", "body")

PLATE_MM: Final = 8.0
BORE_MM: Final = 11.0
SEALING_MM: Final = 6.0
"""Width of the machined ring around the bore."""

DEPTHS_MM: Final = (-10.5, 12.0)
"""From the lowest to the highest point of the part along its own z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """From where the part is seen: tilted about its vertical axis, in degrees."""

    name: str
    tilt_deg: float


VIEWS: Final = (View(name="front", tilt_deg=0.0), View(name="left", tilt_deg=-22.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A capsule. Lengths in mm; `edge_mm` is the width over which its height falls off (fillet)."""

    kind: Literal["plate", "rib", "boss", "hole"]
    start: tuple[float, float]
    end: tuple[float, float]
    radius_mm: float
    height_mm: float
    z_mm: float = 0.0
    edge_mm: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How the part lies in this capture: turned, moved, and seen from `view`."""

    view: View = VIEWS[0]
    turn_deg: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def tilt(self) -> float:
        """In radians."""
        return math.radians(self.view.tilt_deg)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Where a point of the part falls, in mm from the middle of the image."""
        seen = x * math.cos(self.tilt) + z * math.sin(self.tilt)
        turn = math.radians(self.turn_deg)
        return (
            seen * math.cos(turn) - y * math.sin(turn) + self.shift_mm[0],
            seen * math.sin(turn) + y * math.cos(turn) + self.shift_mm[1],
        )

    def lay(self, image_x: Map, image_y: Map, z_mm: float) -> tuple[Map, Map]:
        """Part coordinates, at depth z, of image points in mm: the inverse of `project`."""
        turn = np.float32(math.radians(self.turn_deg))
        dx, dy = image_x - np.float32(self.shift_mm[0]), image_y - np.float32(self.shift_mm[1])
        seen = dx * np.cos(turn) + dy * np.sin(turn)
        y = dy * np.cos(turn) - dx * np.sin(turn)
        x = (seen - np.float32(z_mm * math.sin(self.tilt))) / np.float32(math.cos(self.tilt))
        return x, y


def knuckle() -> tuple[Feature, ...]:
    """The nominal part: a hub with a bore, three arms with bosses, ribs between them."""
    hub, arms = (0.0, 0.0), ((-30.0, -26.0), (32.0, -20.0), (4.0, 37.0))
    features = [
        Feature(kind="plate", start=hub, end=hub, radius_mm=24.0, height_mm=PLATE_MM, edge_mm=2.5)
    ]
    for arm, width in zip(arms, (8.0, 7.0, 9.0), strict=True):
        features.append(
            Feature(
                kind="plate",
                start=hub,
                end=arm,
                radius_mm=width,
                height_mm=PLATE_MM,
                edge_mm=2.0,
            )
        )
        features.append(
            Feature(
                kind="rib",
                start=(0.45 * arm[0], 0.45 * arm[1]),
                end=(0.8 * arm[0], 0.8 * arm[1]),
                radius_mm=2.2,
                height_mm=9.0,
                z_mm=8.5,
                edge_mm=1.5,
            )
        )
        features.append(
            Feature(
                kind="boss",
                start=arm,
                end=arm,
                radius_mm=width + 2.5,
                height_mm=11.0,
                z_mm=6.0,
                edge_mm=1.2,
            )
        )
        features.append(
            Feature(
                kind="hole", start=arm, end=arm, radius_mm=0.45 * width, height_mm=0.0, edge_mm=0.15
            )
        )
    features.append(
        Feature(
            kind="boss",
            start=hub,
            end=hub,
            radius_mm=BORE_MM + SEALING_MM,
            height_mm=7.0,
            z_mm=-7.0,
            edge_mm=1.0,
        )
    )
    features.append(
        Feature(kind="hole", start=hub, end=hub, radius_mm=BORE_MM, height_mm=0.0, edge_mm=0.15)
    )
    return tuple(features)


def as_cast(features: Iterable[Feature], rng: np.random.Generator) -> tuple[Feature, ...]:
    """One casting of the nominal part: heights by 1.5 %, positions of cores by 0.1 mm."""
    made = []
    for feature in features:
        dx, dy = rng.normal(0.0, 0.1, size=2)
        made.append(
            replace(
                feature,
                start=(feature.start[0] + dx, feature.start[1] + dy),
                end=(feature.end[0] + dx, feature.end[1] + dy),
                height_mm=feature.height_mm * rng.normal(1.0, 0.015),
            )
        )
    return tuple(made)


def grid(size_px: tuple[int, int], pitch_mm: float) -> tuple[Map, Map]:
    """(1, W) and (H, 1): image coordinates of pixel middles in mm from the middle of the image."""
    height, width = size_px
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * np.float32(pitch_mm)
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * np.float32(pitch_mm)
    return x[np.newaxis, :], y[:, np.newaxis]


def thickness(
    features: Iterable[Feature], pose: Pose, size_px: tuple[int, int], pitch_mm: float
) -> Map:
    """(H, W) mm of aluminium along each ray, of the part without tolerances of its surface."""
    plate = np.zeros(size_px, dtype=np.float32)
    above = np.zeros(size_px, dtype=np.float32)
    holes: list[Feature] = []
    for feature in features:
        if feature.kind == "hole":
            holes.append(feature)
            continue
        rows, columns = _box(feature, pose, size_px, pitch_mm)
        raised = np.float32(feature.height_mm) * _inside(
            feature, pose, size_px, pitch_mm, rows, columns, feature.z_mm
        )
        if feature.kind == "plate":
            np.maximum(plate[rows, columns], raised, out=plate[rows, columns])
        else:
            above[rows, columns] += raised
    total = plate + above
    for hole in holes:
        rows, columns = _box(hole, pose, size_px, pitch_mm)
        levels = [0.0] if pose.view.tilt_deg == 0 else np.linspace(*DEPTHS_MM, 24).tolist()
        open_ = sum(
            _inside(hole, pose, size_px, pitch_mm, rows, columns, z) for z in levels
        ) / np.float32(len(levels))
        total[rows, columns] *= 1 - open_
    return np.asarray(total / np.float32(math.cos(pose.tilt)), dtype=np.float32)


def roughen(thickness_mm: Map, pitch_mm: float, rng: np.random.Generator) -> Map:
    """The same with what casting does to a wall: a slow variation of 2 %, and a rough skin.

    The skin is 0.02 mm rms on either side, correlated over 0.4 mm; where there is no part there is
    no skin.
    """
    height, width = thickness_mm.shape
    slow = cv2.resize(
        rng.standard_normal((6, 6), dtype=np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    step = 0.4 / pitch_mm
    coarse = rng.standard_normal(
        (math.ceil(height / step) + 2, math.ceil(width / step) + 2), dtype=np.float32
    )
    skin = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    rough = thickness_mm * (1 + np.float32(0.01) * slow) + np.float32(0.03) * skin * np.minimum(
        thickness_mm, 1.0
    )
    return np.asarray(np.maximum(rough, 0.0), dtype=np.float32)


def zone_at(x: float, y: float) -> Zone:
    """The zone of a point of the part."""
    if math.hypot(x, y) <= BORE_MM + SEALING_MM:
        return "sealing"
    for feature in knuckle():
        if feature.kind in ("boss", "rib"):
            inside = float(distance(feature, np.float32(x), np.float32(y))) <= feature.radius_mm
            if inside:
                return "boss" if feature.kind == "boss" else "rib"
    return "body"


def distance(feature: Feature, x: Map | np.float32, y: Map | np.float32) -> Map:
    """From the capsule's middle line, in mm."""
    (x0, y0), (x1, y1) = feature.start, feature.end
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    px, py = x - np.float32(x0), y - np.float32(y0)
    along = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(length or 1.0), 0, 1)
    return np.asarray(
        np.hypot(px - along * np.float32(dx), py - along * np.float32(dy)), dtype=np.float32
    )


def _inside(
    feature: Feature,
    pose: Pose,
    size_px: tuple[int, int],
    pitch_mm: float,
    rows: slice,
    columns: slice,
    z_mm: float,
) -> Map:
    """1 inside the capsule, 0 outside, smooth over its edge."""
    image_x, image_y = grid(size_px, pitch_mm)
    x, y = pose.lay(image_x[:, columns], image_y[rows], z_mm)
    edge = max(feature.edge_mm, pitch_mm)
    depth = (np.float32(feature.radius_mm) - distance(feature, x, y)) / np.float32(edge) + 0.5
    depth = np.clip(depth, 0.0, 1.0)
    return np.asarray(depth * depth * (3 - 2 * depth), dtype=np.float32)


def _box(
    feature: Feature, pose: Pose, size_px: tuple[int, int], pitch_mm: float
) -> tuple[slice, slice]:
    """Rows and columns that the feature can touch, whatever its depth."""
    reach = feature.radius_mm + feature.edge_mm + pitch_mm
    points = [
        pose.project(x, y, z)
        for x, y in (feature.start, feature.end)
        for z in (feature.z_mm, *DEPTHS_MM)
    ]
    height, width = size_px
    limits = []
    for axis, size in ((1, height), (0, width)):
        low = min(point[axis] for point in points) - reach
        high = max(point[axis] for point in points) + reach
        first = math.floor(low / pitch_mm + (size - 1) / 2)
        last = math.ceil(high / pitch_mm + (size - 1) / 2) + 1
        limits.append(slice(min(max(first, 0), size), min(max(last, 0), size)))
    return limits[0], limits[1]
