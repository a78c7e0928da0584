"""What a decoder in a process of its own costs, against one on a thread here.

    thread:  bytes -> decode_image -> pixels
    process: bytes -> file in memory -> worker: decode_image -> file in memory -> pixels

Interleaved, the same bytes, the server's own workers. Reads out median and 99th percentile of one
caller, images a second of two callers, and CPU of all processes.

    python benchmarks/decoding/worker.py [--short]
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import tifffile

from inspection.frame import decode_image
from serving.decoders import DecoderProcess

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, SHORT = 9, 2
KNOWN = {"limits": None, "declared": None, "sha256": "0" * 64}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="2 rounds instead of 9")
    rounds = SHORT if parser.parse_args().short else ROUNDS
    workers = [DecoderProcess() for _ in range(2)]
    print("image                    | where   | p50 ms | p99 ms | 2 callers /s | CPU ms/image")
    for name, data, count in images():
        figures: dict[str, list[tuple[float, float, float, float]]] = {"thread": [], "process": []}
        for _ in range(rounds):
            figures["thread"].append(measure(here, data, count, workers))
            figures["process"].append(
                measure(
                    lambda data, n: workers[n].decode(data, KNOWN, limit_s=60), data, count, workers
                )
            )
        middle = {
            where: [float(np.median(column)) for column in zip(*rows, strict=True)]
            for where, rows in figures.items()
        }
        for where, (p50, p99, rate, cpu) in middle.items():
            print(f"{name:24} | {where:7} | {p50:6.3f} | {p99:6.3f} | {rate:12.0f} | {cpu:6.3f}")
        ratios = [middle["process"][n] / middle["thread"][n] for n in range(4)]
        print(f"{name:24} | ratio   | " + " | ".join(f"{each:6.2f}" for each in ratios))
    for worker in workers:
        worker.close()


def images() -> list[tuple[str, bytes, int]]:
    """(name, bytes, how often)."""
    random = np.random.default_rng(5)
    smooth = cv2.GaussianBlur(random.normal(128, 60, (2048, 2048)), (0, 0), 3)
    part = np.clip(smooth * 4, 0, 255).astype(np.uint8)[:300, :300]
    deep = np.clip(smooth * 256 + random.normal(0, 200, smooth.shape), 0, 65535).astype(np.uint16)
    tiff, packed = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(tiff, deep)
    tifffile.imwrite(packed, deep, compression="zlib")
    png = bytes(cv2.imencode(".png", part)[1])
    return [
        ("300x300 PNG", png, 300),
        ("2048x2048 raw TIFF16", tiff.getvalue(), 60),
        ("2048x2048 Deflate TIFF16", packed.getvalue(), 6),
    ]


def here(data: bytes, _caller: int) -> object:
    """The frame, on this thread."""
    return decode_image(data, sha256="0" * 64)


def measure(
    decode: Callable[[bytes, int], Any], data: bytes, count: int, workers: list[DecoderProcess]
) -> tuple[float, float, float, float]:
    """(p50 ms, p99 ms, images a second of two callers, CPU ms an image)."""
    times = []
    cpu = spent(workers)
    for _ in range(count):
        start = time.perf_counter()
        decode(data, 0)
        times.append((time.perf_counter() - start) * 1000)
    cpu = (spent(workers) - cpu) / count * 1000
    with ThreadPoolExecutor(2) as pool:
        start = time.perf_counter()
        done = [pool.submit(lambda n: [decode(data, n) for _ in range(count)], n) for n in (0, 1)]
        for each in done:
            each.result()
        rate = 2 * count / (time.perf_counter() - start)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99)), rate, cpu


def spent(workers: list[DecoderProcess]) -> float:
    """CPU seconds of this process and of the workers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    seconds = own.ru_utime + own.ru_stime
    for worker in workers:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


if __name__ == "__main__":
    main()
