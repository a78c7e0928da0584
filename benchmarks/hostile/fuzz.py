"""A long fuzz run over the decoders, by hand.

    seeds -> damaged files (tests/mutations.py) -> decode_image -> pixels, ImageError, or a finding

    python benchmarks/hostile/fuzz.py --seconds 600 --seed 1

A finding is any other error, or a decode of more than `--slow` seconds of processor time; whether
memory grows is seen in what is resident after each 10,000 files. Before each decode the file lies
under `--keep` as `last`, so that a crash of the process or a hang (ended after 30 seconds, with a
stack) leaves what caused it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from inspection.errors import ImageError  # noqa: E402
from inspection.frame import DecodeLimits, decode_image  # noqa: E402
from tests.mutations import damaged  # noqa: E402

HANG_S = 30


def main() -> int:
    """Run, print the counts as JSON, and return how many findings there were."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--short", action="store_true", help="20 seconds")
    given = parser.parse_args()
    if given.short:
        given.seconds = 20.0
    keep = given.keep or Path(mkdtemp(prefix="fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    worst, findings, number = 0.0, 0, 0
    limits = DecodeLimits(max_pixels=2**24)
    randomness = random.Random(given.seed)
    resident: list[int] = []
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        name, data = damaged(randomness)
        (keep / "last").write_bytes(data)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        start = time.process_time()
        try:
            decode_image(data, limits=limits)
            kinds["decoded"] += 1
        except ImageError as error:
            kinds[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - that is what we look for
            findings += 1
            (keep / f"error-{number}").write_bytes(data)
            print(f"{name} {number}: {error!r}", file=sys.stderr)
        took = time.process_time() - start
        faulthandler.cancel_dump_traceback_later()
        worst = max(worst, took)
        if took > given.slow:
            findings += 1
            (keep / f"slow-{number}").write_bytes(data)
            print(f"{name} {number}: {took:.2f} s", file=sys.stderr)
        counts[name] += 1
        number += 1
        if number % 10_000 == 0:
            resident.append(_resident())
    print(
        json.dumps(
            {
                "files": number,
                "by_outcome": dict(sorted(kinds.items())),
                "by_seed": dict(sorted(counts.items())),
                "worst_s": round(worst, 4),
                "resident_mb_each_10000": [round(each / 1e6, 1) for each in resident],
                "findings": findings,
                "kept_in": str(keep),
            },
            indent=2,
        )
    )
    return min(findings, 100)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    sys.exit(main())
