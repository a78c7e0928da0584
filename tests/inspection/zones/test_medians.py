"""The median of many pixels is numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.zones.medians import median_of


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (8,), (5, 5), (6, 11)])
def test_it_is_numpys_median(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    assert median_of(values) == np.median(values)
    assert median_of(values.T[::2]) == np.median(values.T[::2])
    assert median_of(np.round(values)) == np.median(np.round(values)), "equal ones too"
