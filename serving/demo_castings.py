"""`inspection demo --castings`: from the detector's dark frames to a part's whole life.

    simulate castings -> detector calibrate -> data import (with calibration) -> data split
      -> train -> evaluate -> models promote -> serve
      -> station: POST test parts -> a failed one: finding, heatmap -> the MES: part, trace

Castings are simulated (docs/simulator.md), so that what every part hides is known, and beside each
verdict stands what is true.
"""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inspection.errors import EngineError
from serving.client import StationClient
from serving.demo_steps import (
    Steps,
    check,
    get,
    newest,
    run_demo,
    verb,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA_SET = "castings-demo"
PRODUCT = "KN-42"
STATION = "xray-1"
SEED = 11
PIXELS = 512  # of 0.2 mm: the smallest rejectable pore is 4 of them
PARTS = 480
SHOWN = 24  # test parts that are sent to the server
DATA_DIR = Path("var/demo-castings")
SET = "set"  # the simulated castings, in that folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One test part, what `evaluate` said of it, and what is true of it."""

    image: Path
    serial: str
    label: str
    disposition: str
    defects: str


def run(*, once: bool, parts: int = PARTS) -> None:
    """Walk the whole way once; see `run_demo`."""
    run_demo(DATA_DIR, partial(_made, parts=parts), _walk, once=once)


def _made(steps: Steps, *, parts: int) -> str:
    """Set, calibration and model; the promoted package as MODEL@VERSION."""
    folder = DATA_DIR / SET
    with steps.step(f"simulate {parts} castings"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        verb(
            *("simulate", "castings", str(folder), "--parts", str(parts), "--seed", str(SEED)),
            *("--size", str(PIXELS), "--one-class"),
        )
    with steps.step("calibrate the detector"):
        frames = folder / "calibration"
        verb(
            *("detector", "calibrate", "--station", STATION, "--data-dir", str(DATA_DIR)),
            *("--dark", str(frames / "dark-*.tif"), "--open", str(frames / "open-*.tif")),
        )
        calibration = max((DATA_DIR / "detectors" / STATION).glob("*.npz"))
    with steps.step("import and split the data set"):
        verb(
            *("data", "import", str(folder / "labels.jsonl"), "--name", DATA_SET),
            *("--product", PRODUCT, "--modality", "x-ray", "--calibration", str(calibration)),
        )
        verb("data", "split", DATA_SET, "--group-by", "mould")
    with steps.step("train and measure"):
        verb(
            *("train", DATA_SET, "--model", DATA_SET, "--seed", str(SEED)),
            *("--recipe", str(DATA_DIR / SET / "recipe.toml")),
            *("--escape-rate", "0.05", "--review-budget", "0.4"),
            *("--set", "engine.whole_agreement=false"),
        )
        reference = newest(DATA_SET)
    with steps.step("promote"):
        steps.console.print(
            "So few castings make a poor model: bad ones pass, good ones fail. "
            "The promotion says what is accepted:"
        )
        verb(
            *("models", "promote", reference),
            *("--accept-risk", "demonstration on simulated castings; no part is shipped on it"),
        )
    return reference


def _walk(steps: Steps, reference: str, address: str) -> None:
    console = steps.console
    with steps.step("evaluate, and choose test parts"):
        table = DATA_DIR / "test-parts.csv"
        verb("evaluate", reference, DATA_SET, "--csv", str(table), quiet=True)
        samples = _choose(table, DATA_DIR / SET)
    with steps.step(f"as a station: POST {len(samples)} images"), StationClient(address) as station:
        answers = _post_all(station, samples)
    differing = [
        answer["trace_id"]
        for sample, answer in zip(samples, answers, strict=True)
        if answer["disposition"] != sample.disposition
    ]
    if differing:
        raise EngineError(f"the server judged unlike `evaluate`: {', '.join(differing)}")
    _print_answers(console, samples, answers)
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        with steps.step("look at a failed part"):
            _look(console, client, samples, answers)
        with steps.step("as the MES: ask"):
            part = get(client, f"/v1/parts/{PRODUCT}/{answers[0]['serial']}")
            console.print(
                f"Part {answers[0]['serial']}: {len(part['inspections'])} inspection(s); "
                f"in force: {part['in_force']['disposition']} ({part['in_force']['why']})"
            )
            verb("trace", answers[0]["serial"], "--data-dir", str(DATA_DIR))


def _post_all(station: StationClient, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    run_id = secrets.token_hex(4)
    return [
        station.inspect(
            sample.image.read_bytes(),
            content_type="image/tiff",
            station=STATION,
            product=PRODUCT,
            capture_id=f"{run_id}-{number:03d}",
            serial=sample.serial,
            lot="demo",
        )
        for number, sample in enumerate(samples)
    ]


def _choose(table: Path, folder: Path) -> list[Sample]:
    """Test parts with their truth, half of them bad where there are so many."""
    truth = {}
    with (folder / "truth.jsonl").open(encoding="utf-8") as file:
        for line in file:
            part = json.loads(line)
            truth[part["serial"]] = ", ".join(
                f"{each['class']} {each['size_mm']:.1f} mm, {each['zone']}"
                for each in part["defects"]
                if each["rejectable"]
            )
    with table.open(newline="", encoding="utf-8") as file:
        rows = [
            Sample(
                image=Path("datasets") / DATA_SET / row["path"],
                serial=row["part"],
                label=row["label"],
                disposition=row["disposition"],
                defects=truth[row["part"]],
            )
            for row in csv.DictReader(file)
        ]
    bad = [row for row in rows if row.label != "good"][: SHOWN // 2]
    good = [row for row in rows if row.label == "good"][: SHOWN - len(bad)]
    return [*bad, *good]


def _look(
    console: Console,
    client: httpx.Client,
    samples: Sequence[Sample],
    answers: Sequence[dict[str, Any]],
) -> None:
    """The finding of a part that failed, and its heatmap as a file."""
    failed = [
        (sample, answer)
        for sample, answer in zip(samples, answers, strict=True)
        if answer["disposition"] == "fail"
    ]
    if not failed:
        console.print("No part failed in this run.")
        return
    sample, answer = failed[0]
    finding = answer["findings"][0]
    box = finding["box"]
    size = "" if finding.get("size_mm") is None else f", {finding['size_mm']:.1f} mm"
    zone = "" if finding.get("zone") is None else f", zone {finding['zone']}"
    console.print(
        f"Part {answer['serial']} failed: {finding['class']} at {box['left']},{box['top']}, "
        f"{box['width']} x {box['height']} px{size}{zone}"
    )
    console.print(f"What is true of it: {sample.defects or 'nothing to reject'}")
    picture = client.get(answer["links"]["heatmap"])
    check(picture)
    place = DATA_DIR / "heatmap.png"
    place.write_bytes(picture.content)
    console.print(f"Its heatmap: {place}")


def _print_answers(
    console: Console, samples: Sequence[Sample], answers: Sequence[dict[str, Any]]
) -> None:
    table = Table(box=SIMPLE, title=f"{len(answers)} castings through the server")
    for heading in ("serial", "verdict", "what is true of it", "trace ID"):
        table.add_column(heading, no_wrap=heading != "what is true of it")
    colours = {"pass": "green", "fail": "red", "review": "yellow"}
    for sample, answer in zip(samples, answers, strict=True):
        verdict = answer["disposition"]
        table.add_row(
            answer["serial"],
            f"[{colours[verdict]}]{verdict}[/]",
            sample.defects or "–",
            answer["trace_id"],
        )
    console.print(table)
    pairs = zip(samples, answers, strict=True)
    counts = Counter((sample.label, answer["disposition"]) for sample, answer in pairs)
    for label in sorted({sample.label for sample in samples}):
        words = ", ".join(f"{counts[label, kind]} {kind}" for kind in ("pass", "review", "fail"))
        console.print(f"labelled {label}: {words}")
