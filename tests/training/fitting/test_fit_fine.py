"""The fine branch learns faint spots among edges, with masks and without."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from inspection.errors import ConfigurationError
from tests.faint_spots import Radiographs, answers
from training.fit import FitSettings, extract_features, fit

if TYPE_CHECKING:
    from inspection.engines.network import InspectionNetwork
    from training.fit import FeatureCache

SIZE_PX = (128, 128)
SETTINGS = FitSettings(
    seed=2,
    input_size_px=SIZE_PX,
    window=(0.0, 65_535.0),
    threads=1,
    components=16,
    fine=16,
    fine_epochs=40,
    batch=4,
)


PARTS = Radiographs(40, 1, side=128, contrast=0.03)


@pytest.fixture(scope="module")
def features() -> FeatureCache:
    return extract_features(PARTS, SETTINGS)


def fitted(features: FeatureCache, *, masked: bool) -> InspectionNetwork:
    masks = PARTS.masks if masked else None
    groups = [f"lot-{n}" for n in range(len(PARTS))]
    return fit(PARTS, PARTS.labels, groups, SETTINGS, masks=masks, features=features).network


@pytest.fixture(scope="module")
def taught(features: FeatureCache) -> InspectionNetwork:
    return fitted(features, masked=True)


@pytest.fixture(scope="module")
def untaught(features: FeatureCache) -> InspectionNetwork:
    return fitted(features, masked=False)


@pytest.mark.parametrize("masked", ["taught", "untaught"])
def test_it_tells_bad_from_good_and_points_at_the_spot(
    masked: str, request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(masked)
    score, points = answers(network, Radiographs(24, 9, side=128, contrast=0.03))
    assert score[1::2].min() > score[::2].max()
    assert all(points)


def test_the_same_again_gives_the_same_weights(
    features: FeatureCache, untaught: InspectionNetwork
) -> None:
    again = fitted(features, masked=False).state_dict()
    for name, tensor in untaught.state_dict().items():
        assert torch.equal(tensor, again[name]), name


@pytest.mark.parametrize(
    "wrong",
    [
        {"fine": 7},
        {"fine": 0, "detail": 7},
        {"detail": 16},
        {"preset": "full"},
        {"fine": 0, "detail": 16, "preset": "full"},
        {"input_size_px": (100, 128)},
        {"channels": 3},
        {"fine_epochs": 0},
        {"fine_mask_weight": -1.0},
        {"detail_views": 0},
    ],
    ids=json.dumps,
)
def test_settings_without_sense_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, **wrong)
