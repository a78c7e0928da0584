"""2048 x 2048 16-bit TIFF from bytes to verdict on 2 cores: time by stage, and against the least.

    taskset -c 0,1 python benchmarks/castings/stages.py --package DIR [--rounds 15]

A package for another size is rebuilt for this one: the same weights, for none of them has a size.
The detector (0.05 mm) and its calibration are simulated. The least is decoding and the forward pass
alone; flat field, calibration of scores, limits and regions are what the product adds.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.detector.flat_field import FlatField  # noqa: E402
from inspection.engines.export import export_onnx  # noqa: E402
from inspection.engines.network import (  # noqa: E402
    Architecture,
    create_network,
    load_network,
)
from inspection.engines.openvino import OpenVinoEngine  # noqa: E402
from inspection.frame import decode_image  # noqa: E402
from inspection.package import load_package  # noqa: E402
from inspection.recipe import prepare  # noqa: E402
from inspection.verdict import decide  # noqa: E402
from training.simulation.physics import Beam, Detector  # noqa: E402
from training.simulation.scene import make_scene  # noqa: E402

SIZE_PX = (2048, 2048)
STAGES = ("decode", "prepare", "forward", "verdict")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    package = load_package(options.package)
    recipe = replace(package.recipe, input_size_px=SIZE_PX, frame_size_px=SIZE_PX)
    engine = rebuilt(options.package)
    data, flat = exposure()
    document = package.document
    held: dict[str, list[float]] = {name: [] for name in STAGES}
    for number in range(options.rounds + 2):
        marks = [time.perf_counter()]
        frame = decode_image(data)
        marks.append(time.perf_counter())
        image = prepare(frame, recipe, flat)
        marks.append(time.perf_counter())
        (prediction,) = engine.infer([image])
        marks.append(time.perf_counter())
        decide(prediction, document.calibration, document.operating_point, recipe, frame.size_px)
        marks.append(time.perf_counter())
        if number >= 2:  # the first two warm caches
            for name, begun, ended in zip(STAGES, marks, marks[1:], strict=False):
                held[name].append(1000 * (ended - begun))
    spent = {name: round(statistics.median(values), 2) for name, values in held.items()}
    least = spent["decode"] + spent["forward"]
    whole = sum(spent.values())
    print(
        json.dumps(
            {"ms": spent, "whole_ms": round(whole, 1), "ratio": round(whole / least, 3)}, indent=2
        )
    )


def rebuilt(folder: Path) -> OpenVinoEngine:
    """The package's network for this size, as it is served: OpenVINO, float32."""
    network = load_network(folder / "model.safetensors")
    given = asdict(network.architecture) | {"input_size_px": SIZE_PX}
    larger = create_network(Architecture(**given), pretrained=False)
    larger.load_state_dict(network.state_dict())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export_onnx(larger, path)
        return OpenVinoEngine(path.read_bytes(), precision="f32")


def exposure() -> tuple[bytes, FlatField]:
    """A casting as the detector's raw TIFF, and the detector's calibration."""
    beam, detector = Beam(), Detector(size_px=SIZE_PX, pitch_mm=0.05)
    rng = np.random.default_rng(1)
    dark, bright = (
        np.mean(
            [
                detector.expose(np.full(SIZE_PX, level, np.float32), beam.quanta, rng)
                for _ in range(8)
            ],
            axis=0,
        ).astype(np.float32)
        for level in (0.0, 1.0)
    )
    gain = bright - dark
    bad = np.abs(gain / np.median(gain) - 1) > 0.5
    flat = FlatField(
        station="xray-1",
        detector=None,
        offset=dark,
        gain=np.where(bad, np.median(gain), gain).astype(np.float32),
        bad=bad,
        made_at="2026-01-01T00:00:00+00:00",
        digest="0" * 64,
    )
    held = io.BytesIO()
    shot = make_scene(7, 3, beam=beam, detector=detector).shots[0]
    tifffile.imwrite(held, shot.image, metadata=None)
    return held.getvalue(), flat


if __name__ == "__main__":
    main()
