"""Changes are small, repeatable and never move a part out of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.errors import ConfigurationError
from inspection.recipe import Flip
from training.augment import augmentation

ALL: tuple[Flip, ...] = ("horizontal", "vertical", "rot90")


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_depth_and_range_stay(channels: int) -> None:
    image = np.random.default_rng(0).random((48, 48, channels), dtype=np.float32)
    change = augmentation(ALL, seed=1)
    for _ in range(20):
        changed = change(image)
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 1


def test_the_same_seed_gives_the_same_changes() -> None:
    image = np.random.default_rng(0).random((40, 40, 1), dtype=np.float32)
    one, two, three = (augmentation(ALL, seed=seed) for seed in (5, 5, 6))
    first = [one(image) for _ in range(6)]
    assert all((a == two(image)).all() for a in first)
    assert not all((a == three(image)).all() for a in first)


def test_without_flips_an_image_stays_nearly_where_it_is() -> None:
    image = np.full((100, 100, 1), 0.5, dtype=np.float32)
    image[5:15, 80:90] = 0.9  # a mark near a corner: a flip would carry it far away
    change = augmentation((), seed=3)
    for _ in range(40):
        changed = change(image)[..., 0]
        rows, columns = np.nonzero(changed > changed.mean() + 0.2)
        assert abs(rows.mean() - 9.5) <= 3
        assert abs(columns.mean() - 84.5) <= 3
        assert len(rows) > 70  # nothing of it was cropped


def test_flips_reach_every_corner_that_the_recipe_allows() -> None:
    image = np.full((60, 60, 1), 0.4, dtype=np.float32)
    image[5:15, 5:15] = 0.9
    corners = set()
    change = augmentation(("horizontal",), seed=2)
    for _ in range(40):
        rows, columns = np.nonzero(change(image)[..., 0] > 0.65)
        corners.add((rows.mean() > 30, columns.mean() > 30))
    assert corners == {(False, False), (False, True)}


def test_grey_levels_outside_the_unit_range_are_refused() -> None:
    change = augmentation((), seed=0)
    with pytest.raises(ConfigurationError, match=r"0\.\.1"):
        change(np.full((40, 40, 1), 200.0, dtype=np.float32))
    with pytest.raises(ConfigurationError, match="uint8"):
        change(np.zeros((40, 40, 1), dtype=np.uint8))
