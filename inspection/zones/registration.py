"""The part in a frame aligned to the reference view, or a refusal with the figures.

    pixels -> logarithm, shrunk -> band-pass: edges of the part, not its levels
      -> a few turns, the shift by FFT correlation
      -> Gauss-Newton with robust weights, at half size, then at full size
      -> agreement of the aligned structure -> Placement
           too little, also after a search of all turns -> Unjudgeable, wrong-part
           enough, but too far off                      -> Unjudgeable, misaligned

The fine step is the inverse compositional algorithm (S. Baker and I. Matthews, "Lucas-Kanade 20
years on", IJCV 56, 2004) over shift, turn and scale; gain and offset of the levels are solved in
every step, and Cauchy's weights keep defects and flat-field differences from pulling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.errors import RecipeError, Unjudgeable
from inspection.zones.medians import median_of
from inspection.zones.placement import Placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from inspection.zones.reference import Reference

    Map = NDArray[np.float32]

FINE_PX: Final = 256
"""Longer side of what is aligned; a fraction of its pixel is what comes out."""

BAND_PX: Final = (0.8, 6.0)
"""Standard deviations of the two blurs whose difference is the structure."""

STEP_DEG: Final = 2.0
BEYOND_DEG: Final = 3.0
"""How far past the largest turn that is allowed the first search goes, so as to measure it."""

MOST_STEPS: Final = 30
ENOUGH_PX: Final = 0.005
TILES: Final = 8
LEAST_STRUCTURE: Final = 0.01
"""Standard deviation of the structure, in relative grey levels: below it, nothing is to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceView:
    """A reference view made ready to align frames to.

    Attributes:
        reference: what the recipe says of it.
        whole: (H, W) or (H, W, 3) grey levels of the view, as it was decoded.
        corner_px: (x, y) of the judged region in it.
        size_px: (height, width) of that region.
        pitch_mm: size of a pixel on the part.
    """

    reference: Reference
    whole: NDArray[np.uint8] | NDArray[np.uint16]
    corner_px: tuple[int, int]
    size_px: tuple[int, int]
    pitch_mm: float
    structure: Map = field(init=False)
    halved: Map = field(init=False)
    slopes: tuple[Map, Map] = field(init=False)
    logarithm: Map = field(init=False)
    spectra: dict[float, Map] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        left, top = self.corner_px
        height, width = self.size_px
        levels = self.whole[top : top + height, left : left + width].astype(np.float32)
        structure = structure_of(levels)
        if float(structure.std()) < LEAST_STRUCTURE:
            raise RecipeError(
                f"{self.reference.file}: nothing is to be seen on the reference view",
                remedy="Use an image of a good part, exposed as the parts will be.",
            )
        object.__setattr__(self, "structure", structure)
        object.__setattr__(self, "halved", _halved(structure))
        object.__setattr__(self, "slopes", (_slopes(self.halved), _slopes(structure)))
        grey = levels if levels.ndim == 2 else levels.mean(axis=2)
        object.__setattr__(
            self,
            "logarithm",
            np.asarray(cv2.log(np.maximum(grey, np.float32(1.0))), dtype=np.float32),
        )

    def turned(self, turn_deg: float) -> Map:
        """Spectrum of the small structure turned about its middle; kept for the next frame."""
        found = self.spectra.get(turn_deg)
        if found is None:
            found = self.spectra[turn_deg] = _turned(self.halved, turn_deg)
        return found


def structure_of(pixels: Map) -> Map:
    """(h, w) band-passed logarithm of grey levels, the longer side at most `FINE_PX`.

    Where the beam's law holds, it does not depend on the exposure, and hardly on the flat field.
    """
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    height, width = grey.shape
    shrink = min(1.0, FINE_PX / max(height, width))
    size = (max(16, round(width * shrink)), max(16, round(height * shrink)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    levels = cv2.log(np.maximum(small, np.float32(1.0)))
    fine, coarse = (cv2.GaussianBlur(levels, (0, 0), sigma) for sigma in BAND_PX)
    return np.asarray(fine - coarse, dtype=np.float32)


def register(pixels: Map, view: ReferenceView) -> Placement:
    """How the part lies against the reference view.

    Args:
        pixels: the judged region of the frame at full resolution, flat-fielded if need be.
        view: to align it to.

    Raises:
        Unjudgeable: of another size; `wrong-part`: no pose agrees with the reference view;
            `misaligned`: one does, but it is shifted, turned or scaled past what the recipe
            allows, or so that a part of it lies outside the frame.
    """
    allowed = view.reference
    if pixels.shape[:2] != view.size_px:
        raise Unjudgeable(
            f"the frame is {pixels.shape[1]} x {pixels.shape[0]} pixels, the reference view "
            f"{view.size_px[1]} x {view.size_px[0]}",
            reason="misaligned",
        )
    structure = structure_of(pixels)
    reach = allowed.max_turn_deg + BEYOND_DEG
    placement = _align(structure, view, np.arange(-reach, reach + 0.1, STEP_DEG), keep=True)
    if placement.agreement < allowed.least_agreement:
        # Only now, because it costs: it may be the right part lying quite differently.
        anyhow = _align(structure, view, np.arange(-180.0, 180.0, 2 * STEP_DEG), keep=False)
        if anyhow.agreement > placement.agreement:
            placement = anyhow
    if not placement.agreement >= allowed.least_agreement:
        raise Unjudgeable(
            f"it does not look like the reference view {allowed.file}: agreement "
            f"{placement.agreement:.2f} (at least {allowed.least_agreement:g})",
            reason="wrong-part",
        )
    shift = math.hypot(*placement.shift_mm)
    for value, most, what in (
        (shift, allowed.max_shift_mm, f"shifted by {shift:.2f} mm, at most"),
        (abs(placement.turn_deg), allowed.max_turn_deg, f"turned by {placement.turn_deg:.2f} deg,"),
        (abs(placement.scale - 1), allowed.max_scale, f"{placement.scale:.3f} times as large,"),
    ):
        if not value <= most:
            limit = f"{most:g}" if "mm" in what else f"at most {most:g}"
            raise Unjudgeable(f"the part is {what} {limit}", reason="misaligned")
    if placement.unseen:
        raise Unjudgeable(
            f"part of what the reference view shows lies outside the frame, "
            f"{placement.unseen} of {TILES**2} tiles: {placement.in_words()}",
            reason="misaligned",
        )
    return placement


def _align(structure: Map, view: ReferenceView, turns: Iterable[float], *, keep: bool) -> Placement:
    """The best of these turns, refined."""
    small = _halved(structure)
    seen = cv2.dft(small / max(float(np.linalg.norm(small)), 1e-9), flags=cv2.DFT_COMPLEX_OUTPUT)
    best = (-math.inf, 0.0, 0, 0)
    height, width = small.shape
    for turn in turns:
        wanted = view.turned(turn) if keep else _turned(view.halved, turn)
        product = cv2.mulSpectrums(seen, wanted, 0, conjB=True)
        correlation = cv2.idft(product, flags=cv2.DFT_REAL_OUTPUT | cv2.DFT_SCALE)
        _, peak, _, (x, y) = cv2.minMaxLoc(correlation)
        if peak > best[0]:
            dx, dy = x - width * (x > width // 2), y - height * (y > height // 2)
            best = (peak, float(turn), dx, dy)
    _, turn, dx, dy = best
    start = _matrix((dx, dy, math.radians(turn), 0.0), (height, width))
    near = _refine(small, view.halved, view.slopes[0], start)
    twice = np.diag([structure.shape[1] / width, structure.shape[0] / height, 1.0])
    middles = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # of pixels, from their corners
    larger = np.linalg.inv(middles) @ twice @ middles
    nearer = larger @ near @ np.linalg.inv(larger)
    matrix = _refine(structure, view.structure, view.slopes[1], nearer)
    return _placed(matrix, structure, view)


def _refine(
    structure: Map, reference: Map, slopes: Map, matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, 3) from pixels of the reference to those of the frame, from one nearby."""
    size = structure.shape
    wanted = reference.reshape(-1)
    floor = 0.1 * float(wanted.std())
    for _ in range(MOST_STEPS):
        moved, covered = _warped(structure, matrix)
        seen, inside = moved.reshape(-1), covered.reshape(-1)
        weight, rest = inside, np.zeros_like(wanted)
        for _ in range(2):
            gain, offset = _levels(seen, wanted, weight)
            rest = gain * seen + offset - wanted
            spread = max(1.4826 * float(median_of(np.abs(rest[::7]))), floor)
            weight = inside / (1 + np.square(rest / (2.385 * spread)))
        weighted = slopes * weight
        normal = np.einsum("in,jn->ij", weighted, slopes).astype(np.float64)
        normal[np.diag_indices(4)] += 1e-6 * np.trace(normal) + 1e-12
        step = np.linalg.solve(normal, np.einsum("in,n->i", weighted, rest).astype(np.float64))
        step[2:] = np.clip(step[2:], -0.1, 0.1)
        matrix = matrix @ np.linalg.inv(_matrix(tuple(step), size))
        if np.abs(step * (1, 1, size[1] / 2, size[1] / 2)).max() < ENOUGH_PX:
            break
    return matrix


def _placed(matrix: NDArray[np.float64], structure: Map, view: ReferenceView) -> Placement:
    # One strong defect on a plain part must not make it another part.
    strongest = 4 * float(view.structure.std())
    moved, covered = _warped(np.clip(structure, -strongest, strongest), matrix)
    tiles = list(_tiles(moved, view.structure, covered))
    rows, columns = structure.shape
    height, width = view.size_px
    middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
    shift = matrix[:2, :2] @ middle + matrix[:2, 2] - middle
    frame_height, frame_width = view.whole.shape[:2]
    left, top = view.corner_px
    return Placement(
        turn_deg=math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])),
        shift_mm=(
            float(shift[0]) * width / columns * view.pitch_mm,
            float(shift[1]) * height / rows * view.pitch_mm,
        ),
        scale=math.hypot(matrix[0, 0], matrix[1, 0]),
        agreement=_agreement(moved, view.structure, covered),
        worst_agreement=min((each for each in tiles if each is not None), default=-1.0),
        pitch_mm=view.pitch_mm,
        pivot_px=(left + (width - 1) / 2, top + (height - 1) / 2),
        origin_px=((frame_width - 1) / 2, (frame_height - 1) / 2),
        unseen=tiles.count(None),
    )


def _tiles(moved: Map, wanted: Map, covered: Map) -> Iterable[float | None]:
    """Agreement in each tile that shows much of the part; None where it lies outside the frame."""
    rows, columns = wanted.shape
    much = 0.5 * float(wanted.std())
    for i in range(TILES):
        for j in range(TILES):
            tile = (
                slice(i * rows // TILES, (i + 1) * rows // TILES),
                slice(j * columns // TILES, (j + 1) * columns // TILES),
            )
            if wanted[tile].std() > much:
                seen = covered[tile].mean() > 0.5
                yield _agreement(moved[tile], wanted[tile], covered[tile]) if seen else None


def _agreement(moved: Map, wanted: Map, covered: Map) -> float:
    """Pearson's correlation over the pixels that are covered; 0 where nothing varies."""
    inside = covered > 0
    a, b = moved[inside].astype(np.float64), wanted[inside].astype(np.float64)
    if a.size < 2:
        return 0.0
    a -= a.mean()
    b -= b.mean()
    spread = math.sqrt(_dot(a, a) * _dot(b, b))
    return _dot(a, b) / spread if spread > 0 else 0.0


def _dot(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Their inner product, on this thread: BLAS wakes others, which costs more than the sum."""
    return float(np.einsum("n,n->", a, b))


def _levels(seen: Map, wanted: Map, weight: Map) -> tuple[float, float]:
    """Gain and offset that bring `seen` nearest to `wanted`, by weighted least squares."""
    total = max(float(weight.sum()), 1e-9)
    mean_seen, mean_wanted = _dot(weight, seen) / total, _dot(weight, wanted) / total
    centred = seen - np.float32(mean_seen)
    weighted = weight * centred
    gain = _dot(weighted, wanted - np.float32(mean_wanted)) / max(_dot(weighted, centred), 1e-12)
    return gain, mean_wanted - gain * mean_seen


def _warped(structure: Map, matrix: NDArray[np.float64]) -> tuple[Map, Map]:
    """The frame's structure where the reference has it, and 1 where there is some."""
    height, width = structure.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(structure, matrix[:2], (width, height), flags=how)
    ones = np.ones_like(structure)
    covered = cv2.warpAffine(
        ones, matrix[:2], (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(moved, dtype=np.float32), np.asarray(covered, dtype=np.float32)


def _matrix(pose: tuple[float, ...], size: tuple[int, ...]) -> NDArray[np.float64]:
    """(3, 3) of a shift in pixels, a turn in radians about the middle, and the log of a scale."""
    dx, dy, turn, log_scale = pose
    c, s = math.exp(log_scale) * math.cos(turn), math.exp(log_scale) * math.sin(turn)
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.array([[c, -s, x + dx - c * x + s * y], [s, c, y + dy - s * x - c * y], [0, 0, 1]])


def _slopes(structure: Map) -> Map:
    """(4, n) change of each pixel with shift x, shift y, turn and log-scale."""
    height, width = structure.shape
    dx = cv2.Sobel(structure, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(structure, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    x = np.arange(width, dtype=np.float32)[np.newaxis] - np.float32((width - 1) / 2)
    y = np.arange(height, dtype=np.float32)[:, np.newaxis] - np.float32((height - 1) / 2)
    stacked = np.stack([dx, dy, x * dy - y * dx, x * dx + y * dy])
    return np.asarray(stacked.reshape(4, -1), dtype=np.float32)


def _halved(structure: Map) -> Map:
    height, width = structure.shape
    size = (width // 2, height // 2)
    return np.asarray(cv2.resize(structure, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _turned(small: Map, turn_deg: float) -> Map:
    height, width = small.shape
    about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn_deg, 1.0)
    turned = cv2.warpAffine(small, about, (width, height))
    even = np.asarray(turned, dtype=np.float32) / max(float(np.linalg.norm(turned)), 1e-9)
    return np.asarray(
        cv2.dft(even.astype(np.float32), flags=cv2.DFT_COMPLEX_OUTPUT), dtype=np.float32
    )
