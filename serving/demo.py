"""`inspection demo`: every journey once, on real images, through the commands that users have.

    data import -> train -> models promote -> serve
      -> station: POST 60 images -> MES: asks -> QA: decides -> verify -> table

It only runs other verbs and speaks HTTP; it knows nothing that a plant's own scripts would not.
"""

from __future__ import annotations

import csv
import random
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inspection.errors import EngineError
from inspection.serials import SerialFormat
from serving.client import StationClient
from serving.demo_steps import (
    Steps,
    check,
    get,
    newest,
    run_demo,
    verb,
)

DATA_SET = "elpv"
PRODUCT = "elpv-cell"
SERIALS = SerialFormat(length=10)
SEED = 7
PARTS = 60
DATA_DIR = Path("var/demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row of `inspection evaluate --csv`: a test part and what the package said of it."""

    image: Path
    part: str
    label: str
    disposition: str


def run(*, once: bool) -> None:
    """Walk the whole way once; see `run_demo`."""
    run_demo(DATA_DIR, _made, _walk, once=once)


def _made(steps: Steps) -> str:
    """Set and model; the promoted package as MODEL@VERSION."""
    console = steps.console
    with steps.step("import the data set"):
        console.print(
            "The images come with the package elpv-dataset: 2,624 solar cells under "
            "electroluminescence,\nlicence CC BY-NC-SA 4.0: for trying out, not for products."
        )
        verb("data", "import", "--from", DATA_SET, "--name", DATA_SET)
    with steps.step("train and measure"):
        verb(
            *("train", DATA_SET, "--model", DATA_SET, "--preset", "fast", "--seed", str(SEED)),
            *("--escape-rate", "0.05", "--review-budget", "0.4"),
            *("--serial-length", str(SERIALS.length)),
            *("--compare-random", "--set", "engine.whole_agreement=false"),
        )
        reference = newest(DATA_SET)
    with steps.step("promote"):
        console.print("So few bad parts certify little, so the promotion says what is accepted:")
        verb(
            *("models", "promote", reference),
            *("--accept-risk", "demonstration on public images; no part is shipped on it"),
        )
    return reference


def _walk(steps: Steps, reference: str, address: str) -> None:
    console = steps.console
    with steps.step("choose 60 test parts"):
        table = DATA_DIR / "test-parts.csv"
        verb("evaluate", reference, DATA_SET, "--csv", str(table), quiet=True)
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
    part = get(client, f"/v1/parts/{PRODUCT}/{serial}")
    console.print(
        f"Part {serial}: {len(part['inspections'])} inspection(s); "
        f"in force: {part['in_force']['disposition']} ({part['in_force']['why']})"
    )
    failed, cursor = 0, None
    while True:
        query = {"product": PRODUCT, "disposition": "fail", "limit": "100"}
        page = get(client, "/v1/inspections", query | ({"cursor": cursor} if cursor else {}))
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
    check(seen)
    response = client.post(
        f"/v1/inspections/{chosen['id']}/reviews",
        json={"disposition": "fail", "reason": "demonstration: dark region confirmed by eye"},
        headers={"If-Match": seen.headers["ETag"]},
    )
    check(response)
    part = get(client, f"/v1/parts/{PRODUCT}/{chosen['serial']}")
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
