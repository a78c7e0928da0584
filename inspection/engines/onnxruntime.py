"""A package's ONNX graph in ONNX Runtime: on the CPU in float32, or on a GPU through TensorRT.

On the CPU it is a second opinion on the exported file: what OpenVINO and this one agree on, the
graph says. TensorRT is for sites that have it: what it builds of the graph is kept in a folder by
GPU and package, because it fits no other of either.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from inspection.engine import Prediction, split_outputs, stack_images
from inspection.engines.devices import cuda_names
from inspection.engines.finite import require_finite
from inspection.errors import ConfigurationError, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage, Precision

OUTPUTS = ("score", "evidence", "novelty")
QUIET = 3  # errors only: its warnings go straight to the terminal
TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRt:
    """How TensorRT builds and keeps a graph.

    Attributes:
        cache: the folder for what is built of this graph on this GPU; only this server writes it.
        precision: what the layers may compute in.
        max_batch: the most images in one run.
    """

    cache: Path
    precision: Precision
    max_batch: int

    @classmethod
    def of(cls, package: ModelPackage, *, root: Path, max_batch: int) -> TensorRt:
        """For this package on this box's first GPU, below the folder `root`.

        Raises:
            ConfigurationError: there is no GPU, or the folder cannot be made.
        """
        names = cuda_names()
        if not names:
            raise ConfigurationError(
                "TensorRT was asked for, and there is no CUDA device here",
                remedy="Look at the driver with `nvidia-smi`, or leave the device out.",
            )
        cache = root / names[0].replace(" ", "-").replace("/", "-") / package.digest
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{cache} cannot be made: {error.strerror}",
                remedy="Name a folder that the server's user may write.",
            ) from error
        return cls(cache=cache, precision=package.document.precision, max_batch=max_batch)

    def providers(
        self, image: str, shape: tuple[int | None, ...]
    ) -> list[tuple[str, dict[str, Any]]]:
        """What ONNX Runtime is to run the graph with, best first.

        Raises:
            EngineError: TensorRT would compute float32 with 10 bits of mantissa.
        """
        if self.precision == "f32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
            raise EngineError(
                "TensorRT takes TF32 for float32, and ONNX Runtime has no setting against it",
                remedy="Start the server with NVIDIA_TF32_OVERRIDE=0 in its environment.",
            )
        sizes = {"min": 1, "opt": self.max_batch, "max": self.max_batch}
        edge = "x".join(map(str, shape))
        return [
            (
                TENSORRT,
                {
                    "trt_fp16_enable": self.precision == "f16",
                    "trt_bf16_enable": self.precision == "bf16",
                    "trt_engine_cache_enable": True,
                    "trt_engine_cache_path": str(self.cache),
                    "trt_timing_cache_enable": True,
                    "trt_timing_cache_path": str(self.cache),
                    **{f"trt_profile_{k}_shapes": f"{image}:{n}x{edge}" for k, n in sizes.items()},
                },
            ),
            ("CUDAExecutionProvider", {"use_tf32": False}),  # for layers that TensorRT lacks
            ("CPUExecutionProvider", {}),
        ]


class OnnxRuntimeEngine:
    """Runs one ONNX graph; one request at a time, as many images in it as are given.

    Args:
        onnx: the graph, as a file or as bytes.
        threads: how many cores to use; the runtime's choice when absent.
        tensorrt: to run it there; on the CPU in float32 when absent.

    Raises:
        ConfigurationError: TensorRT was asked for and is not in this ONNX Runtime.
        EngineError: the graph cannot be loaded, is not one of ours, or holds weights that are no
            numbers.
    """

    def __init__(
        self, onnx: Path | bytes, *, threads: int | None = None, tensorrt: TensorRt | None = None
    ) -> None:
        graph = onnx if isinstance(onnx, bytes) else onnx.read_bytes()
        self._input, self._shape = read_graph(graph)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        providers: Sequence[str | tuple[str, dict[str, Any]]] = ["CPUExecutionProvider"]
        self._where = "CPU f32"
        if tensorrt is not None:
            if TENSORRT not in onnxruntime.get_available_providers():
                raise ConfigurationError(
                    "this ONNX Runtime has no TensorRT",
                    remedy="Install onnxruntime-gpu and TensorRT, or leave the device out.",
                )
            providers = tensorrt.providers(self._input, self._shape)
            self._where = f"TensorRT {tensorrt.precision}"
        try:
            self._session = onnxruntime.InferenceSession(
                graph, sess_options=options, providers=providers
            )
        except Exception as error:  # its own errors have no common base
            raise EngineError(f"ONNX Runtime cannot load the network: {error}") from error
        if tensorrt is not None and self._session.get_providers()[0] != TENSORRT:
            raise EngineError(  # it takes the next provider without a word
                "ONNX Runtime could not start TensorRT, and would run the network elsewhere",
                remedy="Install the TensorRT that this ONNX Runtime was built for.",
            )
        self._session.disable_fallback()  # it would build the network elsewhere, at a failure
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def for_package(
        cls,
        package: ModelPackage,
        *,
        threads: int | None = None,
        tensorrt: TensorRt | None = None,
    ) -> OnnxRuntimeEngine:
        """The engine of `package`.

        Raises:
            PackageDamaged: the graph was changed since the package was loaded.
            EngineError: it cannot be loaded.
        """
        return cls(package.read("model.onnx"), threads=threads, tensorrt=tensorrt)

    @property
    def description(self) -> str:
        """Such as "ONNX Runtime 1.21 CPU f32"."""
        release = ".".join(str(onnxruntime.__version__).split(".")[:2])
        return f"ONNX Runtime {release} {self._where}"

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
        """Stop, and free the memory; later calls of `infer` raise EngineError."""
        with self._lock:
            self._closed = True
            self._session = None


def read_graph(graph: bytes) -> tuple[str, tuple[int | None, ...]]:
    """The name of a graph's input and its (C, H, W); None where it takes any.

    Raises:
        EngineError: it is not one of ours, or holds weights that are no numbers.
    """
    import onnx

    try:
        model = onnx.load_from_string(graph)
    except Exception as error:  # protobuf's error is not the same in all its releases
        raise EngineError(f"ONNX Runtime cannot load the network: {error}") from error
    names = {output.name for output in model.graph.output}
    inputs = model.graph.input
    if len(inputs) != 1 or not set(OUTPUTS) <= names:
        raise EngineError(f"the graph gives {sorted(names)}, not {OUTPUTS}")
    require_finite(model)
    _, *shape = (axis.dim_value or None for axis in inputs[0].type.tensor_type.shape.dim)
    return inputs[0].name, tuple(shape)
