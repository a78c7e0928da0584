"""How near the server comes to its engine: at saturation, and for one request alone.

    throughput  served, recorded, synced inspections a second / the engine alone, same bytes
    lone        p50 of one request at a time - (decode + prepare + engine at batch 1 + one sync)

The engine alone is the product's own engine, decoder and preparation in this process, without
HTTP, queue, record and file, in the best of the setups in TRIED.
Both take turns, so that a busy minute of the machine meets both.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np
from _figures import Row, median, percentile, spread
from _load import posted, station_messages
from _place import PNG, TIFF, served, sync_ms

from inspection.engines.openvino import OpenVinoEngine
from inspection.frame import decode_image
from inspection.package import load_package
from inspection.recipe import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _place import Kind, Place
    from numpy.typing import NDArray

    from inspection.package import ModelPackage

BATCHES = (1, 2, 4, 8, 16)

BELIEVED = 1.1
"""A server that beats its own engine by more was measured while somebody else had the machine."""

COMMAND = "python benchmarks/serving/bench.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One way to keep the engine busy without a server.

    Attributes:
        batch: images in one run.
        ahead: threads that decode the next batch meanwhile; 0 decodes and infers in turn.
        lanes: 1 is the engine as the server has it; more are so many engines of one core each, each
            on a thread of its own that decodes and infers in turn.
    """

    batch: int
    ahead: int
    lanes: int

    def __str__(self) -> str:
        """In words."""
        if self.lanes > 1:
            return f"{self.lanes} engines of one core, batch {self.batch}"
        how = f"{self.ahead} threads decoding ahead" if self.ahead else "decoded in turn"
        return f"batch {self.batch}, {how}"


TRIED = tuple(
    Setup(batch=batch, ahead=ahead, lanes=lanes)
    for batch in BATCHES
    for ahead, lanes in ((0, 1), (1, 1), (2, 1), (0, os.cpu_count() or 1))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """The engine without a server: decode, prepare, infer."""

    package: ModelPackage
    engine: OpenVinoEngine
    narrow: Sequence[OpenVinoEngine]
    images: Sequence[bytes]

    def ready(self, image: bytes) -> NDArray[np.float32]:
        """Decoded and prepared, as the server does it."""
        return prepare(decode_image(image), self.package.recipe)

    def rate(self, setup: Setup, seconds: float) -> tuple[float, float]:
        """Images a second, and ms of CPU for each."""
        end, cpu = time.perf_counter() + seconds, time.process_time()
        if setup.lanes > 1:
            with ThreadPoolExecutor(setup.lanes) as lanes:
                work = [lanes.submit(self._in_turn, one, setup.batch, end) for one in self.narrow]
                done = sum(each.result() for each in work)
        elif setup.ahead:
            done = self._ahead(setup, end)
        else:
            done = self._in_turn(self.engine, setup.batch, end)
        passed, spent = time.perf_counter() - end + seconds, time.process_time() - cpu
        return done / passed, 1000 * spent / done

    def _in_turn(self, engine: OpenVinoEngine, batch: int, end: float) -> int:
        images, done = cycle(self.images), 0
        while not done or time.perf_counter() < end:
            engine.infer([self.ready(one) for one in islice(images, batch)])
            done += batch
        return done

    def _ahead(self, setup: Setup, end: float) -> int:
        images, done, batch = cycle(self.images), 0, setup.batch
        with ThreadPoolExecutor(setup.ahead) as pool:
            coming = [pool.submit(self.ready, one) for one in islice(images, 2 * batch)]
            while not done or time.perf_counter() < end:
                ready = [each.result() for each in coming[:batch]]
                more = [pool.submit(self.ready, one) for one in islice(images, batch)]
                coming = coming[batch:] + more
                self.engine.infer(ready)
                done += batch
        return done

    def best(self, seconds: float) -> Setup:
        """The setup with the highest rate; the three that look best are tried again."""
        found = {setup: self.rate(setup, seconds)[0] for setup in TRIED}
        again = sorted(found, key=lambda each: found[each])[-3:]
        return max(again, key=lambda each: self.rate(each, 3 * seconds)[0])

    def close(self) -> None:
        """Give the engines back."""
        for engine in (self.engine, *self.narrow):
            engine.close()

    def one_ms(self, file: int) -> NDArray[np.float64]:
        """(decode, prepare, infer, sync) of one image in milliseconds."""
        image = self.images[int(time.perf_counter() * 1e6) % len(self.images)]
        times = [time.perf_counter()]
        frame = decode_image(image)
        times.append(time.perf_counter())
        ready = prepare(frame, self.package.recipe)
        times.append(time.perf_counter())
        self.engine.infer([ready])
        times.append(time.perf_counter())
        os.write(file, b"\xa5" * 4096)
        os.fdatasync(file)
        times.append(time.perf_counter())
        return 1000 * np.diff(times)


def alone(place: Place, kind: Kind) -> Alone:
    """The engine of the promoted package, warm."""
    package = load_package(place.weights(kind) / kind.name / "1")
    made = Alone(
        package=package,
        engine=OpenVinoEngine.for_package(package),
        narrow=[OpenVinoEngine.for_package(package, threads=1) for _ in range(os.cpu_count() or 1)],
        images=place.images(kind),
    )
    made.rate(TRIED[0], 0.3)
    return made


def throughput(place: Place, *, short: bool) -> list[Row]:
    """Served at saturation over the engine alone, for both kinds of image."""
    rounds, seconds = (2, 3.0) if short else (7, 8.0)
    return [_throughput(place, kind, rounds, seconds, short=short) for kind in (PNG, TIFF)]


def _throughput(place: Place, kind: Kind, rounds: int, seconds: float, *, short: bool) -> Row:
    engine = alone(place, kind)
    messages = station_messages(engine.images, kind)
    pairs: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    shares: list[float] = []
    with served(place, kind) as server:
        setup = engine.best(0.25 if short else 1.5)
        posted(place, server, messages, connections=kind.saturating, seconds=1.0)
        for _ in range(rounds):
            bare, bare_cpu = engine.rate(setup, seconds)
            # Fresh numbers for every run: an image that is there already is not written again.
            messages = station_messages(engine.images, kind)
            answers = posted(
                place, server, messages, connections=kind.saturating, seconds=seconds + 0.5
            )
            pairs.append((answers.rate(settle_s=0.5), bare))
            cpu.append((answers.server_cpu_ms, bare_cpu))
            shares.append(answers.client_share)
    engine.close()
    ratios = [ours / bare for ours, bare in pairs]
    rates = median([ours for ours, _ in pairs]), median([bare for _, bare in pairs])
    spent = median([ours for ours, _ in cpu]), median([bare for _, bare in cpu])
    return Row(
        figure=f"served, durable / engine alone, {_words(kind)}",
        value=spread(ratios),
        target=">= 0.80",
        met=median(ratios) >= 0.80 if max(ratios) < BELIEVED else None,
        how=f"{rates[0]:.0f} of {rates[1]:.0f} a second, {kind.saturating} connections; alone at "
        f"its best ({setup}); CPU {spent[0]:.2f} ms an inspection "
        f"against {spent[1]:.2f}; the client took {100 * median(shares):.0f} % of the CPU",
        command=f"{COMMAND} throughput",
        raw={"kind": kind.name, "pairs": pairs, "cpu_ms": cpu, "alone": str(setup)},
    )


def lone(place: Place, *, short: bool) -> list[Row]:
    """One request at a time, less what it cannot do without."""
    rounds, seconds = (3, 2.0) if short else (9, 5.0)
    return [_lone(place, kind, rounds, seconds) for kind in (PNG, TIFF)]


def _lone(place: Place, kind: Kind, rounds: int, seconds: float) -> Row:
    engine = alone(place, kind)
    differences: list[float] = []
    asked: list[float] = []
    slow: list[float] = []
    parts: list[NDArray[np.float64]] = []
    with ExitStack() as stack:
        server = stack.enter_context(served(place, kind))
        file = stack.enter_context(tempfile.NamedTemporaryFile(dir=place.folder)).fileno()
        posted(place, server, station_messages(engine.images, kind), connections=1, seconds=1.0)
        for _ in range(rounds):
            messages = station_messages(engine.images, kind)
            answers = posted(place, server, messages, connections=1, seconds=seconds)
            times = answers.times_ms(201)
            end, alone_ms = time.perf_counter() + seconds, []
            while time.perf_counter() < end:
                alone_ms.append(engine.one_ms(file))
            needed = np.asarray(alone_ms)
            asked.append(percentile(times, 50))
            slow.append(percentile(times, 99))
            parts.append(np.median(needed, axis=0))
            differences.append(asked[-1] - percentile(needed.sum(axis=1), 50))
        whole = sync_ms(place.folder, block=engine.images[0])
    engine.close()
    decode, ready, infer, sync = np.median(np.asarray(parts), axis=0)
    return Row(
        figure=f"lone request p50 - what it needs, {_words(kind)}",
        value=f"{spread(differences)} ms",
        target="<= 1.5 ms",
        met=median(differences) <= 1.5,
        how=f"p50 {median(asked):.2f}, p99 {median(slow):.2f} ms; needed: decode {decode:.2f}, "
        f"prepare {ready:.2f}, engine {infer:.2f}, sync of 4 KiB {sync:.2f}; writing and syncing "
        f"the image's own {len(engine.images[0]) / 1024:,.0f} KiB takes {whole:.2f} ms",
        command=f"{COMMAND} lone",
        raw={
            "kind": kind.name,
            "differences_ms": differences,
            "p50_ms": asked,
            "p99_ms": slow,
            "needed_ms": [float(decode), float(ready), float(infer), float(sync)],
            "image_sync_ms": whole,
        },
    )


def _words(kind: Kind) -> str:
    return "300 x 300 PNG" if kind is PNG else "2048 x 2048 raw TIFF16"
