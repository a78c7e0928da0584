"""The network in PyTorch: what serves on a CUDA device, and a second opinion on a CPU.

    model.safetensors -> network -> served.py: folded, channels last, precision
                          -> cuda.py: graphs on the device    (CUDA)
                          `-> eagerly                          (CPU)

On a CPU it runs the same layers in the same arithmetic, so that its contract is tested everywhere.
It is what the exported graph and its runtimes are held against.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from inspection.engine import Prediction, require_images, split_outputs
from inspection.engines.cuda import LARGEST, CudaRunner
from inspection.engines.network import InspectionNetwork, load_network
from inspection.engines.served import ServedNetwork, unpack
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from inspection.package import ModelPackage, Precision

    Network = Callable[[Tensor], Tensor]

OTHERWISE = 'Set the engine to "openvino", which serves on the CPU.'


class Runner(Protocol):
    """What runs a `ServedNetwork` on some device."""

    def run(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(N, width) float32 answers; RuntimeError when the device fails."""
        ...

    def close(self) -> None:
        """Let go of the network and of all memory."""
        ...


class EagerRunner:
    """Runs a network on the CPU, layer by layer."""

    def __init__(self, network: Network) -> None:
        self.network: Network | None = network

    def run(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `Runner`."""
        if self.network is None:
            raise RuntimeError("it was closed")
        with torch.inference_mode():
            rows: NDArray[np.float32] = self.network(torch.from_numpy(np.stack(images))).numpy()
        return rows

    def close(self) -> None:
        """See `Runner`."""
        self.network = None


class TorchEngine:
    """Runs one network; one request at a time, as many images in it as are given.

    Args:
        weights: a model.safetensors, or a network that is loaded; it is taken over and changed.
        device: "cpu" or "cuda"; CUDA where there is one when absent.
        precision: of the backbone; all that comes after it computes in float32.
        max_batch: the most images in a request, as a rule: a CUDA device is prepared for that.
        threads: CPU cores for PyTorch in this process; its own choice when absent.
        compiled: let `torch.compile` put kernels together; needs a C compiler on this box.
        largest: the most images in one CUDA graph.

    Raises:
        EngineError: the file is not one of ours or holds weights that are no numbers, or there is
            no such device, or it cannot run the network.
    """

    def __init__(
        self,
        weights: Path | InspectionNetwork,
        *,
        device: Literal["cpu", "cuda"] | None = None,
        precision: Precision = "f32",
        max_batch: int = 8,
        threads: int | None = None,
        compiled: bool = False,
        largest: int = LARGEST,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError("PyTorch sees no CUDA device here", remedy="Use the CPU.")
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision: Precision = precision
        self._compiled = compiled
        loaded = weights if isinstance(weights, InspectionNetwork) else load_network(weights)
        network = ServedNetwork(loaded, precision)
        self._shape, self._classes, self._grid = network.shape, network.classes, network.grid
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._runner = self._prepared(network, max_batch, largest)
        except RuntimeError as error:
            raise EngineError(
                f"PyTorch cannot run the network on {self._device.upper()}: {first_line(error)}",
                remedy=OTHERWISE,
            ) from error

    def _prepared(self, network: ServedNetwork, max_batch: int, largest: int) -> Runner:
        if self._device == "cpu":
            return EagerRunner(self._built(network))
        device = torch.device("cuda", torch.cuda.current_device())
        return CudaRunner(
            self._built(network.to(device)),
            self._shape,
            max_batch=max_batch,
            device=device,
            largest=largest,
        )

    def _built(self, network: ServedNetwork) -> Network:
        return torch.compile(network, dynamic=False) if self._compiled else network

    @classmethod
    def for_package(
        cls,
        package: ModelPackage,
        *,
        device: Literal["cpu", "cuda"] | None = None,
        precision: Precision = "f32",
        max_batch: int = 8,
        threads: int | None = None,
    ) -> TorchEngine:
        """The engine of `package`, in float32 unless told otherwise.

        Raises:
            PackageDamaged: the weights were changed since the package was loaded.
            EngineError: they are not a network of this product, or the device cannot run it.
        """
        package.read("model.safetensors")  # holds it against its digest
        return cls(
            package.folder / "model.safetensors",
            device=device,
            precision=precision,
            max_batch=max_batch,
            threads=threads,
        )

    @property
    def description(self) -> str:
        """Such as "PyTorch 2.9 CPU f32"."""
        release = ".".join(torch.__version__.split(".")[:2])
        compiled = " compiled" if self._compiled else ""
        return f"PyTorch {release} {self._device.upper()} {self.precision}{compiled}"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`."""
        if not images:
            return []
        require_images(images, self._shape)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            try:
                rows = self._runner.run(images)
            except RuntimeError as error:
                raise EngineError(f"PyTorch failed: {first_line(error)}") from error
        return split_outputs(*unpack(rows, self._classes, self._grid))

    def close(self) -> None:
        """Stop, and free the device's memory; later calls of `infer` raise EngineError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._runner.close()


def first_line(error: RuntimeError) -> str:
    """What PyTorch says, without its page of advice."""
    return str(error).strip().split("\n", 1)[0]
