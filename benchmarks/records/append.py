"""Durable appends a second, from 1, 8 and 64 callers at once, beside what the disk can sync.

    .venv/bin/python benchmarks/records/append.py [--folder FOLDER] [--seconds 5] [--repeat 3]

FOLDER must lie on the disk to be measured (default: `var`, as the server uses it); what is written
there is taken away again. Each caller sends its next record when the last one is answered, as
stations do. The disk's rate is measured before and after each run, in the same folder, by one
thread that appends 4 KiB to a file and syncs it (fsync): what a database could do at best with one
record a sync. Prints a Markdown table; `results.md` keeps one.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from inspection.stores.places import records_path, records_url
from inspection.stores.sql import SqlRecordStore, open_records
from tests.contracts.drafts import make_draft

CALLERS = (1, 8, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measured."""

    records: int
    commits: int
    seconds: float
    syncs_a_second: float
    latencies_ms: list[float]

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def ratio(self) -> float:
        return self.rate / self.syncs_a_second


def syncs_a_second(folder: Path, seconds: float = 0.5) -> float:
    """How often one thread can append 4 KiB and sync."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        descriptor, block, count = file.fileno(), b"\xa5" * 4096, 0
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            os.write(descriptor, block)
            os.fsync(descriptor)
            count += 1
    return count / passed


def measure(folder: Path, callers: int, seconds: float) -> Run:
    """One run on a fresh store."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        data_dir = Path(name)
        before = syncs_a_second(data_dir)
        with closing(open_records(records_url(data_dir))) as store:
            for _ in range(20):
                store.append(make_draft(serial="warm"))
            passed, latencies = _load(store, callers, seconds)
        after = syncs_a_second(data_dir)
        with closing(sqlite3.connect(records_path(data_dir))) as database:
            (commits,) = database.execute("SELECT count(*) FROM tree_heads").fetchone()
    return Run(
        records=len(latencies),
        commits=commits - 20,
        seconds=passed,
        syncs_a_second=(before + after) / 2,
        latencies_ms=latencies,
    )


def _load(store: SqlRecordStore, callers: int, seconds: float) -> tuple[float, list[float]]:
    latencies: list[list[float]] = [[] for _ in range(callers)]
    gate = threading.Barrier(callers + 1)
    end = [0.0]

    template = make_draft(lot="L1")

    def call(number: int) -> None:
        gate.wait()
        while time.perf_counter() < end[0]:
            name = f"{number:04}{len(latencies[number]):06}"
            # Cheaper than a draft from the start: it is the store that is measured.
            draft = replace(
                template, serial=name, capture_id=name, idempotency_key=name, request_sha256=name
            )
            sent = time.perf_counter()
            store.append(draft)
            latencies[number].append((time.perf_counter() - sent) * 1000)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    end[0] = start + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, [value for caller in latencies for value in caller]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("var"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one run of a second each")
    options = parser.parse_args()
    if options.short:
        options.seconds, options.repeat = 1.0, 1
    options.folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; median of {options.repeat} runs "
        f"of {options.seconds:g} s\n"
    )
    print("| callers | records/s | records a commit | p50 ms | p99 ms | disk fsync/s | ratio |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for callers in CALLERS:
        runs = [measure(options.folder, callers, options.seconds) for _ in range(options.repeat)]
        run = sorted(runs, key=lambda r: r.rate)[len(runs) // 2]
        centiles = statistics.quantiles(run.latencies_ms, n=100)
        print(
            f"| {callers} | {run.rate:,.0f} | {run.records / run.commits:.1f} "
            f"| {centiles[49]:.1f} | {centiles[98]:.1f} "
            f"| {run.syncs_a_second:,.0f} | {run.ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
