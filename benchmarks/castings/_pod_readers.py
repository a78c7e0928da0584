"""Readers of a site whose answers can be computed: what pod.py holds the product against.

    pixels less the true background, or plain pixels -> filter for the pore's own picture
      -> the most over all places within 1 mm, in standard deviations of the noise

A matched filter is C^-1 s for a picture s in noise of covariance C, and d' = sqrt(s' C^-1 s) is how
far it stands out at its place (S. Kay, "Fundamentals of Statistical Signal Processing: Detection
Theory", 1998, section 4.4). No linear reader is better, and in normal noise no reader at all.

C, between pixels of one site after flat-fielding, relative to the open beam:

    quanta         signal / quanta, blurred by the detector: its kernel's correlation with itself
    calibration    the same of the open beam's frames that were averaged, times the signal squared
    electronics    white
    skin           of the casting: measured on castings without pores     where it is not given
    level, slope   anything at all                                        where it is not given
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from training.simulation import casting
from training.simulation.physics import blur
from training.simulation.writing import CALIBRATION_FRAMES

if TYPE_CHECKING:
    from training.simulation.physics import Beam, Detector

HALF_PX = 10
SIDE_PX = 2 * HALF_PX + 1
ANYTHING = 1e3
"""Times the noise: the spread of a level or a slope of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a filter says of one site.

    Attributes:
        most: over all places that are searched.
        here: at the true place.
        d_prime: what `here` is expected to be where the pore is.
    """

    most: float
    here: float
    d_prime: float


class Matched:
    """The filter for one covariance of the noise.

    Args:
        covariance: (n, n) between the pixels of SIDE_PX x SIDE_PX, row after row.
    """

    def __init__(self, covariance: np.ndarray) -> None:
        self._whitener = np.linalg.inv(np.linalg.cholesky(covariance))

    def answer(self, site: np.ndarray, picture: np.ndarray) -> Answer:
        """Of a site.

        Args:
            site: (h, w) pixels; the places searched are those where the filter fits in.
            picture: (SIDE_PX, SIDE_PX) what the pore adds, at the middle of the site.
        """
        white = self._whitener @ picture.ravel()
        d_prime = float(np.linalg.norm(white))
        weights = (self._whitener.T @ white / d_prime).reshape(picture.shape)
        found = cv2.filter2D(site, cv2.CV_64F, weights)  # a correlation, its anchor in the middle
        inside = found[HALF_PX:-HALF_PX, HALF_PX:-HALF_PX]
        row, column = (side // 2 for side in inside.shape)
        return Answer(most=float(inside.max()), here=float(inside[row, column]), d_prime=d_prime)


def noise_covariance(beam: Beam, detector: Detector, signal: float) -> np.ndarray:
    """Between the pixels of a site at this signal, with everything given but chance."""
    sigma = detector.blur_mm / detector.pitch_mm
    point = np.zeros((2 * SIDE_PX + 1, 2 * SIDE_PX + 1), np.float32)
    point[SIDE_PX, SIDE_PX] = 1
    spread = np.fft.rfft2(blur(point, sigma).astype(np.float64))
    together = np.fft.fftshift(np.fft.irfft2(np.abs(spread) ** 2, s=point.shape))
    quanta = signal / beam.quanta * (1 + signal / CALIBRATION_FRAMES)
    electronics = (detector.electronics / detector.open_level) ** 2
    electronics *= 1 + 1 / CALIBRATION_FRAMES
    white = np.eye(SIDE_PX**2) * electronics
    return quanta * _between(together) + white


def blind_covariance(beam: Beam, detector: Detector, signal: float) -> np.ndarray:
    """The same for a reader who is not told the casting's skin, nor its level and slope here."""
    size = (512, 512)
    together = np.zeros((2 * SIDE_PX + 1, 2 * SIDE_PX + 1))
    for seed in range(8):
        rng = np.random.default_rng([99, seed])
        plate = np.full(size, casting.PLATE_MM, np.float32)
        rough = casting.roughen(plate, detector.pitch_mm, rng)
        skin = beam.signal(rough, detector.pitch_mm)
        skin = blur(skin, detector.blur_mm / detector.pitch_mm)
        skin = skin - cv2.GaussianBlur(skin, (0, 0), 15)
        power = np.abs(np.fft.rfft2(skin.astype(np.float64))) ** 2 / skin.size
        seen = np.fft.fftshift(np.fft.irfft2(power, s=size))
        middle = size[0] // 2
        cut = slice(middle - SIDE_PX, middle + SIDE_PX + 1)
        together += seen[cut, cut] / 8
    known = noise_covariance(beam, detector, signal)
    axis = (np.arange(SIDE_PX) - HALF_PX) / HALF_PX
    x, y = (each.ravel() for each in np.meshgrid(axis, axis))
    anything = ANYTHING**2 * known[0, 0]
    planes = sum(np.outer(each, each) for each in (np.ones_like(x), x, y, x * y, x * x, y * y))
    return known + _between(together) + anything * planes


def _between(together: np.ndarray) -> np.ndarray:
    """(n, n) between the pixels of a site, from the correlation at every distance."""
    at = np.arange(SIDE_PX)
    rows, columns = (each.ravel() for each in np.meshgrid(at, at, indexing="ij"))
    down = rows[:, None] - rows + SIDE_PX
    across = columns[:, None] - columns + SIDE_PX
    return np.asarray(together[down, across])
