"""The CPU engine: a package's ONNX graph in OpenVINO.

The precision is the package's, never OpenVINO's own choice: on newer Xeons that is bf16, with 8
bits of mantissa, and limits fitted in one arithmetic do not hold in another.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from inspection.engine import Prediction, split_outputs, stack_images
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage, Precision

OUTPUTS = ("score", "evidence", "novelty")


class OpenVinoEngine:
    """Runs one ONNX graph on the CPU; one request at a time, as many images in it as are given.

    Args:
        onnx: the graph, as a file or as bytes.
        precision: arithmetic of the inner products; None leaves the choice to OpenVINO.
        threads: how many cores to use; OpenVINO's choice (all physical ones) when absent.

    Raises:
        EngineError: the graph cannot be loaded, is not one of ours, or holds weights that are no
            numbers.
    """

    def __init__(
        self,
        onnx: Path | bytes,
        *,
        precision: Precision | None = "f32",
        threads: int | None = None,
    ) -> None:
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = ov.Core()
            model = core.read_model(onnx if isinstance(onnx, bytes) else str(onnx))
            names = {name for output in model.outputs for name in output.get_names()}
            if len(model.inputs) != 1 or not set(OUTPUTS) <= names:
                raise EngineError(f"the graph gives {sorted(names)}, not {OUTPUTS}")
            require_finite(model)
            self._compiled = core.compile_model(model, "CPU", options)
            chosen = self._compiled.get_property("INFERENCE_PRECISION_HINT")
            self.precision = str(chosen.to_string())
            if precision is not None and self.precision != precision:
                raise EngineError(
                    f"this CPU runs the network in {self.precision}; its limits were fitted in "
                    f"{precision}",
                    remedy="Train the model again in f32, which every CPU has.",
                )
            self._request = self._compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load the network: {error}") from error
        self._input_shape = tuple(
            None if dimension.is_dynamic else dimension.get_length()
            for dimension in model.inputs[0].partial_shape
        )
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def for_package(cls, package: ModelPackage, *, threads: int | None = None) -> OpenVinoEngine:
        """The engine that serves `package`, at the precision its limits were fitted at.

        Raises:
            PackageDamaged: the graph was changed since the package was loaded.
            EngineError: this CPU has not that precision, or cannot load the graph.
        """
        return cls(
            package.read("model.onnx"),
            precision=package.document.precision,
            threads=threads,
        )

    @property
    def description(self) -> str:
        """Such as "OpenVINO 2026.4 CPU f32"."""
        release = ".".join(str(ov.__version__).split(".")[:2])
        return f"OpenVINO {release} CPU {self.precision}"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`."""
        if not images:
            return []
        batch = stack_images(images, self._input_shape[1:])
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            try:
                # Neither way is a copy made: the batch is ours, and the outputs are copied below.
                results = self._request.infer([batch], share_inputs=True, share_outputs=True)
                outputs = [np.array(results[name], dtype=np.float32) for name in OUTPUTS]
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed: {error}") from error
        return split_outputs(*outputs)

    def close(self) -> None:
        """Stop, and free the memory; later calls of `infer` raise EngineError."""
        with self._lock:
            self._closed = True
            self._request = self._compiled = None


def require_finite(model: ov.Model) -> None:
    """Refuse weights that are no numbers: a ReLU6 would make ordinary answers of them.

    Raises:
        EngineError: there is one; names the constant.
    """
    for one in model.get_ops():
        if one.get_type_name() != "Constant":
            continue
        held = one.data
        if held.dtype.kind == "f" and not np.isfinite(held).all():
            raise EngineError(
                f"the graph's {one.get_friendly_name()} holds a weight that is not a finite number",
                remedy="Train the model again; this one never gave answers.",
            )
