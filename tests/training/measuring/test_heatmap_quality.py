"""Figures of the evidence map agree with their definitions, and with what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection.engine import Prediction
from inspection.heatmap import overlay_png
from inspection.recipe import Recipe, Region
from inspection.verdict import Calibration
from tests.labelled_sets import bare_manifest
from training.data.regions import DefectRegion
from training.data.rows import Row
from training.evaluate import Predicted
from training.measuring.evaluation import WHOLE
from training.measuring.heatmap_quality import (
    Counted,
    drawn,
    heatmap_quality,
    log_odds_bins,
    quality_of,
)

Maps = list[NDArray[np.float64]]
Masks = list[NDArray[np.bool_]]
SQUARE = ((8.0, 8.0), (16.0, 8.0), (16.0, 16.0), (8.0, 16.0))


def figures(heats: Maps, masks: Masks, groups: list[str] | None = None) -> dict[str, float]:
    counted = Counted()
    for heat, mask in zip(heats, masks, strict=True):
        counted.add(heat, mask)
    names = groups or [str(i) for i in range(len(heats))]
    found = quality_of(counted, names, seed=0)
    for figure in (found.pixel_auroc, found.aupro, found.pointing_game, found.pointing_near):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
    return {
        "auroc": found.pixel_auroc.value,
        "aupro": found.aupro.value,
        "pointing": found.pointing_game.value,
        "near": found.pointing_near.value,
    }


def brute_aupro(heats: Maps, masks: Masks, end: float = 0.3) -> float:
    """By the definition: every value is a threshold, every region counts the same."""
    heat, mask = np.stack(heats), np.stack(masks)
    regions = []
    for number, each in enumerate(masks):
        count, spots = cv2.connectedComponents(each.astype(np.uint8), connectivity=8)
        regions += [heat[number][spots == spot] for spot in range(1, count)]
    outside = heat[~mask]
    x, y = [0.0], [0.0]
    for threshold in np.unique(heat)[::-1]:
        x.append(float((outside >= threshold).mean()))
        y.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    grid = np.union1d(np.array(x), [end])
    return float(np.trapezoid(np.interp(grid, x, y)[grid <= end], grid[grid <= end]) / end)


def noisy(seed: int, count: int = 6) -> tuple[Maps, Masks]:
    """Maps in which defects are warmer than the rest, on the average."""
    generator = np.random.default_rng(seed)
    heats, masks = [], []
    for number in range(count):
        mask = np.zeros((40, 48), dtype=np.bool_)
        if number % 3:
            mask[4:9, 5:15] = True
            mask[20 : 20 + 3 * number, 30:34] = True
        odds = cv2.GaussianBlur(generator.normal(-2, 3, mask.shape), (0, 0), 1.5) + 1.2 * mask
        heats.append((1 / (1 + np.exp(-odds))).astype(np.float64))
        masks.append(mask)
    return heats, masks


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_agree_with_all_pixels_at_once(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    heats, masks = noisy(seed)
    found = figures(heats, masks)
    exact = roc_auc_score(np.stack(masks).ravel(), np.stack(heats).ravel())
    assert found["auroc"] == pytest.approx(exact, abs=1e-3)
    assert found["aupro"] == pytest.approx(brute_aupro(heats, masks), abs=2e-3)
    right = [
        bool(mask[np.unravel_index(heat.argmax(), heat.shape)])
        for heat, mask in zip(heats, masks, strict=True)
        if mask.any()
    ]
    assert found["pointing"] == np.mean(right)


def test_known_maps_get_known_figures() -> None:
    mask = np.zeros((30, 30), dtype=np.bool_)
    mask[10:14, 10:20] = True
    right = np.where(mask, 0.9, 0.1)
    assert figures([right], [mask]) == pytest.approx(
        {"auroc": 1, "aupro": 1, "pointing": 1, "near": 1}
    )
    assert figures([1 - right], [mask]) == pytest.approx(
        {"auroc": 0, "aupro": 0, "pointing": 0, "near": 1}
    )
    # Equally hot everywhere: the curve is the diagonal, whose area up to 0.3 is 0.045.
    found = figures([np.full((30, 30), 0.5)], [mask])
    assert found["auroc"] == pytest.approx(0.5)
    assert found["aupro"] == pytest.approx(0.15)


def test_to_point_beside_a_defect_counts_within_15_pixels() -> None:
    mask = np.zeros((60, 60), dtype=np.bool_)
    mask[10:14, 10:20] = True
    for column, within in ((19, 1), (20, 0), (34, 0), (35, 0)):
        heat = np.full((60, 60), 0.1)
        heat[12, column] = 0.9
        found = figures([heat], [mask])
        assert found["pointing"] == within
        assert found["near"] == float(column < 35)


def test_the_hottest_pixel_is_one_however_sure_the_map_is() -> None:
    evidence = np.full((1, 8, 8), 17.0, np.float32)
    evidence[0, 5, 6] = 19.0
    local = CALIBRATION.local(np.repeat(evidence, 2, axis=0))[0]
    heat = drawn(local, Region(left=0, top=0, width=32, height=32), (32, 32))
    row, column = divmod(int(heat.argmax()), 32)
    assert (row // 4, column // 4) == (5, 6)


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[2:22, 2:22], mask[30:32, 30:32] = True, True
    large_alone = np.zeros((40, 40))
    large_alone[2:22, 2:22] = 0.9
    # Half of the overlap at once; the other half comes along the diagonal from there.
    assert figures([large_alone], [mask])["aupro"] == pytest.approx(0.5 + 0.5 * 0.15)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
@settings(max_examples=100)
def test_hotter_pixels_never_lie_in_a_lower_bin(values: list[float]) -> None:
    heat = np.sort(np.array(values))
    assert (np.diff(log_odds_bins(heat)) >= 0).all()


def test_images_of_one_lot_are_worth_less_than_as_many_lots() -> None:
    generator = np.random.default_rng(3)
    heats, masks = [], []
    for number in range(40):
        mask = np.zeros((20, 20), dtype=np.bool_)
        mask[5:9, 5:9] = True
        strength = 3 if number // 10 % 2 else -1
        odds = generator.normal(0, 1, mask.shape) + strength * mask
        heats.append((1 / (1 + np.exp(-odds))).astype(np.float64))
        masks.append(mask)
    counted = Counted()
    for heat, mask in zip(heats, masks, strict=True):
        counted.add(heat, mask)
    found = quality_of(counted, [f"lot-{number // 10}" for number in range(40)], seed=0)
    for figure in (found.pixel_auroc, found.aupro):
        assert figure.high - figure.low > 1.5 * (figure.naive_high - figure.naive_low)


def test_the_measured_map_is_the_one_that_is_drawn() -> None:
    """The overlay of a black frame shows the colour of the same heat, pixel by pixel."""
    local = np.random.default_rng(0).random((5, 6))
    judged = Region(top=3, left=4, height=40, width=60)
    heat = drawn(local, judged, (48, 70))
    frame = _Frame(pixels=np.zeros((48, 70), np.uint8), size_px=(48, 70))
    picture = cv2.imdecode(
        np.frombuffer(overlay_png(frame, local, judged, alpha=1.0), np.uint8),  # type: ignore[arg-type]
        cv2.IMREAD_COLOR,
    )
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    expected = (colour * heat[..., np.newaxis]).astype(np.uint8)
    assert picture is not None
    assert np.abs(picture.astype(int) - expected.astype(int)).max() <= 1


class _Frame:
    """As much of a frame as the overlay looks at."""

    def __init__(self, *, pixels: NDArray[np.uint8], size_px: tuple[int, int]) -> None:
        self.pixels = pixels
        self.size_px = size_px


def marked_set(labels: list[str], regions: bool = True) -> list[Row]:
    return [
        Row(
            path=f"{i}.png",
            sha256=f"{i:064x}",
            label=label,
            part=str(i),
            group=str(i // 2),
            regions=tuple(
                DefectRegion(defect=name, polygon=SQUARE)
                for name in (label.split(";") if label != "good" and regions else ())
            ),
        )
        for i, label in enumerate(labels)
    ]


RECIPE = Recipe(
    product="KN-42",
    modality="vision",
    bits=8,
    channels=1,
    input_size_px=(32, 32),
    window=(0, 255),
    classes=("crack", "void"),
)
CALIBRATION = Calibration(slope=(1.0, 1.0), intercept=(0.0, 0.0))


def answers(rows: list[Row]) -> Predicted:
    """Maps of 8 x 8 cells that are hot at the square of the label's classes."""
    predictions = []
    for row in rows:
        evidence = np.full((2, 8, 8), -5, np.float32)
        for k, name in enumerate(RECIPE.classes):
            if name in row.defects:
                evidence[k, 2:4, 2:4] = 5
        scores = evidence.max(axis=(1, 2))
        predictions.append(Prediction(scores=scores, evidence=evidence, novelty=0.1))
    return Predicted(
        rows=np.arange(len(rows)),
        predictions=tuple(predictions),
        frame_sizes_px=((32, 32),) * len(rows),
    )


def test_classes_and_the_whole_are_measured() -> None:
    rows = marked_set(["good", "crack", "void", "crack;void", "good", "crack"])
    manifest = bare_manifest(rows, ("crack", "void"))
    found = heatmap_quality(answers(rows), manifest, CALIBRATION, RECIPE, seed=0)
    assert set(found) == {WHOLE, "crack", "void"}
    assert found[WHOLE].images == 6
    assert (found["crack"].marked_images, found["void"].marked_images) == (3, 2)
    assert found["crack"].pointing_game.hits == 3
    assert found[WHOLE].pixel_auroc.value > 0.95


def test_images_whose_defect_has_no_known_place_are_left_out() -> None:
    rows = marked_set(["good", "crack", "void"])
    rows[2] = replace(rows[2], regions=())
    manifest = bare_manifest(rows, ("crack", "void"))
    found = heatmap_quality(answers(rows), manifest, CALIBRATION, RECIPE, seed=0)
    assert found[WHOLE].images == 2
    assert "void" not in found


def test_a_set_without_marks_has_no_figures(tmp_path: Path) -> None:
    rows = marked_set(["good", "crack"], regions=False)
    manifest = bare_manifest(rows, ("crack",))
    assert heatmap_quality(answers(rows), manifest, CALIBRATION, RECIPE, seed=0) == {}
