"""Parts, their defects and what is true of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.simulation.casting import VIEWS, Pose, View, knuckle, thickness, zone_at
from training.simulation.defects import CLASSES, Body, Defect, grow, missing_mm, power_law
from training.simulation.physics import Beam, Detector
from training.simulation.process import BASE_RATE, SERIALS, expected, origin_of
from training.simulation.scene import PORES, make_scene, place_in, rejectable, trace_of

SMALL = Detector(size_px=(256, 256), pitch_mm=0.4)
SIZE = (400, 400)


def pore(size_mm: float, at_mm: tuple[float, float, float] = (3.0, -4.0, 2.0)) -> Defect:
    half = size_mm / 2
    body = Body(at_mm=at_mm, half_axes_mm=(half, half, half))
    return Defect(defect_class="gas-porosity", at_mm=at_mm, size_mm=size_mm, bodies=(body,))


def test_a_sphere_takes_the_chord_out_of_every_ray() -> None:
    shadow, rows, columns = missing_mm(pore(2.0, (0.0, 0.0, 0.0)), Pose(), (201, 201), 0.05)
    whole = np.zeros((201, 201))
    whole[rows, columns] = shadow
    assert whole[100, 100] == pytest.approx(2.0, rel=1e-3)
    distance = 10 * 0.05
    assert whole[100, 110] == pytest.approx(2 * math.sqrt(1 - distance**2), rel=1e-3)
    assert whole[100, 100 + 21] == 0


@given(
    st.tuples(st.floats(0.4, 2.0), st.floats(0.4, 2.0), st.floats(0.4, 2.0)),
    st.tuples(st.floats(0, 6), st.floats(0, 6), st.floats(0, 6)),
    st.floats(-40, 40),
    st.floats(-180, 180),
)
@settings(max_examples=40)
def test_an_ellipsoid_keeps_its_volume_from_every_side(
    half: tuple[float, float, float],
    turn: tuple[float, float, float],
    tilt: float,
    spin: float,
) -> None:
    at = (1.0, 2.0, 3.0)
    body = Body(at_mm=at, half_axes_mm=half, turn=turn)
    defect = Defect(defect_class="gas-porosity", at_mm=at, size_mm=2 * max(half), bodies=(body,))
    pose = Pose(view=View(name="any", tilt_deg=tilt), turn_deg=spin)
    shadow, _, _ = missing_mm(defect, pose, SIZE, 0.05)
    volume = float(shadow.sum(dtype=float)) * 0.05**2
    assert volume == pytest.approx(4 / 3 * math.pi * math.prod(half), rel=0.02)


def test_a_crack_shows_along_the_beam_and_hides_across_it() -> None:
    crack = grow("crack", (0.0, 0.0, 0.0), np.random.default_rng(4), size_mm=6.0)
    assert crack.seam is not None
    along, _, _ = missing_mm(crack, Pose(), SIZE, 0.05)
    across, _, _ = missing_mm(crack, Pose(view=VIEWS[1]), SIZE, 0.05)
    assert along.max() > 2 * across.max() > 0


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_grows_and_leaves_a_trace_of_its_own_sign(name: str) -> None:
    for seed in range(5):
        defect = grow(name, (0.0, 0.0, 0.0), np.random.default_rng(seed))  # type: ignore[arg-type]
        shadow, _, _ = missing_mm(defect, Pose(), SIZE, 0.1)
        assert defect.size_mm > 0
        assert 1 <= defect.severity <= 5
        strongest = shadow.flat[np.abs(shadow).argmax()]
        assert (strongest < 0) == (name == "inclusion-more-dense")


def test_pores_are_many_small_and_few_large() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([power_law(rng, 0.3, 4.0, 2.5) for _ in range(20_000)])
    # The share above s is (s^-1.5 - 4^-1.5) / (0.3^-1.5 - 4^-1.5).
    wanted = (1.0**-1.5 - 4**-1.5) / (0.3**-1.5 - 4**-1.5)
    assert (sizes > 1.0).mean() == pytest.approx(wanted, abs=0.01)
    assert 0.3 <= sizes.min() < sizes.max() <= 4.0


def test_the_part_is_as_thick_as_it_is_drawn() -> None:
    nominal = thickness(knuckle(), Pose(), (1024, 1024), 0.1)
    assert nominal[0, 0] == 0  # air
    assert nominal[512, 512] == 0  # the bore
    assert nominal[512 - 200, 512 + 30] == pytest.approx(8.0, abs=1e-3)  # the plate
    assert nominal[512, 512 - 140] == pytest.approx(15.0, abs=1e-3)  # plate and sealing ring
    tilted = thickness(knuckle(), Pose(view=VIEWS[1]), (1024, 1024), 0.1)
    assert tilted.sum(dtype=float) == pytest.approx(nominal.sum(dtype=float), rel=0.02)  # volume


def test_defects_lie_in_metal_and_know_their_zone() -> None:
    rng = np.random.default_rng(0)
    places = [place_in(knuckle(), rng) for _ in range(200)]
    nominal = thickness(knuckle(), Pose(), (1024, 1024), 0.1)
    for x, y, _ in places:
        assert nominal[round(y / 0.1 + 511.5), round(x / 0.1 + 511.5)] > 0
    assert {zone_at(x, y) for x, y, _ in places} == {"sealing", "boss", "rib", "body"}
    assert zone_at(14.0, 0.0) == "sealing"
    assert zone_at(-30.0, -26.0) == "boss"


def test_what_a_zone_allows_depends_on_size_and_class() -> None:
    for name in PORES:  # which of them it is, a radiograph may not show
        assert rejectable(name, "sealing", 1.0)
        assert not rejectable(name, "body", 1.0)
    assert rejectable("inclusion-more-dense", "body", 1.0)
    assert rejectable("crack", "body", 0.1)


def test_a_part_is_the_same_every_time_and_another_with_another_number() -> None:
    one, same, other = (
        make_scene(n, 7, beam=Beam(), detector=SMALL, views=VIEWS) for n in (3, 3, 4)
    )
    for a, b in zip(one.shots, same.shots, strict=True):
        assert np.array_equal(a.image, b.image)
    assert one.defects == same.defects
    assert one.origin == same.origin != other.origin
    assert not np.array_equal(one.shots[0].image, other.shots[0].image)


def test_contrast_to_noise_is_that_of_the_images() -> None:
    """The stated CNR of a large pore is found again in an exposure."""
    detector = Detector(size_px=(256, 256), gain_spread=0, offset_spread=0, bad_share=0)
    beam = Beam(scatter=0)
    plate = np.full(detector.size_px, 8.0, dtype=np.float32)
    defect = pore(1.5, (0.0, 0.0, 0.0))
    shadow = missing_mm(defect, Pose(), detector.size_px, detector.pitch_mm)
    seen = trace_of(0, shadow, plate, beam, detector)
    holed = plate.copy()
    holed[shadow[1], shadow[2]] -= shadow[0]
    rng = np.random.default_rng(2)
    with_pore = detector.expose(beam.signal(holed, 0.1), beam.quanta, rng).astype(float)
    rows = slice(seen.top, seen.top + seen.mask.shape[0])
    columns = slice(seen.left, seen.left + seen.mask.shape[1])
    away = with_pore[:80]
    contrast = with_pore[rows, columns][seen.mask].mean() - away.mean()
    assert contrast / away.std() == pytest.approx(seen.cnr, rel=0.1)


def test_serials_hold_and_say_where_a_part_was_made() -> None:
    for number in (0, 1, 119, 120, 5_000):
        origin = origin_of(number, np.random.default_rng(number))
        serial = SERIALS.parse(origin.serial)
        assert serial.fields["mould"] == origin.mould
        assert serial.fields["date"] == f"{origin.cast_at:%m%d}"


def test_planted_causes_raise_the_rates_that_they_name() -> None:
    origins = [origin_of(n, np.random.default_rng([9, n])) for n in range(6_000)]
    pores = np.array([expected(each)["gas-porosity"] for each in origins])
    leaking = np.array([each.mould == "M3" for each in origins])
    cool = np.array([each.melt_temperature_c <= 715 for each in origins])
    assert set(pores[cool & leaking]) == {4 * BASE_RATE["gas-porosity"]}
    assert set(pores[cool & ~leaking]) == {BASE_RATE["gas-porosity"]}
    starved = [expected(each)["shrinkage-sponge"] for each in origins if each.pressure_mbar < 760]
    assert min(starved) > 2 * BASE_RATE["shrinkage-sponge"]
    torn = [expected(o)["crack"] for o in origins if (o.mould, o.cavity) == ("M5", "2")]
    assert set(torn) == {8 * BASE_RATE["crack"]}


def test_a_set_to_learn_from_has_enough_of_the_rare_classes() -> None:
    origins = [origin_of(n, np.random.default_rng([9, n])) for n in range(600)]
    for origin in origins:
        as_cast, collected = expected(origin), expected(origin, 0.15)
        assert collected == {name: max(rate, 0.15) for name, rate in as_cast.items()}
    cracks = []
    for rate in (0.0, 1.0):
        parts = [make_scene(n, 5, beam=Beam(), detector=SMALL, least_rate=rate) for n in range(12)]
        cracks.append(sum(each.defect_class == "crack" for part in parts for each in part.defects))
    assert cracks[0] <= 2 < 5 <= cracks[1]
