"""Sizes in mm as zones measure them, against the truth, on castings that nothing was chosen on.

    python benchmarks/castings/sizing.py --set DIR/test [--out FILE.json]
    python benchmarks/castings/sizing.py --short            # 40 castings made for it

    image -> flat field -> aligned to the reference view (inspection.zones.registration)
      -> where the truth has a defect, as far as a spot of evidence would reach: what stands out
         (inspection.zones.sizing) -> zone, rule of the casting's recipe (inspection.zones.rules)
      -> size, zone and ruling beside the simulator's own

The network is not asked: what it finds is another question (study.py). A defect's size is its
largest extent as seen along the beam of the front view. Defects with another one nearer than both
are long and 2 mm are left out of the table of sizes, for neighbours are joined on purpose; they are
in the table of rulings. Where several things stand out the longest speaks.

    none       nothing stands out, and no rule can allow it
    open       it runs into an edge, so its end is not known: no rule can allow it either
    error      of the measured ones: the median, and half of what the middle 68 % span
    other      of them, those measured at over twice their size: with something beside it, mostly
    short      of them, those that are longer than size and guard band together: the dangerous side
    zone       of those that are found, in which zone the product puts them, as the truth does
    let pass   of what may pass, and of what must not: how many the rule of its zone allows
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from _zoned import calibrated, zoned  # noqa: E402

from inspection.errors import Unjudgeable  # noqa: E402
from inspection.recipe import Recipe  # noqa: E402
from inspection.zones.registration import register  # noqa: E402
from inspection.zones.rules import locate, rulings  # noqa: E402
from inspection.zones.sizing import Window, difference, indications  # noqa: E402
from training.simulation.defects import CLASSES  # noqa: E402
from training.simulation.physics import Beam, Detector  # noqa: E402
from training.simulation.writing import Order, write_set  # noqa: E402

MARGIN_MM, APART_MM = 6.0, 2.0  # the first as inspection.acceptance follows a spot
SPOT_PX = 8  # two cells of evidence around a defect's own picture
BINS_MM = (0.3, 0.5, 0.7, 0.9, 1.2, 1.8, 3.0, 30.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, help="of `simulate castings`, as study.py leaves it")
    parser.add_argument("--out", type=Path, help="where every defect's figures go, a line each")
    parser.add_argument("--short", action="store_true", help="40 castings made for it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.short:
            options.set = Path(scratch) / "set"
            write_set(Order(parts=40, seed=5), options.set)
        if options.set is None:
            print(
                "not measured: give --set, a simulated set that nothing was chosen on; or --short"
            )
            return 0
        rows, refused, parts = measured(options.set)
    if options.out is not None:
        options.out.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    print(f"{parts} castings, {refused} of them not aligned; {len(rows)} defects\n")
    print(sizes_table(rows))
    print(rulings_table(rows))
    return 0


def measured(folder: Path) -> tuple[list[dict[str, Any]], int, int]:
    """Every defect of the set, how many castings were not aligned, and how many there are."""
    about = json.loads((folder / "set.json").read_text())["order"]
    beam = Beam(**about["beam"])
    detector = Detector(**about["detector"] | {"size_px": tuple(about["detector"]["size_px"])})
    flat = calibrated(beam, detector)
    recipe, view = zoned(
        Recipe(
            product="KN-42",
            modality="x-ray",
            bits=16,
            channels=1,
            input_size_px=detector.size_px,
            window=(0.0, 65535.0),
            classes=CLASSES,
            flat_field=True,
        ),
        beam,
        detector,
    )
    rows: list[dict[str, Any]] = []
    refused = 0
    parts = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    for part in parts:
        if not part["defects"]:
            continue
        image = folder / "images" / f"{part['serial']}-front.tif"
        pixels = flat.corrected(tifffile.imread(image))
        try:
            placement = register(pixels, view)
        except Unjudgeable:
            refused += 1
            continue
        for number, defect in enumerate(part["defects"]):
            left, top, width, height = defect["views"]["front"]["box_px"]
            box = (top - SPOT_PX, left - SPOT_PX, top + height + SPOT_PX, left + width + SPOT_PX)
            window = Window.around(box, round(MARGIN_MM / view.pitch_mm), detector.size_px)
            within = np.zeros(window.size_px, dtype=np.bool_)
            down, across = window.rows.start, window.columns.start
            rows_in = slice(max(box[0] - down, 0), box[2] - down)
            within[rows_in, max(box[1] - across, 0) : box[3] - across] = True
            contrast, edges = difference(pixels, view, placement, window)
            found = [
                locate(each, placement.to_part(each.outline_px), recipe.zones)
                for each in indications(contrast, edges, within, window, view.pitch_mm)
            ]
            said = rulings(defect["class"], found, elsewhere=(), severity_from_mm=())
            rows.append(
                {
                    "class": defect["class"],
                    "mm": defect["size_mm"],
                    "cnr": defect["views"]["front"]["cnr"],
                    "zone": defect["zone"],
                    "rejectable": defect["rejectable"],
                    "alone": alone(number, part["defects"]),
                    "said mm": found[0].indication.size_mm if found else None,
                    "guard mm": found[0].indication.guard_mm if found else None,
                    "open": bool(found and found[0].indication.open),
                    "said zone": found[0].zone_name.split("-")[0] if found else None,
                    "allowed": bool(said) and all(each.allowed for each in said),
                }
            )
    return rows, refused, len(parts)


def alone(number: int, defects: list[dict[str, Any]]) -> bool:
    """Whether no other defect is near this one."""
    one = defects[number]
    return all(
        np.hypot(*np.subtract(one["at_mm"][:2], other["at_mm"][:2]))
        > one["size_mm"] + other["size_mm"] + APART_MM
        for n, other in enumerate(defects)
        if n != number
    )


def sizes_table(rows: list[dict[str, Any]]) -> str:
    """By class, and gas pores by size."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in CLASSES:
        for row in rows:
            if row["class"] == name and row["alone"]:
                k = int(np.digitize(row["mm"], BINS_MM)) if name == "gas-porosity" else 0
                size = f", {BINS_MM[k - 1]:g} to {BINS_MM[k]:g} mm" if k else ""
                groups[f"{name}{size}"].append(row)
    head = "defect | number | none | open | measured | error | spread | other | short | zone right"
    lines = [f"| {head} |", f"{'|---' * 10}|"]
    order = sorted(
        groups.items(), key=lambda each: (CLASSES.index(each[1][0]["class"]), each[1][0]["mm"])
    )
    for name, those in order:
        found = [row for row in those if row["said mm"] is not None]
        closed = [row for row in found if not row["open"]]
        error = np.array([row["said mm"] / row["mm"] - 1 for row in closed])
        short = sum(row["mm"] > row["said mm"] + row["guard mm"] for row in closed)
        right = sum(row["said zone"] == row["zone"] for row in found)
        other = int(np.count_nonzero(error > 1))
        low, middle, high = np.percentile(error if len(error) else [np.nan], (16, 50, 84))
        both = f"{middle:+.0%} | {(high - low) / 2:.0%}" if len(error) > 4 else "- | -"
        lines.append(
            f"| {name} | {len(those)} | {len(those) - len(found)} | {len(found) - len(closed)} "
            f"| {len(closed)} | {both} | {other} | {short} | {right} of {len(found)} |"
        )
    return "\n".join(lines) + "\n"


def rulings_table(rows: list[dict[str, Any]]) -> str:
    """What the rules let pass, by class."""
    lines = ["| defect | may pass, let pass | must not, let pass |", "|---|---|---|"]
    for name in CLASSES:
        cells = []
        for bad in (False, True):
            those = [row for row in rows if row["class"] == name and row["rejectable"] == bad]
            cells.append(f"{sum(row['allowed'] for row in those)} of {len(those)}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
