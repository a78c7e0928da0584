"""What Triton costs on the way: one network on one CPU, in this process and through Triton.

    python benchmarks/triton/latency.py [--short] [--rounds 20]

A package with EfficientNet-Lite0 at 224 x 224 and random weights runs in OpenVINO here, and in
OpenVINO behind a real tritonserver on loopback (`inspection export triton --backend python`), over
gRPC and HTTP, with and without shared memory. Every round asks all of them in turn, so that a busy
machine is busy for all; the ratio is the median over rounds of one round's median against OpenVINO
here in that round. Answers are compared number by number first.

The second table is several callers at once, each with a connection of its own, as several servers
have: images a second, and how long one image takes.

Nothing here says how fast Triton is on a GPU: the tritonserver that runs in tests has a CPU only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent)]

from inspection.engines.network import (  # noqa: E402
    Architecture,
    create_network,
    export_onnx,
    save_network,
)
from inspection.engines.openvino import OpenVinoEngine  # noqa: E402
from inspection.engines.triton import TritonEngine  # noqa: E402
from inspection.triton_repository import ExportOptions, export_to_triton  # noqa: E402
from tests.triton_server import network_package, running_triton  # noqa: E402

if TYPE_CHECKING:
    from inspection.engine import Engine
    from inspection.package import ModelPackage

SIZE = 224
BATCHES = (1, 8)
CALLERS = (1, 4, 8)


def make_package(folder: Path) -> ModelPackage:
    architecture = Architecture(input_size_px=(SIZE, SIZE), window=(0.0, 255.0), classes=2)
    torch.manual_seed(0)
    network = create_network(architecture, pretrained=False)
    export_onnx(network, folder / "model.onnx")
    save_network(network, folder / "model.safetensors")
    return network_package(folder, folder / "weights", input_size_px=(SIZE, SIZE))


def milliseconds(engine: Engine, images: list[np.ndarray], times: int) -> list[float]:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        engine.infer(images)
        found.append((time.perf_counter() - start) * 1e3)
    return found


def one_by_one(engines: dict[str, Engine], images: list[np.ndarray], rounds: int) -> None:
    print("\n| images | engine | p50 ms | p99 ms | ratio to OpenVINO here |")
    print("|--:|---|--:|--:|--:|")
    here = next(iter(engines))
    for batch in BATCHES:
        given = images[:batch]
        for engine in engines.values():
            engine.infer(given)
        rows: dict[str, list[list[float]]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                time.sleep(0.05)  # threads of the one before still spin, and want a core
                engine.infer(given)
                rows[name].append(milliseconds(engine, given, max(2, 10 // batch)))
        for name, found in rows.items():
            ratios = [
                np.median(its) / np.median(mine)
                for its, mine in zip(found, rows[here], strict=True)
            ]
            p50, p99 = np.percentile(np.concatenate(found), [50, 99])
            print(f"| {batch} | {name} | {p50:.2f} | {p99:.2f} | {np.median(ratios):.2f} |")


def side_by_side(make: dict[str, object], images: list[np.ndarray], seconds: float) -> None:
    print("\n| callers | engine | images/s | p50 ms | p99 ms |")
    print("|--:|---|--:|--:|--:|")
    for callers in CALLERS:
        for name, one in make.items():
            assert callable(one)
            engines = [one() for _ in range(callers)]
            found: list[float] = []
            end = time.perf_counter() + seconds

            def ask(engine: Engine, found: list[float] = found, end: float = end) -> None:
                while time.perf_counter() < end:
                    found.extend(milliseconds(engine, images[:1], 1))

            threads = [threading.Thread(target=ask, args=(engine,)) for engine in engines]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rate = len(found) / (time.perf_counter() - start)
            p50, p99 = np.percentile(found, [50, 99])
            print(f"| {callers} | {name} | {rate:.0f} | {p50:.2f} | {p99:.2f} |")
            for engine in {id(each): each for each in engines}.values():
                engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few rounds, to see that it runs")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row of table two")
    options = parser.parse_args()
    rounds = 3 if options.short else options.rounds
    seconds = 0.5 if options.short else options.seconds
    rng = np.random.default_rng(0)
    images = [rng.uniform(0, 255, (1, SIZE, SIZE)).astype(np.float32) for _ in range(max(BATCHES))]
    with tempfile.TemporaryDirectory(prefix="triton-") as scratch:
        package = make_package(Path(scratch))
        repository = Path(scratch) / "repository"
        export_to_triton(package, repository, ExportOptions(backend="python"))
        with running_triton(repository) as server:

            def through(protocol: str, *, shared: bool) -> TritonEngine:
                return TritonEngine.for_package(
                    package,
                    server.url(protocol),
                    protocol="grpc" if protocol == "grpc" else "http",
                    shared_memory=shared,
                    timeout_s=30,
                )

            here = OpenVinoEngine.for_package(package)
            engines: dict[str, Engine] = {
                "OpenVINO here": here,
                "Triton gRPC, shared memory": through("grpc", shared=True),
                "Triton gRPC": through("grpc", shared=False),
                "Triton HTTP, shared memory": through("http", shared=True),
                "Triton HTTP": through("http", shared=False),
            }
            for name, engine in engines.items():
                for one in images:
                    (mine,), (its,) = here.infer([one]), engine.infer([one])
                    assert np.array_equal(mine.scores, its.scores), name
                    assert np.array_equal(mine.evidence, its.evidence), name
            print("every engine gives the same numbers, bit for bit")
            one_by_one(engines, images, rounds)
            for engine in engines.values():
                engine.close()
            side_by_side(
                {
                    "Triton gRPC": lambda: through("grpc", shared=False),
                    "Triton HTTP": lambda: through("http", shared=False),
                },
                images,
                seconds,
            )


if __name__ == "__main__":
    main()
