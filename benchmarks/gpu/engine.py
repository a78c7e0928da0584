"""The PyTorch engine beside a bare replay of the same network, and beside what the device could do.

    python benchmarks/gpu/engine.py
    python benchmarks/gpu/engine.py --precision f32 --batches 1 8 64 256 --largest 32
    python benchmarks/gpu/engine.py --compiled

EfficientNet-Lite0 with the head, context and novelty of preset `fast`, at 224 pixels. For each
number of images:

    engine      `TorchEngine.infer`: images in ordinary memory in, predictions out
    bare        one CUDA graph of the network as it is loaded, all of it in half precision, channels
                last; the images lie on the device, nothing is copied, and it is waited for
    folded      the same of the network as the engine serves it (batch normalisation folded)
    ratio       the quicker of both bare ones over the engine: 1 is as quick; 0.95 is wanted
    arithmetic  floating-point operations of all layers (FlopCounterMode) over the rate that a
                square matrix product of this precision reaches here
    bytes       inputs, outputs and weights of every convolution and linear layer, each moved once,
                over the bandwidth that a copy reaches here, read and written bytes counted

On a CPU there are no graphs: bare and folded are plain runs, in the engine's precision.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from _common import EXERCISE, add_options, device_of, grey, in_words, lite0, times_ms
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inspection.engines.cuda import LARGEST, WARM_UPS, prepared
from inspection.engines.served import KINDS, ServedNetwork
from inspection.engines.torch import TorchEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the device does at best: floating-point operations and bytes a second."""

    operations: float
    bytes: float


def rates(device: torch.device, kind: torch.dtype, *, short: bool) -> Rates:
    """Measured: a square matrix product, and a copy far larger than the caches."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    product = times_ms(lambda: one @ other, device, at_least=5, seconds=0.3 if short else 2.0)
    size = 2**30 if device.type == "cuda" else 2**26
    here, there = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    copied = times_ms(lambda: there.copy_(here), device, at_least=5, seconds=0.3 if short else 2.0)
    return Rates(
        operations=2 * side**3 / (float(np.median(product)) / 1000),
        bytes=2 * size / (float(np.median(copied)) / 1000),
    )


def work(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Floating-point operations, and numbers moved in and out of the layers that have weights."""
    moved = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        nonlocal moved
        weights = sum(one.numel() for one in layer.parameters())
        moved += given[0].numel() + answer.numel() + weights

    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(images)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), moved


def bare_ms(network: nn.Module, images: Tensor, *, at_least: int, seconds: float) -> np.ndarray:
    """Times of the network alone, on images that lie where it runs."""
    device = images.device
    if device.type == "cpu":
        with torch.inference_mode():
            return times_ms(lambda: network(images), device, at_least=at_least, seconds=seconds)
    with prepared(device):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                network(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            kept = network(images)
    found = times_ms(graph.replay, device, at_least=at_least, seconds=seconds)
    del kept
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--size", type=int, default=224, help="height and width, pixels")
    parser.add_argument("--precision", choices=tuple(KINDS), help="f16 on CUDA, f32 on a CPU")
    parser.add_argument("--largest", type=int, default=LARGEST, help="images in one CUDA graph")
    parser.add_argument("--compiled", action="store_true", help="with torch.compile")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, each")
    options = parser.parse_args()
    device = device_of(options)
    if options.short:
        options.seconds = 0.3
        options.batches = [1, 8] if device.type == "cpu" else options.batches
    precision = options.precision or ("f16" if device.type == "cuda" else "f32")
    kind = KINDS[precision]
    at_least = 5 if options.short else 50
    print(f"{in_words(device)}; {precision}, {options.size} px")
    if device.type == "cpu":
        print(EXERCISE)
    best = rates(device, kind, short=options.short)
    print(f"at best {best.operations / 1e12:.3g} TFLOP/s, {best.bytes / 1e9:.4g} GB/s\n")
    engine = TorchEngine(
        lite0(options.size),
        device=device.type,
        precision=precision,
        max_batch=max(options.batches),
        compiled=options.compiled,
        largest=options.largest,
    )
    half = lite0(options.size).to(device, kind, memory_format=torch.channels_last).eval()
    folded = ServedNetwork(lite0(options.size), precision).to(device)
    print(
        "| images | engine p50 ms | p99 ms | images/s | bare ms | folded ms | ratio "
        "| arithmetic ms | bytes ms |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for count in options.batches:
        images = grey(count, options.size)
        on_device = torch.from_numpy(np.stack(images)).to(device)
        timing = {"at_least": at_least, "seconds": options.seconds}
        # Before and after the bare ones, so that a device that slows down shows.
        engine_ms = times_ms(lambda one=images: engine.infer(one), device, **timing)
        bare = float(np.median(bare_ms(half, on_device.to(kind), **timing)))
        alone = float(np.median(bare_ms(folded, on_device, **timing)))
        again = times_ms(lambda one=images: engine.infer(one), device, **timing)
        engine_ms = np.concatenate([engine_ms, again])
        p50, p99 = np.percentile(engine_ms, [50, 99])
        operations, moved = work(folded, on_device)
        print(
            f"| {count} | {p50:.3f} | {p99:.3f} | {1000 * count / p50:,.0f} | {bare:.3f} "
            f"| {alone:.3f} | {min(bare, alone) / p50:.3f} "
            f"| {1000 * operations / best.operations:.4f} "
            f"| {1000 * moved * kind.itemsize / best.bytes:.4f} |",
            flush=True,
        )
    engine.close()


if __name__ == "__main__":
    main()
