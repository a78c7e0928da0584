"""The simulated casting's recipe with its zones, and a detector with its calibration.

one good casting laid straight, 16 exposures averaged, flat-fielded -> reference view
zones and what they let pass (training/simulation/zones.py)         -> recipe
8 dark and 8 open-beam frames                                       -> flat field
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from inspection.detector.flat_field import OPEN_LEVEL, FlatField
from inspection.zones.reference import Reference
from inspection.zones.registration import ReferenceView
from training.simulation import casting
from training.simulation.casting import VIEWS, Pose
from training.simulation.defects import grow, missing_mm
from training.simulation.zones import casting_zones

if TYPE_CHECKING:
    from inspection.recipe import Recipe
    from inspection.zones.shapes import Rule
    from training.simulation.physics import Beam, Detector

PORE_MM, PORE_AT = 0.5, (-18.5, 6.0, 0.0)
AVERAGED = 16
FRAMES = 8
REFERENCE_SEED = 4711
"""Of the part on the reference view: one like all others, with a casting's own tolerances."""


def zoned(recipe: Recipe, beam: Beam, detector: Detector) -> tuple[Recipe, ReferenceView]:
    """The recipe at this detector's size and pitch, with zones, and the view they are drawn over.

    A recipe of one class, `defect`, cannot tell a pore from a crack: what it allows is what zones
    let pass of anything but pores.
    """
    whole = reference_image(beam, detector)
    reference = Reference(file="reference.png", sha256=hashlib.sha256(whole.tobytes()).hexdigest())
    height, width = detector.size_px
    half_mm = (0.5 * height * detector.pitch_mm, 0.5 * width * detector.pitch_mm)
    made = replace(
        recipe,
        frame_size_px=detector.size_px,
        pitch_mm=detector.pitch_mm,
        references=(reference,),
        zones=tuple(
            replace(zone, rules=_known(zone.rules, recipe.classes))
            for zone in casting_zones(VIEWS[0], half_mm, named=False)
        ),
    )
    view = ReferenceView(
        reference=reference,
        whole=whole,
        corner_px=(0, 0),
        size_px=detector.size_px,
        pitch_mm=detector.pitch_mm,
    )
    return made, view


def _known(rules: tuple[Rule, ...], classes: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules as far as they are for these classes."""
    found = []
    for rule in rules:
        named = tuple(name for name in rule.defects if name in classes)
        if named or not rule.defects:
            found.append(replace(rule, defects=named))
    return tuple(found)


def reference_image(beam: Beam, detector: Detector) -> np.ndarray:
    """(H, W) uint16, flat-fielded: a good casting laid straight, `AVERAGED` exposures."""
    rng = np.random.default_rng(REFERENCE_SEED)
    features = casting.as_cast(casting.knuckle(), rng)
    size, pitch = detector.size_px, detector.pitch_mm
    metal = casting.roughen(casting.thickness(features, Pose(), size, pitch), pitch, rng)
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


def with_a_pore(beam: Beam, detector: Detector) -> np.ndarray:
    """(H, W) uint16, raw: a casting with a gas pore of `PORE_MM` in its plate, a little askew."""
    rng = np.random.default_rng(3)
    features = casting.as_cast(casting.knuckle(), rng)
    pose = Pose(turn_deg=0.5, shift_mm=(0.4, -0.3))
    size, pitch = detector.size_px, detector.pitch_mm
    metal = casting.roughen(casting.thickness(features, pose, size, pitch), pitch, rng)
    pore = grow("gas-porosity", PORE_AT, rng, size_mm=PORE_MM)
    shadow, rows, columns = missing_mm(pore, pose, size, pitch)
    metal[rows, columns] -= shadow
    return detector.expose(beam.signal(np.maximum(metal, 0), pitch), beam.quanta, rng)


def calibrated(beam: Beam, detector: Detector) -> FlatField:
    """The detector's flat field, from frames of its own."""
    rng = np.random.default_rng(1)
    dark, bright = (
        np.mean(
            [
                detector.expose(np.full(detector.size_px, level, np.float32), beam.quanta, rng)
                for _ in range(FRAMES)
            ],
            axis=0,
        ).astype(np.float32)
        for level in (0.0, 1.0)
    )
    gain = bright - dark
    bad = np.abs(gain / np.median(gain) - 1) > 0.5
    return FlatField(
        station="xray-1",
        detector=None,
        offset=dark,
        gain=np.where(bad, np.median(gain), gain).astype(np.float32),
        bad=bad,
        made_at="2026-01-01T00:00:00+00:00",
        digest="0" * 64,
    )
