"""The CPU engine: a package's ONNX graph in OpenVINO.

    one image        all cores work on it together: done soonest
    several images   a core an image, as many at a time as there are cores: most done

Cores that share one image wait for each other after every layer, and they wait turning: beside
other threads that takes a third more processor time (docs/decisions/0024-hot-path.md).

The precision is the package's, never OpenVINO's own choice: on newer Xeons that is bf16, with 8
bits of mantissa, and limits fitted in one arithmetic do not hold in another.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np
import openvino as ov

from inspection.engine import Prediction, require_images, split_outputs
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage, Precision

OUTPUTS = ("score", "evidence", "novelty")
AT_ONCE: Final = 8
"""Images worked on side by side: on more cores than that each gets several."""


class OpenVinoEngine:
    """Runs one ONNX graph on the CPU, for one caller at a time.

    Args:
        onnx: the graph, as a file or as bytes.
        precision: arithmetic of the inner products; None leaves the choice to OpenVINO.
        threads: how many cores to use; OpenVINO's choice (all physical ones) when absent.
        at_once: how many images at most are worked on side by side, on an equal share of the cores
            each.

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
        at_once: int = AT_ONCE,
    ) -> None:
        # Not bound to cores: another program, or another engine, may be at work on one of them.
        options: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
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
            # A network of one size is compiled better than one of any size.
            model.reshape([1, *list(model.inputs[0].partial_shape)[1:]])
            together = core.compile_model(model, "CPU", options)
            chosen = together.get_property("INFERENCE_PRECISION_HINT")
            self.precision = str(chosen.to_string())
            if precision is not None and self.precision != precision:
                raise EngineError(
                    f"this CPU runs the network in {self.precision}; its limits were fitted in "
                    f"{precision}",
                    remedy="Train the model again in f32, which every CPU has.",
                )
            cores = together.get_property("INFERENCE_NUM_THREADS")
            options |= {
                "INFERENCE_PRECISION_HINT": self.precision,
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": min(cores, at_once),
            }
            self._alone: ov.InferRequest | None = together.create_infer_request()
            self._apart: ov.CompiledModel | None = core.compile_model(model, "CPU", options)
            self._requests: list[ov.InferRequest] = []
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load the network: {error}") from error
        self._input_shape = tuple(
            None if dimension.is_dynamic else dimension.get_length()
            for dimension in model.inputs[0].partial_shape
        )
        self._lock = threading.Lock()

    @classmethod
    def for_package(
        cls, package: ModelPackage, *, threads: int | None = None, at_once: int = AT_ONCE
    ) -> OpenVinoEngine:
        """The engine that serves `package`, at the precision its limits were fitted at.

        Raises:
            PackageDamaged: the graph was changed since the package was loaded.
            EngineError: this CPU has not that precision, or cannot load the graph.
        """
        return cls(
            package.read("model.onnx"),
            precision=package.document.precision,
            threads=threads,
            at_once=at_once,
        )

    @property
    def description(self) -> str:
        """Such as "OpenVINO 2026.4 CPU f32"."""
        release = ".".join(str(ov.__version__).split(".")[:2])
        return f"OpenVINO {release} CPU {self.precision}"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`."""
        require_images(images, self._input_shape[1:])
        batches = [np.ascontiguousarray(image)[np.newaxis] for image in images]
        with self._lock:
            if self._alone is None or self._apart is None:
                raise EngineError("the engine is closed")
            try:
                if len(batches) == 1:
                    self._alone.infer(batches, share_inputs=True, share_outputs=True)
                    return _predictions(self._alone)
                while len(self._requests) < len(batches):
                    self._requests.append(self._apart.create_infer_request())
                running = self._requests[: len(batches)]
                _run_all(running, batches)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed: {error}") from error
            return [_predictions(request)[0] for request in running]

    def close(self) -> None:
        """Stop, and free the memory; later calls of `infer` raise EngineError."""
        with self._lock:
            self._alone = self._apart = None
            self._requests = []


def _run_all(requests: Sequence[ov.InferRequest], batches: Sequence[NDArray[np.float32]]) -> None:
    """Run each on its batch; returns or raises only when none runs any more.

    Raises:
        RuntimeError: one of them failed.
    """
    failed: list[RuntimeError] = []
    started: list[ov.InferRequest] = []
    try:
        for request, batch in zip(requests, batches, strict=True):
            request.start_async([batch], share_inputs=True)
            started.append(request)
    finally:
        for request in started:
            try:
                request.wait()
            except RuntimeError as error:
                failed.append(error)
    if failed:
        raise failed[0]


def _predictions(request: ov.InferRequest) -> list[Prediction]:
    """What a request that is done found, in memory of its own."""
    return split_outputs(*(request.get_tensor(name).data for name in OUTPUTS))


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
