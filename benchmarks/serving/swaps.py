"""Exchange the model two hundred times under load, every tenth time for one that fails.

    python benchmarks/serving/swaps.py --swaps 200

A real server in a process of its own, stations that post all the while, and one promotion after the
other: package, digests, engine, every size of batch, golden images, pointer, the old one drained.
The network carries 16 MiB of weights, so that one engine that is not given back shows; every tenth
package answers its golden image otherwise than it says, is refused after all that work, and the old
one goes on. Told at the end, and as lines while it runs:

    rss           of the server, MiB: median over the swaps 21 to 40, and over the last 20
    growth        the second over the first; 1.0 is flat
    not answered  posts that got no verdict; not ready: probes of /readyz that were refused

Ends with status 1 when the memory grew by more than a twentieth, a post or a probe was refused, or
a promotion was not taken up.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

import httpx  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from inspection.golden import FILE_NAME, Golden  # noqa: E402
from inspection.registry import Registry  # noqa: E402
from tests.live_server import ServerProcess, start_process  # noqa: E402
from tests.spot_model import SIZE, part_png, spot_graph, write_spot_package  # noqa: E402

PRODUCT = "KN-42"
MODEL = "spot"
HIDDEN = 65_536
WITHIN_S = 60.0
SETTLED = 20
WINDOW = 20
ALLOWED = 1.05


@dataclass(slots=True, kw_only=True)
class Tally:
    """What stations and probes saw."""

    answered: int = 0
    not_answered: int = 0
    not_ready: int = 0
    versions: set[int] = field(default_factory=set)


def heavy_graph(seed: int) -> bytes:
    """The spot model with a layer of 64 x 65,536 weights beside it that hardly counts."""
    model = onnx.load_from_string(spot_graph())
    graph = model.graph
    weights = np.random.default_rng(seed).normal(0, 1e-3, (64, HIDDEN)).astype(np.float32)
    constants = {
        "w": weights,
        "tiny": np.float32(1e-9),
        "flat": np.array([-1, 64], np.int64),
        "last": np.array([1], np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    for node in graph.node:
        if node.output[0] == "novelty":
            node.output[0] = "distance"
    graph.node.extend(
        [
            helper.make_node("Reshape", ["cells", "flat"], ["vector"]),
            helper.make_node("MatMul", ["vector", "w"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("ReduceMean", ["active", "last"], ["level"], keepdims=0),
            helper.make_node("Mul", ["level", "tiny"], ["trace"]),
            helper.make_node("Add", ["distance", "trace"], ["novelty"]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def wrong_golden() -> bytes:
    """Golden images whose answers are another network's."""
    from inspection.engines.openvino import OpenVinoEngine

    other = OpenVinoEngine(spot_graph(gain=-5.0))
    image = np.full((1, SIZE, SIZE), 150, np.float32)
    try:
        return Golden.of([image], other.infer([image])).as_bytes()
    finally:
        other.close()


def promote(weights: Path, graph: bytes, golden: bytes | None) -> int:
    """Write the next version and put it in force; its number. Older packages are taken away."""
    more = None if golden is None else {FILE_NAME: golden}
    package = write_spot_package(weights, product=PRODUCT, model=MODEL, graph=graph, more=more)
    Registry(weights).promote(package.reference, accept_risk="a benchmark: no part is shipped")
    version = package.document.version
    for old in (weights / MODEL).iterdir():
        if int(old.name) < version - 3:
            shutil.rmtree(old)
    return version


def station(name: str, address: str, stop: threading.Event, tally: Tally) -> None:
    """Post one part after the other, and note what became of it."""
    images = [part_png(kind) for kind in ("good", "bad")]
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        number = 0
        while not stop.is_set():
            number += 1
            fields = {"station": name, "product": PRODUCT, "capture_id": f"{name}-{number}"}
            headers = {"Idempotency-Key": f"{name}-{number}", "Content-Type": "image/png"}
            answer = client.post(
                "/v1/inspections", params=fields, content=images[number % 2], headers=headers
            )
            if answer.status_code == 201:
                tally.answered += 1
                tally.versions.add(answer.json()["model"]["version"])
            else:
                tally.not_answered += 1
            time.sleep(0.01)


def probe(address: str, stop: threading.Event, tally: Tally) -> None:
    """Ask whether it is ready, as a load balancer does."""
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        while not stop.wait(0.1):
            tally.not_ready += client.get("/readyz").status_code != 200


def rss_mib(server: ServerProcess) -> float:
    """Resident memory of the server."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def taken_up(client: httpx.Client, version: int, *, fails: bool) -> bool:
    """Whether the promotion has come to its end: it judges, or is refused in words."""
    (item,) = client.get("/v1/models").json()["items"]
    if fails:
        detail = item["detail"] or ""
        return f"@{version} " in detail and "cannot be put to work" in detail
    judging: bool = item["model"]["version"] == version
    return judging


def run(swaps: int, stations: int, folder: Path) -> dict[str, Any]:
    """Do it; return the figures."""
    weights = folder / "weights"
    graph, golden = heavy_graph(1), wrong_golden()
    promote(weights, graph, None)
    stop, tallies = threading.Event(), [Tally() for _ in range(stations)]
    rss, seconds, stuck = list[float](), list[float](), 0
    with (folder / "server.log").open("w") as log:
        server = start_process(folder, "--port", "0", errors=log)
        threads = [
            threading.Thread(target=station, args=(f"s{n}", server.address, stop, tally))
            for n, tally in enumerate(tallies)
        ]
        threads.append(threading.Thread(target=probe, args=(server.address, stop, tallies[0])))
        for thread in threads:
            thread.start()
        try:
            with httpx.Client(base_url=server.address, timeout=30, trust_env=False) as client:
                for number in range(1, swaps + 1):
                    fails = number % 10 == 0
                    version = promote(weights, graph, golden if fails else None)
                    began = time.monotonic()
                    while not taken_up(client, version, fails=fails):
                        if time.monotonic() - began > WITHIN_S:
                            stuck += 1
                            break
                        time.sleep(0.05)
                    seconds.append(time.monotonic() - began)
                    rss.append(rss_mib(server))
                    if number % 20 == 0:
                        print(f"{number} swaps, {rss[-1]:.0f} MiB", file=sys.stderr, flush=True)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            status = server.stop()
    first = statistics.median(rss[SETTLED : SETTLED + WINDOW] or rss)
    last = statistics.median(rss[-WINDOW:])
    return {
        "swaps": swaps,
        "failing": swaps // 10,
        "rss_mib_early": round(first, 1),
        "rss_mib_late": round(last, 1),
        "growth": round(last / first, 3),
        "rss_mib_highest": round(max(rss), 1),
        "swap_s_median": round(statistics.median(seconds), 2),
        "swap_s_longest": round(max(seconds), 2),
        "answered": sum(tally.answered for tally in tallies),
        "not_answered": sum(tally.not_answered for tally in tallies),
        "not_ready": sum(tally.not_ready for tally in tallies),
        "models_that_judged": len(set().union(*(tally.versions for tally in tallies))),
        "not_taken_up": stuck,
        "stopped_with": status,
    }


def sound(figures: dict[str, Any]) -> bool:
    """Whether the memory stayed, and nobody noticed."""
    counts = ("not_answered", "not_ready", "not_taken_up", "stopped_with")
    return figures["growth"] <= ALLOWED and not any(figures[name] for name in counts)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--stations", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="60 swaps")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swaps-") as folder:
        figures = run(60 if words.short else words.swaps, words.stations, Path(folder))
    print(json.dumps(figures))
    return 0 if sound(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
