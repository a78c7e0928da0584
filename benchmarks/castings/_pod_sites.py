"""Castings with round gas pores of known diameter in the thin zone, and castings without.

tolerances, pose, skin -> thickness -> less the pores -> signal -> detector -> raw image
  the same without the pores -> true background; the difference -> each pore's true picture
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.simulation import casting
from training.simulation.casting import Pose
from training.simulation.defects import Body, Defect, missing_mm
from training.simulation.physics import Beam, Detector, blur
from training.simulation.scene import trace_of

PITCH_MM = 0.1
BEAM, DETECTOR = Beam(), Detector(pitch_mm=PITCH_MM)
ANGLES = (5, 23, 41, 124, 142, 160, 178, 257, 275, 293)  # between the arms, 6 mm apart and more
RADIUS_MM = 20.1  # between the sealing ring and the edge of the hub
SITES = [(RADIUS_MM * math.cos(a), RADIUS_MM * math.sin(a)) for a in map(math.radians, ANGLES)]
SMALLEST_MM, LARGEST_MM = 0.12, 2.0
SEED = 77


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """One casting.

    Attributes:
        raw: (H, W) uint16, as it leaves the detector.
        background: (H, W) noise-free, relative to the open beam, without the pores.
        pictures: (H, W) what the pores add to it, or would add.
        diameters: (n,) mm, of the pores that are there, or would be.
        cnr: (n,) contrast to noise of each, as truth.jsonl has it.
        places: (row, column) of the pixel in the middle of each site.
    """

    raw: np.ndarray
    background: np.ndarray
    pictures: np.ndarray
    diameters: np.ndarray
    cnr: np.ndarray
    places: tuple[tuple[int, int], ...]


def exposed(number: int, *, with_pores: bool) -> Exposed:
    """Casting `number`; the same one with pores and without is never drawn: give other numbers."""
    rng = np.random.default_rng([SEED, number])
    pose = Pose(
        turn_deg=float(rng.normal(0, 0.6)),
        shift_mm=(float(rng.normal(0, 0.6)), float(rng.normal(0, 0.6))),
    )
    features = casting.as_cast(casting.knuckle(), rng)
    whole = casting.thickness(features, pose, DETECTOR.size_px, PITCH_MM)
    whole = casting.roughen(whole, PITCH_MM, rng)
    diameters = np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_MM), len(SITES)))
    shadow, cnr = np.zeros_like(whole), []
    for diameter, site in zip(diameters.tolist(), SITES, strict=True):
        missing = missing_mm(pore(diameter, site), pose, DETECTOR.size_px, PITCH_MM)
        shadow[missing[1:]] += missing[0]
        cnr.append(trace_of(0, missing, whole, BEAM, DETECTOR).cnr)
    clean = BEAM.signal(whole, PITCH_MM)
    change = BEAM.signal(np.maximum(whole - shadow, 0), PITCH_MM) - clean
    raw = DETECTOR.expose(clean + change * with_pores, BEAM.quanta, rng)
    sigma = DETECTOR.blur_mm / PITCH_MM
    return Exposed(
        raw=raw,
        background=blur(clean, sigma),
        pictures=blur(change, sigma),
        diameters=diameters,
        cnr=np.array(cnr),
        places=tuple(middle(pose.project(*site, 0.0)) for site in SITES),
    )


def pore(diameter: float, at: tuple[float, float]) -> Defect:
    """A round one in the middle of the plate."""
    place, half = (*at, 0.0), diameter / 2
    body = Body(at_mm=place, half_axes_mm=(half, half, half))
    return Defect(defect_class="gas-porosity", at_mm=place, size_mm=diameter, bodies=(body,))


def middle(at_mm: tuple[float, float]) -> tuple[int, int]:
    """(row, column) of the pixel at a place of the image in mm from its middle."""
    row, column = (
        round(each / PITCH_MM + (side - 1) / 2)
        for each, side in zip(reversed(at_mm), DETECTOR.size_px, strict=True)
    )
    return row, column


def cut(image: np.ndarray, at: tuple[int, int], half: int) -> np.ndarray:
    """The square around a pixel, float64."""
    row, column = at
    return image[row - half : row + half + 1, column - half : column + half + 1].astype(np.float64)
