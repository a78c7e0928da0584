"""Sizes against the simulator's truth, and what is left unmeasured."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.zones.gaps import gap
from inspection.zones.registration import ReferenceView, register
from inspection.zones.sizing import Indication, Window, difference, indications
from tests.simulated_parts import PITCH_MM, SIZE_PX, pore, radiograph, reference_view
from training.simulation.casting import Pose
from training.simulation.defects import Defect, grow

PLACES = ((18.5, 9.0, 0.0), (-19.0, 8.0, 0.0), (17.0, 12.0, 0.0), (-20.0, 5.0, 1.0))
"""Inside the plate, away from its edges."""


@pytest.fixture(scope="module")
def view() -> ReferenceView:
    return reference_view()


def measured(view: ReferenceView, pose: Pose, defects: list[Defect], seed: int) -> list[Indication]:
    """What is found within 3 mm of the first defect."""
    pixels = radiograph(pose, defects=defects, seed=seed).astype(np.float32)
    middle = (SIZE_PX - 1) / 2
    x, y = (middle + v / PITCH_MM for v in pose.project(*defects[0].at_mm))
    half = 15
    box = (int(y) - half, int(x) - half, int(y) + half, int(x) + half)
    window = Window.around(box, 30, (SIZE_PX, SIZE_PX))
    contrast, edges = difference(pixels, view, register(pixels, view), window)
    within = np.zeros(contrast.shape, dtype=np.bool_)
    top, left = box[0] - window.rows.start, box[1] - window.columns.start
    within[top : top + 2 * half, left : left + 2 * half] = True
    return indications(contrast, edges, within, window, PITCH_MM)


def test_pores_are_sized_without_bias_and_the_guard_band_covers_the_spread(
    view: ReferenceView,
) -> None:
    ratios, covered = [], []
    for seed, (place, size) in enumerate((p, s) for p in PLACES for s in (1.2, 1.8, 3.0)):
        pose = Pose(turn_deg=0.3 * (seed % 5) - 0.6, shift_mm=(0.13 * seed - 0.7, 0.4))
        found = measured(view, pose, [pore(place, size, seed=seed)], seed)
        assert len(found) == 1, (place, size)
        assert not found[0].open
        assert found[0].contrast > 0  # less metal, more light
        ratios.append(found[0].size_mm / size)
        covered.append(found[0].size_mm + found[0].guard_mm >= size)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.08)
    assert np.std(ratios) < 0.1
    assert np.mean(covered) >= 0.9


def test_a_good_casting_shows_nothing_inside_its_walls(view: ReferenceView) -> None:
    for seed, place in enumerate(PLACES):
        ghost = grow("gas-porosity", (*place[:2], 0.0), np.random.default_rng(0), size_mm=0.01)
        assert measured(view, Pose(shift_mm=(0.3, -0.2)), [ghost], seed) == []


def test_a_crack_is_as_long_as_it_is(view: ReferenceView) -> None:
    crack = grow("crack", (19.0, 8.0, 0.0), np.random.default_rng(4), size_mm=4.0)
    found = measured(view, Pose(), [crack], 1)
    assert found[0].size_mm == pytest.approx(crack.size_mm, rel=0.2)


def test_neighbours_count_as_one_and_strangers_do_not(view: ReferenceView) -> None:
    one, near, far = (18.0, 9.0, 0.0), (18.0, 11.0, 0.0), (-19.0, 8.0, 0.0)
    together = measured(view, Pose(), [pore(one, 1.4), pore(near, 1.4)], 2)
    assert len(together) == 1
    assert together[0].size_mm == pytest.approx(3.4, abs=0.5)
    assert len(measured(view, Pose(), [pore(one, 1.4), pore(far, 1.4)], 2)) == 1


def test_what_runs_into_an_edge_is_not_measured(view: ReferenceView) -> None:
    found = measured(view, Pose(), [pore((11.9, 3.0, -4.0), 3.0)], 3)
    assert found
    assert all(each.open for each in found)


def test_the_gap_between_hulls() -> None:
    square = np.array([(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)])
    assert gap(square, square + np.array([5, 0])) == pytest.approx(3)
    assert gap(square, square + np.array([1, 1])) == 0
    assert gap(square, np.array([(5.0, 6.0)])) == pytest.approx(5)
