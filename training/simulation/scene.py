"""One part, as the detector sees it from every side, and everything that is true of it.

    origin -> how many defects of each class -> where -> thickness - what is missing -> signal
      -> image; the same without the defect -> what the defect changed: mask, contrast, CNR

Defects are drawn once for the part, in three dimensions; each view shows them where they fall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from training.simulation import casting
from training.simulation.casting import VIEWS, Pose, View, zone_at
from training.simulation.defects import CLASSES, Defect, DefectClass, grow, missing_mm
from training.simulation.physics import Beam, Detector, blur
from training.simulation.process import Origin, expected, origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.simulation.casting import Feature, Zone

    Map = NDArray[np.float32]

# What is let pass in each zone, mm: the longest void, and the longest of anything else.
ACCEPTED_MM: Final[dict[Zone, tuple[float, float]]] = {
    "sealing": (0.8, 0.4),
    "boss": (1.2, 0.6),
    "rib": (1.8, 0.8),
    "body": (1.8, 0.8),
}
NEVER: Final[frozenset[DefectClass]] = frozenset({"crack", "cold-shut"})
"""Classes that are accepted in no zone and at no size."""

PORES: Final[frozenset[DefectClass]] = frozenset(
    {"gas-porosity", "shrinkage-cavity", "shrinkage-sponge", "inclusion-less-dense"}
)
"""What shows as less metal. One limit holds for all: a radiograph does not tell a small cavity from
a gas pore, and BDG P 202 limits volume deficits whatever they come from."""

MOST_OF_A_CLASS: Final = 12
"""Defects of one class in a part: a bound for moulds that leak."""

MASK_FROM: Final = 0.3
"""A pixel belongs to a defect where it changes the signal by this share of the most it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One defect in one view.

    Attributes:
        contrast: largest change of the signal, relative to the signal around it.
        cnr: the same change, averaged over the mask, over the noise of one pixel there.
        mask: (h, w) bool at `top`, `left` of the image; all False where it leaves no trace.
        length_mm: of the mask, from end to end: what a reader of a radiograph without noise would
            measure, and what it is accepted or refused by.
    """

    defect: int
    contrast: float
    cnr: float
    top: int
    left: int
    mask: NDArray[np.bool_]
    length_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One view of a part. `image` is (H, W) uint16 as it leaves the detector."""

    view: View
    pose: Pose
    image: NDArray[np.uint16]
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One part, its defects and its views."""

    origin: Origin
    defects: tuple[Defect, ...]
    zones: tuple[Zone, ...]
    shots: tuple[Shot, ...]

    def rejectable(self, number: int) -> bool:
        """Whether this defect is more than its zone allows, in any view."""
        name, zone = self.defects[number].defect_class, self.zones[number]
        return any(rejectable(name, zone, shot.seen[number].length_mm) for shot in self.shots)

    @property
    def classes(self) -> tuple[DefectClass, ...]:
        """Classes of the defects for which the part must be refused, in the order of CLASSES."""
        bad = {each.defect_class for n, each in enumerate(self.defects) if self.rejectable(n)}
        return tuple(name for name in CLASSES if name in bad)


def rejectable(name: DefectClass, zone: Zone, length_mm: float) -> bool:
    """Whether a defect that shows itself so long is more than its zone allows."""
    pore, other = ACCEPTED_MM[zone]
    if name in NEVER:
        return True
    return length_mm > (pore if name in PORES else other)


def make_scene(
    number: int,
    seed: int,
    *,
    beam: Beam,
    detector: Detector,
    views: Sequence[View] = VIEWS[:1],
    least_rate: float = 0.0,
) -> Scene:
    """Part `number` of the set that `seed` stands for; the same two always give the same bits.

    Of each class at least `least_rate` defects are expected in it, whatever the process makes.
    """
    rng = np.random.default_rng([seed, number])
    origin = origin_of(number, rng)
    features = casting.as_cast(casting.knuckle(), rng)
    defects = tuple(_defects(origin, features, rng, least_rate))
    zones = tuple(zone_at(*each.at_mm[:2]) for each in defects)
    drift = float(8 * math.sin(number / 90) + rng.normal(0, 1))
    shots = tuple(
        _shoot(features, defects, view, rng, beam=beam, detector=detector, drift=drift)
        for view in views
    )
    return Scene(origin=origin, defects=defects, zones=zones, shots=shots)


def place_in(features: Sequence[Feature], rng: np.random.Generator) -> tuple[float, float, float]:
    """A point inside the metal, each square millimetre as likely as any other."""
    while True:
        x, y = rng.uniform(-45, 45, size=2)
        x32, y32 = np.float32(x), np.float32(y)
        in_hole = False
        inside: Feature | None = None
        for feature in features:
            distance = float(casting.distance(feature, x32, y32))
            if feature.kind == "hole":
                in_hole = in_hole or distance < feature.radius_mm + 0.8
            elif distance < feature.radius_mm - 0.8 and (inside is None or rng.uniform() < 0.5):
                inside = feature
        if inside is not None and not in_hole:
            half = 0.35 * inside.height_mm
            return float(x), float(y), float(inside.z_mm + rng.uniform(-half, half))


def _defects(
    origin: Origin, features: Sequence[Feature], rng: np.random.Generator, least_rate: float
) -> list[Defect]:
    return [
        grow(name, place_in(features, rng), rng)
        for name, rate in expected(origin, least_rate).items()
        for _ in range(min(int(rng.poisson(rate)), MOST_OF_A_CLASS))
    ]


def _shoot(
    features: Sequence[Feature],
    defects: Sequence[Defect],
    view: View,
    rng: np.random.Generator,
    *,
    beam: Beam,
    detector: Detector,
    drift: float,
) -> Shot:
    pose = Pose(
        view=view,
        turn_deg=float(rng.normal(0, 0.6)),
        shift_mm=(float(rng.normal(0, 0.6)), float(rng.normal(0, 0.6))),
    )
    size, pitch = detector.size_px, detector.pitch_mm
    whole = casting.roughen(casting.thickness(features, pose, size, pitch), pitch, rng)
    holed = whole.copy()
    shadows = [missing_mm(each, pose, size, pitch) for each in defects]
    for shadow, rows, columns in shadows:
        holed[rows, columns] -= shadow
    np.maximum(holed, 0.0, out=holed)
    signal = beam.signal(holed, pitch)
    image = detector.expose(signal, beam.quanta, rng, drift=drift)
    seen = tuple(trace_of(n, shadow, whole, beam, detector) for n, shadow in enumerate(shadows))
    return Shot(view=view, pose=pose, image=image, seen=seen)


def length_px(mask: NDArray[np.bool_]) -> float:
    """From end to end of a (h, w) mask: the largest distance of two pixels, and one; 0 if empty."""
    if not mask.any():
        return 0.0
    hull = cv2.convexHull(cv2.findNonZero(mask.astype(np.uint8)))[:, 0].astype(np.float64)
    return float(np.linalg.norm(hull[:, None] - hull[None], axis=2).max()) + 1.0


def trace_of(
    number: int,
    shadow: tuple[Map, slice, slice],
    whole: Map,
    beam: Beam,
    detector: Detector,
) -> Seen:
    """What a defect changes in a view: its mask, its contrast, its contrast to noise.

    Args:
        number: of the defect in its part.
        shadow: what `missing_mm` gives for it.
        whole: (H, W) mm of aluminium without defects.
        beam: that it is seen by.
        detector: that it is seen on.
    """
    missing, rows, columns = shadow
    empty = Seen(
        defect=number,
        contrast=0.0,
        cnr=0.0,
        top=rows.start,
        left=columns.start,
        mask=np.zeros(missing.shape, dtype=np.bool_),
        length_mm=0.0,
    )
    if missing.size == 0:
        return empty
    around = whole[rows, columns]
    before = beam.transmission(around)
    sigma = math.hypot(beam.focal_blur_mm, detector.blur_mm) / detector.pitch_mm
    change = blur(beam.transmission(np.maximum(around - missing, 0.0)) - before, sigma)
    most = float(np.abs(change).max())
    if most <= 0:
        return empty
    mask = np.abs(change) >= MASK_FROM * most
    level = float(before[mask].mean())
    noise = detector.noise_of(level, beam.quanta)
    return Seen(
        defect=number,
        contrast=most / level,
        cnr=float(np.abs(change[mask]).mean()) / noise,
        top=rows.start,
        left=columns.start,
        mask=mask,
        length_mm=length_px(mask) * detector.pitch_mm,
    )
