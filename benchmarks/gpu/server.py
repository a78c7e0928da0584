"""One station, one image at a time, through the whole server: p50 and p99.

    python benchmarks/gpu/server.py
    python benchmarks/gpu/server.py --engine torch --precision f16 --count 2000

`inspection serve` in a process of its own, with a package of EfficientNet-Lite0 at 224 pixels
(random weights); a client on the loopback posts one PNG after the other and waits for each verdict.
So HTTP, decoding, the engine, the record and its sync to the disk are all in it; what the server
itself says of the stages is printed beside it. Needs the whole project, unlike the other scripts
of this folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _common import EXERCISE, add_options, device_of, in_words, lite0
from lone_image import part

from inspection.engines.network import export_onnx, save_network
from inspection.package import write_package
from inspection.registry import Registry
from serving.client import StationClient
from tests.live_server import start_process
from tests.spot_model import write_spot_package

PRODUCT = "KN-42"


def promote_lite0(folder: Path, size_px: int) -> None:
    """A package of the network, promoted in `folder`/weights."""
    network = lite0(size_px)
    export_onnx(network, folder / "model.onnx")
    save_network(network, folder / "model.safetensors")
    spot = write_spot_package(folder / "spot", product=PRODUCT)
    document = replace(spot.document, model="lite0", agreement=None)
    recipe = replace(spot.recipe, input_size_px=(size_px, size_px))
    package = write_package(
        folder / "weights",
        document,
        recipe,
        {
            "model.onnx": folder / "model.onnx",
            "model.safetensors": folder / "model.safetensors",
            "report.json": b"{}",
        },
    )
    risk = "random weights, promoted for a benchmark on this machine alone"
    Registry(folder / "weights").promote(package.reference, accept_risk=risk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--size", type=int, default=224, help="of the network's input, pixels")
    parser.add_argument("--pixels", type=int, default=300, help="height and width of the image")
    parser.add_argument("--engine", default="auto", help="engine.kind of the settings")
    parser.add_argument("--precision", default="package", help="engine.precision of the settings")
    parser.add_argument("--count", type=int, default=1000, help="requests")
    options = parser.parse_args()
    device = device_of(options)
    size, count = (64, 50) if options.short else (options.size, options.count)
    print(f"{in_words(device)}; {size} px, engine {options.engine}, {options.precision}")
    if device.type == "cpu":
        print(EXERCISE)
    data = part(options.pixels, 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        promote_lite0(folder, size)
        lines = [f'kind = "{options.engine}"', f'precision = "{options.precision}"']
        if options.engine == "torch":
            lines.append(f'device = "{device.type}"')
        (folder / "inspection.toml").write_text("\n".join(["[engine]", *lines, ""]))
        server = start_process(folder)
        try:
            seen, stages = ask(server.address, data, count)
        finally:
            server.stop()
    p50, p99 = np.percentile(seen, [50, 99])
    print(f"\n{count} requests, one at a time\n\n| | p50 ms | p99 ms |\n|---|--:|--:|")
    for stage, values in stages.items():
        print(f"| {stage} | {statistics.median(values):.2f} | {np.percentile(values, 99):.2f} |")
    print(f"| **whole request** | **{p50:.2f}** | **{p99:.2f}** |")


def ask(address: str, data: bytes, count: int) -> tuple[list[float], dict[str, list[float]]]:
    """Milliseconds of each request as the client saw it, and of its stages as the server did."""
    seen: list[float] = []
    stages: dict[str, list[float]] = {}
    with StationClient(address, timeout_s=60) as client:
        for number in range(-10, count):
            start = time.perf_counter()
            answer = client.inspect(
                data, station="bench", product=PRODUCT, capture_id=f"c{number + 10}"
            )
            if number >= 0:
                seen.append(1000 * (time.perf_counter() - start))
                for stage, value in answer["timings_ms"].items():
                    stages.setdefault(stage, []).append(value)
    return seen, stages


if __name__ == "__main__":
    torch.set_num_threads(1)  # it only exports here; the server has a process of its own
    main()
