"""Castings in one fixture share every edge; only copies share the noise as well."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from training.dividing.same_exposure import likeness, working_grey
from training.simulation.physics import Beam, Detector
from training.simulation.scene import make_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def exposures() -> list[NDArray[np.uint16]]:
    detector = Detector(size_px=(512, 512), pitch_mm=0.2, gain_spread=0.0, offset_spread=0.0)
    return [
        make_scene(number, 1, beam=Beam(), detector=detector).shots[0].image for number in range(6)
    ]


def test_two_castings_are_two_exposures(exposures: list[NDArray[np.uint16]]) -> None:
    greys = [working_grey(image) for image in exposures]
    assert max(likeness(*pair).shared for pair in combinations(greys, 2)) > 0.5  # by their edges
    for one, other in combinations(greys, 2):
        found = likeness(one, other)
        assert found.quiet < 0.3, found
        assert not found.same_exposure


def test_a_casting_that_was_processed_is_still_itself(exposures: list[NDArray[np.uint16]]) -> None:
    for image in exposures[:3]:
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        darker = np.asarray(image * 0.8, dtype=np.uint16)
        copies: list[NDArray[np.uint8] | NDArray[np.uint16]] = [
            np.asarray(half, dtype=np.uint16),
            darker,
            np.asarray(image >> 8, dtype=np.uint8),
        ]
        for copy in copies:
            assert likeness(working_grey(image), working_grey(copy)).same_exposure
