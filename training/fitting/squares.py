"""The squares that a detail branch learns from: a few of each image, for most of it is plain metal.

    image -> round what people marked, somewhere ----------------------------.
          -> round what the network so far takes for a defect, and is none ---+-> Squares
          -> round what zones allow, under stricter ones -------------------'

As hard negatives are found for the fine branch (`training.fitting.fine_cells`), but as pictures. An
image that is bad, and that nobody marked, is left out: what lies where is not known of it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from inspection.engines.detail import LEAST_MM
from inspection.engines.export import part_onnx
from inspection.engines.fine import STRIDE
from inspection.errors import EngineError
from training.data.cells import COVERED
from training.fitting.features import checked_image
from training.fitting.fit_masks import shares
from training.fitting.throughput import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from inspection.engines.detail import Detail
    from training.fitting.features import Images

    Progress = Callable[[str, int, int], None]

Kind = Literal["marked", "allowed", "fooled", "anywhere"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Square:
    """What is kept of one place of an image.

    Attributes:
        pixels: (S, S) of the window.
        places: (K, S / 4, S / 4), the share of each cell that a defect covers; NaN where unknown.
        lengths: (K, S / 4, S / 4) mm of what people marked there, allowed or not; NaN where
            unknown, and nothing at all where there are no zones.
        corner: (row, column) of its first cell in the image.
    """

    pixels: NDArray[np.uint16]
    places: NDArray[np.float16]
    lengths: NDArray[np.float16]
    corner: tuple[int, int]


SIDE = 128  # pixels along what is learnt from
KEPT = 192  # and along what is kept, so that it may lie elsewhere each time
KINDS: tuple[tuple[Kind, float], ...] = (("marked", 0.45), ("fooled", 0.9), ("anywhere", 1.0))
"""Up to which share of a batch it is of this kind."""

MEASURED_KINDS: tuple[tuple[Kind, float], ...] = (
    *(("marked", 0.2), ("allowed", 0.55)),
    *(("fooled", 0.9), ("anywhere", 1.0)),
)
"""The same where allowed things are marked as well: those, too, under stricter zones."""

ABOUT_OCTAVES = 0.5  # how far from a thing's length such zones lie, one standard deviation
USUAL = 0.95  # quantile of the cells of what is allowed, by how far it goes beyond its zone
MARKED = 6  # of an image, at most
FOOLED = 4
ANYWHERE = 2
APART = 4  # cells around a peak in which it is the highest, and around a mark that is no error
FLOOR = -3.0  # evidence below which nobody is fooled
LEVELS = 65_535


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
        self._held: list[Square] = []
        self._of: dict[Kind, list[int]] = {kind: [] for kind in get_args(Kind)}

    def __len__(self) -> int:
        """How many there are of all kinds."""
        return len(self._held)

    def add(self, detail: Detail | None = None) -> None:
        """Add squares of every image: those that fool the network, or else the others.

        Raises:
            InputError: an image of another shape, or not finite.
            EngineError: OpenVINO failed.
        """
        evidence_of = _in_openvino(detail, self.shape, self._threads) if detail else None
        count, done, lock = len(self._images), 0, threading.Lock()
        if self._progress is not None:
            self._progress("scan", 0, count)

        def scanned(index: int) -> list[tuple[Kind, Square]]:
            nonlocal done
            found = self._scan(index, evidence_of)
            with lock:
                done += 1
                if self._progress is not None:
                    self._progress("scan", done, count)
            return found

        with ThreadPoolExecutor(self._threads) as pool:
            for found in pool.map(scanned, range(count)):
                for kind, square in found:
                    self._of[kind].append(len(self._held))
                    self._held.append(square)
        self._scans += 1

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """So many squares, half of them marked, cut, turned and lit at random.

        Returns:
            (number, 1, S, S) float32 grey levels, (number, K, S / 4, S / 4) shares of cells that a
            defect covers, NaN where unknown, and what zones allow in them, with K = 0 without
            zones; S is `SIDE`, or less where images are smaller.
        """
        drawn = [self._draw(n / number, generator) for n in range(number)]
        pixels, places, allowed = (
            torch.from_numpy(np.stack(each)) for each in zip(*drawn, strict=True)
        )
        low, high = self.window
        return (pixels * ((high - low) / LEVELS) + low)[:, None], places, allowed

    def _draw(
        self, share: float, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        kinds = MEASURED_KINDS if self._of["allowed"] else KINDS
        first = next(n for n, (_, until) in enumerate(kinds) if share < until)
        order = [kind for kind, _ in (*kinds[first:], *reversed(kinds[:first]))]
        kind = next(each for each in order if self._of[each])
        held = self._held[self._of[kind][int(generator.integers(len(self._of[kind])))]]
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
    ) -> list[tuple[Kind, Square]]:
        height, width = self.grid
        places = shares(self._masks[index], height, width)
        lengths = np.zeros((0, height, width), np.float16)
        if self._lengths is not None:
            lengths = self._lengths[index]
        touched: NDArray[np.bool_] = np.nan_to_num(places) > 0
        unmarked = (self._targets[index] > 0) & ~touched.any(axis=(1, 2))
        if unmarked.any():
            return []
        image = checked_image(self._images, index, self.shape)
        generator = np.random.default_rng([self._seed, index, self._scans])
        marks = np.asarray(touched.any(axis=0))
        chosen: list[tuple[Kind, tuple[int, int]]]
        if evidence_of is None:
            chosen = [("marked", cell) for cell in _one_each(marks, generator)]
            measured = np.asarray((np.nan_to_num(lengths) > 0).any(axis=0))
            chosen += [("allowed", cell) for cell in _one_each(measured, generator)]
            for _ in range(ANYWHERE):
                row, column = generator.integers((height, width)).tolist()
                chosen.append(("anywhere", (row, column)))
        else:
            found = peaks(evidence_of(image), marks)
            chosen = [("fooled", cell) for cell in found]
        low, high = self.window
        return [(kind, _cut(image[0], places, lengths, cell, low, high)) for kind, cell in chosen]


def stricter(
    allowed: NDArray[np.float32],
    shown: NDArray[np.float32],
    lengths: NDArray[np.float32],
    laxer: NDArray[np.float32],
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same square under stricter zones, which refuse what is longer than they allow then.

    What was refused is refused by these, too. How much stricter is drawn so that one of the marked
    things comes to lie about its limit: there, a length is learnt most.

    Args:
        allowed: (K, h, w) octaves of mm, as the branch is told.
        shown: (K, h, w) share that a defect covers; NaN where unknown.
        lengths: (K, h, w) mm of what people marked; NaN where unknown.
        laxer: (K, 1, 1) octaves by which people allow more than the zones say; see `laxity`.
        generator: of the draw.
    """
    k, rows, columns = np.nonzero(np.nan_to_num(lengths) > 0)
    if not len(rows):
        return allowed, shown
    octaves = np.log2(np.maximum(lengths, LEAST_MM / 2)) - allowed - laxer
    one = int(generator.integers(len(rows)))
    beyond = float(octaves[k[one], rows[one], columns[one]])
    change = beyond + float(generator.normal(0.0, ABOUT_OCTAVES))
    if change >= 0:
        return allowed, shown  # no stricter than they are: the labels know
    refused = np.where(octaves > change, 1.0, shown)
    unknown = np.isnan(lengths) & ~(shown >= COVERED)
    told = np.maximum(allowed + np.float32(change), np.float32(np.log2(LEAST_MM)))
    return told, np.where(unknown, np.nan, refused).astype(np.float32)


def laxity(
    lengths: NDArray[np.float16], masks: NDArray[np.float32], allowed: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(K, 1, 1) octaves by which what people allow is longer than the zones do; 0 or more.

    A recipe of one class allows what its strictest defect may; labels know pores from cracks.

    Args:
        lengths: (N, K, h, w) mm of what people marked, allowed or not.
        masks: (N, K, h, w) of what is refused.
        allowed: (K, h, w) octaves of mm, as the branch is told.
    """
    found = np.zeros((len(allowed), 1, 1), np.float32)
    least = np.log2(LEAST_MM)
    for k in range(len(allowed)):
        kept: list[NDArray[np.float32]] = []
        for one, mask in zip(lengths[:, k], masks[:, k], strict=True):
            cells = (np.nan_to_num(one) > 0) & (mask == 0) & (allowed[k] > least)
            kept.append(np.log2(one[cells].astype(np.float32)) - allowed[k][cells])
        beyond = np.concatenate(kept) if kept else np.zeros(0, np.float32)
        if len(beyond):
            found[k] = max(0.0, float(np.quantile(beyond, USUAL)))
    return found


def _cut(
    image: NDArray[np.float32],
    places: NDArray[np.float32],
    lengths: NDArray[np.float16],
    cell: tuple[int, int],
    low: float,
    high: float,
) -> Square:
    """What lies around a cell, as far as there is something."""
    spans = []
    for middle, side in zip(cell, image.shape, strict=True):
        kept = min(KEPT, side)
        start = min(max(STRIDE * middle - kept // 2, 0), side - kept) // STRIDE * STRIDE
        spans.append((start, start + kept))
    (top, bottom), (left, right) = spans
    relative = (image[top:bottom, left:right] - low) * (LEVELS / (high - low))
    pixels = np.rint(np.clip(relative, 0, LEVELS)).astype(np.uint16)
    rows = slice(top // STRIDE, bottom // STRIDE)
    columns = slice(left // STRIDE, right // STRIDE)
    return Square(
        pixels=pixels,
        places=places[:, rows, columns].astype(np.float16),
        lengths=lengths[:, rows, columns],
        corner=(top // STRIDE, left // STRIDE),
    )


def _one_each(touched: NDArray[np.bool_], generator: np.random.Generator) -> list[tuple[int, int]]:
    """A cell of each thing that was marked."""
    count, labels = cv2.connectedComponents(touched.astype(np.uint8))
    things = generator.permutation(np.arange(1, count))[:MARKED]
    cells = []
    for thing in things:
        rows, columns = np.nonzero(labels == thing)
        one = int(generator.integers(len(rows)))
        cells.append((int(rows[one]), int(columns[one])))
    return cells


def peaks(evidence: NDArray[np.float32], touched: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The strongest cells of (K, h, w) evidence that stand alone and away from every mark."""
    held = torch.from_numpy(evidence).amax(dim=0)[None, None]
    marks = torch.from_numpy(touched.astype(np.float32))[None, None]
    side = 2 * APART + 1
    highest = F.max_pool2d(held, side, 1, APART) == held
    away = F.max_pool2d(marks, side, 1, APART) == 0
    alone = torch.where(highest & away, held, -torch.inf).flatten()
    values, cells = alone.topk(min(FOOLED, len(alone)))
    width = evidence.shape[-1]
    return [
        divmod(cell, width)
        for value, cell in zip(values.tolist(), cells.tolist(), strict=True)
        if value > FLOOR
    ]


def _in_openvino(
    detail: Detail, shape: tuple[int, int, int], threads: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The branch as it is now, an image a core at a time: (1, H, W) -> (K, h, w)."""
    model = compiled(part_onnx(detail, shape, ("evidence",)), threads)

    def evidence_of(image: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            request = model.create_infer_request()
            found: NDArray[np.float32] = request.infer({0: image[np.newaxis]})[0][0].copy()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO could not scan an image: {error}") from error
        return found

    return evidence_of
