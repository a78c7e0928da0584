"""How fast the server is: measure, and write a table and a plot.

    python benchmarks/serving/bench.py all --short          what `make bench` runs
    python benchmarks/serving/bench.py throughput           one figure, long form
    python benchmarks/serving/bench.py tune                 the rivals with all settings tried

    work folder (packages, images, client, rivals' environments) -> figure -> results/

Every figure can be run alone and again; its rows replace those of its last run. The machine should
have nothing else to do: the load average before each figure stands beside it. Needs Linux, a C
compiler and a folder on a real disk; what is compared takes turns, so ratios suffer less from
company than rates do, and CPU for each request less again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import _client  # noqa: E402
import _others  # noqa: E402
import _outputs  # noqa: E402
import _overload  # noqa: E402
import _report  # noqa: E402
import _rivals  # noqa: E402
import _serving  # noqa: E402
from _place import filesystem, machine, make_place  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from _figures import Row

FIGURES: dict[str, Callable[..., list[Row]]] = {
    "throughput": _serving.throughput,
    "lone": _serving.lone,
    "outputs": _outputs.outputs,
    "overload": _overload.overload,
    "hostile": _overload.hostile,
    "records": _others.records,
    "rivals": _rivals.rivals,
    "client": _client.client,
    "kill9": _others.kill9,
    "swaps": _others.swaps,
    "tune": _rivals.tune,
}
SEPARATE = ("tune", "swaps", "client")
"""Not in `all`: a search, one that takes minutes even when short, and a check of the client."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("all", *FIGURES), nargs="?", default="all")
    parser.add_argument("--short", action="store_true", help="few and short rounds")
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "bench", help="on a real disk")
    parser.add_argument(
        "--results", type=Path, default=_report.RESULTS, help="where table and plot are written"
    )
    options = parser.parse_args()
    # Stopped from outside, the servers are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    options.work.mkdir(parents=True, exist_ok=True)
    filesystem(options.work.resolve())
    started = time.monotonic()
    place = make_place(options.work)
    ready = time.monotonic()
    wanted = [options.what]
    if options.what == "all":
        wanted = [name for name in FIGURES if name not in SEPARATE]
    for name in wanted:
        before = machine(place)
        began = time.monotonic()
        rows = FIGURES[name](place, short=options.short)
        print(f"\n{name}, {time.monotonic() - began:.0f} s, load {before['load average']}")
        for row in rows:
            verdict = {True: "yes", False: "NO", None: "-"}[row.met]
            print(f"  {verdict:3} {row.figure}: {row.value}  [{row.target}]\n      {row.how}")
        sys.stdout.flush()
        if name != "tune":
            _report.write(name, rows, before, short=options.short, folder=options.results)
    seconds = time.monotonic() - started
    print(f"\n{seconds:.0f} s, {ready - started:.0f} of them to make the place ready")


if __name__ == "__main__":
    main()
