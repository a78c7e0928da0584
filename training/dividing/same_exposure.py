"""Whether two images are one exposure: the same noise, or no more between them than noise.

Two castings of one mould look alike, and so do two solar cells sawn from one ingot. Two copies of
one exposure, re-encoded, rescaled, brightened or moved a little, share more: every grain of their
noise. So the images are brought to one size and place, one is predicted from the other by a tone
curve and a blur, and two figures are taken of their middle, in 25 tiles:

    shared    correlation in the finest band, where noise lives; near 1 for copies, and near 0 for
              two exposures of a smooth part; the lower quartile, lest edges pass for noise
    quiet     the same correlation in the tenth of the image that has the least structure: castings
              in one fixture share their edges everywhere else, and no noise there
    unlike    what the prediction leaves over in the band above, beside what white noise as strong
              as the finest band's would leave there: 1 when only noise was added, several times as
              much when the two things differ in structure; the median

docs/decisions/0007-duplicates.md has the figures behind the limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Grey = NDArray[np.float32]

WORKING_PX = 320  # longer side of the images that are compared, at most
LEAST_PX = 48  # below, there is too little noise to compare
MARGIN_PX = 8  # left out all around: a moved copy has nothing to show there
FARTHEST_PX = 8.0  # a copy is not moved by more
COMPARED_PX = 176  # side of the middle that is compared, margin included: bounds the time
TILES = 5
SMALL_TILES = 10  # to find the quiet ones
FINE, ABOVE = (0.0, 1.0), (1.5, 3.0)  # bands, as sigmas of two Gaussians whose difference they are

SHARED_ALONE = 0.93  # from here on, a tone curve that was not quite undone is forgiven
QUIET_ALONE = 0.6  # but only where the quiet places share as well
SHARED = 0.35
UNLIKE = 1.9
HOPELESS = 6.0  # `unlike` before any blur is tried, from which on none is
LEFT_OVER = 0.05  # share of an image's finest details that a prediction may miss anywhere
UNSHARED = 0.1  # `shared` below which it is hopeless too


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What two images have in common; see above.

    Attributes:
        shared: -1 to 1.
        unlike: 0 upwards; infinite when it was hopeless from the start.
        quiet: -1 to 1.
    """

    shared: float
    unlike: float
    quiet: float

    @property
    def same_exposure(self) -> bool:
        """Whether this can only be one exposure twice."""
        noisy = self.shared >= SHARED and self.unlike <= UNLIKE
        alone = self.shared >= SHARED_ALONE and self.quiet >= QUIET_ALONE
        return noisy or (alone and self.unlike <= HOPELESS)


def likeness(one: Grey, other: Grey) -> Likeness:
    """Compare two grey images, each (H, W) float32 in grey levels, of any size and exposure."""
    a, b = _one_size(one, other)
    if min(a.shape) < LEAST_PX or a.std() == 0 or b.std() == 0:
        return Likeness(shared=0.0, unlike=float("inf"), quiet=0.0)
    a, b = _one_place(_middle(a), _middle(b))
    plain = _compare(a, _predict(a, b, blurs=()))
    if plain.shared >= SHARED_ALONE or plain.unlike > HOPELESS or plain.shared < UNSHARED:
        return plain
    found = (
        plain,
        _compare(a, _predict(a, b, blurs=(0.6, 1.0, 1.7))),
        _compare(b, _predict(b, a, blurs=(0.6, 1.0, 1.7))),
    )
    # Whichever of the two was processed, it is predicted from the other.
    return min(found, key=lambda each: each.unlike if each.shared >= SHARED else float("inf"))


def working_grey(
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32],
) -> Grey:
    """(h, w) float32 grey levels, averaged over areas down to `WORKING_PX` at most."""
    grey = pixels.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    height, width = grey.shape
    scale = WORKING_PX / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return grey


def band(grey: Grey, sigmas: tuple[float, float]) -> Grey:
    """The details between two sizes: a difference of Gaussians."""
    fine, coarse = sigmas
    low = cv2.GaussianBlur(grey, (0, 0), coarse)
    high = grey if fine == 0 else cv2.GaussianBlur(grey, (0, 0), fine)
    return np.asarray(high - low, dtype=np.float32)


def _one_size(one: Grey, other: Grey) -> tuple[Grey, Grey]:
    height = min(one.shape[0], other.shape[0])
    width = min(one.shape[1], other.shape[1])

    def fitted(grey: Grey) -> Grey:
        if grey.shape == (height, width):
            return grey
        small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.float32)

    return fitted(one), fitted(other)


def _one_place(a: Grey, b: Grey) -> tuple[Grey, Grey]:
    """Move `b` onto `a` (phase correlation, to a fraction of a pixel), and cut the margin off."""
    window = cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(band(a, (0.0, 4.0)), band(b, (0.0, 4.0)), window)
    moved = max(abs(right), abs(down))
    if 0.05 < moved <= FARTHEST_PX:
        shift = np.array([[1, 0, -right], [0, 1, -down]], dtype=np.float32)
        b = np.asarray(
            cv2.warpAffine(
                b,
                shift,
                (a.shape[1], a.shape[0]),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT,
            ),
            dtype=np.float32,
        )
    inside = (slice(MARGIN_PX, -MARGIN_PX),) * 2
    return a[inside], b[inside]


def _middle(grey: Grey) -> Grey:
    """The middle that is compared: all of a small image."""
    top, left = (max(0, (length - COMPARED_PX) // 2) for length in grey.shape)
    return grey[top : grey.shape[0] - top, left : grey.shape[1] - left]


def _predict(a: Grey, b: Grey, *, blurs: tuple[float, ...]) -> Grey:
    """`a` out of `b`: least squares over a cubic tone curve and `b` blurred in several ways."""
    x = (b - b.mean()) / (b.std() + np.float32(1e-6))
    square = x * x
    blurred = [cv2.GaussianBlur(x, (0, 0), sigma) for sigma in blurs]
    terms = np.stack([np.ones_like(x), x, square, square * x, *blurred])
    some = terms[:, ::3, ::3].reshape(len(terms), -1).astype(np.float64)  # a ninth tells enough
    middle = float(a.mean())  # 16-bit grey levels would use up the digits of a float32
    factors = np.linalg.lstsq(some.T, a[::3, ::3].ravel() - middle, rcond=None)[0]
    return np.asarray(np.tensordot(factors, terms, axes=1) + middle, dtype=np.float32)


def _compare(a: Grey, predicted: Grey) -> Likeness:
    left = a - predicted
    noise = _tile_deviation(band(left, FINE)) / _white(FINE)
    structure = _tile_deviation(band(left, ABOVE)) / _white(ABOVE)
    # What is left over counts only beside noise, or beside the details that are there.
    floor = 0.3 * float(np.median(noise)) + LEFT_OVER * float(band(a, FINE).std()) + 1e-6
    fine, fine_predicted = band(a, FINE), band(predicted, FINE)
    found, told = _correlations(_tiles(fine), _tiles(fine_predicted))
    return Likeness(
        shared=float(np.quantile(found[told], 0.25)) if told.any() else 0.0,
        unlike=float(np.median(structure / np.maximum(noise, floor))),
        quiet=_quiet(a, fine, fine_predicted),
    )


def _quiet(a: Grey, fine: Grey, fine_predicted: Grey) -> float:
    """Median correlation of the tiles with the least structure; 0 where none has any contrast."""
    found, told = _correlations(_tiles(fine, SMALL_TILES), _tiles(fine_predicted, SMALL_TILES))
    structure = _tile_deviation(band(a, ABOVE), SMALL_TILES)[told]
    if not told.any():
        return 0.0
    least = np.argsort(structure)[: max(len(structure) // 10, 1)]
    return float(np.median(found[told][least]))


@cache
def _white(sigmas: tuple[float, float]) -> float:
    """Deviation of white noise of deviation 1 in this band."""
    noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    return float(band(noise, sigmas).std())


def _tiles(grey: Grey, count: int = TILES) -> Grey:
    """(tiles, pixels of each), float32; `count` of them along a side."""
    height, width = (length // count * count for length in grey.shape)
    blocks = grey[:height, :width].reshape(count, height // count, count, width // count)
    return blocks.transpose(0, 2, 1, 3).reshape(count**2, -1)


def _tile_deviation(grey: Grey, count: int = TILES) -> NDArray[np.float32]:
    return np.asarray(_tiles(grey, count).std(axis=1))


def _correlations(a: Grey, b: Grey) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of each pair of tiles, and whether it has enough contrast to say anything."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    told = size > 1e-6 * a.shape[1]
    return (a * b).sum(axis=1) / np.where(told, size, 1), told
