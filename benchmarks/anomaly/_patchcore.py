"""anomalib's PatchCore on images and weights from a file; run by elpv.py in anomalib's own Python.

    python _patchcore.py WORK.npz BACKBONE.safetensors --coreset 0.01

WORK.npz: `train` and `test`, (n, H, W) uint8. Writes `scores` and `seconds` to WORK.out.npz.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

BACKBONE = "tf_efficientnet_lite0"
# The last stages of stride 8 and 16: what layer2 and layer3 are in PatchCore's residual networks.
LAYERS = ("blocks.2", "blocks.4")
BATCH = 8


def blocks(images: np.ndarray) -> list[torch.Tensor]:
    """Batches of (n, 3, H, W) float32, as the backbone's authors normalise."""
    made = []
    for start in range(0, len(images), BATCH):
        grey = torch.from_numpy(images[start : start + BATCH]).float()[:, None]
        made.append(((grey / 255 - 0.5) / 0.5).repeat(1, 3, 1, 1))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--coreset", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2026)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    work = np.load(chosen.work)
    model = PatchcoreModel(layers=LAYERS, backbone=BACKBONE, pre_trained=False)
    extractor = model.feature_extractor.feature_extractor
    held = safetensors.torch.load_file(chosen.weights)
    extractor.load_state_dict({name: held[name] for name in extractor.state_dict()})
    seconds = {}

    begun = time.perf_counter()
    model.train()
    model.feature_extractor.eval()
    for block in blocks(work["train"]):
        model(block)
    seconds["features"] = time.perf_counter() - begun
    begun = time.perf_counter()
    model.subsample_embedding(chosen.coreset)
    seconds["coreset"] = time.perf_counter() - begun
    begun = time.perf_counter()
    model.eval()
    with torch.inference_mode():
        scores = torch.cat([model(block).pred_score.flatten() for block in blocks(work["test"])])
    seconds["test"] = time.perf_counter() - begun
    np.savez(
        chosen.work.with_suffix(".out.npz"),
        scores=scores.numpy(),
        stored=len(model.memory_bank),
        seconds=np.array([seconds[name] for name in ("features", "coreset", "test")]),
    )


if __name__ == "__main__":
    main()
