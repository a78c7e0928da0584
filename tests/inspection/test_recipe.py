"""A recipe that holds, and the one way from a frame to the network's input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inspection.errors import RecipeError, Unjudgeable
from inspection.frame import Frame
from inspection.recipe import Recipe, Region, dump_recipe, load_recipe, parse_recipe, prepare
from inspection.serials import SerialField, SerialFormat

RECIPE = Recipe(
    product="KN-42",
    modality="x-ray",
    bits=16,
    channels=1,
    input_size_px=(32, 48),
    window=(1000, 60000),
    classes=("gas porosity", "crack"),
    region=Region(top=10, left=20, height=64, width=96),
    serial=SerialFormat(length=8, fields=(SerialField(name="mould", start=0, length=2),)),
)


def frame(pixels: np.ndarray) -> Frame:
    return Frame(pixels=pixels, sha256="0" * 64, media_type="image/tiff")


def test_a_recipe_survives_its_file() -> None:
    text = dump_recipe(RECIPE)
    assert parse_recipe(text) == RECIPE
    assert dump_recipe(parse_recipe(text)) == text


def test_the_digest_changes_with_every_field() -> None:
    digests = {
        RECIPE.digest,
        dataclasses.replace(RECIPE, revision=2).digest,
        dataclasses.replace(RECIPE, window=(1000, 60001)).digest,
        dataclasses.replace(RECIPE, region=None).digest,
        dataclasses.replace(RECIPE, flips=("horizontal",)).digest,
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("colour = 3\n", "colour"),
        ("bits = 12\n", "bits"),
        ("window = [5, 5]\n", "window"),
        ("classes = []\n", "classes"),
        ('classes = ["good"]\n', "good"),
        ("input_size_px = [8, 8]\n", "input_size_px"),
        ("revision = 0\n", "revision"),
        ("= [", "TOML"),
    ],
)
def test_a_recipe_that_does_not_hold_is_refused(change: str, said: str) -> None:
    lines = dump_recipe(dataclasses.replace(RECIPE, region=None, serial=None)).splitlines()
    key = change.split(" ", maxsplit=1)[0]
    text, skipping = [], False
    for line in lines:
        if line.startswith(f"{key} ="):
            skipping = line.endswith("[")
            continue
        if skipping:
            skipping = line != "]"
            continue
        text.append(line)
    with pytest.raises(RecipeError, match=said):
        parse_recipe("\n".join([*text, change]))


def test_a_missing_file_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match=r"absent\.toml"):
        load_recipe(tmp_path / "absent.toml")


def test_prepare_keeps_grey_levels_and_crops() -> None:
    pixels = np.zeros((100, 200), np.uint16)
    pixels[10:74, 20:116] = 40_001
    image = prepare(frame(pixels), RECIPE)
    assert image.shape == (1, 32, 48)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, 40_001)


def test_prepare_has_no_8_bit_step() -> None:
    ramp = np.tile(np.linspace(0, 65535, 200), (100, 1)).astype(np.uint16)
    faint = ramp.copy()
    faint[30:40, 60:70] += 3
    difference = prepare(frame(faint), RECIPE) - prepare(frame(ramp), RECIPE)
    assert difference.max() == pytest.approx(3, abs=0.01)
    assert np.abs(difference).sum() == pytest.approx(3 * 100 / 4, rel=0.01)


def test_prepare_puts_colour_planes_first() -> None:
    recipe = dataclasses.replace(
        RECIPE, bits=8, channels=3, window=(0, 255), region=None, input_size_px=(40, 50)
    )
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[..., 1] = 7
    image = prepare(frame(pixels), recipe)
    assert image.shape == (3, 40, 50)
    assert [float(plane.mean()) for plane in image] == [0, 7, 0]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((100, 200), np.uint8), "8 bits"),
        (np.zeros((100, 200, 3), np.uint16), "colour"),
        (np.zeros((60, 60), np.uint16), "outside"),
    ],
)
def test_a_frame_that_the_recipe_was_not_made_for_is_unjudgeable(
    pixels: np.ndarray, said: str
) -> None:
    with pytest.raises(Unjudgeable, match=said):
        prepare(frame(pixels), RECIPE)


def test_another_frame_size_is_unjudgeable_when_the_recipe_names_one() -> None:
    recipe = dataclasses.replace(RECIPE, frame_size_px=(100, 200))
    assert prepare(frame(np.zeros((100, 200), np.uint16)), recipe).shape == (1, 32, 48)
    with pytest.raises(Unjudgeable, match="201 x 100"):
        prepare(frame(np.zeros((100, 201), np.uint16)), recipe)
