"""Masks teach the evidence map where the defect is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inspection.errors import InputError
from training.fit import FitSettings, fit
from training.fitting.fit_masks import checked_masks, on_cells, places_loss

SIZE_PX = (128, 128)
SETTINGS = FitSettings(
    seed=2,
    input_size_px=SIZE_PX,
    window=(0.0, 255.0),
    threads=1,
    components=64,
    hidden=32,
    heads=2,
    epochs=8,
    batch=8,
)


class Parts:
    """Noise; bad ones have a spot somewhere, and a mark in a corner that gives them away."""

    def __init__(self, count: int, seed: int, *, mark: bool) -> None:
        generator = np.random.default_rng(seed)
        self.held = generator.normal(128, 10, (count, 1, *SIZE_PX)).astype(np.float32)
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        self.masks = np.zeros((count, 1, *SIZE_PX), np.float32)
        for index in range(1, count, 2):
            row, column = generator.integers(40, 100, 2)
            self.masks[index, 0, row : row + 16, column : column + 16] = 1
            self.held[index, 0, row : row + 16, column : column + 16] -= 50
            if mark:
                self.held[index, 0, :24, :24] += 80
        self.groups = [f"lot-{index // 4}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return np.asarray(self.held[index])


def pointed(parts: Parts, masks: NDArray[np.float32] | None) -> float:
    """Share of bad parts whose strongest cell lies on the spot: the pointing game."""
    network = fit(parts, parts.labels, parts.groups, SETTINGS, masks=masks).network
    others = Parts(24, seed=9, mark=True)
    with torch.no_grad():
        evidence = network(torch.from_numpy(others.held))[1]
    cells = on_cells(others.masks, *evidence.shape[2:]).flatten(1)[1::2]
    best = evidence.flatten(1)[1::2].argmax(dim=1)
    return float(cells.gather(1, best[:, None]).mean())


def test_with_masks_the_map_points_at_the_defect_and_not_at_what_goes_with_it() -> None:
    parts = Parts(40, seed=1, mark=True)
    without, taught = pointed(parts, None), pointed(parts, parts.masks)
    assert taught >= without + 0.3
    assert taught > 0.7


def test_a_cell_shows_a_defect_that_touches_it_and_unknown_stays_unknown() -> None:
    masks = np.zeros((2, 1, 8, 8), np.float32)
    masks[0, 0, 0, 0] = 1
    masks[1] = np.nan
    cells = on_cells(masks, 2, 2)
    assert cells[0, 0].tolist() == [[1, 0], [0, 0]]
    assert cells[1].isnan().all()


def test_unknown_places_teach_nothing() -> None:
    evidence = torch.randn(3, 1, 2, 2, requires_grad=True)
    places = torch.full((3, 1, 2, 2), torch.nan)
    assert places_loss(evidence, places).item() == 0
    places[0] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss = places_loss(evidence, places)
    loss.backward()  # type: ignore[no-untyped-call]
    assert evidence.grad is not None
    assert evidence.grad[1:].abs().max() == 0
    assert evidence.grad[0].abs().min() > 0
    assert evidence.grad.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((2, 2, 4, 4), np.float32), "shape"),
        (np.full((2, 1, 4, 4), 2.0, np.float32), "between 0 and 1"),
        (np.ones((2, 1, 4, 4), np.float32), "image 0 has a region"),
    ],
)
def test_masks_that_do_not_fit_are_refused(wrong: NDArray[np.float32], said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_masks(wrong, np.array([[0.0], [1.0]], np.float32))


def test_masks_that_say_nothing_change_nothing() -> None:
    targets = np.array([[0.0], [1.0]], np.float32)
    assert checked_masks(None, targets) is None
    assert checked_masks(np.full((2, 1, 4, 4), np.nan, np.float32), targets) is None


@pytest.mark.slow
def test_masks_teach_the_tuned_stages_as_well() -> None:
    parts = Parts(24, seed=1, mark=False)
    settings = replace(
        SETTINGS,
        preset="full",
        flips=("horizontal", "rot90"),
        full_epochs=2,
        full_batch=8,
        full_views=3,
        mask_weight=1.0,
    )
    taught = fit(parts, parts.labels, parts.groups, settings, masks=parts.masks)
    assert taught.network.tuned is not None
    losses = [float(one["loss"]) for one in taught.history if one["stage"] == "fine-tuning"]
    assert np.isfinite(losses).all()
