"""Preset `anomaly` on elpv-dataset, beside anomalib's PatchCore: grouped folds, good cells only.

    python -m venv anomalib-env
    anomalib-env/bin/python -m pip install -r benchmarks/anomaly/requirements.txt
    python benchmarks/anomaly/elpv.py --anomalib-python anomalib-env/bin/python

Both are fitted on good cells of the fit side and on nothing else, with the same backbone weights,
resolution and split. Without --anomalib-python only ours is run. PatchCore chooses its memory among
all 38 x 38 cells of every image, which takes hours on a CPU for a thousand images: so it is fitted
on `--few` of them, drawn at random, and ours both on these and on all.

Every finished run is one line of results.jsonl; a benchmark that was stopped goes on where it
stopped. The table goes to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.engines.backbones import (  # noqa: E402
    DEFAULT_BACKBONE,
    create_classifier,
    find_weights,
)
from inspection.engines.network import pool_evidence  # noqa: E402
from training.fit import FitSettings, fit  # noqa: E402
from training.fitting.features import FeatureCache, extract_features  # noqa: E402

SIZE_PX = (300, 300)
GROUP_SIZE = 60
FOLDS, SEED = 5, 2026
CORESET = 0.01  # of the cells that PatchCore keeps; its default, 0.1, takes a hundred times as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The images of elpv-dataset, in file order; defective above one half."""

    pixels: np.ndarray
    defective: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pixels[index][np.newaxis].astype(np.float32)

    def take(self, indices: np.ndarray) -> Cells:
        return Cells(pixels=self.pixels[indices], defective=self.defective[indices])


def load_cells() -> Cells:
    folder = Path(str(resources.files("elpv_dataset"))) / "data"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter=" ", skipinitialspace=True) if row]
    pixels = [cv2.imread(str(folder / row[0]), cv2.IMREAD_UNCHANGED) for row in rows]
    return Cells(pixels=np.stack(pixels), defective=np.array([float(row[1]) > 0.5 for row in rows]))


def grouped_folds(cells: Cells) -> list[tuple[np.ndarray, np.ndarray]]:
    """(good cells of the fit side, all cells of the test side), by blocks of neighbouring files."""
    group = np.arange(len(cells)) // GROUP_SIZE
    folder = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    return [
        (train[~cells.defective[train]], test)
        for train, test in folder.split(group, cells.defective, group)
    ]


@torch.no_grad()
def scores_of_ours(
    cells: Cells, train: np.ndarray, test: np.ndarray, settings: FitSettings, features: FeatureCache
) -> tuple[np.ndarray, dict[str, float]]:
    begun = time.perf_counter()
    network = fit(
        cells.take(train),
        np.zeros((len(train), 1), np.float32),
        [str(one) for one in train // GROUP_SIZE],
        settings,
        features=features.take(train),
    ).network
    seconds = {"fit": time.perf_counter() - begun}
    scores = []
    for start in range(0, len(test), 32):
        held = features.take(test[start : start + 32]).cells
        maps = network.head(network.whitening(torch.from_numpy(held).float().permute(0, 3, 1, 2)))
        scores.append(pool_evidence(maps, network.architecture.sharpness)[:, 0].numpy())
    return np.concatenate(scores), seconds


def scores_of_patchcore(
    python: Path, weights: Path, cells: Cells, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.npz"
        np.savez(work, train=cells.pixels[train], test=cells.pixels[test])
        script = str(HERE / "_patchcore.py")
        options = ["--coreset", str(CORESET), "--seed", str(SEED)]
        subprocess.run([str(python), script, str(work), str(weights), *options], check=True)
        found = np.load(work.with_suffix(".out.npz"))
        named = zip(("features", "coreset", "test"), found["seconds"].tolist(), strict=True)
        return found["scores"], {**dict(named), "stored": float(found["stored"])}


def table(lines: list[dict]) -> str:
    rows = ["| method | good training images | folds | AUC of each | mean (95 % interval) |"]
    rows.append("|---|---|---|---|---|")
    for method, images in sorted({(line["method"], line["few"]) for line in lines}, key=str):
        aucs = [one["auc"] for one in lines if (one["method"], one["few"]) == (method, images)]
        mean = float(np.mean(aucs))
        said = f"{mean:.3f}"
        if len(aucs) > 1:
            half = float(stats.sem(aucs) * stats.t.ppf(0.975, len(aucs) - 1))
            said += f" ({mean - half:.3f} to {mean + half:.3f})"
        each = ", ".join(f"{auc:.3f}" for auc in aucs)
        rows.append(f"| {method} | {images or 'all'} | {len(aucs)} | {each} | {said} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="ours, a small part of one fold")
    parser.add_argument("--anomalib-python", type=Path, help="a Python that has anomalib")
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the five")
    parser.add_argument("--few", type=int, default=200, help="training images of PatchCore")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    chosen = parser.parse_args()
    cells = load_cells()
    folds = grouped_folds(cells)[: chosen.folds]
    settings = FitSettings(preset="anomaly", seed=SEED, input_size_px=SIZE_PX, window=(0.0, 255.0))
    draw = np.random.default_rng(SEED).permutation
    if chosen.short:  # neighbours in a fold share a module, so they are drawn, not cut off
        train, test = folds[0]
        picked = np.concatenate([np.sort(draw(train)[:100]), np.sort(draw(test)[:150])])
        cells, folds = cells.take(picked), [(np.arange(100), np.arange(100, 250))]
        chosen.few, chosen.results, chosen.anomalib_python = 0, Path(os.devnull), None
    runs = [("anomaly", 0, fold) for fold in range(len(folds))]
    if chosen.few:
        runs += [("anomaly", chosen.few, fold) for fold in range(len(folds))]
    if chosen.anomalib_python:
        runs = [("PatchCore", chosen.few, fold) for fold in range(len(folds))] + runs
    lines = []
    if chosen.results.exists():
        lines = [json.loads(line) for line in chosen.results.read_text().splitlines()]
    done = {(line["method"], line["few"], line["fold"]) for line in lines}
    features: FeatureCache | None = None
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "backbone.safetensors"
        network = create_classifier(DEFAULT_BACKBONE, weights=find_weights(DEFAULT_BACKBONE))
        safetensors.torch.save_file(network.state_dict(), weights)
        for method, few, fold in runs:
            if (method, few, fold) in done:
                continue
            train, test = folds[fold]
            if few:
                train = np.sort(np.random.default_rng([SEED, fold]).permutation(train)[:few])
            if method == "PatchCore":
                scores, seconds = scores_of_patchcore(
                    chosen.anomalib_python, weights, cells, train, test
                )
            else:
                if features is None:
                    features = extract_features(cells, settings)
                scores, seconds = scores_of_ours(cells, train, test, settings, features)
            line = {
                "method": method,
                "few": few,
                "fold": fold,
                "images": [len(train), len(test)],
                "auc": round(float(roc_auc_score(cells.defective[test], scores)), 5),
                "seconds": {name: round(value, 1) for name, value in seconds.items()},
            }
            with chosen.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            lines.append(line)
            print(f"{method} {few or 'all'} {fold}: AUC {line['auc']:.4f}", flush=True)
    print("\n" + table(lines))


if __name__ == "__main__":
    main()
