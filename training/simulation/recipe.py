"""The simulated casting's recipe: one good casting to align to, zones over it, what they let pass.

one good casting laid straight, 16 exposures averaged, flat-fielded -> reference.png of each view
zones and their rules (training/simulation/zones.py)                -> recipe.toml
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.detector.flat_field import OPEN_LEVEL
from inspection.recipe import Recipe
from inspection.zones.reference import Reference
from training.simulation import casting
from training.simulation.casting import VIEWS, Pose
from training.simulation.process import PRODUCT
from training.simulation.zones import casting_zones

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.zones.shapes import Rule, Zone
    from training.simulation.casting import View
    from training.simulation.physics import Beam, Detector

AVERAGED: Final = 16
"""Exposures of the good casting."""

REFERENCE_SEED: Final = 4711
"""Of that casting: one like all others, with a casting's own tolerances."""


def casting_recipe(
    classes: tuple[str, ...], views: int, *, beam: Beam, detector: Detector
) -> tuple[Recipe, dict[str, bytes]]:
    """The recipe for a set of these classes and so many views, and its reference views as PNG.

    A recipe of one class, `defect`, cannot tell a pore from a crack: what it allows is what zones
    let pass of anything but pores.
    """
    seen = VIEWS[:views]
    several = views > 1
    half_mm = tuple(0.5 * side * detector.pitch_mm for side in detector.size_px)
    files: dict[str, bytes] = {}
    references: list[Reference] = []
    zones: list[Zone] = []
    for view in seen:
        name = f"reference-{view.name}.png" if several else "reference.png"
        _, png = cv2.imencode(".png", reference_image(beam, detector, view))
        files[name] = png.tobytes()
        references.append(
            Reference(
                file=name,
                sha256=hashlib.sha256(files[name]).hexdigest(),
                view=view.name if several else None,
            )
        )
        zones += casting_zones(view, (half_mm[0], half_mm[1]), named=several)
    recipe = Recipe(
        product=PRODUCT,
        modality="x-ray",
        bits=16,
        channels=1,
        input_size_px=detector.size_px,
        window=(0.0, float(2**16 - 1)),
        classes=classes,
        frame_size_px=detector.size_px,
        views=tuple(view.name for view in seen) if several else None,
        flat_field=True,
        pitch_mm=detector.pitch_mm,
        references=tuple(references),
        zones=tuple(replace(zone, rules=_known(zone.rules, classes)) for zone in zones),
    )
    return recipe, files


def reference_image(beam: Beam, detector: Detector, view: View = VIEWS[0]) -> NDArray[np.uint16]:
    """(H, W) uint16, flat-fielded: a good casting laid straight, `AVERAGED` exposures."""
    rng = np.random.default_rng(REFERENCE_SEED)
    features = casting.as_cast(casting.knuckle(), rng)
    size, pitch = detector.size_px, detector.pitch_mm
    pose = Pose(view=view)
    metal = casting.roughen(casting.thickness(features, pose, size, pitch), pitch, rng)
    corrected = replace(
        detector,
        open_level=OPEN_LEVEL,
        offset_level=0.0,
        electronics=detector.electronics / AVERAGED**0.5,
        gain_spread=0.0,
        offset_spread=0.0,
        bad_share=0.0,
    )
    return corrected.expose(beam.signal(metal, pitch), AVERAGED * beam.quanta, rng)


def _known(rules: tuple[Rule, ...], classes: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules as far as they are for these classes."""
    found = []
    for rule in rules:
        named = tuple(name for name in rule.defects if name in classes)
        if named or not rule.defects:
            found.append(replace(rule, defects=named))
    return tuple(found)
