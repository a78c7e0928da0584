"""Castings in one fixture share every edge; only copies share the noise as well."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest

from training.dividing.same_exposure import likeness, working_grey
from training.simulation.physics import Beam, Detector
from training.simulation.scene import make_scene


@pytest.fixture(scope="module")
def exposures() -> list[np.ndarray]:
    detector = Detector(size_px=(512, 512), pitch_mm=0.2, gain_spread=0.0, offset_spread=0.0)
    return [
        make_scene(number, 1, beam=Beam(), detector=detector).shots[0].image for number in range(6)
    ]


def test_two_castings_are_two_exposures(exposures: list[np.ndarray]) -> None:
    greys = [working_grey(image) for image in exposures]
    assert max(likeness(*pair).shared for pair in combinations(greys, 2)) > 0.5  # by their edges
    for one, other in combinations(greys, 2):
        found = likeness(one, other)
        assert found.quiet < 0.3, found
        assert not found.same_exposure


def test_a_casting_that_was_processed_is_still_itself(exposures: list[np.ndarray]) -> None:
    for image in exposures[:3]:
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for copy in (half, (image * 0.8).astype(np.uint16), (image >> 8).astype(np.uint8)):
            assert likeness(working_grey(image), working_grey(copy)).same_exposure
