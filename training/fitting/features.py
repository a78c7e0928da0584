"""Cell features of every image, extracted once: on the CPU through OpenVINO, on CUDA by PyTorch.

The backbone of the `fast` preset is frozen, so its features are the same in every epoch, fold and
split: `extract_features` runs it once an image, `FeatureCache.take` gives each fit its rows.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from inspection import box
from inspection.engines.export import trunk_onnx
from inspection.engines.network import create_network
from inspection.errors import ConfigurationError, EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import openvino as ov
    from numpy.typing import NDArray

    from inspection.engines.network import Architecture, InspectionNetwork
    from training.fit import FitSettings

    Progress = Callable[[str, int, int], None]

BATCH = 32  # images at a time in PyTorch


class Images(Protocol):
    """A sequence of prepared images: (C, H, W) float32 each, in grey levels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureCache:
    """What the frozen backbone says of each cell of each image.

    Attributes:
        cells: (N, h, w, C) float16.
        source: what the features depend on, apart from the images.
    """

    cells: NDArray[np.float16]
    source: tuple[object, ...]

    def __post_init__(self) -> None:
        if self.cells.ndim != 4 or self.cells.dtype != np.float16:
            raise InputError(f"features of shape {self.cells.shape}, {self.cells.dtype}")

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> FeatureCache:
        """The rows of these images, in this order."""
        return FeatureCache(cells=self.cells[np.asarray(indices)], source=self.source)

    @classmethod
    def put_together(
        cls, parts: Sequence[tuple[NDArray[np.integer], FeatureCache]]
    ) -> FeatureCache:
        """One cache out of several, each with the numbers of its images: in order of the numbers.

        Raises:
            ConfigurationError: they are of different sources, or do not hold each of the numbers
                from 0 on once.
        """
        numbers = np.concatenate([rows for rows, _ in parts])
        sizes = [len(rows) == len(cache) for rows, cache in parts]
        complete = np.array_equal(np.sort(numbers), np.arange(len(numbers)))
        if not (all(sizes) and complete) or len({cache.source for _, cache in parts}) != 1:
            raise ConfigurationError(
                "these features do not make a whole",
                remedy="Extract the features of all images with the same settings.",
            )
        cells = np.concatenate([cache.cells for _, cache in parts])
        return cls(cells=cells[np.argsort(numbers)], source=parts[0][1].source)

    def require(self, architecture: Architecture, images: int) -> None:
        """Refuse features of another backbone, input or number of images.

        Raises:
            ConfigurationError: they do not fit.
        """
        if self.source != feature_source(architecture) or len(self) != images:
            raise ConfigurationError(
                "these features are of other images or another backbone, size or window",
                remedy="Extract the features again with the settings of this fit.",
            )


def feature_source(architecture: Architecture) -> tuple[object, ...]:
    """What the features depend on: backbone, its weights, input size, window, channels."""
    return (
        architecture.backbone,
        architecture.backbone_sha256,
        architecture.input_size_px,
        architecture.window,
        architecture.channels,
        *((f"shrunk {architecture.shrink}",) if architecture.shrink > 1 else ()),
    )


def checked_image(images: Images, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One image, float32 and contiguous.

    Raises:
        InputError: it has another shape, or a grey level that is not a finite number.
    """
    image = np.ascontiguousarray(images[index], dtype=np.float32)
    if image.shape != shape:
        raise InputError(f"image {index} has shape {image.shape}, the settings say {shape}")
    if not np.isfinite(image).all():
        raise InputError(f"image {index} holds a grey level that is not a finite number")
    return image


def extract_features(
    images: Images,
    settings: FitSettings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> FeatureCache:
    """Cell features of all images.

    Args:
        images: (C, H, W) float32 each, of the size and channels in `settings`.
        settings: backbone, input size, window, channels.
        progress: called as ("features", done, total).

    Raises:
        ConfigurationError: the backbone cannot be had.
        InputError: an image of another shape, or not finite.
        EngineError: OpenVINO failed.
    """
    network = create_network(
        settings.architecture(1), pretrained=settings.pretrained, weights=settings.weights
    )
    return extract_with(network, images, threads=settings.cores, progress=progress)


def extract_with(
    network: InspectionNetwork,
    images: Images,
    *,
    threads: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> FeatureCache:
    """`extract_features` with a network that exists already; only its trunk is used."""
    architecture = network.architecture
    shape = (architecture.channels, *architecture.input_size_px)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if runs_in_torch(device):
        cells = _in_torch(network, images, shape, device, progress)
    else:
        cells = _in_openvino(network, images, shape, threads, progress)
    if not np.isfinite(cells).all():
        raise EngineError("the backbone gave features outside the range of float16")
    return FeatureCache(cells=cells, source=feature_source(architecture))


def runs_in_torch(device: torch.device) -> bool:
    """Whether PyTorch runs what is frozen: on CUDA, and where OpenVINO is not installed."""
    return device.type == "cuda" or not box.is_importable("openvino")


@torch.no_grad()
def _in_torch(
    network: InspectionNetwork,
    images: Images,
    shape: tuple[int, int, int],
    device: torch.device,
    progress: Progress | None,
) -> NDArray[np.float16]:
    """(N, h, w, C), a batch at a time, in float32: cuDNN would take TF32 unasked."""
    held: list[NDArray[np.float16]] = []
    network.trunk.to(device)
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in range(0, len(images), BATCH):
                rows = range(start, min(start + BATCH, len(images)))
                block = np.stack([checked_image(images, row, shape) for row in rows])
                cells = network.trunk(torch.from_numpy(block).to(device))
                held.append(cells.permute(0, 2, 3, 1).half().cpu().numpy())
                if progress is not None:
                    progress("features", rows.stop, len(images))
    finally:
        network.trunk.to("cpu")
    return np.concatenate(held)


def _in_openvino(
    network: InspectionNetwork,
    images: Images,
    shape: tuple[int, int, int],
    threads: int,
    progress: Progress | None,
) -> NDArray[np.float16]:
    """(N, h, w, C), one image a core at a time."""
    import openvino as ov

    graph = trunk_onnx(network.trunk, shape)
    try:
        core = ov.Core()
        model = core.read_model(graph)
        model.reshape([1, *shape])
        # One image a core at a time: quicker than two cores on one image, and free of waiting.
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": str(threads),
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        _, channels, height, width = tuple(compiled.outputs[0].shape)
        cells = np.empty((len(images), height, width, channels), np.float16)
        done = 0
        lock = threading.Lock()

        def keep(request: ov.InferRequest, index: int) -> None:
            nonlocal done
            cells[index] = request.get_output_tensor(0).data[0].transpose(1, 2, 0)
            with lock:
                done += 1
                if progress is not None:
                    progress("features", done, len(images))

        if progress is not None:
            progress("features", 0, len(images))
        queue = ov.AsyncInferQueue(compiled, threads)
        queue.set_callback(keep)
        for index in range(len(images)):
            queue.start_async({0: checked_image(images, index, shape)[np.newaxis]}, index)
        queue.wait_all()
    except RuntimeError as error:
        raise EngineError(f"OpenVINO could not extract the features: {error}") from error
    return cells
