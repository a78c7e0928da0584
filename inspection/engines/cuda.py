"""A network on a CUDA device: everything prepared, so that a request only copies and replays.

    once:     pinned memory, device memory, a CUDA graph for every batch size, on a stream each lane
    a batch:  images -> pinned memory -> one copy in -> the smallest graph that holds them
                  -> one copy out -> pinned memory -> wait -> rows

A graph replays fixed kernels on fixed memory: sizes in between are filled up with blank images, and
more images than the largest graph holds go in turns through two lanes, so that the processor fills
one while the device works on the other. What a lane needs, it owns: lanes run at the same time, and
graphs may share memory only where one runs after the other.

Rules of capturing that are kept here (PyTorch's notes on CUDA graphs): the same shapes are run
before on the same stream; only one capture at a time in a process; errors are those of the
capturing thread alone, because other lines go on judging meanwhile; nothing is read before its
stream was waited for; nothing that a graph uses is let go before the graph; no two lanes have the
same stream.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Network = Callable[[Tensor], Tensor]

LARGEST: Final = 16
"""Images in the largest graph. The device is busy with fewer than that, and several in turns hide
the copies."""

WARM_UPS: Final = 3
"""Runs before a capture: libraries choose kernels and take workspaces in the first ones."""

STREAMS: Final = 32  # as many as PyTorch has of a priority

_capturing = threading.Lock()
_streams = threading.Lock()
_known: set[tuple[int, int]] = set()  # device and address of every stream that a lane ever had
_free: list[torch.cuda.Stream] = []  # those of them that none has now


def batch_sizes(max_batch: int, largest: int = LARGEST) -> tuple[int, ...]:
    """The sizes to make graphs for: powers of two, and the largest batch that can come.

    >>> batch_sizes(12), batch_sizes(64)
    ((1, 2, 4, 8, 12), (1, 2, 4, 8, 16))
    """
    top = min(max_batch, largest)
    return tuple(
        sorted({1 << power for power in range(top.bit_length()) if 1 << power < top} | {top})
    )


class CudaRunner:
    """Runs a network on a CUDA device, in graphs. Not safe to call from several threads at once.

    Args:
        network: from (N, *shape) float32 to (N, width) float32, on the device, in evaluation mode.
        shape: of an image.
        max_batch: the most images that come at once, as a rule; more are taken in turns.
        device: a CUDA device.
        largest: the most images in one graph.

    Raises:
        RuntimeError: the device failed, has no memory left, or the network cannot be captured.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        *,
        max_batch: int,
        device: torch.device,
        largest: int = LARGEST,
    ) -> None:
        sizes = batch_sizes(max_batch, largest)
        count = 1 if max_batch <= largest else 2
        self.largest = sizes[-1]
        self.network: Network | None = network  # graphs read its weights, and do not hold them
        self.lanes: list[Lane] = []
        try:
            for _ in range(count):
                self.lanes.append(Lane(network, shape, sizes, device))
        except BaseException:
            self.close()
            raise

    def run(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(N, width) answers to N images of the shape, 1 or more.

        Raises:
            RuntimeError: the device failed.
        """
        rows: list[NDArray[np.float32]] = []
        started: list[Lane] = []
        try:
            for start in range(0, len(images), self.largest):
                if len(started) == len(self.lanes):
                    rows.append(started[0].finish())
                    started.pop(0)
                lane = next(lane for lane in self.lanes if lane not in started)
                started.append(lane)
                lane.start(images[start : start + self.largest])
            while started:
                rows.append(started[0].finish())
                started.pop(0)
        finally:
            for lane in started:  # after a failure: no copy may be under way when the next begins
                lane.settle()
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def close(self) -> None:
        """Give the device its memory back."""
        for lane in self.lanes:
            lane.close()
        self.lanes.clear()
        self.network = None
        # Not while another is captured: PyTorch gives nothing back then, and says so with an error.
        with _capturing, suppress(RuntimeError):  # a device that failed has nothing to give
            torch.cuda.empty_cache()


class Lane:
    """A stream, the memory at both of its ends, and a graph for every batch size.

    A lane is closed by whoever made it; one that could not be made keeps nothing but its stream.

    Args:
        network, shape, device: see `CudaRunner`.
        sizes: of the batches, ascending.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        sizes: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self.device, self.sizes = device, sizes
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.started = 0
        largest = sizes[-1]
        with prepared(device):
            self.stream = take_stream(device)
            self.stream.wait_stream(torch.cuda.current_stream(device))  # it brought the weights
            self.staged = torch.zeros((largest, *shape), pin_memory=True)
            with torch.cuda.stream(self.stream):
                self.images = torch.zeros((largest, *shape), device=device)
                width = network(self.images[:1]).shape[1]
                self.answers = torch.zeros((largest, width), device=device)
            self.answered = torch.zeros((largest, width), pin_memory=True)
            pool = torch.cuda.graph_pool_handle()
            # The largest first: the smaller ones find room in what it took.
            for size in reversed(sizes):
                self.graphs[size] = self.captured(network, size, pool)

    def captured(self, network: Network, size: int, pool: Any) -> torch.cuda.CUDAGraph:
        """A graph from the first `size` images to their answers."""
        images, answers = self.images[:size], self.answers[:size]
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                answers.copy_(network(images))
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            answers.copy_(network(images))
        return graph

    def start(self, images: Sequence[NDArray[np.float32]]) -> None:
        """Begin with these images; the lane must have finished what it did before."""
        count = len(images)
        size = next(size for size in self.sizes if size >= count)
        staged = self.staged.numpy()
        for place, image in enumerate(images):
            staged[place] = image
        staged[count:size] = 0
        self.started = count
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            self.images[:size].copy_(self.staged[:size], non_blocking=True)
            self.graphs[size].replay()
            self.answered[:count].copy_(self.answers[:count], non_blocking=True)

    def finish(self) -> NDArray[np.float32]:
        """Wait, and take the answers: (count, width)."""
        self.stream.synchronize()
        return self.answered[: self.started].numpy().copy()

    def settle(self) -> None:
        """Wait for what is under way, whatever becomes of it."""
        with suppress(RuntimeError):
            self.stream.synchronize()

    def close(self) -> None:
        """Let go of the graphs, then of what they use."""
        self.settle()
        for graph in self.graphs.values():
            with suppress(RuntimeError):
                graph.reset()
        self.graphs.clear()
        give_stream_back(self.stream)


def take_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream that no other lane has.

    PyTorch hands out the same few streams in turns. Graphs that were captured on one stream share
    what cuBLAS works in there, and it goes when any of them goes: the others would compute in
    memory that is somebody else's (pytorch/pytorch issue 193402).

    Raises:
        RuntimeError: all of PyTorch's are taken.
    """
    with _streams:
        for place, stream in enumerate(_free):
            if stream.device == device:
                return _free.pop(place)
        for _ in range(2 * STREAMS):
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            if (device.index, stream.cuda_stream) not in _known:
                _known.add((device.index, stream.cuda_stream))
                return stream
    raise RuntimeError(f"all {STREAMS} streams of the device are taken: too many engines at once")


def give_stream_back(stream: torch.cuda.Stream) -> None:
    """For the next lane; what libraries keep for a stream stays bounded that way."""
    with _streams:
        _free.append(stream)


@contextmanager
def prepared(device: torch.device) -> Iterator[None]:
    """The state in which networks are run for the first time and captured, one at a time."""
    with _capturing, torch.cuda.device(device), torch.inference_mode(), same_rounding():
        yield


@contextmanager
def same_rounding() -> Iterator[None]:
    """Float32 with its whole mantissa, and kernels that are the same after every start.

    cuDNN would use TF32, with 10 bits of mantissa, unasked, and cuBLAS where the environment says
    so (NVIDIA's images of PyTorch do); and left to measure, cuDNN would choose its kernels by the
    clock, and the same model could round in another way.
    """
    products = torch.backends.cuda.matmul
    with ExitStack() as stack:
        stack.callback(setattr, products, "allow_tf32", products.allow_tf32)
        products.allow_tf32 = False
        stack.enter_context(
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            )
        )
        yield
