"""The fixed filters: what they see of spots, whatever the thickness."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.fitting.fixed_filters import FEATURES, NAMES, FixedFilters

RADIUS = 4.5


def test_thickness_changes_no_contrast_and_a_ramp_none_at_all() -> None:
    """In the logarithm a pore is as deep in a thick wall as in a thin one."""
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    spot = np.where(np.hypot(rows - 62, columns - 62) < RADIUS, 1.03, 1.0)
    filters = FixedFilters((0.0, 65_535.0))
    blob = NAMES.index("blob 2x1.7 max")
    with torch.no_grad():
        thin, thick, ramp = filters(
            torch.from_numpy(
                np.stack([40_000 * spot, 4_000 * spot, 4_000 * np.exp(columns / 64)]).astype(
                    np.float32
                )
            )[:, None]
        )[:, blob]
    assert thin.max() == pytest.approx(float(thick.max()), rel=1e-3)
    assert divmod(int(thin.argmax()), thin.shape[1]) == (15, 15)
    assert ramp[4:-4, 4:-4].abs().max() < 0.02 * thin.max()


def test_what_is_bright_and_what_is_dark_have_features_of_their_own() -> None:
    assert len(NAMES) == len(set(NAMES)) == FEATURES
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    spot = np.hypot(rows - 62, columns - 62) < RADIUS
    held = np.stack([np.where(spot, level, 30_000.0) for level in (33_000.0, 27_000.0)])
    with torch.no_grad():
        bright, dark = FixedFilters((0.0, 65_535.0))(
            torch.from_numpy(held.astype(np.float32))[:, None]
        )
    for feature, more, less in (
        ("blob 4x1.2", bright, dark),
        ("small bright 2x7", bright, dark),
        ("small dark 2x7", dark, bright),
    ):
        place = NAMES.index(feature)
        assert more[place, 15, 15] > 1.0
        assert more[place, 15, 15] > less[place, 15, 15] + 1.0
