"""The detail branch learns faint spots among edges, and not those that nobody marked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from inspection.engines.detail import STRIDE
from inspection.errors import ConfigurationError, InputError
from training.fit import FitSettings, fit
from training.fitting.squares import FLOOR, Squares, peaks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork

SIZE_PX = (64, 64)
RADIUS = 4
DETAIL = FitSettings(
    seed=2,
    input_size_px=SIZE_PX,
    window=(0.0, 65_535.0),
    threads=1,
    components=16,
    detail=8,
    detail_views=200,
)


class Radiographs:
    """A ramp with a step; bad ones have a spot that is much fainter, and each has a small one."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(np.float32)
        self.held: list[NDArray[np.float32]] = []
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        self.masks = np.zeros((count, 1, *SIZE_PX), np.float32)
        for index in range(count):
            step = generator.integers(20, 44)
            clean = (20_000 + 60 * rows) * np.where(columns < step, 1.0, 1.6)
            allowed = generator.integers(6, 58, 2)
            clean = clean * np.where(distance(rows, columns, allowed) < RADIUS / 2, 1.12, 1.0)
            if index % 2:
                spot = distance(rows, columns, generator.integers(6, 58, 2)) < RADIUS
                self.masks[index, 0] = spot
                clean = clean * np.where(spot, 1.12, 1.0)
            noise = generator.normal(0, 0.004, SIZE_PX)
            self.held.append((clean * (1 + noise)).astype(np.float32)[np.newaxis])

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index]


def distance(rows: Any, columns: Any, at: Any) -> Any:
    return np.hypot(rows - at[0], columns - at[1])


PARTS = Radiographs(40, seed=1)
GROUPS = [f"lot-{n}" for n in range(len(PARTS))]


def fitted(settings: FitSettings) -> InspectionNetwork:
    return fit(PARTS, PARTS.labels, GROUPS, settings, masks=PARTS.masks).network


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    return fitted(DETAIL)


def test_it_tells_bad_from_good_and_points_at_the_spot(network: InspectionNetwork) -> None:
    others = Radiographs(24, seed=9)
    with torch.no_grad():
        score, evidence, _ = network(torch.from_numpy(np.stack(others.held)))
    assert evidence.shape[2:] == (SIZE_PX[0] // STRIDE, SIZE_PX[1] // STRIDE)
    assert (score[1::2] > score[::2].T).float().mean() > 0.9
    hottest = evidence[1::2, 0].flatten(1).argmax(dim=1).numpy()
    rows, columns = np.unravel_index(hottest, evidence.shape[2:])
    points = [
        others.masks[index, 0, row * STRIDE : (row + 1) * STRIDE, column * STRIDE :][
            :, :STRIDE
        ].any()
        for index, row, column in zip(range(1, 24, 2), rows, columns, strict=True)
    ]
    assert sum(points) >= 10  # of 12; by chance it would be none


def test_the_same_again_gives_the_same_weights() -> None:
    settings = replace(DETAIL, detail_views=8)
    first, again = (fitted(settings).state_dict() for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name


def test_without_marks_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(InputError, match="marked"):
        fit(PARTS, PARTS.labels, GROUPS, DETAIL)


def squares_of(masks: Any, targets: Any = PARTS.labels) -> Squares:
    return Squares(
        PARTS,
        targets,
        masks,
        shape=(1, *SIZE_PX),
        window=DETAIL.window,
        seed=1,
        threads=2,
    )


def test_squares_hold_what_was_marked_and_leave_out_what_nobody_knows() -> None:
    squares = squares_of(PARTS.masks)
    squares.add()
    assert len(squares) == 20 + 2 * 40  # a spot in each bad one, two places in every one
    levels, places = squares.draw(40, np.random.default_rng(3))
    assert levels.shape == (40, 1, *SIZE_PX)
    assert levels.dtype == torch.float32
    assert 10_000 < levels.mean() < 60_000
    shown = (places > 0.4).flatten(1).any(dim=1)
    assert shown[:18].all()  # 45 in 100 are round marks
    assert not shown.all()
    for level, place in zip(levels[:18, 0], places[:18, 0], strict=True):
        row, column = np.unravel_index(int(place.argmax()), place.shape)
        inside = level[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
        around = level[max(0, 4 * row - 24) : 4 * row + 28, 4 * column : 4 * column + 4].median()
        assert inside > around  # turned and cut alike
    unknown = PARTS.masks.copy()
    unknown[1::2] = np.nan
    blind = squares_of(unknown)
    blind.add()
    assert len(blind) == 2 * 20


def test_what_fools_the_network_is_found_away_from_the_marks() -> None:
    evidence = np.full((2, 40, 40), -9.0, np.float32)
    evidence[0, 10, 10], evidence[1, 30, 5], evidence[0, 12, 30] = 4.0, 2.0, 3.0
    evidence[0, 11, 11] = 3.9  # beside a higher one
    evidence[1, 25, 25] = FLOOR - 0.1
    marks = np.zeros((40, 40), dtype=bool)
    marks[14, 32] = True
    assert peaks(evidence, marks) == [(10, 10), (30, 5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"detail": 7},
        {"fine": 16},
        {"preset": "full"},
        {"input_size_px": (100, 64)},
        {"channels": 3},
        {"detail_views": 0},
    ],
    ids=json.dumps,
)
def test_settings_without_sense_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(DETAIL, **wrong)
