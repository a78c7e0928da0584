"""The cells that a first guess learns from: a few of each image, for all would not fit in memory.

    image -> fixed filters -> numbers of each cell -> cells that stand out, and marked ones -> kept

A radiograph of 1024 x 1024 pixels has 65,536 cells, nearly all of them plain metal. Nobody knows
which matter: the strongest blobs and ridges of each size are taken, bright and dark, and what
people marked.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from inspection.engines.detail import STRIDE
from inspection.engines.export import part_onnx
from inspection.errors import EngineError
from training.fitting.features import checked_image
from training.fitting.fit_masks import shares
from training.fitting.fixed_filters import FEATURES, NAMES
from training.fitting.throughput import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.fitting.features import Images
    from training.fitting.fixed_filters import FixedFilters

    Progress = Callable[[str, int, int], None]
    Keep = Callable[[int, NDArray[np.float32]], None]

STRONGEST = 24  # squares of each kind of blob and ridge
SQUARE = 4  # cells along a square, of which the strongest cell counts
MARKED = 200  # cells of an image's defects, at most
ANYWHERE = 20  # cells drawn at random beside them

BRIGHT = [i for i, name in enumerate(NAMES) if name.startswith(("blob", "ridge"))]
BRIGHT = [i for i in BRIGHT if not NAMES[i].endswith("min")]
DARK = [i for i, name in enumerate(NAMES) if name.startswith("blob") and "max" not in name]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Chosen cells of N images.

    Attributes:
        rows: (M, FEATURES) float16, image after image.
        places: (M, K) float32, the share of each cell that a defect covers; NaN where unknown.
        starts: (N + 1,) int64, where each image's rows begin; the last is M.
    """

    rows: NDArray[np.float16]
    places: NDArray[np.float32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


def scan(
    filters: FixedFilters,
    images: Images,
    masks: NDArray[np.float32],
    *,
    shape: tuple[int, int, int],
    seed: int,
    threads: int,
    progress: Progress | None = None,
) -> Cells:
    """Choose cells of every image.

    Args:
        filters: on the CPU.
        images: N prepared ones.
        masks: (N, K, h, w) of what people drew; NaN where nobody knows.
        shape: of each image, (1, H, W).
        seed: of the draws.
        threads: CPU cores to use.
        progress: called as (stage, done, total).

    Raises:
        InputError: an image of another shape, or not finite.
        EngineError: OpenVINO failed.
    """
    height, width = shape[1] // STRIDE, shape[2] // STRIDE
    held: list[tuple[NDArray[np.float16], NDArray[np.float32]] | None] = [None] * len(images)
    done = 0
    lock = threading.Lock()

    def keep(index: int, cells: NDArray[np.float32]) -> None:
        nonlocal done
        torch.set_num_threads(1)  # of this thread of the runtime, of which each has a core
        generator = np.random.default_rng([seed, index])
        places = shares(masks[index], height, width).reshape(masks.shape[1], -1)
        touched = np.flatnonzero((np.nan_to_num(places) > 0).any(axis=0))
        if len(touched) > MARKED:
            touched = generator.choice(touched, MARKED, replace=False)
        drawn = generator.integers(height * width, size=ANYWHERE)
        chosen = np.unique(np.concatenate([standing_out(cells), touched, drawn]))
        rows = cells.reshape(FEATURES, -1)[:, chosen].T.astype(np.float16)
        held[index] = rows, np.ascontiguousarray(places[:, chosen].T)
        with lock:
            done += 1
            if progress is not None:
                progress("cells", done, len(images))

    if progress is not None:
        progress("cells", 0, len(images))
    _in_openvino(part_onnx(filters, shape, ("cells",)), images, shape, threads, keep)
    whole = [each for each in held if each is not None]
    lengths = [len(rows) for rows, _ in whole]
    return Cells(
        rows=np.concatenate([rows for rows, _ in whole]),
        places=np.concatenate([places for _, places in whole]),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def standing_out(cells: NDArray[np.float32]) -> NDArray[np.int64]:
    """The strongest cells of the strongest squares, of each kind of blob and ridge."""
    strong = torch.from_numpy(np.concatenate([cells[BRIGHT], -cells[DARK]]))[None]
    best, where = F.max_pool2d(strong, SQUARE, return_indices=True, ceil_mode=True)
    count = min(STRONGEST, best[0, 0].numel())
    squares = best[0].flatten(1).topk(count, dim=1).indices
    return np.unique(where[0].flatten(1).gather(1, squares).numpy())


def _in_openvino(
    graph: bytes, images: Images, shape: tuple[int, int, int], threads: int, keep: Keep
) -> None:
    """One image a core at a time."""
    import openvino as ov

    model = compiled(graph, threads)
    try:
        queue = ov.AsyncInferQueue(model, threads)

        def answered(request: ov.InferRequest, index: int) -> None:
            keep(index, request.get_output_tensor(0).data[0])

        queue.set_callback(answered)
        for index in range(len(images)):
            queue.start_async({0: checked_image(images, index, shape)[np.newaxis]}, index)
        queue.wait_all()
    except RuntimeError as error:
        raise EngineError(f"OpenVINO could not scan the images: {error}") from error
