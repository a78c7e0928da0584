"""What lies in a region of a frame, outlined at full resolution and measured in millimetres.

    window of the frame, the reference view moved under it -> logarithms, their difference
      -> slow rest taken away -> blurred finely and coarsely -> over 5 noises, and over what an edge
         of the casting may do: a seed -> grown to 30 % of its peak, or 3 noises -> Outline
      -> neighbours joined -> Indication: length, guard

The reference view is the background: walls, ribs and holes go away with it, to within the tolerance
of the casting's edges; in the logarithm a pore of d mm is mu d in thick and in thin places. The
length is the longest Feret diameter, the largest distance between two points of the outline, as a
caliper would find it on the shadow. Two that are nearer to each other than the shorter one is long
count as one. What does not stand out of noise and edges is not found, and what runs into an edge is
not measured: no rule can then allow it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.zones.gaps import gap
from inspection.zones.medians import median_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.zones.placement import Placement
    from inspection.zones.registration import ReferenceView

    Map = NDArray[np.float32]
    Mask = NDArray[np.bool_]

SCALES_PX: Final = (1.0, 3.0)
"""Standard deviations of the blurs that seeds are looked for in: compact ones, and diffuse ones."""

SEED: Final = 5.0
GROWN: Final = 3.0
"""In standard deviations of the noise, as it is after the blur."""

OF_PEAK: Final = 0.3
"""An indication ends where its contrast falls to this share of its peak."""

GUARD_PX: Final = 1.0
GUARD_SHARE: Final = 0.1
"""Guard band: one pixel and a tenth of the length; the spread is in docs/decisions/0021."""

FOLLOW_MM: Final = 1.2
FOLLOW_STEPS: Final = 3
UNFOLLOWED: Final = 0.2
"""The share of what an edge may do within its tolerance that is left once it was followed."""

RIDGE: Final = 2e-5
"""Squared slope of the logarithm a pixel, below which nothing is an edge to follow."""

HIDDEN: Final = 0.5
UNSURE: Final = 0.1
"""Where an edge may do half of an indication's peak, the indication may go on unseen; it may do so
along this share of its border, which the guard band covers."""

SLOW_MM: Final = 3.0
"""Standard deviation of the blur that levels the difference: what is wider is no indication."""

EDGE_BLUR_PX: Final = 2.0
"""Of the reference, before it is asked for its edges: its noise is none."""

DARKEST: Final = 1.0
MOST_OUTLINES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rectangle of the judged region, in its pixels; rows and columns as slices."""

    rows: slice
    columns: slice

    @classmethod
    def around(
        cls, box: tuple[int, int, int, int], margin: int, size_px: tuple[int, int]
    ) -> Window:
        """(top, left, bottom, right) and a margin, cut at the region's edges."""
        top, left, bottom, right = box
        return cls(
            rows=slice(max(top - margin, 0), min(bottom + margin, size_px[0])),
            columns=slice(max(left - margin, 0), min(right + margin, size_px[1])),
        )

    @property
    def size_px(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Indication:
    """One thing that stands out, or several that are counted as one.

    Attributes:
        outline_px: (n, 2) corners (x, y) of its convex hull, in pixels of the judged region.
        size_mm: its longest extent; two standard deviations of its error are `guard_mm`.
        guard_mm: by how much it may be longer.
        contrast: at its peak, relative; above 0 where the frame is brighter than the reference.
        to_noise: the same over the noise after the blur.
        open: it runs into an edge of the casting or of the window: it may be longer by any amount.
    """

    outline_px: NDArray[np.float64]
    size_mm: float
    guard_mm: float
    contrast: float
    to_noise: float
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """One area that stands out, in pixels of its window.

    Attributes:
        hull: (n, 2) corners (x, y) of its convex hull, through the middles of its pixels.
        contrast: at its peak; above 0 where the frame is brighter than the reference.
        to_noise: the same over the noise after the blur.
        cut: the share of the peak at which it ends.
        open: it runs into an edge of the casting or of the window, so its length is not known.
    """

    hull: NDArray[np.float64]
    contrast: float
    to_noise: float
    cut: float
    open: bool


def difference(
    pixels: Map, view: ReferenceView, placement: Placement, window: Window
) -> tuple[Map, Map]:
    """What the frame shows and the reference view does not, and what an edge may do by itself.

    Args:
        pixels: (H, W) or (H, W, 3) the judged region, as `register` takes it.
        view: of the recipe.
        placement: of the part against it.
        window: of the judged region.

    Returns:
        (h, w) difference of the logarithms without its slow part, and (h, w) the largest
        difference that walls and edges within their tolerances can make.
    """
    seen = _logarithm(pixels[window.rows, window.columns])
    height, width = seen.shape
    matrix = placement.region_matrix(view.corner_px)
    matrix[:, 2] -= (window.columns.start, window.rows.start)
    wanted = cv2.warpAffine(
        view.logarithm, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    wanted = _followed(seen, np.asarray(wanted, dtype=np.float32), view)
    reach = 2 * math.ceil(view.reference.edge_mm / view.pitch_mm) + 1
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    smooth = cv2.GaussianBlur(wanted, (0, 0), EDGE_BLUR_PX)
    span = np.maximum(cv2.dilate(smooth, around) - smooth, smooth - cv2.erode(smooth, around))
    edges = np.maximum(np.float32(UNFOLLOWED) * span, np.float32(view.reference.least_contrast))
    edges = edges.astype(np.float32)
    return _levelled(seen - wanted, edges, SLOW_MM / view.pitch_mm), edges


def indications(
    contrast: Map, edges: Map, within: Mask, window: Window, pitch_mm: float
) -> list[Indication]:
    """What stands out and is seeded inside `within`, neighbours joined, longest first.

    Args:
        contrast: of `difference`.
        edges: of `difference`.
        within: (h, w) where they may be seeded.
        window: of `contrast` in the judged region.
        pitch_mm: size of a pixel on the part.
    """
    groups = [[outline] for outline in outlines(contrast, edges, within)]
    crowded = len(groups) >= MOST_OUTLINES  # there may be more, so none is known to be all
    joined = not crowded  # as none of them is allowed then, nothing is to be joined
    while joined:
        joined = False
        for i, j in combinations(range(len(groups)), 2):
            a, b = _hull(groups[i]), _hull(groups[j])
            if gap(a, b) < min(feret_px(a), feret_px(b)):
                groups[i] += groups.pop(j)
                joined = True
                break
    corner = np.array([window.columns.start, window.rows.start], dtype=np.float64)
    found = [_measured(group, corner, pitch_mm, crowded=crowded) for group in groups]
    return sorted(found, key=lambda each: -each.size_mm)


def outlines(contrast: Map, edges: Map, within: Mask) -> list[Outline]:
    """The areas that stand out, seeded inside `within`.

    Args:
        contrast: of `difference`.
        edges: of `difference`.
        within: (h, w) where they may be seeded.
    """
    found: list[Outline] = []
    taken = np.zeros(contrast.shape, dtype=np.bool_)
    for sigma in SCALES_PX:
        blurred = np.asarray(cv2.GaussianBlur(contrast, (0, 0), sigma), dtype=np.float32)
        noise = _noise(blurred, sigma)
        need = np.maximum(np.float32(SEED) * noise, edges / np.float32(HIDDEN))
        for sign in (1.0, -1.0):
            level = np.float32(sign) * blurred
            seeds = np.where(within & (level > need), level, 0.0)
            while len(found) < MOST_OUTLINES:
                seeds[taken] = 0.0
                at = np.unravel_index(int(np.argmax(seeds)), seeds.shape)
                peak = float(seeds[at])
                if peak <= 0:
                    break
                cut = max(OF_PEAK * peak, GROWN * float(noise[at]), float(edges.min()))
                over = (level >= np.maximum(edges, np.float32(cut))).astype(np.uint8)
                _, labels = cv2.connectedComponents(over, connectivity=8)
                area = labels == labels[at]
                if not taken[area].any():
                    found.append(_outline(area, edges, cut, sign * peak, peak / float(noise[at])))
                taken |= cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return found


def feret_px(hull: NDArray[np.float64]) -> float:
    """The longest distance across an outline, pixels' own width included."""
    apart = np.linalg.norm(hull[:, np.newaxis] - hull[np.newaxis], axis=2)
    return float(apart.max()) + 1.0


def _hull(group: list[Outline]) -> NDArray[np.float64]:
    points = np.concatenate([outline.hull for outline in group]).astype(np.float32)
    return np.asarray(cv2.convexHull(points)[:, 0], dtype=np.float64)


def _measured(
    group: list[Outline], corner: NDArray[np.float64], pitch_mm: float, *, crowded: bool
) -> Indication:
    hull = _hull(group)
    strongest = max(group, key=lambda outline: outline.to_noise)
    # What an ellipsoid loses when it is cut off at a share of its peak: 1 - (r / R)^2 = share^2.
    lost = math.sqrt(1 - min(strongest.cut, 0.95) ** 2)
    size_mm = feret_px(hull) * pitch_mm / lost
    return Indication(
        outline_px=hull + corner,
        size_mm=size_mm,
        guard_mm=GUARD_PX * pitch_mm + GUARD_SHARE * size_mm,
        contrast=strongest.contrast,
        to_noise=strongest.to_noise,
        open=crowded or any(outline.open for outline in group),
    )


def _outline(area: Mask, edges: Map, cut: float, contrast: float, to_noise: float) -> Outline:
    wider = cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    hidden = edges[wider & ~area] > HIDDEN * abs(contrast)
    rows, columns = np.nonzero(area)
    height, width = area.shape
    points = np.stack([columns, rows], axis=1).astype(np.int32)
    outside = (
        rows.min() == 0
        or columns.min() == 0
        or rows.max() == height - 1
        or columns.max() == width - 1
    )
    return Outline(
        hull=cv2.convexHull(points)[:, 0].astype(np.float64),
        contrast=contrast,
        to_noise=to_noise,
        cut=cut / abs(contrast),
        open=bool(outside or hidden.mean() > UNSURE),
    )


def _logarithm(pixels: Map) -> Map:
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    return np.asarray(
        cv2.log(np.maximum(grey.astype(np.float32), np.float32(DARKEST))), dtype=np.float32
    )


def _levelled(difference: Map, edges: Map, slow_px: float) -> Map:
    """Without its slow part, a mean in which edges and what stands out weigh less."""
    weight = np.asarray(1 / (1 + np.square(edges / 0.01)), dtype=np.float32)
    rest = difference - median_of(difference)
    for _ in range(2):
        spread = 1.4826 * float(median_of(np.abs(rest))) + 1e-6
        robust = weight / (1 + np.square(rest / np.float32(2.385 * spread)))
        slow = _wide(robust * difference, slow_px) / (_wide(robust, slow_px) + np.float32(1e-6))
        rest = difference - slow
    return np.asarray(rest, dtype=np.float32)


def _followed(seen: Map, wanted: Map, view: ReferenceView) -> Map:
    """The reference with its edges moved to where this casting has them, each by a little.

    Ribs, bosses and holes of a casting lie a little off by themselves. Lucas and Kanade's flow
    (1981) in windows of `FOLLOW_MM`, held back where there is no edge (ridge), and never by more
    than the edges' tolerance; Cauchy's weights keep a defect from pulling its surroundings.
    """
    height, width = seen.shape
    most = view.reference.edge_mm / view.pitch_mm
    window = FOLLOW_MM / view.pitch_mm
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    flow_x, flow_y = np.zeros_like(x), np.zeros_like(y)
    moved = wanted
    for _ in range(FOLLOW_STEPS):
        rest = _levelled(seen - moved, np.zeros_like(seen), SLOW_MM / view.pitch_mm)
        smooth = cv2.GaussianBlur(moved, (0, 0), 1.0)
        slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        # In pixels that it would take: a defect on flat metal asks for far more than an edge may.
        steep = slope_x**2 + slope_y**2
        asked = np.abs(rest) / np.sqrt(steep + np.float32(RIDGE))
        weight = 1 / (1 + np.square(asked / np.float32(max(most, 0.5))))
        xx, xy, yy, bx, by = (
            _wide(weight * each, window)
            for each in (slope_x**2, slope_x * slope_y, slope_y**2, slope_x * rest, slope_y * rest)
        )
        xx, yy = xx + np.float32(RIDGE), yy + np.float32(RIDGE)
        scale = xx * yy - xy * xy
        flow_x = np.clip(flow_x + (yy * bx - xy * by) / scale, -most, most).astype(np.float32)
        flow_y = np.clip(flow_y + (xx * by - xy * bx) / scale, -most, most).astype(np.float32)
        moved = np.asarray(
            cv2.remap(
                wanted, x + flow_x, y + flow_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
            dtype=np.float32,
        )
    return moved


def _wide(image: Map, sigma: float) -> Map:
    """Gaussian blur, on a smaller image where the blur is wide."""
    height, width = image.shape
    shrink = max(1, int(sigma / 3))
    size = (max(1, width // shrink), max(1, height // shrink))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    wide = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide, dtype=np.float32)


def _noise(blurred: Map, sigma: float) -> Map:
    """Local standard deviation of what is finer than three blurs; edges and defects are capped."""
    band = cv2.absdiff(blurred, cv2.GaussianBlur(blurred, (0, 0), 3 * sigma))
    cap = 4 * float(median_of(band))
    mean = cv2.blur(np.minimum(band, np.float32(cap)), (41, 41))
    return np.asarray(math.sqrt(math.pi / 2) * mean + 1e-6, dtype=np.float32)
