"""What a model misses and what it calls bad for nothing, by the truth that the simulator wrote.

    python benchmarks/castings/misses.py --csv DIR/castings-masks.csv --truth DIR/test/truth.jsonl
        [--list]

    study.py: inspection evaluate --csv -> a row a part: probabilities, disposition
    simulator: truth.jsonl              -> a line a part: every defect, its size, zone, CNR
      -> tables in Markdown: bad parts missed by class; good parts called bad

`missed` is a probability below one half, `at 5 %` one below the limit that 5 % of the good parts
exceed, `passed` the disposition. A part that is bad for two classes counts with each. Of the
defects that make a part bad, the one with the highest contrast to noise speaks for it; sizes are in
times of what its zone lets pass, where it lets any pass.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from training.simulation.defects import CLASSES  # noqa: E402
from training.simulation.scene import ACCEPTED_MM, NEVER, PORES  # noqa: E402

OVERKILL = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="of `inspection evaluate`, as study.py leaves it")
    parser.add_argument("--truth", type=Path, help="truth.jsonl of the same set")
    parser.add_argument("--list", action="store_true", help="every bad part that is missed, too")
    parser.add_argument("--short", action="store_true", help="changes nothing: it takes a second")
    options = parser.parse_args()
    if options.csv is None or options.truth is None:
        print("not measured: give --csv and --truth, as study.py leaves them")
        return 0
    parts = joined(options.csv, options.truth)
    good = [part for part in parts if not part["bad"]]
    limit = float(np.quantile([part["probability"] for part in good], 1 - OVERKILL))
    print(f"{len(parts)} parts, {len(parts) - len(good)} of them bad; 5 % of the good ones lie")
    print(f"above a probability of {limit:.3g}\n")
    print(missed_table(parts, limit))
    print(good_table(good, limit))
    if options.list:
        print(listed(parts))
    return 0


def joined(answers: Path, truth: Path) -> list[dict[str, Any]]:
    """A part each: bad, its highest probability, its disposition, its defects."""
    with truth.open() as file:
        told = {line["serial"]: line for line in map(json.loads, file)}
    found = []
    with answers.open(newline="") as file:
        for row in csv.DictReader(file):
            line = told.get(row["part"])
            if line is None:
                sys.exit(f"error: {row['part']} is not in {truth}\n  → give the truth of this set")
            if (line["label"] != ["good"]) != (row["bad"] == "1"):
                sys.exit(f"error: {row['part']} is bad in one file and good in the other")
            chances = [float(row[name]) for name in row if name.startswith("probability_")]
            found.append(
                {
                    "part": row["part"],
                    "bad": row["bad"] == "1",
                    "probability": max(chances),
                    "disposition": row["disposition"],
                    "defects": line["defects"],
                }
            )
    return found


def worst_of(part: dict[str, Any], name: str) -> dict[str, Any]:
    """The defect of this class that makes the part bad and stands out most."""
    those = [d for d in part["defects"] if d["rejectable"] and d["class"] == name]
    return max(those, key=cnr_of)


def cnr_of(defect: dict[str, Any]) -> float:
    """In the view that shows it best."""
    return float(max(view["cnr"] for view in defect["views"].values()))


def times_limit(defect: dict[str, Any]) -> float:
    """Size over what its zone lets pass; NaN where it lets none pass."""
    if defect["class"] in NEVER:
        return float("nan")
    pore, other = ACCEPTED_MM[defect["zone"]]
    length = max(view["length_mm"] for view in defect["views"].values())
    return float(length / (pore if defect["class"] in PORES else other))


def missed_table(parts: list[dict[str, Any]], limit: float) -> str:
    """Bad parts by the classes that make them bad."""
    head = "class | bad parts | missed | at 5 % | passed | size / limit, missed | found"
    lines = [f"| {head} | CNR, missed | found |", f"{'|---' * 9}|"]
    for name in (*CLASSES, None):
        those = [
            part
            for part in parts
            if part["bad"]
            and (name is None or name in {d["class"] for d in part["defects"] if d["rejectable"]})
        ]
        if not those:
            continue
        missed = [part for part in those if part["probability"] < 0.5]
        cells = [
            name or "any",
            str(len(those)),
            str(len(missed)),
            str(sum(part["probability"] <= limit for part in those)),
            str(sum(part["disposition"] == "pass" for part in those)),
        ]
        if name is not None:
            found = [part for part in those if part["probability"] >= 0.5]
            for of, digits in ((times_limit, 2), (cnr_of, 1)):
                cells += [
                    spread([of(worst_of(part, name)) for part in some], digits)
                    for some in (missed, found)
                ]
        lines.append(f"| {' | '.join([*cells, *[''] * (9 - len(cells))])} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    """The median, and from where to where the middle half lies."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not known.size:
        return "-"
    low, middle, high = np.percentile(known, (25, 50, 75))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def good_table(good: list[dict[str, Any]], limit: float) -> str:
    """Good parts with nothing in them, and with what their zones let pass."""
    lines = [
        "| good parts | number | above one half | at 5 % | failed | review |",
        "|---|---|---|---|---|---|",
    ]
    for words, those in (
        ("without any defect", [part for part in good if not part["defects"]]),
        ("with allowed defects", [part for part in good if part["defects"]]),
    ):
        cells = (
            sum(part["probability"] >= 0.5 for part in those),
            sum(part["probability"] > limit for part in those),
            sum(part["disposition"] == "fail" for part in those),
            sum(part["disposition"] == "review" for part in those),
        )
        lines.append(f"| {words} | {len(those)} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def listed(parts: list[dict[str, Any]]) -> str:
    """Every bad part below one half, the least likely first."""
    lines = ["| part | probability | said | for |", "|---|---|---|---|"]
    missed = [part for part in parts if part["bad"] and part["probability"] < 0.5]
    for part in sorted(missed, key=lambda part: part["probability"]):
        words = [
            f"{d['class']} {d['size_mm']:.2f} mm in {d['zone']}, CNR {cnr_of(d):.1f}"
            for d in part["defects"]
            if d["rejectable"]
        ]
        said = f"{part['probability']:.3g} | {part['disposition']}"
        lines.append(f"| {part['part']} | {said} | {'; '.join(words)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
