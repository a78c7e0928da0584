"""A package's ONNX graph in ONNX Runtime on the CPU, in float32.

A second opinion on the exported file itself: what OpenVINO and this one agree on, the graph says.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from inspection.engine import Prediction, split_outputs, stack_images
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage

OUTPUTS = ("score", "evidence", "novelty")
QUIET = 3  # errors only: its warnings go straight to the terminal


class OnnxRuntimeEngine:
    """Runs one ONNX graph on the CPU; one request at a time, as many images in it as are given.

    Args:
        onnx: the graph, as a file or as bytes.
        threads: how many cores to use; the runtime's choice when absent.

    Raises:
        EngineError: the graph cannot be loaded, or is not one of ours.
    """

    def __init__(self, onnx: Path | bytes, *, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                onnx if isinstance(onnx, bytes) else str(onnx),
                sess_options=options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # its own errors have no common base
            raise EngineError(f"ONNX Runtime cannot load the network: {error}") from error
        names = {output.name for output in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or not set(OUTPUTS) <= names:
            raise EngineError(f"the graph gives {sorted(names)}, not {OUTPUTS}")
        self._input = inputs[0].name
        self._shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape[1:])
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def for_package(cls, package: ModelPackage, *, threads: int | None = None) -> OnnxRuntimeEngine:
        """The engine of `package`.

        Raises:
            PackageDamaged: the graph was changed since the package was loaded.
            EngineError: it cannot be loaded.
        """
        return cls(package.read("model.onnx"), threads=threads)

    @property
    def description(self) -> str:
        """Such as "ONNX Runtime 1.21 CPU f32"."""
        release = ".".join(str(onnxruntime.__version__).split(".")[:2])
        return f"ONNX Runtime {release} CPU f32"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`."""
        if not images:
            return []
        batch = stack_images(images, self._shape)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            try:
                outputs = self._session.run(list(OUTPUTS), {self._input: batch})
            except Exception as error:
                raise EngineError(f"ONNX Runtime failed: {error}") from error
        return split_outputs(*outputs)

    def close(self) -> None:
        """Stop; later calls of `infer` raise EngineError."""
        with self._lock:
            self._closed = True
