"""Kill the server at random moments while stations post; then count what is left.

    python benchmarks/serving/kill9.py --kills 100 [--large]

A real server with a tiny real model, several stations that post and repeat what was not answered,
and `kill -9` at random moments; every tenth kill hits a server that is still starting, while it
recovers from the kill before. At the end:

    lost        inspections that a station was given and that are not on record as they were given
    twice       captures with more than one record
    changed     captures that were answered with two different inspections
    unknown     records that no station asked for
    verify      the hash tree, every record and every file, recomputed

Ends with status 1 unless all are none. SIGKILL loses nothing that the kernel holds, so this proves
that the order of writing is right; that it reaches the disk is for tests/acceptance/
test_fsync_order.py to show.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

from inspection.errors import ConfigurationError, NotFound  # noqa: E402
from inspection.store import Filter  # noqa: E402
from inspection.stores.files import FileImageStore  # noqa: E402
from inspection.stores.places import images_dir, records_url  # noqa: E402
from inspection.stores.sql import open_records  # noqa: E402
from inspection.stores.verify import verify_store  # noqa: E402
from serving.cli import listen  # noqa: E402
from serving.client import StationClient  # noqa: E402
from serving.errors import ServerUnreachable  # noqa: E402
from tests.live_server import ServerProcess, promoted_spot, serial, spawn, start_process  # noqa: E402
from tests.spot_model import part_png  # noqa: E402

KINDS = ("good", "bad", "unsure", "novel")
PRODUCT = "KN-42"
LARGE_BYTES = 1_300_000
"""More than what is written as files usually are: it goes past the page cache."""
IEND_BYTES = 12


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the stations saw; each capture is written by one station only."""

    sent: set[str] = field(default_factory=set)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    repeats: int = 0


def station(
    name: str, address: str, stop: threading.Event, tally: Tally, seed: int, large_bytes: int
) -> None:
    """Post one capture after the other; repeat each with the same key until it is answered."""
    rng = random.Random(seed)
    images = [part_png(kind, seed=seed + n) for n, kind in enumerate(KINDS)]

    def wait(seconds: float) -> None:
        tally.repeats += 1
        time.sleep(seconds)

    number = 0
    with StationClient(address, tries=4, first_wait_s=0.05, timeout_s=10, sleep=wait) as client:
        while not stop.is_set():
            capture = f"{name}-{number:06d}"
            number += 1
            tally.sent.add(capture)
            call: dict[str, Any] = {
                "station": name,
                "product": PRODUCT,
                "capture_id": capture,
                "serial": serial(number) if rng.random() < 0.9 else None,
                "lot": f"L{number % 7}",
            }
            image = larger(images[number % len(images)], rng.randbytes(large_bytes))
            answers: list[dict[str, Any]] = []
            while not answers:
                try:
                    answers.append(client.inspect(image, **call))
                except ServerUnreachable:
                    continue
            if rng.random() < 0.05:  # a station whose answer got lost on the way asks once more
                with contextlib.suppress(ServerUnreachable):
                    answers.append(client.inspect(image, **call))
            tally.given[capture] = answers[0]
            if any(answer != answers[0] for answer in answers):
                tally.changed.append(capture)


def larger(image: bytes, data: bytes) -> bytes:
    """The same picture in a PNG with a private chunk of these bytes; as it is without any."""
    if not data:
        return image
    chunk = b"prVt" + data
    whole = struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return image[:-IEND_BYTES] + whole + image[-IEND_BYTES:]


def free_port(rng: random.Random) -> int:
    """A port that stays free between kills: below those that systems give to clients."""
    while True:
        port = rng.randrange(20_000, 30_000)
        try:
            listen("127.0.0.1", port).close()
        except ConfigurationError:
            continue
        return port


def run(kills: int, stations: int, seed: int, folder: Path, large_bytes: int = 0) -> dict[str, Any]:
    """Do it; return the figures."""
    rng = random.Random(seed)
    promoted_spot(folder / "weights", PRODUCT)
    port = str(free_port(rng))
    started = time.monotonic()
    with (folder / "server.log").open("w") as log:

        def start() -> ServerProcess:
            try:
                return start_process(folder, "--port", port, errors=log)
            except AssertionError:
                print((folder / "server.log").read_text()[-2000:], file=sys.stderr)
                raise

        server = start()
        stop = threading.Event()
        tallies = [Tally() for _ in range(stations)]
        threads = [
            threading.Thread(
                target=station,
                args=(f"s{n}", server.address, stop, tally, seed + 100 * n, large_bytes),
                daemon=True,
            )
            for n, tally in enumerate(tallies)
        ]
        for thread in threads:
            thread.start()
        progress = sys.stderr.isatty()
        for number in range(kills):
            if number % 10 == 9:
                unready = spawn(folder, "--port", port, errors=log)
                time.sleep(rng.uniform(0.0, 3.0))
                ServerProcess(process=unready, address="").kill()
                server = start()
            else:
                time.sleep(rng.uniform(0.02, 1.0))
                server.kill()
                if number % 10 != 8:
                    server = start()
            if progress or (number + 1) % 10 == 0:
                done = sum(len(tally.given) for tally in tallies)
                print(f"{number + 1} kills, {done} answered", file=sys.stderr, flush=True)
        if kills % 10 == 9:
            server = start()
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
        status = server.stop()
    figures = judge(folder, tallies)
    replays = sum(
        json.loads(line).get("replayed", False)
        for line in (folder / "server.log").read_text(errors="replace").splitlines()
        if line.startswith("{") and line.endswith("}")
    )
    return {
        "kills": kills,
        "stations": stations,
        "seed": seed,
        "large_bytes": large_bytes,
        "seconds": round(time.monotonic() - started),
        "repeats": sum(tally.repeats for tally in tallies),
        "replays": replays,
        **figures,
        "stopped_with": status,
    }


def judge(folder: Path, tallies: list[Tally]) -> dict[str, Any]:
    """Compare what the stations were given with what is on record."""
    data = folder / "var"
    records = open_records(records_url(data))
    try:
        kept: Counter[str] = Counter()
        before = None
        while True:
            page = records.find(Filter(limit=1000, before_sequence=before))
            kept.update(record.capture_id for record in page.records)
            before = page.next_before
            if before is None:
                break
        given = {capture: answer for tally in tallies for capture, answer in tally.given.items()}
        lost = []
        for capture, answer in given.items():
            try:
                record = records.get(answer["id"])
            except NotFound:
                lost.append(capture)
                continue
            same = (record.capture_id, record.trace_id, record.disposition, record.image_sha256)
            if same != (
                capture,
                answer["trace_id"],
                answer["disposition"],
                answer["image_sha256"],
            ):
                lost.append(capture)
    finally:
        records.close()
    sent = {capture for tally in tallies for capture in tally.sent}
    report = verify_store(records_url(data), FileImageStore(images_dir(data), read_only=True))
    return {
        "answered": len(given),
        "records": sum(kept.values()),
        "lost": len(lost),
        "twice": sum(count > 1 for count in kept.values()),
        "changed": sum(len(tally.changed) for tally in tallies),
        "unknown": len(set(kept) - sent),
        "verify": "ok" if report.ok else "; ".join(report.problems),
        "extra_files": report.extra_files,
        "tree_head": f"{report.head.size}:{report.head.root}",
    }


def sound(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled, changed or made up."""
    counts = ("lost", "twice", "changed", "unknown", "stopped_with")
    return figures["verify"] == "ok" and not any(figures[name] for name in counts)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stations", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="images of 1.3 MB, all different")
    parser.add_argument("--short", action="store_true", help="10 kills")
    words = parser.parse_args()
    kills = 10 if words.short else words.kills
    with tempfile.TemporaryDirectory(prefix="kill9-") as folder:
        figures = run(kills, words.stations, words.seed, Path(folder), LARGE_BYTES * words.large)
    print(json.dumps(figures))
    return 0 if sound(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
