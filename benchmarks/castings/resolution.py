"""How large the network's input must be: 300 simulated castings at three resolutions, three folds.

    python benchmarks/castings/resolution.py --work DIR [--parts 300] [--threads 1]
    python benchmarks/castings/resolution.py --short

Every run is the product's own: `data import`, `data split --folds 3`, `train --size N --fold I`.
Images are flat-fielded first with the set's own calibration frames. A pore of D mm spans D / 0.1
* N / 1024 network pixels: at 256, 512 and 1024 the smallest rejectable one (0.8 mm) has 2, 4 and 8.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from training.simulation.physics import Detector  # noqa: E402
from training.simulation.writing import Order, write_set  # noqa: E402

FOLDS = 3


def flat_field(folder: Path) -> None:
    """Correct every image in place; bad pixels take the median of the nine around them."""
    frames = {
        kind: np.mean(
            [tifffile.imread(path) for path in sorted(folder.glob(f"calibration/{kind}-*"))], axis=0
        )
        for kind in ("dark", "open")
    }
    gain = frames["open"] - frames["dark"]
    bad = (gain < 0.5 * np.median(gain)) | (gain > 1.5 * np.median(gain))
    rows, columns = np.nonzero(bad)
    for path in (folder / "images").iterdir():
        raw = tifffile.imread(path).astype(np.float64)
        flat = (raw - frames["dark"]) / np.where(bad, 1.0, gain) * 50_000
        for row, column in zip(rows, columns, strict=True):
            window = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
            flat[row, column] = np.median(flat[window][~bad[window]])
        tifffile.imwrite(path, np.clip(np.rint(flat), 0, 65_535).astype(np.uint16), metadata=None)


def one_class(labels: Path) -> None:
    """Call every defect a defect: of most classes so small a set has a handful only."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"label": "good" if row["label"] == "good" else "defect"})


def run(arguments: list[str], work: Path, threads: int) -> None:
    """One command of the product."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "inspection.cli", *arguments]
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")


def measure(work: Path, size: int, fold: int, threads: int) -> dict[str, object]:
    """Train on all folds but one, and read what the package says of that one."""
    model = f"castings-{size}-{fold}"
    start = time.monotonic()
    run(
        ["train", "castings", "--model", model, "--size", str(size), "--fold", str(fold)],
        work,
        threads,
    )
    seconds = time.monotonic() - start
    report = json.loads((work / "weights" / model / "1" / "report.json").read_text())
    return {"size": size, "fold": fold, "seconds": round(seconds, 1), "report": report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="where sets and models go; kept")
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    pixels, sizes, folds = 1024, (256, 512, 1024), range(FOLDS)
    if options.short:
        # Lots stay together, and three folds need three lots.
        pixels, sizes, folds, options.parts = 512, (64,), range(1), 300
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    try:
        if not (work / "set").exists():
            detector = Detector(size_px=(pixels, pixels), pitch_mm=102.4 / pixels)
            made = write_set(Order(parts=options.parts, seed=1, detector=detector), work / "set")
            print(f"{made.images} images, {made.bad_parts} bad parts, {made.defects}")
            flat_field(work / "set")
            one_class(work / "set" / "labels.csv")
            labels = str(work / "set" / "labels.csv")
            run(
                ["data", "import", labels, "--name", "castings", "--modality", "x-ray"],
                work,
                options.threads,
            )
            run(["data", "split", "castings", "--folds", str(FOLDS)], work, options.threads)
        for size in sizes:
            for fold in folds:
                found = measure(work, size, fold, options.threads)
                with (work / "results.jsonl").open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"size {size}, fold {fold}: {found['seconds']} s", flush=True)
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
