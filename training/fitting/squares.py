"""The squares that a detail branch learns from: a few of each image, for most of it is plain metal.

    image -> round what people marked, somewhere ----------------------------.
          -> round what the network so far takes for a defect, and is none ---+-> Squares

As hard negatives are found for the fine branch (`training.fitting.fine_cells`), but as pictures. An
image that is bad, and that nobody marked, is left out: what lies where is not known of it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from inspection.engines.detail import STRIDE
from inspection.engines.export import part_onnx
from inspection.errors import EngineError
from training.fitting.features import checked_image
from training.fitting.fit_masks import shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from inspection.engines.detail import Detail
    from training.fitting.features import Images

    Progress = Callable[[str, int, int], None]

Kind = Literal["marked", "fooled", "anywhere"]

SIDE = 128  # pixels along what is learnt from
KEPT = 192  # and along what is kept, so that it may lie elsewhere each time
MARKED = 6  # of an image, at most
FOOLED = 4
ANYWHERE = 2
APART = 4  # cells around a peak in which it is the highest, and around a mark that is no error
FLOOR = -3.0  # evidence below which nobody is fooled
COVERED = 0.4  # share of a cell from which it shows the defect; less, and nobody can say
LEVELS = 65_535


class Squares:
    """Squares of N images; `add` scans them all.

    Args:
        images: N prepared ones, (1, H, W).
        targets: (N, K) in 0..1.
        masks: (N, K, h, w) of what people drew.
        window: (low, high) grey levels, which become 16 bits here.
        seed: of the draws.
        threads: CPU cores to use.
        progress: called as ("scan", done, total).
    """

    def __init__(
        self,
        images: Images,
        targets: NDArray[np.float32],
        masks: NDArray[np.float32],
        *,
        shape: tuple[int, int, int],
        window: tuple[float, float],
        seed: int,
        threads: int,
        progress: Progress | None = None,
    ) -> None:
        self.shape = shape
        self.window = window
        self.classes = targets.shape[1]
        self._images, self._targets, self._masks = images, targets, masks
        self._seed, self._threads, self._progress = seed, threads, progress
        self._scans = 0
        self._pixels: list[NDArray[np.uint16]] = []
        self._places: list[NDArray[np.float16]] = []
        self._of: dict[Kind, list[int]] = {"marked": [], "fooled": [], "anywhere": []}

    def __len__(self) -> int:
        """How many there are of all kinds."""
        return len(self._pixels)

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

        def scanned(index: int) -> list[tuple[Kind, NDArray[np.uint16], NDArray[np.float16]]]:
            nonlocal done
            found = self._scan(index, evidence_of)
            with lock:
                done += 1
                if self._progress is not None:
                    self._progress("scan", done, count)
            return found

        with ThreadPoolExecutor(self._threads) as pool:
            for found in pool.map(scanned, range(count)):
                for kind, pixels, places in found:
                    self._of[kind].append(len(self._pixels))
                    self._pixels.append(pixels)
                    self._places.append(places)
        self._scans += 1

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """So many squares, half of them marked, cut, turned and lit at random.

        Returns:
            (number, 1, S, S) float32 grey levels and (number, K, S / 4, S / 4) shares of cells that
            a defect covers, NaN where unknown; S is `SIDE`, or less where images are smaller.
        """
        pixels, places = zip(
            *(self._draw(n / number, generator) for n in range(number)), strict=True
        )
        low, high = self.window
        levels = torch.from_numpy(np.stack(pixels)) * ((high - low) / LEVELS) + low
        return levels[:, None], torch.from_numpy(np.stack(places))

    def _draw(
        self, share: float, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        order: tuple[Kind, ...] = ("marked", "fooled", "anywhere")
        first = 0 if share < 0.45 else 1 if share < 0.9 else 2
        kind = next(each for each in (*order[first:], *reversed(order[:first])) if self._of[each])
        chosen = self._of[kind][int(generator.integers(len(self._of[kind])))]
        pixels, places = self._pixels[chosen], self._places[chosen]
        rows, columns = (min(SIDE, side) for side in pixels.shape)
        top, left = (
            STRIDE * int(generator.integers((whole - part) // STRIDE + 1))
            for whole, part in zip(pixels.shape, (rows, columns), strict=True)
        )
        cut = pixels[top : top + rows, left : left + columns].astype(np.float32)
        cut *= np.float32(np.exp(generator.normal(0.0, 0.05)))  # the tube is never quite the same
        y, x = top // STRIDE, left // STRIDE
        shown = places[:, y : y + rows // STRIDE, x : x + columns // STRIDE].astype(np.float32)
        if rows == columns:
            turn = int(generator.integers(4))
            cut, shown = np.rot90(cut, turn), np.rot90(shown, turn, axes=(1, 2))
        if generator.integers(2):
            cut, shown = cut[:, ::-1], shown[:, :, ::-1]
        return np.ascontiguousarray(cut), np.ascontiguousarray(shown)

    def _scan(
        self,
        index: int,
        evidence_of: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    ) -> list[tuple[Kind, NDArray[np.uint16], NDArray[np.float16]]]:
        height, width = self.shape[1] // STRIDE, self.shape[2] // STRIDE
        places = shares(self._masks[index], height, width)
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
            for _ in range(ANYWHERE):
                row, column = generator.integers((height, width)).tolist()
                chosen.append(("anywhere", (row, column)))
        else:
            found = peaks(evidence_of(image), marks)
            chosen = [("fooled", cell) for cell in found]
        low, high = self.window
        return [(kind, *_cut(image[0], places, cell, low, high)) for kind, cell in chosen]


def _cut(
    image: NDArray[np.float32],
    places: NDArray[np.float32],
    cell: tuple[int, int],
    low: float,
    high: float,
) -> tuple[NDArray[np.uint16], NDArray[np.float16]]:
    """What lies around a cell, as far as there is something, and its places."""
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
    return pixels, places[:, rows, columns].astype(np.float16)


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
    import openvino as ov

    graph = part_onnx(detail, shape, ("evidence",))
    options = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        core = ov.Core()
        compiled = core.compile_model(core.read_model(graph), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO could not compile the network: {error}") from error

    def evidence_of(image: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            request = compiled.create_infer_request()
            found: NDArray[np.float32] = request.infer({0: image[np.newaxis]})[0][0].copy()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO could not scan an image: {error}") from error
        return found

    return evidence_of
