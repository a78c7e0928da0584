"""How well the evidence map shows where a defect is, on images whose defects are marked.

    evidence -> local probability, laid on the frame as the overlay draws it -> histograms
             -> pixel AUROC, AUPRO; and the hottest pixel -> pointing game

Pixels are counted into histograms of the log-odds, an image at a time, so that hundreds of large
frames need the memory of one. Pixels of one bin, 1/64 of a log-odd wide, count as equally hot; what
that costs in accuracy is shown in tests/training/measuring/test_heatmap_quality.py.

Sources:
    pixel AUROC, AUPRO: P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec
        anomaly detection dataset", International Journal of Computer Vision 129, 2021, section 4.3;
        AUPRO up to a false positive rate of 0.3, divided by 0.3.
    pointing game: J. Zhang, S. Bargal, Z. Lin, J. Brandt, X. Shen, S. Sclaroff, "Top-down neural
        attention by excitation backprop", International Journal of Computer Vision 126, 2018;
        `pointing_near` with their tolerance of 15 pixels, `pointing_game` without any.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from training.data.regions import region_masks
from training.measuring.evaluation import WHOLE
from training.measuring.intervals import (
    GroupBootstrap,
    clopper_pearson,
    number_groups,
    percentiles,
    rate_interval,
)
from training.measuring.metrics import CONFIDENCE, Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.recipe import Recipe, Region
    from inspection.verdict import Calibration
    from training.evaluate import Predicted
    from training.manifest import Manifest

LOG_ODDS = 16.0  # a local probability beyond this is as good as 0 or 1 in float32
BINS = 2048
FALSE_POSITIVES = 0.3  # up to which AUPRO goes
NEAR_PX = 15  # pixels of the frame from a defect that still count as pointed at
DRAWS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapQuality:
    """Figures of the evidence map of one class, or of all together as the overlay draws them.

    Intervals of the first two are those of a group bootstrap; naive ones draw single images.

    Attributes:
        images: how many were measured on, good ones included.
        marked_images: those with a marked defect.
        regions: marked spots, each a connected one.
        pixel_auroc: chance that a pixel of a defect is hotter than one outside.
        aupro: mean overlap of spots, over false positive rates up to 0.3, from 0 to 1.
        pointing_game: share of marked images whose hottest pixel lies in a defect.
        pointing_near: the same, where `NEAR_PX` pixels beside one count as well.
    """

    images: int
    marked_images: int
    regions: int
    pixel_auroc: Figure
    aupro: Figure
    pointing_game: Figure
    pointing_near: Figure


@dataclass(slots=True)
class Counted:
    """Histograms of one map over images, as they are collected.

    Attributes:
        inside: (BINS,) pixels of defects, an image each.
        outside: (BINS,) all other pixels.
        overlap: (BINS,) sum over the image's regions of the share of the region's pixels.
        regions: how many each image has.
        pointed: how far from a defect the hottest pixel lies, in pixels, 0 within; None for an
            image without one.
    """

    inside: list[NDArray[np.float32]] = field(default_factory=list)
    outside: list[NDArray[np.float32]] = field(default_factory=list)
    overlap: list[NDArray[np.float32]] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)
    pointed: list[float | None] = field(default_factory=list)

    def add(self, heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
        """Count an image.

        Args:
            heat: (H, W) local probability in 0..1.
            mask: (H, W) the defect.
        """
        bins = log_odds_bins(heat)
        self.inside.append(_histogram(bins[mask]))
        self.outside.append(_histogram(bins[~mask]))
        count, spots = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        overlap = np.zeros(BINS, dtype=np.float32)
        if count > 1:
            sizes = np.bincount(spots[mask], minlength=count)
            weight = 1 / sizes[spots[mask]]
            overlap = np.bincount(bins[mask], weights=weight, minlength=BINS).astype(np.float32)
        self.overlap.append(overlap)
        self.regions.append(count - 1)
        hottest = np.unravel_index(int(np.argmax(heat)), heat.shape)
        away = np.argwhere(mask) - np.array(hottest)
        self.pointed.append(float(np.hypot(*away.T).min()) if count > 1 else None)


def heatmap_quality(
    predicted: Predicted,
    manifest: Manifest,
    calibration: Calibration,
    recipe: Recipe,
    *,
    seed: int,
) -> dict[str, HeatmapQuality]:
    """Figures by class, and of the map as it is drawn under `WHOLE`.

    Images whose defect's place is not known are left out; so is a class without a marked image.
    Empty when nothing is marked.

    Args:
        predicted: the engine's answers.
        manifest: the set; its regions are the truth.
        calibration: the package's.
        recipe: for the part of the frame that the map covers.
        seed: of the bootstrap.

    Raises:
        DataError: a mask cannot be used; see `training.data.regions.region_masks`.
    """
    counted: dict[str, Counted] = defaultdict(Counted)
    groups: list[str] = []
    answers = zip(
        predicted.rows.tolist(), predicted.predictions, predicted.frame_sizes_px, strict=True
    )
    column = {name: k for k, name in enumerate(manifest.classes)}
    if not any(manifest.rows[number].marked for number in predicted.rows.tolist()):
        return {}
    for number, prediction, size in answers:
        row = manifest.rows[number]
        masks = region_masks(manifest, row, size)
        if masks is None:
            continue
        groups.append(row.group)
        local = calibration.local(prediction.evidence)
        judged = recipe.judged_region(size)
        counted[WHOLE].add(drawn(local.max(axis=0), judged, size), np.asarray(masks.any(axis=0)))
        for k, name in enumerate(recipe.classes):
            if name in column and len(recipe.classes) > 1:
                counted[name].add(drawn(local[k], judged, size), masks[column[name]])
    return {
        name: quality_of(each, groups, seed=seed)
        for name, each in counted.items()
        if any(each.regions) and any(outside.any() for outside in each.outside)
    }


def drawn(
    local: NDArray[np.float64], judged: Region, size_px: tuple[int, int]
) -> NDArray[np.float64]:
    """(H, W) the map laid on the frame, as `inspection.heatmap.overlay_png` does; 0 beside it.

    In float64, where log-odds of 16 and of 17 still differ: the hottest pixel is one.
    """
    heat = np.zeros(size_px)
    laid = cv2.resize(
        np.clip(local, 0, 1), (judged.width, judged.height), interpolation=cv2.INTER_LINEAR
    )
    heat[judged.top : judged.top + judged.height, judged.left : judged.left + judged.width] = laid
    return heat


def log_odds_bins(heat: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of every pixel; hotter pixels never lie in a lower one."""
    safe = np.clip(heat.astype(np.float32), np.float32(1e-7), np.float32(1 - 1e-7))
    odds = np.log(safe) - np.log1p(-safe)
    place = (odds + np.float32(LOG_ODDS)) * np.float32(BINS / (2 * LOG_ODDS))
    return np.clip(place.astype(np.int64), 0, BINS - 1)


def quality_of(counted: Counted, groups: Sequence[str], *, seed: int) -> HeatmapQuality:
    """The figures of one map.

    Args:
        counted: at least one image with a region.
        groups: of each image.
        seed: of the bootstrap.
    """
    inside, outside = np.stack(counted.inside), np.stack(counted.outside)
    overlap, regions = np.stack(counted.overlap), np.array(counted.regions)
    numbers = number_groups(groups)
    alone = np.arange(len(groups))
    marked = np.array([pointed is not None for pointed in counted.pointed])
    pointed = np.array([np.inf if away is None else away for away in counted.pointed])
    one = np.ones((1, len(groups)))
    auroc, aupro = _areas(one, inside, outside, overlap, regions)
    ranges = []
    for units in (numbers, alone):
        weights = GroupBootstrap(units, seed=seed, draws=DRAWS).weights()
        areas = _areas(weights, inside, outside, overlap, regions)
        ranges.append([percentiles(area[np.isfinite(area)]) for area in areas])

    def area(value: float, which: int) -> Figure:
        (low, high), (naive_low, naive_high) = ranges[0][which], ranges[1][which]
        return Figure(
            value=value,
            low=min(low, naive_low, value),
            high=max(high, naive_high, value),
            naive_low=min(naive_low, value),
            naive_high=max(naive_high, value),
            parts=len(groups),
            groups=len(np.unique(numbers)),
        )

    def pointing(within: NDArray[np.bool_]) -> Figure:
        hits, of = int(within.sum()), int(marked.sum())
        low, high = rate_interval(
            within, marked, numbers, GroupBootstrap(numbers, seed=seed), confidence=CONFIDENCE
        )
        naive_low, naive_high = clopper_pearson(hits, of, confidence=CONFIDENCE)
        return Figure(
            value=hits / of,
            low=low,
            high=high,
            naive_low=naive_low,
            naive_high=naive_high,
            parts=of,
            groups=len(np.unique(numbers[marked])),
            hits=hits,
        )

    return HeatmapQuality(
        images=len(groups),
        marked_images=int(marked.sum()),
        regions=int(regions.sum()),
        pixel_auroc=area(float(auroc[0]), 0),
        aupro=area(float(aupro[0]), 1),
        pointing_game=pointing(pointed == 0),
        pointing_near=pointing(pointed <= NEAR_PX),
    )


def _histogram(bins: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.bincount(bins, minlength=BINS).astype(np.float32)


def _areas(
    weights: NDArray[np.float64],
    inside: NDArray[np.float32],
    outside: NDArray[np.float32],
    overlap: NDArray[np.float32],
    regions: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(d,) pixel AUROC and (d,) AUPRO when each image counts `weights` times; NaN without regions.

    Both by trapezoids over the bins, hottest first: pixels of one bin come at once.
    """
    zero = np.zeros((len(weights), 1))

    def summed(histogram: NDArray[np.float32]) -> NDArray[np.float64]:
        """(d, BINS + 1) cumulated from the hottest bin on, beginning at 0."""
        total = (weights @ histogram)[:, ::-1]
        return np.concatenate([zero, np.cumsum(total, axis=1, dtype=np.float64)], axis=1)

    true, false, covered = summed(inside), summed(outside), summed(overlap)
    with np.errstate(divide="ignore", invalid="ignore"):
        true = true / true[:, -1:]
        false = false / false[:, -1:]
        covered = covered / (weights @ regions)[:, np.newaxis]
    auroc = np.asarray(np.trapezoid(true, false, axis=1))
    aupro = np.array(
        [_area_up_to(x, y, FALSE_POSITIVES) for x, y in zip(false, covered, strict=True)]
    )
    return auroc, aupro / FALSE_POSITIVES


def _area_up_to(x: NDArray[np.float64], y: NDArray[np.float64], end: float) -> float:
    """The area under a curve from 0 to `end`; its last piece is cut where it crosses `end`."""
    place = int(np.searchsorted(x, end, side="right"))  # x[0] is 0 and x[-1] is 1
    if not np.isfinite(x[-1]) or not np.isfinite(y[-1]):
        return float("nan")
    piece = (end - x[place - 1]) / (x[place] - x[place - 1])
    cut = y[place - 1] + piece * (y[place] - y[place - 1])
    return float(np.trapezoid(np.append(y[:place], cut), np.append(x[:place], end)))
