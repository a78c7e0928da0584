"""How long a proof takes among ten million records, and how large it is.

    .venv/bin/python benchmarks/records/proofs.py [--folder FOLDER] [--records 10000000] [--short]

Fills the tables that proofs read (entries with small bodies, tree_nodes, the last tree head) in a
fresh SQLite file below FOLDER (default: `var`), which is taken away again, and asks for proofs of
random records at the present size and at random earlier sizes, each in a transaction of its own, as
a request has. "cold": before each proof the connection was closed and the system's cache of the
file dropped (posix_fadvise). Each proof is verified. Prints a Markdown table; `results.md` keeps
one.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from inspection.proofs.merkle import leaf_hash, verify_consistency, verify_inclusion
from inspection.stores.database import open_engine
from inspection.stores.migrate import ensure_schema
from inspection.stores.places import records_path, records_url
from inspection.stores.rollups import GrowingTree
from inspection.stores.tree import HashTree

GROUP = 50_000
WARM_UP = 3
"""Proofs that are not counted: a server has compiled its statements long ago."""


def fill(url: str, records: int) -> None:
    """Entries with small bodies, the nodes over them and one head."""
    tree = GrowingTree()
    engine = open_engine(url, writing=True)
    try:
        for start in range(0, records, GROUP):
            rows = []
            for number in range(start + 1, min(start + GROUP, records) + 1):
                body = b'{"id":"%d"}' % number
                leaf = leaf_hash(body)
                tree.add(leaf)
                rows.append((number, 202611, "inspection", str(number), body, leaf))
            with engine.begin() as connection:
                into = "INSERT INTO entries (sequence, month, kind, id, body, leaf_hash) "
                connection.exec_driver_sql(f"{into} VALUES (?, ?, ?, ?, ?, ?)", rows)
                tree.write(connection)
            print(f"\r{start + len(rows):,} of {records:,}", end="", file=sys.stderr)
        print(file=sys.stderr)
        with engine.begin() as connection:
            head = (records, tree.root(), b"".join(tree.peaks))
            connection.exec_driver_sql("INSERT INTO tree_heads VALUES (?, ?, ?)", head)
    finally:
        engine.dispose()


def measure(folder: Path, records: int, proofs: int, *, cold: bool) -> dict[str, tuple[float, ...]]:
    """Median, 99th percentile and largest time in ms, and the most bytes of hashes, by kind."""
    chance = random.Random(7)
    taken: dict[str, list[float]] = {"inclusion now": [], "inclusion then": [], "consistency": []}
    largest = dict.fromkeys(taken, 0)
    engine = open_engine(records_url(folder), read_only=True)
    for turn in range(proofs + WARM_UP):
        for kind, times in taken.items():
            if cold:
                engine.dispose()
                drop_cache(records_path(folder))
            size = records if kind == "inclusion now" else chance.randint(1, records)
            start = time.perf_counter()
            with engine.begin() as connection:
                tree = HashTree(connection)
                if kind == "consistency":
                    proof = tree.consistency(size, records)
                    took = time.perf_counter() - start
                    roots = (tree.root(size), tree.root(records))
                    assert verify_consistency(size, records, *roots, proof)
                else:
                    sequence = chance.randint(1, size)
                    proof = tree.inclusion(sequence, size)
                    took = time.perf_counter() - start
                    leaf = tree.leaf(sequence)
                    assert verify_inclusion(sequence - 1, size, leaf, proof, tree.root(size))
            if turn >= WARM_UP:
                times.append(took * 1000)
                largest[kind] = max(largest[kind], 32 * len(proof))
    engine.dispose()
    return {
        kind: (
            statistics.median(times),
            statistics.quantiles(times, n=100)[98],
            max(times),
            float(largest[kind]),
        )
        for kind, times in taken.items()
    }


def drop_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("var"))
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--proofs", type=int, default=300)
    parser.add_argument("--short", action="store_true", help="100,000 records, 50 proofs")
    options = parser.parse_args()
    if options.short:
        options.records, options.proofs = 100_000, 50
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        ensure_schema(records_url(folder), lock_wait_s=5.0)
        fill(records_url(folder), options.records)
        size = records_path(folder).stat().st_size
        print(
            f"{options.records:,} records, file of {size / 2**20:,.0f} MiB, "
            f"{options.proofs} proofs each; {os.cpu_count()} CPU cores, load "
            f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
            f"SQLite {sqlite3.sqlite_version}\n"
        )
        print("| proof | cache | median ms | p99 ms | largest ms | most bytes of hashes |")
        print("|---|---|--:|--:|--:|--:|")
        for cold in (False, True):
            results = measure(folder, options.records, options.proofs, cold=cold)
            for kind, (median, p99, most, hashes) in results.items():
                print(
                    f"| {kind} | {'cold' if cold else 'warm'} | {median:.1f} | {p99:.1f} "
                    f"| {most:.1f} | {hashes:,.0f} |"
                )


if __name__ == "__main__":
    main()
