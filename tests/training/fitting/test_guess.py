"""A first guess, from labels alone, points at faint spots among edges."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from inspection.errors import ConfigurationError
from tests.faint_spots import STRIDE, Radiographs
from training.fit import FitSettings
from training.fitting.fit_detail import unmarked
from training.fitting.guess import first_guess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.fitting.fixed_filters import Guess

SIDE = 128
SETTINGS = FitSettings(
    seed=2,
    input_size_px=(SIDE, SIDE),
    window=(0.0, 65_535.0),
    threads=2,
    components=16,
    detail=8,
    batch=4,
)


PARTS = Radiographs(40, 1, side=SIDE, contrast=0.03)


def guess(masks: NDArray[np.float32]) -> Guess:
    labels = torch.from_numpy(PARTS.labels)
    return first_guess(PARTS, labels, masks, SETTINGS, [], None)


@pytest.fixture(scope="module")
def untaught() -> Guess:
    return guess(unmarked(PARTS.labels))


@torch.no_grad()
def points(found: Guess, parts: Radiographs) -> float:
    """The share of the bad ones whose strongest cell lies in the spot."""
    hits = []
    for image, mask, bad in zip(parts.held, parts.masks, parts.labels, strict=True):
        if bad:
            evidence = found(torch.from_numpy(image)[None])[0, 0]
            row, column = divmod(int(evidence.argmax()), evidence.shape[1])
            cell = mask[
                0, STRIDE * row : STRIDE * (row + 1), STRIDE * column : STRIDE * (column + 1)
            ]
            hits.append(bool(cell.any()))
    return sum(hits) / len(hits)


def test_labels_alone_say_where_to_look(untaught: Guess) -> None:
    assert points(untaught, Radiographs(24, 9, side=SIDE, contrast=0.03)) >= 0.9


def test_what_people_marked_counts_too() -> None:
    assert points(guess(PARTS.masks), Radiographs(24, 9, side=SIDE, contrast=0.03)) >= 0.9


def test_the_same_again_gives_the_same_weights(untaught: Guess) -> None:
    again = guess(unmarked(PARTS.labels)).state_dict()
    for name, tensor in untaught.state_dict().items():
        assert torch.equal(tensor, again[name]), name


@pytest.mark.parametrize(
    "wrong",
    [
        {"detail": 7},
        {"preset": "full"},
        {"input_size_px": (100, 128)},
        {"channels": 3},
        {"detail_views": 0},
        {"detail_sharpness": 0.0},
    ],
    ids=json.dumps,
)
def test_settings_without_sense_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, **wrong)
