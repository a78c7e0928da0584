"""The table and the plot: results.md, results.svg, results.jsonl.

    rows of this run + rows kept from earlier runs -> results.jsonl -> results.md, results.svg

A run replaces the rows of the figures that it measured and leaves the others, each with its date
and its machine, so that the long ones need not be run together with the short ones.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from _figures import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _figures import Row

RESULTS: Final = Path(__file__).resolve().parent / "results"
ORDER: Final = (
    *("throughput", "lone", "outputs", "rivals", "overload", "records", "swaps", "hostile"),
    *("kill9", "client"),
)
HEAD: Final = """# How fast the server is

`make bench` measures the short form of this in a few minutes, `benchmarks/serving/bench.py all` the
long one. What is compared takes turns in one run. The client is benchmarks/serving/load.c, in a
process of its own; every request is another capture with another image. *Served* is judged,
recorded and synced to the disk before the answer leaves; the rivals keep nothing. Spans are the
lowest and the highest of the rounds.
"""
WIDTH, LINE, LEFT = 760, 22, 170
COLOURS: Final = {1: "#7a9cc6", 8: "#3d6ea5", 32: "#1d3f66"}


def write(
    name: str, rows: Sequence[Row], machine: dict[str, str], *, short: bool, folder: Path
) -> None:
    """Put the rows of one figure into the results, and write table and plot anew."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = _kept(folder / "results.jsonl")
    kept[name] = {
        "name": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "short": short,
        "machine": machine,
        "rows": [row.document() for row in rows],
    }
    found = [kept[each] for each in ORDER if each in kept]
    lines = "".join(json.dumps(each) + "\n" for each in found)
    _replace(folder / "results.jsonl", lines)
    _replace(folder / "results.md", table(found))
    if "rivals" in kept:
        _replace(folder / "results.svg", plot(kept["rivals"]["rows"]))


def table(found: Sequence[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [HEAD, "| figure | value | target | met | how |", "|---|---|---|---|---|"]
    for each in found:
        form = ", short form" if each["short"] else ""
        for row in each["rows"]:
            met = {True: "yes", False: "**no**", None: ""}[row["met"]]
            cells = (row["figure"], row["value"], row["target"], met, row["how"])
            lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    lines += ["", "| figures | command | measured | load average before |", "|---|---|---|---|"]
    for each in found:
        form = ", short form" if each["short"] else ""
        command = each["rows"][0]["command"]
        load = each["machine"].get("load average", "")
        lines.append(f"| {each['name']} | `{command}` | {each['date']} UTC{form} | {load} |")
    lines += ["", "| machine | |", "|---|---|"]
    facts = found[0]["machine"] if found else {}
    lines += [f"| {key} | {value} |" for key, value in facts.items() if key != "load average"]
    if any(each["name"] == "rivals" for each in found):
        lines += ["", "![inspections a second beside four other servers](results.svg)"]
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Bars: what each server answers a second, with 1, 8 and 32 requests at once."""
    servers = [row["raw"] for row in rows if row["raw"].get("rates")]
    rates = {
        each["name"]: {int(many): median(values) for many, values in each["rates"].items()}
        for each in servers
    }
    highest = max((max(each.values()) for each in rates.values()), default=1.0)
    scale = (WIDTH - LEFT - 80) / max(highest, 1e-9)
    pieces, top = [], 34
    for name, each in rates.items():
        pieces.append(_text(LEFT - 10, top + LINE * 1.6, name, "end"))
        for many in sorted(each):
            width = each[many] * scale
            pieces.append(
                f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{LINE - 4}" '
                f'fill="{COLOURS.get(many, "#888888")}"/>'
            )
            label = f"{each[many]:.0f} a second, {many} at once"
            pieces.append(_text(LEFT + width + 6, top + LINE - 8, label, "start", 11))
            top += LINE
        top += LINE // 2
    title = _text(10, 20, "Inspections a second: ours with records, the others without", "start")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 90} {top}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>Inspections a second</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{title}{"".join(pieces)}</svg>\n'
    )


def _text(x: float, y: float, words: str, anchor: str, size: int = 13) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="#222222">{escape(words)}</text>'


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    found = [json.loads(line) for line in path.read_text().splitlines() if line]
    return {each["name"]: each for each in found}


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_text(text)
    fresh.replace(path)
