"""The zones of the simulated casting as a recipe draws them, with what each lets pass.

features of the nominal part -> outlines, seen from a view -> Zone, with the rules of ACCEPTED_MM

Strictest first: where a boss and a rib overlap, the boss counts, while `casting.zone_at` says rib.
From the side a defect's depth is not known, so a zone covers all the places where its metal shows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.zones.shapes import Rule, Zone
from training.simulation.casting import BORE_MM, DEPTHS_MM, PLATE_MM, SEALING_MM, Pose, knuckle
from training.simulation.defects import CLASSES
from training.simulation.scene import ACCEPTED_MM, NEVER, PORES

if TYPE_CHECKING:
    from training.simulation.casting import View
    from training.simulation.casting import Zone as ZoneName

AROUND: Final = 48
"""Corners of a full turn of an outline."""

SEALED: Final = (DEPTHS_MM[0], PLATE_MM / 2)
"""From the lowest to the highest metal of the hub."""


def casting_zones(view: View, half_mm: tuple[float, float], *, named: bool) -> tuple[Zone, ...]:
    """Sealing ring, bosses, ribs, and the body as all the rest of the view.

    Args:
        view: which the zones are drawn over.
        half_mm: half the height and half the width of the reference view.
        named: whether the recipe has several views, so that each zone names its own.
    """
    kinds = {"boss": 0, "rib": 0}
    outlines: list[tuple[str, ZoneName, tuple[tuple[float, float], ...]]] = []
    for feature in knuckle():
        if feature.kind not in kinds or feature.start == (0.0, 0.0):
            continue
        kinds[feature.kind] += 1
        top = min(feature.z_mm + feature.height_mm / 2, DEPTHS_MM[1])
        zone: ZoneName = "boss" if feature.kind == "boss" else "rib"
        name = f"{zone}-{kinds[zone]}"
        outline = _outline(feature.start, feature.end, feature.radius_mm)
        outlines.append((name, zone, _seen(outline, view, (-PLATE_MM / 2, top))))
    outlines.sort(key=lambda each: each[1])  # bosses before ribs
    ring = _outline((0.0, 0.0), (0.0, 0.0), BORE_MM + SEALING_MM)
    outlines.insert(0, ("sealing", "sealing", _seen(ring, view, SEALED)))
    down, across = half_mm
    frame = ((-across, -down), (across, -down), (across, down), (-across, down))
    outlines.append(("body", "body", frame))
    return tuple(
        Zone(
            name=name,
            polygon=polygon,
            rules=casting_rules(zone),
            view=view.name if named else None,
        )
        for name, zone, polygon in outlines
    )


def casting_rules(zone: ZoneName) -> tuple[Rule, ...]:
    """What `ACCEPTED_MM` and `NEVER` say of a zone, as rules.

    A sponge's pores are sized one by one, and its extent is often missed (docs/decisions/0021), so
    no rule removes one, although the truth lets a short one pass.
    """
    pore, other = ACCEPTED_MM[zone]
    never = {*NEVER, "shrinkage-sponge"}
    return (
        Rule(
            defects=tuple(name for name in CLASSES if name in PORES and name not in never),
            largest_mm=pore,
        ),
        Rule(defects=tuple(name for name in CLASSES if name in never), largest_mm=0.0),
        Rule(largest_mm=other),
    )


def _outline(
    start: tuple[float, float], end: tuple[float, float], radius_mm: float
) -> list[tuple[float, float]]:
    """Around a capsule, in part coordinates; outside the curve, never inside it."""
    along = math.atan2(end[1] - start[1], end[0] - start[0])
    reach = radius_mm / math.cos(math.pi / AROUND)
    return [
        (x + reach * math.cos(along + angle), y + reach * math.sin(along + angle))
        for (x, y), begin in ((end, -math.pi / 2), (start, math.pi / 2))
        for angle in np.linspace(begin, begin + math.pi, AROUND // 2 + 1).tolist()
    ]


def _seen(
    outline: list[tuple[float, float]], view: View, depths_mm: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """The hull of an outline at both depths, in mm from the middle of the view."""
    pose = Pose(view=view)
    points = np.array([pose.project(x, y, z) for z in depths_mm for x, y in outline])
    hull = cv2.convexHull(np.rint(100 * points).astype(np.int32))[:, 0]
    return tuple((x / 100, y / 100) for x, y in hull.tolist())
