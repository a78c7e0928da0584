"""Views of an image: turned only as the recipe allows, varied a little, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.fit import FitSettings
from training.fitting.views import draw_seed, orientations, turned, variation, ways_of_views

SETTINGS = FitSettings(input_size_px=(40, 40), window=(100.0, 150.0))


@pytest.mark.parametrize(
    ("flips", "count"),
    [
        ((), 1),
        (("horizontal",), 2),
        (("horizontal", "vertical"), 4),
        (("rot90",), 4),
        (("rot90", "horizontal"), 8),
        (("rot90", "horizontal", "vertical"), 8),
    ],
)
def test_every_way_that_a_part_may_lie_is_there_once(flips: tuple[str, ...], count: int) -> None:
    ways = orientations(flips)
    assert ways[0] == (0, False, False)
    image = np.arange(6 * 6).reshape(1, 6, 6)
    assert len({turned(image, way).tobytes() for way in ways}) == len(ways) == count


def test_a_few_views_show_all_ways_between_them() -> None:
    ways = ways_of_views(("rot90", "horizontal"), 3, 20)
    assert ways.shape == (3, 20)
    assert (ways[0] == 0).all()
    assert set(ways[1:].ravel().tolist()) == set(range(1, 8))
    assert (ways_of_views((), 3, 5) == 0).all()


def test_variations_follow_the_seed_and_stay_in_the_window() -> None:
    image = np.random.default_rng(0).uniform(80, 170, (1, 40, 40)).astype(np.float32)
    vary = variation(SETTINGS)
    first, other = vary(image, 7), vary(image, 8)
    assert first.shape == image.shape
    assert first.dtype == np.float32
    assert 100 <= first.min() < first.max() <= 150
    assert np.array_equal(first, vary(image, 7))
    assert np.array_equal(first, variation(replace(SETTINGS, seed=3))(image, 7))
    assert not np.array_equal(first, other)


def test_seeds_differ_with_every_part() -> None:
    seeds = {draw_seed(*parts) for parts in ((1,), (1, 0), (0, 1), (1, 1), (2, 1))}
    assert len(seeds) == 5
    assert draw_seed(1, 2) == draw_seed(1, 2)
