"""The network as it was trained: a package's weights in PyTorch, in float32 and without compiling.

What the exported graph and its runtimes are held against. CUDA where there is one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from inspection.engine import Prediction, split_outputs, stack_images
from inspection.engines.network import load_network
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage


class TorchEngine:
    """Runs one network eagerly; one request at a time, as many images in it as are given.

    Args:
        weights: a model.safetensors.
        device: "cpu" or "cuda"; CUDA where there is one when absent.

    Raises:
        EngineError: the file is not one of ours, or there is no such device.
    """

    def __init__(self, weights: Path, *, device: Literal["cpu", "cuda"] | None = None) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError("PyTorch sees no CUDA device here", remedy="Use the CPU.")
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._network = load_network(weights).to(self._device)
        architecture = self._network.architecture
        self._shape = (architecture.channels, *architecture.input_size_px)
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def for_package(
        cls, package: ModelPackage, *, device: Literal["cpu", "cuda"] | None = None
    ) -> TorchEngine:
        """The engine of `package`.

        Raises:
            PackageDamaged: the weights were changed since the package was loaded.
            EngineError: they are not a network of this product.
        """
        package.read("model.safetensors")  # holds it against its digest
        return cls(package.folder / "model.safetensors", device=device)

    @property
    def description(self) -> str:
        """Such as "PyTorch 2.9 CPU f32"."""
        release = ".".join(torch.__version__.split(".")[:2])
        return f"PyTorch {release} {self._device.upper()} f32"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`."""
        if not images:
            return []
        batch = stack_images(images, self._shape)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            try:
                # TF32 keeps 10 bits of mantissa, and cuDNN would use it unasked.
                with (
                    torch.inference_mode(),
                    torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
                ):
                    answers = self._network(torch.from_numpy(batch).to(self._device))
                    outputs = [answer.float().cpu().numpy() for answer in answers]
            except RuntimeError as error:
                raise EngineError(f"PyTorch failed: {error}") from error
        return split_outputs(*outputs)

    def close(self) -> None:
        """Stop; later calls of `infer` raise EngineError."""
        with self._lock:
            self._closed = True
