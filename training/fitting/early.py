"""The early stages' answers to every view of every image, once for a whole training.

images -> views (turned, varied) -> OpenVINO on the CPU, PyTorch on a CUDA device -> float16
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection.engines.export import part_onnx
from inspection.errors import ConfigurationError, EngineError
from training.fitting.features import checked_image, feature_source, runs_in_torch
from training.fitting.stages import EarlyAnswers, EarlyStages
from training.fitting.views import draw_seed, orientations, turned, variation, ways_of_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from training.fit import FitSettings
    from training.fitting.features import Images

    Progress = Callable[[str, int, int], None]
    Keep = Callable[[int, int, NDArray[np.float32], NDArray[np.float32]], None]

STAGE = "views"
BATCH = 32  # views at a time in PyTorch


def extract_early(
    network: InspectionNetwork,
    images: Images,
    settings: FitSettings,
    device: torch.device,
    progress: Progress | None = None,
) -> EarlyAnswers:
    """What the early stages say of `full_views` views of each image.

    Raises:
        InputError, DataError: an image that cannot be used; names it.
        EngineError: OpenVINO failed, or the answers do not fit float16.
        ConfigurationError: there is no memory for them.
    """
    architecture = network.architecture
    count = settings.full_frozen
    frozen = network.trunk
    shape = (architecture.channels, *architecture.input_size_px)
    with torch.no_grad():
        last = frozen.taps(frozen.normalised(torch.zeros(1, *shape)))[-1]
        part = EarlyStages(frozen, count, (last.shape[-2], last.shape[-1])).eval()
        example = [tuple(one.shape[1:]) for one in part(torch.zeros(1, *shape))]
    size = (settings.full_views, len(images))
    try:
        cells, hidden = (np.empty((*size, *one), np.float16) for one in example)
    except MemoryError as error:
        raise ConfigurationError(
            f"there is no memory for {size[0]} views of {size[1]} images",
            remedy="Give fewer full_views, or full_frozen = 0, which keeps nothing and is slower.",
        ) from error
    done = 0
    lock = threading.Lock()

    def keep(view: int, index: int, *answers: NDArray[np.float32]) -> None:
        nonlocal done
        cells[view, index], hidden[view, index] = answers
        with lock:
            done += 1
            if progress is not None:
                progress(STAGE, done, size[0] * size[1])

    if progress is not None:
        progress(STAGE, 0, size[0] * size[1])
    run = in_torch if runs_in_torch(device) else in_openvino
    run(part, all_views(images, shape, settings), shape, settings.cores, device, keep)
    for one in (cells, hidden):
        if not all(np.isfinite(view).all() for view in one):
            raise EngineError("the backbone gave features outside the range of float16")
    return EarlyAnswers(
        cells=cells,
        hidden=hidden,
        ways=ways_of_views(settings.flips, settings.full_views, len(images)),
        source=early_source(network, settings),
    )


def early_source(network: InspectionNetwork, settings: FitSettings) -> tuple[object, ...]:
    """What the answers depend on, apart from the images."""
    views = (settings.full_frozen, settings.full_views, settings.flips, settings.seed)
    return (*feature_source(network.architecture), *views)


def all_views(
    images: Images, shape: tuple[int, ...], settings: FitSettings
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """(view, index, image), the views of an image one after the other."""
    ways = orientations(settings.flips)
    chosen = ways_of_views(settings.flips, settings.full_views, len(images))
    vary = variation(settings)
    for index in range(len(images)):
        image = checked_image(images, index, shape)
        yield 0, index, image
        for view in range(1, settings.full_views):
            changed = vary(image, draw_seed(settings.seed, view, index))
            yield view, index, turned(changed, ways[chosen[view, index]])


def in_openvino(
    part: EarlyStages,
    views: Iterator[tuple[int, int, NDArray[np.float32]]],
    shape: tuple[int, int, int],
    threads: int,
    _device: torch.device,
    keep: Keep,
) -> None:
    """One view a core at a time, through OpenVINO."""
    import openvino as ov

    graph = part_onnx(part, shape, ("cells", "hidden"))
    try:
        core = ov.Core()
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        queue = ov.AsyncInferQueue(
            core.compile_model(core.read_model(graph), "CPU", options), threads
        )

        def answered(request: ov.InferRequest, place: tuple[int, int]) -> None:
            keep(*place, *(request.get_output_tensor(one).data[0] for one in (0, 1)))

        queue.set_callback(answered)
        for view, index, image in views:
            queue.start_async({0: image[np.newaxis]}, (view, index))
        queue.wait_all()
    except RuntimeError as error:
        raise EngineError(f"OpenVINO could not run the early stages: {error}") from error


@torch.no_grad()
def in_torch(
    part: EarlyStages,
    views: Iterator[tuple[int, int, NDArray[np.float32]]],
    _shape: tuple[int, int, int],
    _threads: int,
    device: torch.device,
    keep: Keep,
) -> None:
    """A batch at a time, through torch."""
    part.to(device)
    held: list[tuple[int, int, NDArray[np.float32]]] = []

    def flush() -> None:
        block = torch.from_numpy(np.stack([image for _, _, image in held])).to(device)
        answers = [one.cpu().numpy() for one in part(block)]
        for number, (view, index, _) in enumerate(held):
            keep(view, index, *(one[number] for one in answers))
        held.clear()

    for one in views:
        held.append(one)
        if len(held) == BATCH:
            flush()
    if held:
        flush()
    part.to("cpu")
