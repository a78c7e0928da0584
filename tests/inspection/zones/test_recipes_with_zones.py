"""Zones in a recipe: written, read back, and refused where they make no sense."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.display import Display, shown
from inspection.errors import RecipeError
from inspection.recipe import Recipe, dump_recipe, parse_recipe
from inspection.zones.shapes import Rule, Zone, area_of, first_crossing
from tests.simulated_parts import casting_recipe
from training.simulation.casting import VIEWS, zone_at
from training.simulation.zones import casting_zones

DOCS = Path(__file__).resolve().parents[3] / "docs" / "recipe.md"
SQUARE = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def test_a_recipe_with_zones_is_read_back_as_it_was() -> None:
    recipe = replace(
        casting_recipe(),
        severity_from_mm=(0.0, 0.6),
        elsewhere=(Rule(severity=1, most=2, spacing_mm=3.0),),
        display=Display(contrast="clahe"),
    )
    again = parse_recipe(dump_recipe(recipe))
    assert again == recipe
    assert again.digest == recipe.digest


def test_a_recipe_without_zones_keeps_its_text() -> None:
    bare = replace(casting_recipe(), references=(), zones=(), pitch_mm=None)
    new = ("pitch_mm", "severity_from_mm", "references", "zones", "elsewhere", "display")
    assert not set(new) & set(tomllib.loads(dump_recipe(bare)))


def test_the_documented_example_holds() -> None:
    text = DOCS.read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    recipe = parse_recipe(example)
    assert [zone.name for zone in recipe.zones] == ["sealing", "body"]
    missing = [name for name in (each.name for each in fields(Recipe)) if f"`{name}`" not in text]
    # Tables are named by their heading instead.
    assert set(missing) <= {"references", "zones", "elsewhere", "display", "background"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zones": (Zone(name="z", polygon=((0, 0), (60, 0), (0, 5))),)}, r"corner \(60, 0\) mm"),
        ({"pitch_mm": None}, "needs pitch_mm"),
        ({"frame_size_px": None}, "needs frame_size_px"),
        ({"pitch_mm": -0.1}, "pitch_mm -0.1"),
        ({"references": ()}, "the recipe names none"),
        ({"zones": (Zone(name="z", polygon=SQUARE, view="top"),)}, "has no `views`"),
        ({"zones": (Zone(name="z", polygon=SQUARE),) * 2}, "two zones are called"),
        ({"elsewhere": (Rule(defects=("rust",), largest_mm=1),)}, "names 'rust'; the classes are"),
        ({"elsewhere": (Rule(severity=2),)}, "severity_from_mm has 0 levels"),
        ({"severity_from_mm": (1.0, 0.5)}, "larger than the one before"),
        ({"elsewhere": (Rule(largest_mm=1), Rule(largest_mm=2))}, "two rules are for every other"),
        ({"views": ("front", "left")}, "each of the views front, left"),
    ],
)
def test_what_does_not_hold_together_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        replace(casting_recipe(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Zone(name="z", polygon=((0, 0), (2, 2), (2, 0), (0, 2))), "sides 1 and 3 cross"),
        (lambda: Zone(name="z", polygon=((0, 0), (2, 0), (2, 0), (0, 2))), "cross or touch"),
        (lambda: Zone(name="z", polygon=((0, 0), (2, 0), (1, 0))), "cross or touch"),
        (lambda: Zone(name="z", polygon=((0, 0), (2, 0))), "2 corners"),
        (lambda: Zone(name=" ", polygon=SQUARE), "cannot be a zone's name"),
        (lambda: Zone(name="z", polygon=((0, 0), (1, 0), (0, float("nan")))), "pair of numbers"),
        (Rule, "needs largest_mm or severity"),
        (lambda: Rule(largest_mm=float("inf")), "it is in mm"),
        (lambda: Rule(largest_mm=1, most=-1), "counts from 0"),
        (
            lambda: Zone(name="z", polygon=SQUARE, rules=(Rule(defects=("a",), largest_mm=1),) * 2),
            "two",
        ),
        (lambda: Display(low_percentile=60, high_percentile=40), "percentiles"),
    ],
)
def test_what_makes_no_sense_by_itself_is_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(RecipeError, match=said):
        make()


def test_an_unknown_key_is_refused_with_its_place() -> None:
    text = dump_recipe(casting_recipe()).replace("max_turn_deg", "max_turn")
    with pytest.raises(RecipeError, match=r"references\.0\.max_turn: Unexpected"):
        parse_recipe(text)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=7))
def test_a_polygon_that_is_taken_has_an_inside(corners: list[tuple[int, int]]) -> None:
    polygon = tuple((float(x), float(y)) for x, y in corners)
    if first_crossing(polygon) is None:
        assert abs(area_of(polygon)) >= 0.5
        assert first_crossing(polygon[::-1]) is None


def test_the_drawn_zones_of_the_simulated_casting_are_never_looser_than_its_truth() -> None:
    import cv2

    zones = casting_zones(VIEWS[0], (51.2, 51.2), named=False)
    strict = {"sealing": 0, "boss": 1, "rib": 2, "body": 3}
    for x, y in np.random.default_rng(0).uniform(-45, 45, (400, 2)).tolist():
        first = next(
            zone
            for zone in zones
            if cv2.pointPolygonTest(np.array(zone.polygon, np.float32), (x, y), False) >= 0
        )
        drawn, true = first.name.partition("-")[0], zone_at(x, y)
        assert drawn == true or strict[drawn] < strict[true]


@pytest.mark.parametrize("contrast", ["none", "clahe", "high-pass"])
def test_every_contrast_is_a_picture_in_grey_and_in_colour(contrast: str) -> None:
    ramp = np.linspace(1000, 60_000, 96 * 80).reshape(96, 80)
    ramp[40:44, 30:34] += 900
    display = Display(contrast=contrast, size_px=16)  # type: ignore[arg-type]
    grey = shown(ramp.astype(np.uint16), display)
    assert grey.shape == (96, 80, 3)
    assert grey.dtype == np.uint8
    assert int(grey.max()) - int(grey.min()) > 200
    colour = np.stack([ramp / 257, ramp[::-1] / 257, ramp / 514], axis=2).astype(np.uint8)
    assert shown(colour, display).shape == (96, 80, 3)
    spot, ground = (int(grey[row, 32, 0]) for row in (42, 48))
    assert contrast != "high-pass" or spot - ground > 20, "small contrast stands out of the ramp"
