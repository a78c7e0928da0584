"""Durable appends a second on SQLite, beside the same rows without us, and what the disk can sync.

    .venv/bin/python benchmarks/records/append.py [--folder FOLDER] [--seconds 5] [--repeat 3]

FOLDER must lie on the disk to be measured (default: `var`, as the server uses it); what is written
there is taken away again. Three loads: 1, 8 and 64 callers that each send their next record when
the last one is answered, as stations do; and a full queue, which the writer never finds empty.

After each run, in the same folder and while the machine is as busy as it was:

raw     the same rows of entries, inspections, findings and tree_heads, in the same groups, by
        `executemany` of the sqlite3 module into the same tables, one commit a group
fsync   how often one thread can append 4 KiB to a file and sync it (fdatasync)

"of raw" is our rate over the raw one; "of disk" is our rate over syncs times records a commit,
which is what this disk allows when nothing but the sync takes time. CPU is the process's own, user
and system, callers among them; it depends less on who else wants the machine than the rates do,
and its ratio to the raw CPU less again. Prints a Markdown table; `results.md` keeps one.
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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from inspection.stores.migrate import ensure_schema
from inspection.stores.places import records_path, records_url
from inspection.stores.sql import SqlRecordStore, open_records
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from inspection.record import InspectionDraft

CALLERS = (1, 8, 64)
QUEUED = 0
"""Callers of the run whose queue is always full."""

WARM = 20
TABLES = ("entries", "inspections", "findings", "tree_heads")
Groups = list[dict[str, list[tuple[Any, ...]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measured."""

    callers: int
    records: int
    commits: int
    seconds: float
    cpu_seconds: float
    raw_a_second: float
    raw_cpu_seconds: float
    syncs_a_second: float
    latencies_ms: list[float]

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def of_raw(self) -> float:
        return self.rate / self.raw_a_second

    @property
    def of_disk(self) -> float:
        return self.rate / (self.syncs_a_second * self.records / self.commits)


def measure(folder: Path, callers: int, seconds: float) -> Run:
    """One run on a fresh store, then the same rows raw, then the disk."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        data_dir = Path(name)
        with closing(open_records(records_url(data_dir))) as store:
            for _ in range(WARM):
                store.append(make_draft(serial="warm"))
            cpu = time.process_time()
            if callers == QUEUED:
                passed, latencies = _queue(store, seconds)
            else:
                passed, latencies = _load(store, callers, seconds)
            cpu = time.process_time() - cpu
        groups = _groups(records_path(data_dir))
        raw, raw_cpu = _raw(data_dir / "raw", groups)
        syncs = syncs_a_second(data_dir)
    return Run(
        callers=callers,
        records=len(latencies),
        commits=len(groups),
        seconds=passed,
        cpu_seconds=cpu,
        raw_a_second=len(latencies) / raw,
        raw_cpu_seconds=raw_cpu,
        syncs_a_second=syncs,
        latencies_ms=latencies,
    )


def syncs_a_second(folder: Path, seconds: float = 0.5) -> float:
    """How often one thread can append 4 KiB and sync."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        descriptor, block, count = file.fileno(), b"\xa5" * 4096, 0
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            count += 1
    return count / passed


# --- our writer ----------------------------------------------------------------------------------

_TEMPLATE = make_draft(lot="L1", machine="LPC-1", mould="M1")


def _draft(caller: int, number: int) -> InspectionDraft:
    # Cheaper than a draft from the start: it is the store that is measured.
    name = f"{caller:04}{number:08}"
    return replace(
        _TEMPLATE,
        station=f"xray-{caller % 8}",
        serial=name,
        capture_id=name,
        idempotency_key=name,
        request_sha256=name,
    )


def _load(store: SqlRecordStore, callers: int, seconds: float) -> tuple[float, list[float]]:
    latencies: list[list[float]] = [[] for _ in range(callers)]
    gate = threading.Barrier(callers + 1)
    end = [0.0]

    def call(caller: int) -> None:
        mine = latencies[caller]
        gate.wait()
        while time.perf_counter() < end[0]:
            draft = _draft(caller, len(mine))
            sent = time.perf_counter()
            store.append(draft)
            mine.append((time.perf_counter() - sent) * 1000)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    end[0] = start + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, [value for caller in latencies for value in caller]


def _queue(store: SqlRecordStore, seconds: float) -> tuple[float, list[float]]:
    """Batches that all wait at once; drafts are made before, so only the writing is timed."""
    passed, latencies = 0.0, []
    while passed < seconds:
        drafts = [_draft(0, len(latencies) + number) for number in range(5000)]
        start = time.perf_counter()
        answers = [store._writer.submit(draft) for draft in drafts]
        for answer in answers:
            answer.result()
            latencies.append((time.perf_counter() - start) * 1000)
        passed += time.perf_counter() - start
    return passed, latencies


# --- the same rows, raw --------------------------------------------------------------------------


def _groups(database: Path) -> Groups:
    """The rows of each commit, without those of the warming up."""
    with closing(sqlite3.connect(database)) as records:
        heads = [row[0] for row in records.execute("SELECT size FROM tree_heads ORDER BY size")]
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for table in TABLES:
            number = "size" if table == "tree_heads" else "sequence"
            found = records.execute(f"SELECT * FROM {table} ORDER BY {number}")  # noqa: S608
            place = [column[0] for column in found.description].index(number)
            rows[table] = found.fetchall()
            rows[f"{table} numbers"] = [row[place] for row in rows[table]]
    starts = dict.fromkeys(TABLES, 0)
    groups: Groups = []
    for low, high in pairwise([0, *heads]):
        group = {}
        for table in TABLES:
            numbers, first = rows[f"{table} numbers"], starts[table]
            last = first
            while last < len(numbers) and numbers[last] <= high:  # type: ignore[operator]
                last += 1
            group[table], starts[table] = rows[table][first:last], last
        if low >= WARM:
            groups.append(group)
    return groups


def _raw(folder: Path, groups: Groups) -> tuple[float, float]:
    """Seconds, and seconds of CPU, to write the groups with `executemany` and commit alone."""
    folder.mkdir()
    ensure_schema(records_url(folder), lock_wait_s=5)
    with closing(sqlite3.connect(records_path(folder), isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        inserts = {
            table: f"INSERT INTO {table} VALUES "  # noqa: S608
            f"({', '.join('?' * len(groups[0][table][0]))})"
            for table in TABLES
        }
        start, cpu = time.perf_counter(), time.process_time()
        for group in groups:
            database.execute("BEGIN IMMEDIATE")
            for table, rows in group.items():
                database.executemany(inserts[table], rows)
            database.execute("COMMIT")
        return time.perf_counter() - start, time.process_time() - cpu


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
    loads = (*CALLERS, QUEUED)
    runs: list[Run] = []
    for _ in range(options.repeat):  # one of each in turn, so that a busy minute spoils no column
        runs += [measure(options.folder, callers, options.seconds) for callers in loads]
    print(
        f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; median of {options.repeat} runs of "
        f"{options.seconds:g} s; load average at the end {os.getloadavg()[0]:.1f}\n"
    )
    print(
        "| callers | records/s | best | records a commit | p50 ms | p99 ms | CPU us a record "
        "| raw CPU us | raw/s | of raw | fdatasync/s | of disk |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for callers in loads:
        mine = [run for run in runs if run.callers == callers]
        run = sorted(mine, key=lambda r: r.rate)[len(mine) // 2]
        centiles = statistics.quantiles(run.latencies_ms, n=100)
        name = "full queue" if callers == QUEUED else str(callers)
        waits = "| | " if callers == QUEUED else f"| {centiles[49]:.1f} | {centiles[98]:.1f} "
        cpu = min(r.cpu_seconds / r.records for r in mine) * 1e6
        raw_cpu = min(r.raw_cpu_seconds / r.records for r in mine) * 1e6
        print(
            f"| {name} | {run.rate:,.0f} | {max(r.rate for r in mine):,.0f} "
            f"| {run.records / run.commits:.1f} {waits}| {cpu:.0f} "
            f"| {raw_cpu:.0f} "
            f"| {run.raw_a_second:,.0f} | {statistics.median(r.of_raw for r in mine):.2f} "
            f"| {run.syncs_a_second:,.0f} | {statistics.median(r.of_disk for r in mine):.2f} |"
        )


if __name__ == "__main__":
    main()
