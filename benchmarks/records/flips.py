"""Every byte of a small store is flipped: is each flip noticed by `inspection verify`?

    .venv/bin/python benchmarks/records/flips.py [--workers N] [--step K] [--short]

Builds a store with entries of every kind (tests/flips.py), on pages of 512 bytes, and turns one bit
of each byte of its database file over, a bit that a seed chooses, one byte at a time. Each flip has
to be noticed, or to leave everything that can be read as it was: every row, every index, every
definition. Prints a Markdown table; `results.md` keeps one. Takes about an hour on one core;
`--step 8` takes every eighth byte.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.flips import FlippingGround, small_store

SEED = 20260301


def flip_some(store: Path, scratch: Path, share: range) -> tuple[int, int, int, list[str]]:
    """How many flips changed nothing, changed what is no record, were noticed; and the others."""
    scratch.mkdir()
    ground = FlippingGround(store, scratch)
    for at in share:
        ground.flip(at, random.Random(SEED + at).randrange(8))
    return ground.unread, ground.beside, ground.found, ground.missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="every 499th byte")
    options = parser.parse_args()
    step = 499 if options.short else options.step
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "store").mkdir()
        store = small_store(folder / "store")
        size = (store / "records.db").stat().st_size
        workers = options.workers
        shares = [range(worker * step, size, step * workers) for worker in range(workers)]
        start = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            results = pool.starmap(
                flip_some,
                [(store, folder / f"worker-{n}", share) for n, share in enumerate(shares)],
            )
        took = time.perf_counter() - start
    missed = [each for *_, some in results for each in some]
    unread, beside, found = (sum(result[n] for result in results) for n in range(3))
    print(f"{size:,} bytes, every {step}. flipped; {took:,.0f} s; {os.cpu_count()} CPU cores\n")
    print("| flips | noticed | changed nothing that can be read | beside the records | missed |")
    print("|--:|--:|--:|--:|--:|")
    total = unread + beside + found + len(missed)
    print(f"| {total:,} | {found:,} | {unread:,} | {beside:,} | {len(missed):,} |")
    if missed:
        print("\n".join(["", *missed[:50]]))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
