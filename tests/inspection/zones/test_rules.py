"""Which zone an indication lies in, and what is allowed near the borders of zones."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.zones.rules import Located, locate, rulings
from inspection.zones.shapes import Rule, Zone
from inspection.zones.sizing import Indication


def square(name: str, left: float, top: float, right: float, bottom: float, *rules: Rule) -> Zone:
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Zone(name=name, polygon=corners, rules=rules)


BODY = square("body", -20, -20, 20, 20, Rule(largest_mm=9.0))
STRIP = square("strip", -0.5, -20, 0.5, 20, Rule(largest_mm=0.0))


def at(zones: list[Zone], *corners: tuple[float, float], guard_mm: float = 0.1) -> Located:
    outline = np.array(corners, dtype=np.float64)
    size_mm = float(np.ptp(outline, axis=0).max()) or 0.1
    found = Indication(
        outline_px=outline,
        size_mm=size_mm,
        guard_mm=guard_mm,
        contrast=0.1,
        to_noise=9.0,
        open=False,
    )
    return locate(found, outline, zones)


def said(found: list[Located], *elsewhere: Rule) -> list[bool]:
    made = rulings("pore", found, elsewhere=elsewhere, severity_from_mm=())
    return [each.allowed for each in made]


@pytest.mark.parametrize(
    "crossing",
    [
        ((-3.0, 1.0), (3.0, 1.0)),
        ((-3.0, 1.0), (-3.0, 1.4), (3.0, 1.4), (3.0, 1.0)),
        ((3.0, -1.0), (-3.0, 1.0), (0.0, 4.0)),
    ],
)
def test_what_crosses_a_narrow_zone_lies_in_it(crossing: tuple[tuple[float, float], ...]) -> None:
    found = at([STRIP, BODY], *crossing)
    assert found.zone_name == "strip"
    assert said([found]) == [False]


def test_the_guard_band_is_held_against_sides_and_corners_of_both() -> None:
    for outline in (((0.6, -3.0), (0.6, 3.0)), ((0.58, 20.0), (2.0, 22.0), (2.0, 18.0))):
        assert at([STRIP, BODY], *outline).zone_name == "strip"
    assert at([STRIP, BODY], (0.7, -3.0), (0.7, 3.0)).zone_name == "body"
    notch = Zone(name="u", polygon=((0, 0), (9, 0), (9, 9), (6, 9), (6, 3), (3, 3), (3, 9), (0, 9)))
    assert at([notch, BODY], (4.0, 5.0), (5.0, 6.0)).zone_name == "body"
    assert at([notch, BODY], (2.0, 7.0), (5.0, 7.0)).zone_name == "u"


def test_what_sticks_out_of_every_zone_must_be_allowed_elsewhere_too() -> None:
    inside, across = at([BODY], (17.0, 0.0), (19.0, 0.0)), at([BODY], (19.5, 0.0), (21.5, 0.0))
    assert said([inside]) == [True]
    assert said([across]) == [False]
    assert said([across], Rule(largest_mm=1.0)) == [False]
    assert said([across], Rule(largest_mm=3.0)) == [True]
    (made,) = rulings("pore", [across], elsewhere=(), severity_from_mm=())
    assert made.rule == "it reaches out of every zone, and there: not allowed there"
    beside = square("beside", 20, -20, 30, 20, Rule(largest_mm=9.0))
    assert said([at([BODY, beside], (19.5, 0.0), (21.5, 0.0))]) == [True]


def test_spacing_counts_across_the_borders_of_zones() -> None:
    near = Rule(largest_mm=1.0, spacing_mm=5.0)
    zones = [square("a", -20, -20, 0, 20, near), square("b", 0, -20, 20, 20, near)]
    pair = [at(zones, (-0.5, 0.0), (-0.4, 0.0)), at(zones, (0.4, 0.0), (0.5, 0.0))]
    assert [each.zone_name for each in pair] == ["a", "b"]
    assert said(pair) == [False, False]
