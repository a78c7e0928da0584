"""`inspection demo`: every journey once, on real images, through the commands that users have.

    data import -> train -> models promote -> serve
      -> station: POST 60 images -> MES: asks -> QA: decides -> verify -> table

It only runs other verbs and speaks HTTP; it knows nothing that a plant's own scripts would not.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inspection.cli import DEBUG_VARIABLE
from inspection.errors import ConfigurationError, EngineError, InspectionError
from inspection.serials import SerialFormat
from serving.client import StationClient

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA_SET = "elpv"
PRODUCT = "elpv-cell"
SERIALS = SerialFormat(length=10)
SEED = 7
PARTS = 60
DATA_DIR = Path("var/demo")
START_TIMEOUT_S = 60.0
TABLE_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row of `inspection evaluate --csv`: a test part and what the package said of it."""

    image: Path
    part: str
    label: str
    disposition: str


@dataclass(slots=True)
class Steps:
    """How long each step took, in seconds, in order."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and time it."""
        self.console.print(f"\n[bold]{len(self.seconds) + 1}. {name}[/bold]", highlight=False)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run(*, once: bool) -> None:
    """Walk the whole way once; then serve until Ctrl-C, or stop when `once`.

    Raises:
        InspectionError: a step did not succeed; the server is stopped first.
    """
    terminal = Console(highlight=False)
    console = Console(highlight=False, width=max(TABLE_WIDTH, terminal.width))
    steps = Steps(console)
    with steps.step("import the data set"):
        console.print(
            "The images come with the package elpv-dataset: 2,624 solar cells under "
            "electroluminescence,\nlicence CC BY-NC-SA 4.0: for trying out, not for products."
        )
        _verb("data", "import", "--from", DATA_SET, "--name", DATA_SET)
    with steps.step("train and measure"):
        _verb(
            *("train", DATA_SET, "--model", DATA_SET, "--preset", "fast", "--seed", str(SEED)),
            *("--escape-rate", "0.05", "--review-budget", "0.4"),
            *("--serial-length", str(SERIALS.length)),
            *("--compare-random", "--set", "engine.whole_agreement=false"),
        )
        reference = _newest(DATA_SET)
    with steps.step("promote"):
        console.print("So few bad parts certify little, so the promotion says what is accepted:")
        _verb(
            *("models", "promote", reference),
            *("--accept-risk", "demonstration on public images; no part is shipped on it"),
        )
    with steps.step("start the server"):
        server, address = _start_server()
    try:
        _walk(steps, address, reference)
        with steps.step("verify the records"):
            _verb("verify", "--data-dir", str(DATA_DIR))
        _print_seconds(console, steps)
        console.print(f"\nThe page: [bold]{address}/[/bold]   the API: {address}/docs")
        if not once:
            console.print("Serving until Ctrl-C.")
            _wait(server)
    finally:
        _stop(server)
    console.print("Stopped. The records stay in " + str(DATA_DIR))


def _walk(steps: Steps, address: str, reference: str) -> None:
    console = steps.console
    with steps.step("choose 60 test parts"):
        table = DATA_DIR / "test-parts.csv"
        _verb("evaluate", reference, DATA_SET, "--csv", str(table), quiet=True)
        samples = _choose(table)
    with steps.step(f"as a station: POST {PARTS} images"), StationClient(address) as station:
        answers = _post_all(station, samples)
    differing = [
        answer["trace_id"]
        for sample, answer in zip(samples, answers, strict=True)
        if answer["serial"] and answer["disposition"] != sample.disposition
    ]
    if differing:
        raise EngineError(f"the server judged unlike `evaluate`: {', '.join(differing)}")
    _print_answers(console, samples, answers)
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        with steps.step("as the MES: ask"):
            _ask(console, client, answers)
        with steps.step("as QA: decide a review"):
            _decide(console, client, answers)


def _post_all(station: StationClient, samples: list[Sample]) -> list[dict[str, Any]]:
    run_id = secrets.token_hex(4)
    answers = []
    for number, sample in enumerate(samples):
        unread = number == len(samples) - 1
        answers.append(
            station.inspect(
                sample.image.read_bytes(),
                content_type="image/png",
                station="demo-1",
                product=PRODUCT,
                capture_id=f"{run_id}-{number:03d}",
                serial=None if unread else serial_of(sample.part),
                lot="demo",
            )
        )
    return answers


def _ask(console: Console, client: httpx.Client, answers: list[dict[str, Any]]) -> None:
    serial = answers[0]["serial"]
    part = _get(client, f"/v1/parts/{PRODUCT}/{serial}")
    console.print(
        f"Part {serial}: {len(part['inspections'])} inspection(s); "
        f"in force: {part['in_force']['disposition']} ({part['in_force']['why']})"
    )
    failed, cursor = 0, None
    while True:
        query = {"product": PRODUCT, "disposition": "fail", "limit": "100"}
        page = _get(client, "/v1/inspections", query | ({"cursor": cursor} if cursor else {}))
        failed += len(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    console.print(f"Failed inspections of {PRODUCT} in the records: {failed}")


def _decide(console: Console, client: httpx.Client, answers: list[dict[str, Any]]) -> None:
    open_reviews = [a for a in answers if a["disposition"] == "review" and a["serial"]]
    if not open_reviews:
        console.print("No part was sent to review in this run.")
        return
    chosen = open_reviews[0]
    seen = client.get(f"/v1/inspections/{chosen['id']}")
    _check(seen)
    response = client.post(
        f"/v1/inspections/{chosen['id']}/reviews",
        json={"disposition": "fail", "reason": "demonstration: dark region confirmed by eye"},
        headers={"If-Match": seen.headers["ETag"]},
    )
    _check(response)
    part = _get(client, f"/v1/parts/{PRODUCT}/{chosen['serial']}")
    console.print(
        f"Part {chosen['serial']} was in review; now in force: "
        f"{part['in_force']['disposition']} ({part['in_force']['why']})"
    )


def serial_of(part: str) -> str:
    """A laser mark for a cell: "EC", seven digits of its file name, and the check character."""
    digits = "".join(symbol for symbol in part if symbol.isdigit())
    return SERIALS.complete(f"EC{int(digits):07d}").text


def _choose(table: Path) -> list[Sample]:
    """60 test parts, a third of them bad, drawn with a fixed seed."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [
            Sample(
                image=Path("datasets") / DATA_SET / row["path"],
                part=row["part"],
                label=row["label"],
                disposition=row["disposition"],
            )
            for row in csv.DictReader(file)
        ]
    rng = random.Random(SEED)  # noqa: S311  a draw of pictures, not of secrets
    bad = rng.sample([row for row in rows if row.label != "good"], PARTS // 3)
    good = rng.sample([row for row in rows if row.label == "good"], PARTS - len(bad))
    chosen = [*bad, *good]
    rng.shuffle(chosen)
    return chosen


def _newest(model: str) -> str:
    listed = _verb("models", "list", "--format", "json", quiet=True)
    references = [str(row["model"]) for row in json.loads(listed)]
    ours = [reference for reference in references if reference.startswith(f"{model}@")]
    return max(ours, key=lambda reference: int(reference.partition("@")[2]))


def _verb(*words: str, quiet: bool = False) -> str:
    """Run `inspection WORDS`; its output goes to ours, or is returned when `quiet`."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    if not quiet:
        print(f"$ inspection {shown}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "inspection.cli", *words],
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        env=_environment(),
        check=False,
    )
    if done.returncode != 0:
        raise ConfigurationError(
            f"`inspection {shown}` ended with exit status {done.returncode}"
            + (f": {done.stderr.strip()}" if quiet else ""),
            remedy="Read what it said above, correct it, and run the demo again.",
        )
    return str(done.stdout) if quiet else ""


def _start_server() -> tuple[subprocess.Popen[bytes], str]:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    words = ["serve", "--port", "0", "--data-dir", str(DATA_DIR)]
    print(f"$ inspection {' '.join(words)}", flush=True)
    log = DATA_DIR / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "inspection.cli", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches the demo, which stops the server in order
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        ready = re.search(r"ready at (http://\S+)", log.read_text(errors="replace"))
        if ready:
            print(f"ready at {ready[1]}", flush=True)
            return server, ready[1]
        time.sleep(0.1)
    _stop(server)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ConfigurationError(
        f"the server did not become ready: {lines[-1] if lines else 'it said nothing'}",
        remedy=f"Read {log}.",
    )


def _environment() -> dict[str, str]:
    """This process's, without settings of a plant's server: the demo has folders of its own."""
    own = (DEBUG_VARIABLE,)
    return {k: v for k, v in os.environ.items() if not k.startswith("INSPECTION_") or k in own}


def _wait(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait()
    except KeyboardInterrupt:
        return
    raise ConfigurationError(
        "the server ended by itself", remedy="Read server.log in the demo's folder under var/."
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _get(client: httpx.Client, path: str, query: dict[str, str] | None = None) -> Any:
    response = client.get(path, params=query)
    _check(response)
    return response.json()


def _check(response: httpx.Response) -> None:
    if response.is_error:
        raise InspectionError(f"the server answered {response.status_code}: {response.text}")


def _print_answers(console: Console, samples: list[Sample], answers: list[dict[str, Any]]) -> None:
    table = Table(box=SIMPLE, title=f"{len(answers)} parts through the server")
    for heading in ("serial", "labelled", "verdict", "probability", "finding", "trace ID"):
        right = heading == "probability"
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    colours = {"pass": "green", "fail": "red", "review": "yellow"}
    for sample, answer in zip(samples, answers, strict=True):
        box = answer["findings"][0]["box"] if answer["findings"] else None
        place = f" at {box['left']},{box['top']}" if box else ""
        name = answer["findings"][0]["class"] if box else "–"
        verdict = answer["disposition"]
        probability = max(answer["probability"].values(), default=None)
        table.add_row(
            answer["serial"] or "(unread)",
            sample.label,
            f"[{colours[verdict]}]{verdict}[/]",
            "–" if probability is None else f"{probability:.3f}",
            name + place,
            answer["trace_id"],
        )
    console.print(table)
    pairs = zip(samples, answers, strict=True)
    counts = Counter((sample.label, answer["disposition"]) for sample, answer in pairs)
    for label in sorted({sample.label for sample in samples}):
        words = ", ".join(f"{counts[label, kind]} {kind}" for kind in ("pass", "review", "fail"))
        console.print(f"labelled {label}: {words}")


def _print_seconds(console: Console, steps: Steps) -> None:
    table = Table(box=SIMPLE, title="How long each step took", show_footer=True)
    table.add_column("step", footer="in all")
    table.add_column("seconds", justify="right", footer=f"{sum(steps.seconds.values()):.1f}")
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
