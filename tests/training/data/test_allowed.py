"""What zones allow where, as a map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inspection.recipe import Recipe, Region
from inspection.zones.reference import Reference
from inspection.zones.shapes import Rule, Zone
from training.data.allowed import allowed_mm, held_near

REFERENCE = Reference(file="reference.png", sha256="0" * 64)
FACE = Zone(
    name="face",
    polygon=((-6.4, -6.4), (0.0, -6.4), (0.0, 6.4), (-6.4, 6.4)),
    rules=(Rule(defects=("pore",), largest_mm=0.5), Rule(severity=1)),
)
BODY = Zone(
    name="body",
    polygon=((-6.4, -3.2), (6.4, -3.2), (6.4, 3.2), (-6.4, 3.2)),
    rules=(Rule(defects=("pore",), largest_mm=2.0),),
)
RECIPE = Recipe(
    product="knuckle",
    modality="x-ray",
    bits=16,
    channels=1,
    input_size_px=(128, 128),
    window=(0, 65_535),
    classes=("pore", "speck"),
    frame_size_px=(128, 128),
    pitch_mm=0.1,
    severity_from_mm=(0.3, 1.2),
    references=(REFERENCE,),
    zones=(FACE, BODY),
    elsewhere=(Rule(defects=("speck",), severity=2),),
)


def test_the_first_zone_counts_and_classes_have_rules_of_their_own() -> None:
    found = allowed_mm(RECIPE, (32, 32))
    assert found is not None
    assert found.shape == (2, 32, 32)
    assert found.dtype == np.float32
    pore, speck = found
    assert (pore[:, :15] == 0.5).all()  # the face lies over the body
    assert (pore[10:22, 18:] == 2.0).all()
    assert (pore[:7, 18:] == 0.0).all()  # outside of every zone nothing is allowed
    assert np.allclose(speck[:, :15], 1.2)  # up to where severity 2 begins
    assert (speck[10:22, 18:] == 0.0).all()  # no rule names it
    assert np.isinf(speck[:7, 18:]).all()  # no severity is beyond the last


def test_a_map_is_of_the_judged_region() -> None:
    whole = allowed_mm(RECIPE, (128, 128))
    part = replace(RECIPE, region=Region(top=32, left=48, height=64, width=48))
    found = allowed_mm(part, (64, 48))
    assert whole is not None
    assert found is not None
    assert np.array_equal(found, whole[:, 32:96, 48:96])


def test_there_is_no_map_without_zones_or_over_several_views() -> None:
    assert allowed_mm(replace(RECIPE, zones=()), (8, 8)) is None
    views = ("front", "left")
    several = replace(
        RECIPE,
        views=views,
        references=tuple(
            replace(REFERENCE, file=f"reference-{name}.png", view=name) for name in views
        ),
        zones=tuple(replace(BODY, name=name, view=name) for name in views),
    )
    assert allowed_mm(several, (8, 8)) is None


def test_parts_are_held_near_the_view_that_a_network_is_told_zones_over() -> None:
    (held,) = held_near(RECIPE).references
    assert (held.max_shift_mm, held.max_turn_deg) == (2.5, 2.0)
    strict = replace(RECIPE, references=(replace(REFERENCE, max_shift_mm=1.0, max_turn_deg=0.5),))
    assert held_near(strict) == strict  # nobody's recipe is made laxer
    assert held_near(replace(RECIPE, zones=())) == replace(RECIPE, zones=())
