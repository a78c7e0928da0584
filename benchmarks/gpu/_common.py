"""What the scripts of this folder share: the network, the device in words, times in a table.

Only PyTorch, timm, NumPy and OpenCV are needed, so that all of it runs on a lent machine where
nothing can be installed. Weights are random: they change no time, and half precision is held
against limits elsewhere (docs/decisions/0011-gpu.md).
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from inspection.engines.network import Architecture, create_network, extended

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from inspection.engines.network import InspectionNetwork

WINDOW = (0.0, 255.0)
EXERCISE = (
    "No CUDA device: this run shows that the script works. Its figures say nothing about a GPU, "
    "and the targets are not measured."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--short", action="store_true", help="a minute at most, on a CPU too")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="CUDA where there is one")


def device_of(options: argparse.Namespace) -> torch.device:
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        sys.exit("error: PyTorch sees no CUDA device here\n  → leave --device out")
    return torch.device(options.device or ("cuda" if there else "cpu"))


def in_words(device: torch.device) -> str:
    python = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {python}, CUDA {torch.version.cuda}"
    return f"CPU, {torch.get_num_threads()} threads, {python}"


def lite0(size_px: int, *, context: int = 2000) -> InspectionNetwork:
    """EfficientNet-Lite0 as preset `fast` serves it, for one class, with random weights."""
    architecture = Architecture(
        input_size_px=(size_px, size_px), window=WINDOW, components=256, hidden=256
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = create_network(architecture, pretrained=False)
        return extended(network, context=context) if context else network


def grey(count: int, size_px: int) -> list[np.ndarray]:
    """(1, size, size) float32 grey levels each; never zeros, which run quicker than images."""
    random = np.random.default_rng(0)
    return [random.uniform(*WINDOW, (1, size_px, size_px)).astype(np.float32) for _ in range(count)]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times_ms(
    run: Callable[[], object], device: torch.device, *, at_least: int, seconds: float
) -> np.ndarray:
    """Milliseconds of single runs, each waited for; `at_least` of them, and for so long."""
    for _ in range(3):
        run()
    wait(device)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)
