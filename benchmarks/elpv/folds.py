"""How good the presets are on elpv-dataset: grouped folds, random folds, random 75/25 splits.

    python benchmarks/elpv/folds.py --split grouped random holdout

Every finished fold is one line of results.jsonl; a run that was stopped goes on where it stopped,
and one with other settings or other code in training/ or inspection/engines/ starts anew. The
table goes to standard output.

The product's own `fit` runs in every fold, on that fold's training images only. The frozen
features do not depend on labels or splits, so they are extracted once. Groups are blocks of 60
neighbouring files: the files lie in module order, module numbers are not published.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
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

from inspection.engines.network import pool_evidence_numpy  # noqa: E402
from training.features import FeatureCache, extract_features  # noqa: E402
from training.fit import FitSettings, fit  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inspection.engines.network import InspectionNetwork

GROUP_SIZE = 60
SIZE_PX = (300, 300)


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


@torch.no_grad()
def head_scores(network: InspectionNetwork, features: FeatureCache) -> np.ndarray:
    """Scores from cached features; the trunk is the one that made them."""
    scores = []
    for start in range(0, len(features), 64):
        block = torch.from_numpy(features.cells[start : start + 64]).float().permute(0, 3, 1, 2)
        evidence = network.head(network.whitening(block)).numpy()
        scores.append(pool_evidence_numpy(evidence, network.architecture.sharpness))
    return np.concatenate(scores)[:, 0]


@torch.no_grad()
def network_scores(network: InspectionNetwork, cells: Cells) -> np.ndarray:
    """Scores from images, for a network with a backbone of its own."""
    return np.array(
        [
            float(network(torch.from_numpy(one)[None])[0])
            for one in map(cells.__getitem__, range(len(cells)))
        ]
    )


def code_digest() -> str:
    """Of every source file that a fit runs through."""
    root = HERE.parent.parent
    files = [*(root / "training").glob("f*.py"), *(root / "inspection/engines").glob("*.py")]
    texts = b"".join(file.read_bytes() for file in sorted(files) if file.name != "openvino.py")
    return hashlib.sha256(texts).hexdigest()[:16]


def run(
    split: str,
    count: int,
    seed: int,
    settings: FitSettings,
    results: Path,
    cells: Cells,
    features: Callable[[], FeatureCache],
) -> list[dict]:
    """Every fold's line, from the file where it is there already."""
    text = json.dumps(asdict(settings), sort_keys=True, default=str) + code_digest()
    key = {
        "split": split,
        "folds": count,
        "split_seed": seed,
        "settings": hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    lines = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    done = {line["fold"]: line for line in lines if all(line[one] == key[one] for one in key)}
    for fold, (train, test) in enumerate(folds(cells, split, count, seed)):
        if fold in done:
            continue
        cached = features()
        begun, cpu = time.perf_counter(), time.process_time()
        result = fit(
            cells.take(train),
            cells.probability[train, np.newaxis],
            [str(one) for one in cells.group[train]],
            settings,
            features=cached.take(train),
        )
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        if settings.preset == "fast":
            scores = head_scores(result.network, cached.take(test))
        else:
            scores = network_scores(result.network, cells.take(test))
        defective = cells.defective[test]
        line = {
            **key,
            "preset": settings.preset,
            "fold": fold,
            "images": [len(train), len(test)],
            "auc": round(float(roc_auc_score(defective, scores)), 5),
            "accuracy": round(float(((scores > 0) == defective).mean()), 5),
            "fit_s": round(wall, 2),
            "fit_cpu_s": round(cpu, 2),
            "stages_s": {name: round(value, 2) for name, value in result.seconds.items()},
        }
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        done[fold] = line
        print(f"{split} {fold}: AUC {line['auc']:.4f}, accuracy {line['accuracy']:.4f}", flush=True)
    return [done[fold] for fold in sorted(done)]


def interval(values: list[float]) -> str:
    """Mean and 95 % interval by Student's t over folds; folds share training images, so it is
    a description of their spread rather than a guarantee."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4f}"
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return f"{mean:.4f} ({mean - half:.4f} to {mean + half:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--split", choices=["grouped", "random", "holdout"], nargs="+", default=["grouped"]
    )
    parser.add_argument("--short", action="store_true", help="two grouped folds, nothing kept")
    parser.add_argument("--preset", choices=["fast", "full"], default="fast")
    parser.add_argument("--folds", type=int, default=None, help="5; 10 for holdout")
    parser.add_argument("--seed", type=int, default=2026, help="of the split and of the fit")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    chosen = parser.parse_args()
    if chosen.short:
        chosen.split, chosen.folds, chosen.results = ["grouped"], 2, Path(os.devnull)
    settings = FitSettings(
        preset=chosen.preset,
        seed=chosen.seed,
        input_size_px=SIZE_PX,
        window=(0.0, 255.0),
        flips=("horizontal", "vertical"),
    )
    cells = load_cells()
    extracted: list[FeatureCache] = []

    def features() -> FeatureCache:
        if not extracted:
            begun = time.perf_counter()
            extracted.append(extract_features(cells, settings))
            took = time.perf_counter() - begun
            print(f"features of {len(cells)} images: {took:.1f} s", flush=True)
        return extracted[0]

    rows = []
    for split in chosen.split:
        count = chosen.folds or (10 if split == "holdout" else 5)
        lines = run(split, count, chosen.seed, settings, chosen.results, cells, features)
        rows.append(
            f"| {chosen.preset} | {split} x {len(lines)} "
            f"| {interval([line['auc'] for line in lines])} "
            f"| {interval([line['accuracy'] for line in lines])} "
            f"| {np.mean([line['fit_s'] for line in lines]):.1f} "
            f"| {np.mean([line['fit_cpu_s'] for line in lines]):.1f} |"
        )
    print("\n| preset | split | AUC | accuracy | fit, s | fit, CPU s |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
