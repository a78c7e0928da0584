"""What the evidence map costs: the forward pass with it and without it, in turn.

    model.onnx -> score alone | score and evidence | all three as served -> OpenVINO -> ms, in turn

A graph loses an output here, and with it whatever only that output needed: OpenVINO removes nodes
that nothing asks for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from _figures import Row, median
from _place import PNG, SIZE_PX

from inspection.engines.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import openvino as ov
    from _place import Place

KEPT: Final = {
    "one": ("score",),
    "two": ("score", "evidence"),
    "three": ("score", "evidence", "novelty"),
}
COMMAND: Final = "python benchmarks/serving/bench.py outputs"


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The graph with these outputs only.

    Raises:
        ValueError: it has not all of them.
    """
    graph = onnx.load_from_string(model)
    kept = [output for output in graph.graph.output if output.name in names]
    if len(kept) != len(names):
        raise ValueError(f"the graph has not all of {names}")
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    return graph.SerializeToString()


def compiled(model: bytes) -> ov.InferRequest:
    """As the product's engine compiles it."""
    import openvino as ov

    core = ov.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(model), "CPU", options).create_infer_request()


def outputs(place: Place, *, short: bool) -> list[Row]:
    """Two outputs over one, at batch 1 and 8."""
    model = (place.weights(PNG) / PNG.name / "1" / "model.onnx").read_bytes()
    OpenVinoEngine(model).close()  # one of ours, or it says so
    requests = {name: compiled(with_outputs(model, kept)) for name, kept in KEPT.items()}
    rows = []
    for batch in (1, 8):
        rounds = (400 if short else 3000) // batch
        images = np.random.default_rng(7).integers(0, 256, (batch, 1, SIZE_PX, SIZE_PX))
        given = images.astype(np.float32)
        times: dict[str, list[float]] = {name: [] for name in requests}
        for turn in range(-5, rounds):
            # Whoever comes first in a round finds other caches than the others: they take turns.
            order = list(requests)
            order = order[turn % 3 :] + order[: turn % 3]
            for name in order:
                start = time.perf_counter()
                requests[name].infer([given])
                if turn >= 0:
                    times[name].append(1000 * (time.perf_counter() - start))
        ratios = {name: _ratio(times[name], times["one"]) for name in ("two", "three")}
        rows.append(
            Row(
                figure=f"forward with score and evidence / score alone, batch {batch}",
                value=f"{ratios['two']:.3f}",
                target="<= 1.03",
                met=ratios["two"] <= 1.03,
                how=f"median of {rounds} ratios of neighbours; {median(times['one']):.2f} and "
                f"{median(times['two']):.2f} ms; with novelty too {ratios['three']:.3f}",
                command=COMMAND,
                raw={"batch": batch, **{name: median(each) for name, each in times.items()}},
            )
        )
    return rows


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median([a / b for a, b in zip(ours, theirs, strict=True)])
