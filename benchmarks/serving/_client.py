"""Whether load.c sees what a client that everybody knows sees: wrk, in turn with it.

    the same image under fresh keys -> load.c | wrk -> rate, p50, p99

Both post one image over and over here, because wrk cannot give a PNG a number and its checksum.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from _figures import Row, median, percentile, spread
from _load import hostile_messages, posted
from _place import PNG, served

if TYPE_CHECKING:
    from _place import Place, Server

SCRIPT: Final = """
local number, run = 0, os.getenv("RUN")
local file = io.open(os.getenv("IMAGE"), "rb")
local body = file:read("*a")
local head = {["Content-Type"] = "image/png"}
request = function()
  number = number + 1
  local capture = string.format("%s-%08d", run, number)
  head["Idempotency-Key"] = capture
  local query = "?station=bench-w&product=PRODUCT&capture_id=" .. capture
  return wrk.format("POST", "/v1/inspections" .. query, head, body)
end
done = function(summary, latency, requests)
  local errors = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format("%f %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, errors))
end
"""
COMMAND: Final = "python benchmarks/serving/bench.py client"


def client(place: Place, *, short: bool) -> list[Row]:
    """Our client's figures over wrk's."""
    wrk = shutil.which("wrk")
    row = {"figure": "load.c / wrk, the same server", "command": COMMAND}
    if wrk is None:
        return [Row(**row, value="wrk is not installed", target="1.0", met=None, how="")]
    rounds, seconds = (2, 3) if short else (5, 6)
    ours: list[tuple[float, float, float]] = []
    theirs: list[tuple[float, float, float]] = []
    messages = hostile_messages([("image/png", place.images(PNG)[0])], PNG.product)
    with served(place, PNG) as server:
        for turn in range(-1, rounds):
            messages = hostile_messages([("image/png", place.images(PNG)[0])], PNG.product)
            answers = posted(place, server, messages, connections=PNG.saturating, seconds=seconds)
            times = answers.times_ms(201)
            seen = answers.rate(), percentile(times, 50), percentile(times, 99)
            said = _wrk(wrk, place, server, seconds)
            if turn >= 0:
                ours.append(seen)
                theirs.append(said)
    ratios = [a[0] / b[0] for a, b in zip(ours, theirs, strict=True)]
    middle = [
        " / ".join(f"{median([each[n] for each in both]):.1f}" for both in (ours, theirs))
        for n in range(3)
    ]
    return [
        Row(
            **row,
            value=spread(ratios),
            target="0.95 to 1.05",
            met=0.95 <= median(ratios) <= 1.05,
            how=f"a second {middle[0]}; p50 {middle[1]}, p99 {middle[2]} ms",
            raw={"ours": ours, "wrk": theirs},
        )
    ]


def _wrk(wrk: str, place: Place, server: Server, seconds: int) -> tuple[float, float, float]:
    """(requests a second, p50, p99 in ms) that wrk saw.

    Raises:
        SystemExit: something was not answered as it should be.
    """
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        (folder / "post.lua").write_text(SCRIPT.replace("PRODUCT", PNG.product))
        (folder / "image").write_bytes(place.images(PNG)[0])
        words = [wrk, "-t1", f"-c{PNG.saturating}", f"-d{seconds}s", "--timeout", "10s"]
        variables = {**os.environ, "RUN": secrets.token_hex(4), "IMAGE": str(folder / "image")}
        done = subprocess.run(
            [*words, "-s", str(folder / "post.lua"), f"http://127.0.0.1:{server.port}/"],
            capture_output=True,
            text=True,
            env=variables,
            check=True,
        )
    rate, middle, slow, errors = done.stdout.strip().splitlines()[-1].split()
    if int(errors):
        raise SystemExit(f"error: wrk counted {errors} errors\n{done.stdout}")
    return float(rate), float(middle), float(slow)
