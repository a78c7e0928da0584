"""The changes feed with four writer processes that are killed and started again.

    .venv/bin/python benchmarks/records/feed.py [--kills 40] [--every 1.0] [--on postgresql]

A real PostgreSQL server out of a wheel, or a SQLite file with `--on sqlite`. Four processes append,
three callers each; every second or so one of them gets SIGKILL and another takes its place. All the
while another process's store follows the changes, and is closed and opened again now and then. At
the end: every record once, in order, none missing, and every record that a caller was promised is
among them. Ends with status 1 unless all that holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from inspection.stores.places import records_url
from tests.feed_writers import Outcome, run
from tests.postgres_server import running_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills")
    parser.add_argument("--on", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--short", action="store_true", help="4 kills")
    options = parser.parse_args()
    kills = 4 if options.short else options.kills

    def go(url: str, folder: Path) -> Outcome:
        how = {"writers": 4, "threads": 3, "kills": kills, "seed": options.seed}
        return run(url, folder, every_s=options.every, **how)

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        if options.on == "sqlite":
            found = go(records_url(Path(name)), Path(name))
        else:
            with running_server() as server:
                found = go(server.fresh(), Path(name))
    print(
        f"{options.on}, seed {options.seed}: {found.records:,} records followed, "
        f"{found.promised:,} promised, {found.kills} kills, {time.monotonic() - start:.0f} s"
    )
    for what in ("wrong", "missing", "twice"):
        print(f"{what}: {len(getattr(found, what))} {getattr(found, what)[:3] or ''}")
    print(f"another order than what is there: {found.otherwise}")
    if found.wrong or found.missing or found.twice or found.otherwise:
        sys.exit(1)


if __name__ == "__main__":
    main()
