"""The squares that a detail branch learns from: a few of each image, for most of it is plain metal.

    image -> round what people marked, somewhere ----------------------------.
          -> round what the network so far takes for a defect, and is none ---+-> Squares -> Drawn
          -> round what zones allow, under stricter ones ---------------------+
    bad image that nobody marked -> what stands out as in hardly any good one +
                                 -> or a few squares, of which one shows why -'

What fools it are hard negatives (Sung, Poggio, "Example-based learning for view-based human face
detection", IEEE PAMI 20, 1998). Of an image that is bad, and that nobody marked, it is not known
what lies where. What a network sees in it and in one of twenty good images at most is taken for
marked (Lee, "Pseudo-label", ICML 2013 workshop); if there is nothing of that kind, what it suspects
most is a bag (Dietterich, Lathrop, Lozano-Perez, "Solving the multiple instance problem with
axis-parallel rectangles", Artificial Intelligence 89, 1997).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from inspection.engines.detail import STRIDE
from inspection.engines.export import part_onnx
from inspection.errors import EngineError
from training.data.cells import COVERED
from training.fitting.cutting import LEVELS, Square, around, one_each, peaks
from training.fitting.features import checked_image
from training.fitting.fit_masks import shares
from training.fitting.stricter import laxity, stricter
from training.fitting.throughput import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from inspection.engines.detail import Detail
    from training.fitting.features import Images
    from training.fitting.fixed_filters import Guess

    Progress = Callable[[str, int, int], None]

Kind = Literal["marked", "allowed", "fooled", "anywhere"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """N squares of a batch, in B bags; S is `SIDE`, or less where images are smaller.

    Attributes:
        levels: (N, 1, S, S) float32 grey levels.
        places: (N, K, S / 4, S / 4) share of each cell that a defect covers; NaN where unknown.
        allowed: (N, K, S / 4, S / 4) what zones allow there; K = 0 without zones.
        bags: (N,) int64, which bag each is in: nearly every one in its own.
        wanted: (B, K) whether something in a bag shows a defect; NaN where nobody knows.
    """

    levels: Tensor
    places: Tensor
    allowed: Tensor
    bags: Tensor
    wanted: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scanned:
    """What was found in one image.

    Attributes:
        squares: of each kind.
        suspects: of a bad image that nobody marked; each with the evidence in its cells.
        highest: evidence, of a good image.
    """

    squares: list[tuple[Kind, Square]]
    suspects: list[tuple[Square, NDArray[np.float32]]]
    highest: float | None


SIDE = 128  # pixels along what is learnt from
KINDS: tuple[tuple[Kind, float], ...] = (("marked", 0.45), ("fooled", 0.9), ("anywhere", 1.0))
"""Up to which share of a batch it is of this kind."""

MEASURED_KINDS: tuple[tuple[Kind, float], ...] = (
    *(("marked", 0.2), ("allowed", 0.55)),
    *(("fooled", 0.9), ("anywhere", 1.0)),
)
"""The same where allowed things are marked as well: those, too, under stricter zones."""

GOOD_BELOW = 0.95  # of the good images lie wholly below the evidence that is taken for a mark
IN_BAGS = 0.6  # of a batch, if every bad image is but suspected; less as more are marked
SUSPECTED = 4  # squares of a bad image that nobody marked
ANYWHERE = 2


class Squares:
    """Squares of N images; `add` scans them all.

    Args:
        images: N prepared ones, (1, H, W).
        targets: (N, K) in 0..1.
        masks: (N, K, h, w) of what people drew.
        lengths: (N, K, h, w) mm of it and of what is allowed, with zones; None for no more than
            the masks say.
        window: (low, high) grey levels, which become 16 bits here.
        seed: of the draws.
        threads: CPU cores to use.
        allowed: (K, h, w) as the branch is told it; None without zones.
        progress: called as ("scan", done, total).
    """

    def __init__(
        self,
        images: Images,
        targets: NDArray[np.float32],
        masks: NDArray[np.float32],
        lengths: NDArray[np.float16] | None = None,
        *,
        shape: tuple[int, int, int],
        window: tuple[float, float],
        seed: int,
        threads: int,
        allowed: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.shape = shape
        self.grid = shape[1] // STRIDE, shape[2] // STRIDE
        self.window = window
        self._images, self._targets, self._masks = images, targets, masks
        self._lengths = lengths
        self._seed, self._threads, self._progress = seed, threads, progress
        self._allowed = np.zeros((0, *self.grid), np.float32) if allowed is None else allowed
        self._laxer = np.zeros((len(self._allowed), 1, 1), np.float32)
        if lengths is not None:
            self._laxer = laxity(lengths, masks, self._allowed)
        self._scans = 0
        marked = (masks > 0).any(axis=(2, 3))
        self._blind: NDArray[np.bool_] = (targets > 0) & ~marked
        self._bad = int((targets > 0).any(axis=1).sum())
        self.unmarked = float(self._blind.any(axis=1).sum() / max(1, self._bad))
        """The share of the bad images of which nobody marked why."""
        self._guessed: list[Square] = []
        self._bags: list[tuple[int, list[Square]]] = []
        self._held: list[Square] = []
        self._of: dict[Kind, list[int]] = {kind: [] for kind in get_args(Kind)}

    def __len__(self) -> int:
        """How many there are of all kinds."""
        bags = sum(len(squares) for _, squares in self._bags)
        return len(self._held) + len(self._guessed) + bags

    def add(self, network: Detail | Guess | None = None) -> None:
        """Add squares of every image: those that fool a network, or without one the others.

        Of bad images that nobody marked, what the network suspects takes the place of what another
        one did before.

        Raises:
            InputError: an image of another shape, or not finite.
            EngineError: OpenVINO failed.
        """
        evidence_of = _in_openvino(network, self.shape, self._threads) if network else None
        count, done, lock = len(self._images), 0, threading.Lock()
        if self._progress is not None:
            self._progress("scan", 0, count)

        def scanned(index: int) -> _Scanned:
            nonlocal done
            found = self._scan(index, evidence_of)
            with lock:
                done += 1
                if self._progress is not None:
                    self._progress("scan", done, count)
            return found

        with ThreadPoolExecutor(self._threads) as pool:
            found = list(pool.map(scanned, range(count)))
        for each in found:
            for kind, square in each.squares:
                self._of[kind].append(len(self._held))
                self._held.append(square)
        self._suspect(found)
        self._scans += 1

    def _suspect(self, found: list[_Scanned]) -> None:
        """Take for marked what stands out as in hardly any good image, and put the rest in bags."""
        good = [each.highest for each in found if each.highest is not None]
        sure = float(np.quantile(good, GOOD_BELOW)) if good else np.inf
        self._guessed, self._bags = [], []
        for index, each in enumerate(found):
            held = self._blind[index][:, np.newaxis, np.newaxis]
            guessed = [
                replace(square, places=np.where(shown, 1.0, square.places).astype(np.float16))
                for square, evidence in each.suspects
                if (shown := held & (evidence > sure)).any()
            ]
            self._guessed += guessed
            if each.suspects and not guessed:
                self._bags.append((index, [square for square, _ in each.suspects]))

    def draw(self, number: int, generator: np.random.Generator) -> Drawn:
        """So many squares, half of them marked or suspected, cut, turned and lit at random."""
        drawn, bags = [], []
        wanted: list[Tensor] = []
        for _ in range(round(number * IN_BAGS * len(self._bags) / max(1, self._bad) / SUSPECTED)):
            index, squares = self._bags[int(generator.integers(len(self._bags)))]
            bags += [len(wanted)] * len(squares)
            known = np.where(self._blind[index], self._targets[index], np.nan)
            wanted.append(torch.from_numpy(known.astype(np.float32)))
            drawn += [self._cut(square, "marked", generator) for square in squares]
        alone = number - len(drawn)
        for n in range(alone):
            kind = self._kind(n / alone)
            one = int(generator.integers(self._number(kind)))
            mine = self._of[kind]
            held = self._held[mine[one]] if one < len(mine) else self._guessed[one - len(mine)]
            drawn.append(self._cut(held, kind, generator))
        pixels, places, allowed = (
            torch.from_numpy(np.stack(each)) for each in zip(*drawn, strict=True)
        )
        shown = (places[-alone:] >= COVERED).flatten(2).any(dim=2)
        plain = (places[-alone:] == 0).flatten(2).all(dim=2)
        alike = torch.where(shown | plain, shown.float(), torch.nan)
        low, high = self.window
        return Drawn(
            levels=(pixels * ((high - low) / LEVELS) + low)[:, None],
            places=places,
            allowed=allowed,
            bags=torch.tensor([*bags, *range(len(wanted), len(wanted) + alone)]),
            wanted=torch.cat([*(each[None] for each in wanted), alike]),
        )

    def _kind(self, share: float) -> Kind:
        """Of which kind a square is at this share of a batch; another where there is none of it."""
        kinds = MEASURED_KINDS if self._of["allowed"] else KINDS
        first = next(n for n, (_, until) in enumerate(kinds) if share < until)
        order = [kind for kind, _ in (*kinds[first:], *reversed(kinds[:first]))]
        return next(each for each in order if self._number(each))

    def _number(self, kind: Kind) -> int:
        """How many squares there are of a kind; what is taken for marked counts as such."""
        return len(self._of[kind]) + (len(self._guessed) if kind == "marked" else 0)

    def _cut(
        self, held: Square, kind: Kind, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Pixels, places and what zones allow, cut out of what is held of one place."""
        rows, columns = (min(SIDE, side) for side in held.pixels.shape)
        top, left = (
            STRIDE * int(generator.integers((whole - part) // STRIDE + 1))
            for whole, part in zip(held.pixels.shape, (rows, columns), strict=True)
        )
        cut = held.pixels[top : top + rows, left : left + columns].astype(np.float32)
        cut *= np.float32(np.exp(generator.normal(0.0, 0.05)))  # the tube is never quite the same
        y, x = top // STRIDE, left // STRIDE
        inside = np.s_[:, y : y + rows // STRIDE, x : x + columns // STRIDE]
        shown = held.places[inside].astype(np.float32)
        lengths = held.lengths[inside].astype(np.float32)
        y, x = held.corner[0] + y, held.corner[1] + x
        allowed = self._allowed[:, y : y + rows // STRIDE, x : x + columns // STRIDE]
        if kind == "allowed":
            allowed, shown = stricter(allowed, shown, lengths, self._laxer, generator)
        turn = int(generator.integers(4)) if rows == columns else 0
        flip = -1 if generator.integers(2) else 1
        made = [np.rot90(each, turn, axes=(-2, -1))[..., ::flip] for each in (cut, shown, allowed)]
        return (
            np.ascontiguousarray(made[0]),
            np.ascontiguousarray(made[1]),
            np.ascontiguousarray(made[2]),
        )

    def _scan(
        self,
        index: int,
        evidence_of: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    ) -> _Scanned:
        height, width = self.grid
        places = shares(self._masks[index], height, width)
        lengths = np.zeros((0, height, width), np.float16)
        if self._lengths is not None:
            lengths = self._lengths[index]
        touched: NDArray[np.bool_] = np.nan_to_num(places) > 0
        blind = bool(self._blind[index].any())
        marks = np.asarray(touched.any(axis=0))
        if evidence_of is None and blind and not marks.any():
            return _Scanned(squares=[], suspects=[], highest=None)
        image = checked_image(self._images, index, self.shape)
        generator = np.random.default_rng([self._seed, index, self._scans])

        def square(cell: tuple[int, int]) -> Square:
            return around(image[0], places, lengths, cell, *self.window)

        if evidence_of is not None:
            evidence = evidence_of(image)
            if blind:
                squares = [square(cell) for cell in peaks(evidence, marks, SUSPECTED, -np.inf)]
                suspects = [(one, evidence[(slice(None), *one.cells)].copy()) for one in squares]
                return _Scanned(squares=[], suspects=suspects, highest=None)
            fooled: list[tuple[Kind, Square]] = [
                ("fooled", square(cell)) for cell in peaks(evidence, marks)
            ]
            highest = None if marks.any() else float(evidence.max())
            return _Scanned(squares=fooled, suspects=[], highest=highest)
        chosen: list[tuple[Kind, tuple[int, int]]]
        chosen = [("marked", cell) for cell in one_each(marks, generator)]
        measured = np.asarray((np.nan_to_num(lengths) > 0).any(axis=0))
        chosen += [("allowed", cell) for cell in one_each(measured, generator)]
        for _ in range(ANYWHERE):
            row, column = generator.integers((height, width)).tolist()
            chosen.append(("anywhere", (row, column)))
        others = [(kind, square(cell)) for kind, cell in chosen]
        return _Scanned(squares=others, suspects=[], highest=None)


def _in_openvino(
    network: Detail | Guess, shape: tuple[int, int, int], threads: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The branch as it is now, an image a core at a time: (1, H, W) -> (K, h, w)."""
    model = compiled(part_onnx(network, shape, ("evidence",)), threads)

    def evidence_of(image: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            request = model.create_infer_request()
            found: NDArray[np.float32] = request.infer({0: image[np.newaxis]})[0][0].copy()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO could not scan an image: {error}") from error
        return found

    return evidence_of
