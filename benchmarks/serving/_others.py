"""What other scripts measure, as lines of the same table: records alone, swaps, kills.

records  benchmarks/records/append.py, the full queue: group commit beside what the disk can sync
swaps    swaps.py: resident memory over exchanges of the model under load
kill9    kill9.py: what is left after SIGKILL at random moments
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from _figures import Row, median, spread
from _place import HERE, ROOT, environment

if TYPE_CHECKING:
    from _place import Place

COMMAND = "python benchmarks/serving"


def records(place: Place, *, short: bool) -> list[Row]:
    """Durable records a second with a queue that is never empty."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "records"))
    import append

    rounds, seconds = (2, 1.0) if short else (5, 4.0)
    runs = [append.measure(place.folder, append.QUEUED, seconds) for _ in range(rounds)]
    rates = [run.rate for run in runs]
    group = median([run.records / run.commits for run in runs])
    syncs = median([run.syncs_a_second for run in runs])
    cpu = min(1e6 * run.cpu_seconds / run.records for run in runs)
    return [
        Row(
            figure="durable records alone, group commit",
            value=f"{spread(rates, ',.0f')} a second",
            target=">= 5,000 a second",
            met=median(rates) >= 5000,
            how=f"{median([run.of_disk for run in runs]):.3f} of what the disk allows "
            f"({syncs:,.0f} fdatasync a second x {group:.0f} records a commit); "
            f"{median([run.of_raw for run in runs]):.2f} of the same rows by executemany; "
            f"CPU {cpu:.0f} us a record",
            command=f"{COMMAND}/bench.py records",
            raw={"rates": rates, "group": group, "syncs_a_second": syncs},
        )
    ]


def swaps(place: Place, *, short: bool) -> list[Row]:
    """Memory over exchanges of the model."""
    del place
    found, sound = _script("swaps.py", "--short" if short else "--swaps=200")
    return [
        Row(
            figure=f"resident memory over {found['swaps']} swaps, every tenth one failing",
            value=f"{found['rss_mib_early']} to {found['rss_mib_late']} MiB "
            f"({found['growth']:.3f} times)",
            target="flat (<= 1.05), nobody refused",
            met=sound,
            how=f"{found['answered']:,} answered, {found['not_answered']} not; a swap took "
            f"{found['swap_s_median']} s, at most {found['swap_s_longest']} s",
            command=f"{COMMAND}/swaps.py --swaps 200",
            raw=found,
        )
    ]


def kill9(place: Place, *, short: bool) -> list[Row]:
    """What SIGKILL leaves behind."""
    del place
    found, sound = _script("kill9.py", "--kills=3" if short else "--kills=100")
    return [
        Row(
            figure=f"{found['kills']} x kill -9 under load",
            value=f"{found['lost']} lost, {found['twice']} twice",
            target="0 and 0",
            met=sound,
            how=f"{found['answered']:,} answered, {found['records']:,} records, "
            f"{found['replays']} from the record; verify: {found['verify']}",
            command=f"{COMMAND}/kill9.py --kills 100",
            raw=found,
        )
    ]


def _script(name: str, *options: str) -> tuple[dict[str, Any], bool]:
    """The figures that a script prints last, as JSON, and whether it ended well.

    Raises:
        SystemExit: it printed none.
    """
    done = subprocess.run(
        [sys.executable, str(HERE / name), *options],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise SystemExit(f"error: {name} {' '.join(options)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found, done.returncode == 0
