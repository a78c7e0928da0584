"""The fine branch learns faint spots among edges, with masks and without."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from inspection.engines.fine import STRIDE
from inspection.errors import ConfigurationError
from training.fit import FitSettings, extract_features, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from training.fit import FeatureCache

SIZE_PX = (128, 128)
RADIUS = 4
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


class Radiographs:
    """A ramp with a step as strong as a hundred spots; bad ones have a spot of 3 per cent."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(np.float32)
        self.held: list[NDArray[np.float32]] = []
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        self.masks = np.zeros((count, 1, *SIZE_PX), np.float32)
        for index in range(count):
            step = generator.integers(40, 90)
            clean = (20_000 + 60 * rows) * np.where(columns < step, 1.0, 1.6)
            if index % 2:
                at = generator.integers(12, 116, 2)
                spot = np.hypot(rows - at[0], columns - at[1]) < RADIUS
                self.masks[index, 0] = spot
                clean = clean * np.where(spot, 1.03, 1.0)
            noise = generator.normal(0, 0.004, SIZE_PX)
            self.held.append((clean * (1 + noise)).astype(np.float32)[np.newaxis])

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index]


PARTS = Radiographs(40, seed=1)


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
    others = Radiographs(24, seed=9)
    with torch.no_grad():
        score, evidence, _ = network(torch.from_numpy(np.stack(others.held)))
    assert evidence.shape[2:] == (SIZE_PX[0] // STRIDE, SIZE_PX[1] // STRIDE)
    assert score[1::2].min() > score[::2].max()
    hottest = evidence[1::2, 0].flatten(1).argmax(dim=1).numpy()
    rows, columns = np.unravel_index(hottest, evidence.shape[2:])
    for index, row, column in zip(range(1, 24, 2), rows, columns, strict=True):
        cell = np.s_[row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
        assert others.masks[index, 0][cell].any()


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
        {"preset": "full"},
        {"input_size_px": (100, 128)},
        {"channels": 3},
        {"fine_epochs": 0},
        {"fine_mask_weight": -1.0},
    ],
    ids=json.dumps,
)
def test_settings_without_sense_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, **wrong)
