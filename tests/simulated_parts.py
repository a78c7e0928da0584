"""Simulated castings with a pose and defects of one's own choosing, small enough to be quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection.recipe import Recipe
from inspection.zones.reference import Reference
from inspection.zones.registration import ReferenceView
from training.simulation import casting
from training.simulation.casting import VIEWS, Pose
from training.simulation.defects import CLASSES, grow, missing_mm
from training.simulation.physics import Beam, Detector
from training.simulation.zones import casting_zones

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.simulation.casting import Feature
    from training.simulation.defects import Defect

SIZE_PX = 512
PITCH_MM = 0.2
HALF_MM = (SIZE_PX * PITCH_MM / 2, SIZE_PX * PITCH_MM / 2)
PLAIN = Detector(
    size_px=(SIZE_PX, SIZE_PX), pitch_mm=PITCH_MM, gain_spread=0, offset_spread=0, bad_share=0
)
"""As a flat-fielded detector is: no pattern of its own."""


def radiograph(
    pose: Pose,
    *,
    seed: int = 0,
    defects: Sequence[Defect] = (),
    features: Sequence[Feature] | None = None,
    as_cast: bool = True,
    detector: Detector = PLAIN,
    quanta: float = 240_000.0,
) -> NDArray[np.uint16]:
    """(H, W) uint16 of one casting; nominal to the micrometre when it is not `as_cast`."""
    rng = np.random.default_rng([seed, 99])
    shapes = tuple(casting.knuckle() if features is None else features)
    if as_cast:
        shapes = casting.as_cast(shapes, rng)
    size, pitch = detector.size_px, detector.pitch_mm
    metal = casting.roughen(casting.thickness(shapes, pose, size, pitch), pitch, rng)
    for defect in defects:
        shadow, rows, columns = missing_mm(defect, pose, size, pitch)
        metal[rows, columns] -= shadow
    beam = Beam(quanta=quanta)
    return detector.expose(beam.signal(np.maximum(metal, 0), pitch), beam.quanta, rng)


def pore(at_mm: tuple[float, float, float], size_mm: float, *, seed: int = 0) -> Defect:
    """A gas pore of this largest extent."""
    return grow("gas-porosity", at_mm, np.random.default_rng(seed), size_mm=size_mm)


def reference_view(reference: Reference | None = None, *, seed: int = 1000) -> ReferenceView:
    """The front view of a good casting in its nominal pose."""
    return ReferenceView(
        reference=reference or Reference(file="reference.png", sha256="0" * 64),
        whole=radiograph(Pose(), seed=seed, as_cast=False, quanta=1e6),
        corner_px=(0, 0),
        size_px=(SIZE_PX, SIZE_PX),
        pitch_mm=PITCH_MM,
    )


def casting_recipe() -> Recipe:
    """One view, the zones of the simulated casting and what they let pass."""
    return Recipe(
        product="knuckle",
        modality="x-ray",
        bits=16,
        channels=1,
        input_size_px=(SIZE_PX, SIZE_PX),
        window=(0, 65535),
        classes=CLASSES,
        frame_size_px=(SIZE_PX, SIZE_PX),
        pitch_mm=PITCH_MM,
        references=(Reference(file="reference.png", sha256="0" * 64),),
        zones=casting_zones(VIEWS[0], HALF_MM, named=False),
    )
