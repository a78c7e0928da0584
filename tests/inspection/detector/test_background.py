"""What is slow goes, what is small stays; a recipe that says nothing of it is what it was."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inspection.detector.background import Background, remove_background
from inspection.errors import RecipeError, Unjudgeable
from inspection.recipe import Recipe, Region, dump_recipe, parse_recipe, prepare
from tests.panels import Panel, frame_of

RECIPE = Recipe(
    product="KN-42",
    modality="x-ray",
    bits=16,
    channels=1,
    input_size_px=(128, 160),
    window=(0, 65535),
    classes=("pore",),
)
AS_BEFORE = """\
product = "KN-42"
revision = 1
modality = "x-ray"
bits = 16
channels = 1
input_size_px = [
    128,
    160,
]
window = [
    0.0,
    65535.0,
]
classes = [
    "pore",
]
flips = []
"""
CONTRAST = replace(RECIPE, background=Background(), window=(-0.05, 0.05))


def test_recipes_of_before_keep_their_text_and_digest() -> None:
    assert dump_recipe(RECIPE) == AS_BEFORE
    assert RECIPE.digest == hashlib.sha256(AS_BEFORE.encode()).hexdigest()
    assert RECIPE.digest == "e23d7db6537808059e6dcb0ab80448f07364ed3f06b9e461d5a1b7fff1d7e3c2"


def test_new_fields_travel_and_count() -> None:
    for recipe in (CONTRAST, replace(RECIPE, flat_field=True)):
        assert parse_recipe(dump_recipe(recipe)) == recipe
        assert recipe.digest != RECIPE.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": (-0.05, 0.05)}, "does not fit 16 bits"),
        ({"background": Background()}, "range of contrasts"),
        ({"background": Background(), "window": (0.05, -0.05)}, "range of contrasts"),
        ({"flat_field": True, "bits": 8, "window": (0, 255)}, "16-bit grey"),
    ],
)
def test_windows_and_frames_must_fit_what_is_asked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        replace(RECIPE, **change)
    with pytest.raises(RecipeError):
        Background(size_px=1)
    with pytest.raises(RecipeError):
        Background(contrast=0.0)


def test_a_straight_ramp_vanishes_to_its_edges() -> None:
    rows, columns = np.mgrid[:200, :300]
    ramp = np.exp(9 + 0.004 * rows + 0.003 * columns).astype(np.float32)
    left = remove_background(ramp, Background(), scale=(1, 1))
    assert np.abs(left).max() < 1e-4


def test_a_pore_of_a_few_grey_levels_stands_out_where_a_wall_does_not() -> None:
    image = np.full((128, 160), 20_000.0)
    image[:, 100:] = 42_000.0  # a wall ends: 74 % brighter
    image[60:65, 40:45] *= 1.01
    left = remove_background(image.astype(np.float32), Background(), scale=(1, 1))
    pore = left[60:65, 40:45].mean()
    beside_the_wall = np.abs(left[:, 90:110])
    assert pore == pytest.approx(np.log(1.01), rel=0.35)
    assert beside_the_wall.max() < 0.5 * pore
    assert np.abs(left[:40, :80]).max() < 1e-5


def test_contrast_counts_the_same_in_thin_and_thick_parts() -> None:
    image = np.full((128, 160), 40_000.0)
    image[64:] = 400.0
    for row in (30, 100):
        image[row : row + 4, 80:84] *= 1.02
    left = remove_background(image.astype(np.float32), Background(), scale=(1, 1))
    assert left[31:33, 81:83].mean() == pytest.approx(left[101:103, 81:83].mean(), rel=1e-3)


def test_no_image_makes_a_number_that_is_not_finite() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 90), (33, 7), (64, 64)):
        wild = rng.choice([-900.0, 0.0, 1.0, 7e4], shape).astype(np.float32)
        left = remove_background(wild, Background(size_px=65), scale=(1, 0.5))
        assert left.shape == shape
        assert np.isfinite(left).all()


def test_prepare_takes_the_background_away_after_flat_field_region_and_size() -> None:
    panel = Panel(size_px=(96, 128))
    flat = panel.calibration().flat
    signal = np.full(panel.size_px, 0.4)
    signal[40:46, 60:66] *= 1.05
    recipe = replace(
        CONTRAST,
        flat_field=True,
        region=Region(top=16, left=32, height=64, width=80),
        input_size_px=(128, 160),
    )
    raw = panel.image(signal)
    image = prepare(frame_of(raw), recipe, flat)
    assert image.shape == (1, 128, 160)
    assert image.dtype == np.float32
    assert image[0, 50:58, 58:66].mean() > 5 * image[0, :40].std()
    plain = prepare(frame_of(raw), replace(recipe, background=None, window=(0, 65535)), flat)
    assert plain.mean() == pytest.approx(20_000, rel=0.01)
    with pytest.raises(Unjudgeable) as caught:
        prepare(frame_of(raw), recipe)
    assert caught.value.reason == "calibration-missing"


def test_colour_is_taken_plane_by_plane() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(50, 200, (40, 50, 3)).astype(np.float32)
    both = remove_background(image, Background(), scale=(1, 1))
    assert both.shape == image.shape
    # The mean that keeps digits is of all planes, and the answer does not depend on it.
    one = remove_background(np.ascontiguousarray(image[..., 1]), Background(), scale=(1, 1))
    np.testing.assert_allclose(both[..., 1], one, atol=1e-5)
