"""How good the presets are on elpv-dataset: random 75/25 splits, grouped folds, random folds.

    python benchmarks/elpv/folds.py --preset fast
    python benchmarks/elpv/folds.py --preset full --count 3 --threads 1

Every finished run is one line of results.jsonl; a benchmark that was stopped goes on where it
stopped, and one with other settings or other code of the fit starts anew. The table goes to
standard output, and to results.md.

The product's own `fit` runs in every split, on that split's training images only. What the frozen
backbone says of an image depends neither on labels nor on splits, so it is extracted once for all
(--cache keeps it); the time of a model counts its share of it. Groups are blocks of 60 neighbouring
files: the files lie in module order, module numbers are not published.

Accuracy is at a calibrated probability of one half. The calibration (Platt) is fitted on training
images only, on scores of models that did not see them: of three inner folds with `fast`, of the
groups that fine-tuning laid aside with `full`.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.engines.network import InspectionNetwork, create_network, on_grid  # noqa: E402
from training.calibrate import fit_platt  # noqa: E402
from training.fit import FitResult, FitSettings, fit  # noqa: E402
from training.fitting.early import extract_early  # noqa: E402
from training.fitting.features import FeatureCache, extract_features  # noqa: E402
from training.fitting.stages import EarlyAnswers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP_SIZE = 60
SIZE_PX = (300, 300)
INNER = 3  # folds of the training images, for the calibration
REPORT = """# elpv-dataset: how good the presets are

2,624 images of solar cells; bad: probability above one half (15 % are labelled one third or two
thirds). holdout: random 75/25, stratified by label and cell type. grouped: five folds over blocks
of 60 neighbouring files. Mean, and 95 % interval by Student's t over the splits, which share
training images. Every split's line is in `results.jsonl`.

    python benchmarks/elpv/folds.py --preset fast
    python benchmarks/elpv/folds.py --preset full --count 3 --threads 1

{table}

Accuracy is at a calibrated probability of one half; the calibration is fitted on scores of training
images by models that did not see them. Random splits have neighbours of the same module on both
sides, and flatter. CPU seconds leave out the features (48 for all images); the wall times in
results.jsonl are of a box that did other work meanwhile. What was tried and chosen is told in
`docs/decisions/0002-fast-preset.md` and `docs/decisions/0008-full-preset.md`.
"""

DEFAULT = {"holdout": 10, "grouped": 5, "random": 5}

# What a fit's figures depend on, and what those of fine-tuning depend on beside that.
CODE = (
    *("training/fit.py", "training/fitting/fit_context.py", "training/fitting/fit_head.py"),
    *(f"inspection/engines/{name}.py" for name in ("backbones", "context")),
)
FULL_CODE = (
    *(
        f"training/fitting/{name}.py"
        for name in ("batches", "early", "fit_full", "fit_tuned", "stages", "validation", "views")
    ),
    "training/augment.py",
)
FULL_SETTINGS = ("full_", "tuned_", "validation", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The images of elpv-dataset, in file order; defective above one half."""

    pixels: np.ndarray
    probability: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pixels[index][np.newaxis].astype(np.float32)

    def take(self, indices: np.ndarray) -> Cells:
        return Cells(
            pixels=self.pixels[indices],
            probability=self.probability[indices],
            kind=self.kind[indices],
        )

    @property
    def defective(self) -> np.ndarray:
        return self.probability > 0.5

    @property
    def group(self) -> np.ndarray:
        return np.arange(len(self)) // GROUP_SIZE


def load_cells() -> Cells:
    folder = Path(str(resources.files("elpv_dataset"))) / "data"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter=" ", skipinitialspace=True) if row]
    pixels = [cv2.imread(str(folder / row[0]), cv2.IMREAD_UNCHANGED) for row in rows]
    return Cells(
        pixels=np.stack(pixels),
        probability=np.array([float(row[1]) for row in rows], np.float32),
        kind=np.array([row[2] for row in rows]),
    )


def folds(cells: Cells, split: str, count: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(training, test) indices. The holdout is stratified by label and cell type."""
    if split == "grouped":
        folder = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        yield from folder.split(cells.probability, cells.defective, cells.group)
    elif split == "random":
        folder = StratifiedKFold(count, shuffle=True, random_state=seed)
        yield from folder.split(cells.probability, cells.defective)
    else:
        strata = np.char.add(cells.kind, np.round(cells.probability, 2).astype(str))
        shuffle = StratifiedShuffleSplit(count, test_size=0.25, random_state=seed)
        yield from shuffle.split(cells.probability, strata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What the frozen backbone says of all images, and how long one image took.

    Attributes:
        features: for the head and the context.
        early: for fine-tuning; None with `fast`.
        seconds: of wall time, an image.
    """

    features: FeatureCache
    early: EarlyAnswers | None
    seconds: float


def extract(cells: Cells, settings: FitSettings, cache: Path | None) -> Extracted:
    """From the cache when it is there and fits, else from the images."""
    network = create_network(settings.architecture(1))
    begun = time.perf_counter()
    kept = None if cache is None else cache / "features.npy"
    seconds = 0.0
    if kept is not None and kept.exists():
        source = extract_features(cells.take(np.arange(1)), settings).source
        features = FeatureCache(cells=np.load(kept, mmap_mode="r"), source=source)
        seconds = float((cache / "features_s.txt").read_text()) if cache else 0.0
    else:
        features = extract_features(cells, settings)
        seconds = time.perf_counter() - begun
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, features.cells)
            (kept.parent / "features_s.txt").write_text(str(seconds))
    early = None
    if settings.preset == "full":
        begun = time.perf_counter()
        early = extract_early(network, cells, settings, torch.device("cpu"))
        seconds += time.perf_counter() - begun
    print(f"features of {len(cells)} images: {seconds:.1f} s", flush=True)
    return Extracted(features=features, early=early, seconds=seconds / len(cells))


def fit_on(rows: np.ndarray, cells: Cells, given: Extracted, settings: FitSettings) -> FitResult:
    """The product's fit, on these images."""
    return fit(
        cells.take(rows),
        cells.probability[rows, np.newaxis],
        [str(one) for one in cells.group[rows]],
        settings,
        features=given.features.take(rows),
        early=None if given.early is None else given.early.take(rows),
    )


@torch.no_grad()
def scores_of(network: InspectionNetwork, rows: np.ndarray, given: Extracted) -> np.ndarray:
    """Scores of these images, from what the frozen stages said of them; each image as it is."""
    scores = []
    for some in np.array_split(rows, max(1, len(rows) // 64)):
        block = torch.from_numpy(given.features.cells[some]).float().permute(0, 3, 1, 2)
        if network.trunk.tuned is not None and given.early is not None:
            first = torch.zeros(len(some), dtype=torch.long)
            _, hidden = given.early.of(torch.from_numpy(some), first)
            maps = [block]
            for stage in network.trunk.tuned:
                hidden = stage(hidden)
                maps.append(on_grid(hidden, *block.shape[-2:]))
            block = torch.cat(maps, dim=1)
        image = torch.zeros(len(some), 1, 1, 1)
        scores.append(network.readout(image, block)[0].numpy())
    return np.concatenate(scores)[:, 0]


def calibration(
    train: np.ndarray,
    result: FitResult,
    split: str,
    cells: Cells,
    given: Extracted,
    settings: FitSettings,
) -> tuple[float, float]:
    """Slope and intercept, from training images that a model did not see."""
    if result.unseen is not None:
        rows, scores = train[result.unseen.rows], result.unseen.scores[:, 0]
    else:
        rows, held = train, np.zeros(len(train))
        inner = cells.take(train)
        groups = cells.group[train] if split == "grouped" else np.arange(len(train))
        folder = StratifiedGroupKFold(INNER, shuffle=True, random_state=settings.seed)
        fewer = replace(settings, heads=2, hidden=2 * settings.hidden // settings.heads)
        for part, rest in folder.split(train, inner.defective, groups):
            network = fit_on(train[part], cells, given, fewer).network
            held[rest] = scores_of(network, train[rest], given)
        scores = held
    slope, intercept = fit_platt(
        scores.astype(np.float64), cells.defective[rows].astype(np.float64)
    )
    return float(slope), float(intercept)


def code_digest(preset: str) -> str:
    """Of what the fit's figures depend on, comments and layout left out."""
    texts = []
    for name in (*CODE, *(FULL_CODE if preset == "full" else ())):
        tree = ast.parse((HERE.parent.parent / name).read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                del body[0]
        texts.append(ast.dump(tree))
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def run(
    split: str,
    numbers: range,
    seed: int,
    settings: FitSettings,
    results: Path,
    cells: Cells,
    cache: Path | None,
) -> list[dict]:
    """Every split's line, from the file where it is there already."""
    told = {
        name: value
        for name, value in asdict(settings).items()
        if name != "threads" and (settings.preset == "full" or not name.startswith(FULL_SETTINGS))
    }
    text = json.dumps(told, sort_keys=True, default=str) + code_digest(settings.preset)
    key = {
        "preset": settings.preset,
        "split": split,
        "split_seed": seed,
        "settings": hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    lines = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    done = {line["fold"]: line for line in lines if all(line.get(one) == key[one] for one in key)}
    given = None
    for fold, (train, test) in enumerate(folds(cells, split, DEFAULT[split], seed)):
        if fold in done or fold not in numbers:
            continue
        given = given or extract(cells, settings, cache)
        begun, cpu = time.perf_counter(), time.process_time()
        result = fit_on(train, cells, given, settings)
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        slope, intercept = calibration(train, result, split, cells, given, settings)
        scores = scores_of(result.network, test, given)
        defective = cells.defective[test]
        line = {
            **key,
            "fold": fold,
            "images": [len(train), len(test)],
            "auc": round(float(roc_auc_score(defective, scores)), 5),
            "accuracy": round(float(((slope * scores + intercept > 0) == defective).mean()), 5),
            "accuracy_at_0": round(float(((scores > 0) == defective).mean()), 5),
            "features_s": round(given.seconds * len(train), 2),
            "fit_s": round(wall, 2),
            "fit_cpu_s": round(cpu, 2),
            "epochs": sum(one["stage"] == "fine-tuning" for one in result.history),
            "stages_s": {name: round(value, 2) for name, value in result.seconds.items()},
        }
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        done[fold] = line
        print(f"{split} {fold}: AUC {line['auc']:.4f}, accuracy {line['accuracy']:.4f}", flush=True)
    return [done[fold] for fold in sorted(done)]


def interval(values: list[float]) -> str:
    """Mean and 95 % interval by Student's t over splits; splits share training images, so it is
    a description of their spread rather than a guarantee."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4f}"
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return f"{mean:.4f} ({mean - half:.4f} to {mean + half:.4f})"


def table(lines: list[dict]) -> str:
    """A Markdown table, one line a preset and kind of split, of the newest settings of each."""
    rows = [
        "| preset | split | AUC | accuracy | CPU s of the fit |",
        "|---|---|---|---|---|",
    ]
    newest = {(line["preset"], line["split"]): line["settings"] for line in lines}
    for (preset, split), settings in newest.items():
        found = [line for line in lines if (line["preset"], line["split"]) == (preset, split)]
        found = [line for line in found if line["settings"] == settings]
        rows.append(
            f"| {preset} | {split} x {len(found)} | {interval([line['auc'] for line in found])} "
            f"| {interval([line['accuracy'] for line in found])} "
            f"| {np.mean([line['fit_cpu_s'] for line in found]):.0f} |"
        )
    return "\n".join(rows)


def write_table(results: Path) -> None:
    """results.md, from all lines of results.jsonl."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    results.with_name("results.md").write_text(REPORT.format(table=table(lines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--split", choices=list(DEFAULT), nargs="+", default=["holdout", "grouped"])
    parser.add_argument("--short", action="store_true", help="one small split, nothing kept")
    parser.add_argument("--preset", choices=["fast", "full"], default="fast")
    parser.add_argument("--count", type=int, help="of each kind, the first ones; 10 and 5")
    parser.add_argument("--seed", type=int, default=2026, help="of the split and of the fit")
    parser.add_argument("--threads", type=int, help="CPU cores; all when absent")
    parser.add_argument("--cache", type=Path, help="a folder that keeps features between runs")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    chosen = parser.parse_args()
    settings = FitSettings(
        preset=chosen.preset,
        seed=chosen.seed,
        input_size_px=SIZE_PX,
        window=(0.0, 255.0),
        flips=("horizontal", "vertical"),
        threads=chosen.threads,
    )
    cells = load_cells()
    if chosen.short:
        cells = cells.take(np.arange(0, len(cells), 6))
        chosen.split, chosen.count, chosen.results = ["holdout"], 1, Path(os.devnull)
    rows = []
    for split in chosen.split:
        numbers = range(min(DEFAULT[split], chosen.count or DEFAULT[split]))
        rows += run(split, numbers, chosen.seed, settings, chosen.results, cells, chosen.cache)
        print("\n" + table(rows), flush=True)
        if not chosen.short:
            write_table(chosen.results)


if __name__ == "__main__":
    main()
