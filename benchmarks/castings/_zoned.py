"""The simulated casting's recipe at a detector's size, and a detector with its calibration.

recipe of a package, zones of the simulated casting -> recipe and reference view at this size
8 dark and 8 open-beam frames                       -> flat field
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.detector.flat_field import FlatField
from inspection.zones.registration import ReferenceView
from training.simulation import casting
from training.simulation.casting import Pose
from training.simulation.defects import grow, missing_mm
from training.simulation.recipe import casting_recipe

if TYPE_CHECKING:
    from inspection.recipe import Recipe
    from training.simulation.physics import Beam, Detector

PORE_MM, PORE_AT = 0.5, (-18.5, 6.0, 0.0)
FRAMES = 8


def zoned(recipe: Recipe, beam: Beam, detector: Detector) -> tuple[Recipe, ReferenceView]:
    """The recipe at this detector's size and pitch, with zones, and the view under them."""
    drawn, files = casting_recipe(recipe.classes, 1, beam=beam, detector=detector)
    made = replace(
        recipe,
        frame_size_px=drawn.frame_size_px,
        pitch_mm=drawn.pitch_mm,
        references=drawn.references,
        zones=drawn.zones,
    )
    (png,) = files.values()
    view = ReferenceView(
        reference=drawn.references[0],
        whole=cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED),
        corner_px=(0, 0),
        size_px=detector.size_px,
        pitch_mm=detector.pitch_mm,
    )
    return made, view


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
