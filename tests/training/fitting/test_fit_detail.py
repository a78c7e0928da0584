"""The detail branch learns faint spots among edges, and not those that nobody marked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from inspection.errors import InputError
from tests.faint_spots import Radiographs, answers
from training.fit import FitSettings, fit
from training.fitting.squares import FLOOR, Squares, laxity, peaks, stricter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork

SIZE_PX = (64, 64)
DETAIL = FitSettings(
    seed=2,
    input_size_px=SIZE_PX,
    window=(0.0, 65_535.0),
    threads=1,
    components=16,
    detail=8,
    detail_views=200,
)


PARTS = Radiographs(40, 1, side=64, contrast=0.12, small=True)
GROUPS = [f"lot-{n}" for n in range(len(PARTS))]


def fitted(settings: FitSettings) -> InspectionNetwork:
    return fit(PARTS, PARTS.labels, GROUPS, settings, masks=PARTS.masks).network


@pytest.fixture(scope="module")
def network() -> InspectionNetwork:
    return fitted(DETAIL)


def test_it_tells_bad_from_good_and_points_at_the_spot(network: InspectionNetwork) -> None:
    others = Radiographs(24, 9, side=64, contrast=0.12, small=True)
    score, points = answers(network, others)
    assert (score[1::2] > score[::2].T).mean() > 0.9
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
    levels, places, allowed = squares.draw(40, np.random.default_rng(3))
    assert levels.shape == (40, 1, *SIZE_PX)
    assert levels.dtype == torch.float32
    assert allowed.shape == (40, 0, 16, 16)
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


class Spots:
    """Flat pictures with one spot each: bad where it lies in the upper half, and marked there."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[:64, :64]
        self.held = []
        self.masks = np.zeros((count, 1, 64, 64), np.float32)
        for index in range(count):
            bad = index % 2
            at = generator.integers(8, 25) + 32 * (1 - bad), generator.integers(8, 57)
            spot = np.hypot(rows - at[0], columns - at[1]) < 4
            clean = 20_000 * np.where(spot, 1.12, 1.0)
            self.held.append((clean * (1 + generator.normal(0, 0.004, (64, 64))))[np.newaxis])
            self.masks[index, 0] = spot & (bad > 0)
        self.labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int, /) -> NDArray[np.float32]:
        return self.held[index].astype(np.float32)


def test_zones_tell_it_what_no_picture_shows() -> None:
    parts, others = Spots(40, seed=1), Spots(24, seed=2)
    allowed = np.zeros((1, 16, 16), np.float32)
    allowed[:, 8:] = np.inf  # the lower half
    groups = [f"lot-{n}" for n in range(len(parts))]
    images = torch.from_numpy(np.stack([others[n] for n in range(24)]))
    right = {}
    for name, zones in (("with", allowed), ("without", None)):
        found = fit(parts, parts.labels, groups, DETAIL, masks=parts.masks, allowed=zones).network
        assert found.architecture.zoned == (zones is not None)
        with torch.no_grad():
            score = found(images)[0][:, 0]
        right[name] = float((score[1::2, None] > score[::2]).float().mean())
    assert right["with"] > 0.98
    assert right["without"] < 0.8


def test_stricter_zones_refuse_what_is_longer_than_they_allow() -> None:
    allowed = np.full((1, 8, 8), 1.0, np.float32)  # 2 mm
    lengths = np.zeros((1, 8, 8), np.float32)
    lengths[0, 1, 1], lengths[0, 4, 4], lengths[0, 6, 6] = 1.0, 4.0, np.nan
    shown = np.zeros((1, 8, 8), np.float32)
    shown[0, 4, 4] = 1.0
    none = np.zeros((1, 1, 1), np.float32)
    seen = set()
    for seed in range(40):
        told, wanted = stricter(allowed, shown, lengths, none, np.random.default_rng(seed))
        limit = told[0, 0, 0]
        assert (told == limit).all()
        assert np.log2(0.1) - 1e-6 <= limit <= 1.0
        assert wanted[0, 4, 4] == 1.0  # refused before, refused now
        assert np.isnan(wanted[0, 6, 6]) == (limit < 1.0)
        assert wanted[0, 1, 1] == float(limit < 0.0)
        assert wanted[0, 0, 0] == 0.0
        seen.add(bool(wanted[0, 1, 1]))
    assert seen == {True, False}
    nothing = np.zeros((1, 8, 8), np.float32)
    told, wanted = stricter(allowed, shown, nothing, none, np.random.default_rng(1))
    assert (told == allowed).all()
    assert (wanted == shown).all()


def test_labels_that_allow_more_than_the_zones_say_are_believed() -> None:
    allowed = np.full((1, 4, 4), -1.0, np.float32)  # half a millimetre
    lengths = np.zeros((3, 1, 4, 4), np.float16)
    masks = np.zeros((3, 1, 4, 4), np.float32)
    lengths[0, 0, 0, 0], lengths[1, 0, 1, 1] = 0.9, 1.0
    lengths[2, 0, 2, 2], masks[2, 0, 2, 2] = 8.0, 1.0  # refused: says nothing of what is allowed
    laxer = laxity(lengths, masks, allowed)
    assert 0.9 < laxer.item() <= 1.0
    shown = np.zeros((1, 4, 4), np.float32)
    for seed in range(20):
        told, wanted = stricter(
            allowed, shown, lengths[0].astype(np.float32), laxer, np.random.default_rng(seed)
        )
        limit = told[0, 0, 0] + laxer.item()
        assert wanted[0, 0, 0] == float(np.log2(0.9) > limit)
    lengths[:2] = np.minimum(lengths[:2], 0.3)
    assert laxity(lengths, masks, allowed).item() == 0.0
