"""The detail branch learns faint spots among edges, and not those that nobody marked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from inspection.engines.detail import Detail
from tests.faint_spots import Radiographs, answers
from training.fit import FitSettings, fit
from training.fitting.cutting import FLOOR, peaks
from training.fitting.fit_detail import bags_loss, unmarked
from training.fitting.squares import SUSPECTED, Drawn, Squares
from training.fitting.stricter import laxity, stricter

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
    detail_views=300,
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


def test_without_marks_it_finds_out_what_is_wrong() -> None:
    side = 96
    parts, others = (
        Radiographs(count, seed, side=side, contrast=0.12) for count, seed in ((40, 3), (24, 9))
    )
    settings = replace(DETAIL, input_size_px=(side, side), detail_views=100, threads=2)
    network = fit(parts, parts.labels, GROUPS, settings).network
    score, points = answers(network, others)
    assert (score[1::2] > score[::2].T).mean() > 0.9
    assert sum(points) >= 10  # of 12


def test_what_is_suspected_in_a_bad_image_is_one_bag() -> None:
    squares = squares_of(unmarked(PARTS.labels))
    assert squares.unmarked == 1.0
    squares.add()
    assert len(squares) == 2 * 20  # of the bad ones nothing is known, and nothing guessed so far
    blank = Detail(DETAIL.window, 8, 1).eval()
    torch.nn.init.zeros_(blank.last.weight)
    for _ in range(2):
        squares.add(blank)  # it sees no more in the bad ones than in the others
        assert len(squares) == 2 * 20 + SUSPECTED * 20  # new suspicions take the old ones' place
    batch = squares.draw(40, np.random.default_rng(3))
    bags = 6  # 0.6 of 40, by fours
    assert batch.wanted.shape == (bags + 40 - SUSPECTED * bags, 1)
    assert (batch.wanted[:bags] == 1).all()
    assert (batch.wanted[bags:] == 0).all()
    assert torch.bincount(batch.bags).tolist() == [SUSPECTED] * bags + [1] * 16
    assert batch.places[: SUSPECTED * bags].isnan().all()  # no cell of them is known
    assert (batch.places[SUSPECTED * bags :] == 0).all()


class Brightness(torch.nn.Module):
    """Evidence of a cell: how much brighter than 20,000 grey levels its brightest pixel is."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool2d((image - 20_000) / 1_000, 4)


def test_what_stands_out_as_in_hardly_a_good_image_is_taken_for_marked() -> None:
    generator = np.random.default_rng(5)
    flat = generator.normal(20_000, 80, (40, 1, *SIZE_PX)).astype(np.float32)
    flat[1::2, :, 24:32, 40:48] *= 1.12  # four cells of the bad ones
    squares = squares_of(unmarked(PARTS.labels), images=list(flat))
    squares.add()
    squares.add(Brightness())  # type: ignore[arg-type]
    batch = squares.draw(40, np.random.default_rng(3))
    assert batch.bags.tolist() == list(range(40))  # none is but suspected
    marks = (batch.places == 1).flatten(1).sum(dim=1)
    assert (marks > 0).sum() >= 16  # 45 in 100, but for those that lie beside the spot
    assert (marks == 4).sum() >= 14  # and one in twenty may show a cell of noise beside it
    for level, place in zip(batch.levels[:, 0], batch.places[:, 0], strict=True):
        cells = torch.nn.functional.avg_pool2d(level[None], 4)[0]
        if (place == 1).sum() == 4:
            assert cells[place == 1].min() > 1.08 * cells.median()
            assert place[place != 1].isnan().all()  # of the rest nobody knows


def test_of_two_classes_the_one_that_is_marked_is_known() -> None:
    targets = np.repeat(PARTS.labels, 2, axis=1)
    masks = np.repeat(PARTS.masks, 2, axis=1)
    masks[1::2, 1] = np.nan  # of the second class nobody knows where
    squares = squares_of(masks, targets)
    assert squares.unmarked == 1.0
    squares.add()
    assert len(squares) == 20 + 2 * 40  # the marks of the first class, and two places in every one
    blank = Detail(DETAIL.window, 8, 2).eval()
    torch.nn.init.zeros_(blank.last.weight)
    squares.add(blank)
    batch = squares.draw(40, np.random.default_rng(3))
    assert (batch.wanted[:6, 1] == 1).all()
    assert batch.wanted[:6, 0].isnan().all()  # it may lie elsewhere


def test_a_bag_is_as_bad_as_the_worst_that_lies_in_it() -> None:
    levels = torch.zeros(3, 1, 8, 8)
    places = torch.full((3, 1, 2, 2), torch.nan)
    none = torch.zeros(3, 0, 2, 2)
    batch = Drawn(
        levels=levels,
        places=places,
        allowed=none,
        bags=torch.tensor([0, 0, 1]),
        wanted=torch.tensor([[1.0], [torch.nan]]),
    )
    evidence = torch.full((3, 1, 2, 2), -9.0)
    missed = bags_loss(evidence, batch)
    evidence[1, 0, 1, 0] = 9.0
    found = bags_loss(evidence, batch)
    assert found < 1e-3 < 1.0 < missed
    evidence[2] = 9.0  # of which nobody can say
    assert bags_loss(evidence, batch) == found


def squares_of(masks: Any, targets: Any = PARTS.labels, images: Any = PARTS) -> Squares:
    return Squares(
        images,
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
    batch = squares.draw(40, np.random.default_rng(3))
    levels, places, allowed = batch.levels, batch.places, batch.allowed
    assert levels.shape == (40, 1, *SIZE_PX)
    assert levels.dtype == torch.float32
    assert allowed.shape == (40, 0, 16, 16)
    assert 10_000 < levels.mean() < 60_000
    shown = (places > 0.4).flatten(1).any(dim=1)
    assert shown[:18].all()  # 45 in 100 are round marks
    assert not shown.all()
    assert batch.bags.tolist() == list(range(40))
    assert (batch.wanted[:, 0] == shown).sum() >= 38  # a spot cut in two says little
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
    settings = replace(DETAIL, detail_views=200, threads=2)
    for name, zones in (("with", allowed), ("without", None)):
        found = fit(parts, parts.labels, groups, settings, masks=parts.masks, allowed=zones).network
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
