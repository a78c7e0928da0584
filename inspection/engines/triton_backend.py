"""`model.py` of a Triton model that runs on a CPU: the package's graph in OpenVINO.

    config.pbtxt -> initialize: the graph's digest -> OpenVINO at the package's precision
    requests, as many as wait -> one batch -> one run -> an answer for each

`inspection export triton --backend python` copies this file as it is into the model repository. It
runs inside Triton's Python backend, with that environment's openvino and numpy, and imports nothing
of this product.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it calls home

import openvino as ov  # noqa: E402

GRAPH = "model.onnx"
INPUT = "image"


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph; Triton calls the model ready only when this has returned.

        Raises:
            TritonModelException: the graph was altered, or this CPU has not its precision.
        """
        config = json.loads(args["model_config"])
        said = {name: each["string_value"] for name, each in config["parameters"].items()}
        data = (Path(args["model_repository"]) / args["model_version"] / GRAPH).read_bytes()
        if hashlib.sha256(data).hexdigest() != said["graph_sha256"]:
            raise backend.TritonModelException(f"{GRAPH} is not the file that was exported")
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": said["precision"],
        }
        core = ov.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", options)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if precision != said["precision"]:
            raise backend.TritonModelException(
                f"this CPU runs the network in {precision}; its limits were fitted in "
                f"{said['precision']}"
            )
        self._outputs = [output["name"] for output in config["output"]]
        self._request = compiled.create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request, in order; all of them in one run of the network."""
        given = [backend.get_input_tensor_by_name(each, INPUT).as_numpy() for each in requests]
        try:
            results = self._request.infer([np.concatenate(given)])
        except RuntimeError as error:
            failed = backend.TritonError(f"OpenVINO failed: {error}")
            return [backend.InferenceResponse(error=failed) for _ in requests]
        ends = np.cumsum([len(images) for images in given])[:-1]
        parts = {name: np.split(np.array(results[name]), ends) for name in self._outputs}
        return [
            backend.InferenceResponse(
                [backend.Tensor(name, np.ascontiguousarray(parts[name][i])) for name in parts]
            )
            for i in range(len(requests))
        ]
