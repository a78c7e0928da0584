"""How long preset `full` takes to fit 2,624 images, stage by stage.

    python benchmarks/gpu/full.py
    python benchmarks/gpu/full.py --short --device cpu

The product's own `fit`. The images are elpv-dataset's where that package is installed, otherwise
made: as many, as large, with marks on the bad ones. Weights are the backbone's own where their
package is installed, otherwise random. Views are varied by albumentations as in the product where
it is installed, otherwise by OpenCV and NumPy in the same five ways. None of that changes how many
steps there are, but for stopping early; what was used is printed, and only a run with all three as
in the product says how good the result is (benchmarks/elpv does). 180 s are wanted.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from _common import EXERCISE, WINDOW, add_options, device_of, in_words

from inspection.engines.backbones import DEFAULT_BACKBONE, find_weights
from inspection.errors import ConfigurationError
from training import augment
from training.fit import FitSettings, fit
from training.fitting import views

IMAGES, SIZE, GROUP = 2624, 300, 60


class Made:
    """Images of cells: a grid of fingers, uneven light, noise; a dark crack on the bad ones."""

    def __init__(self, count: int, size_px: int) -> None:
        self.size = size_px
        self.bad = np.random.default_rng(0).uniform(size=count) < 0.3

    def __len__(self) -> int:
        return len(self.bad)

    def __getitem__(self, index: int) -> np.ndarray:
        random = np.random.default_rng(index)
        rows, columns = np.mgrid[: self.size, : self.size] / self.size
        light = 120 + 60 * np.sin(3 * rows + random.uniform(0, 3)) * columns
        image = light + 15 * np.sin(columns * 200) + random.normal(0, 6, rows.shape)
        if self.bad[index]:
            ends = random.integers(0, self.size, 4).tolist()
            cv2.line(image, ends[:2], ends[2:], 30.0, 3)
        return np.clip(image, *WINDOW).astype(np.float32)[np.newaxis]


def elpv() -> tuple[list[np.ndarray], np.ndarray]:
    """(1, 300, 300) float32 each and their probabilities of being bad; ImportError without."""
    import elpv_dataset

    folder = Path(elpv_dataset.__file__).parent / "data"
    lines = (folder / "labels.csv").read_text().splitlines()
    rows = [line.split() for line in lines if line.strip()]
    pixels = [cv2.imread(str(folder / row[0]), cv2.IMREAD_UNCHANGED) for row in rows]
    images = [one[np.newaxis].astype(np.float32) for one in pixels]
    return images, np.array([float(row[1]) for row in rows], np.float32)


def plain_augmentation(_flips: object, *, seed: int = 0) -> augment.Change:
    """Shift, exposure, gain, blur and noise as `training.augment` has them, without its library."""

    def change(image: np.ndarray, seed: int | None = seed) -> np.ndarray:
        random = np.random.default_rng(seed)
        height, width = image.shape[:2]
        if random.random() < 0.5:
            shift = random.uniform(-augment.SHIFT, augment.SHIFT, 2) * (width, height)
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        if random.random() < 0.7:
            gain = 1 + random.uniform(-augment.GAIN, augment.GAIN)
            image = image * gain + random.uniform(-augment.OFFSET, augment.OFFSET)
        if random.random() < 0.2:
            image = cv2.GaussianBlur(image, (0, 0), random.uniform(*augment.BLUR_SIGMA_PX))
        if random.random() < 0.3:
            image = image + random.normal(0, random.uniform(*augment.NOISE), image.shape)
        return np.clip(image.reshape(height, width, -1), 0, 1).astype(np.float32)

    return change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    device = device_of(options)
    if options.device == "cpu" and torch.cuda.is_available():
        sys.exit("error: fitting takes the CUDA device\n  → hide it: CUDA_VISIBLE_DEVICES=''")
    print(in_words(device))
    if device.type == "cpu":
        print(EXERCISE)
    count = 24 if options.short else options.images
    size = 64 if options.short else SIZE
    try:
        if options.short:
            raise ImportError("a short run")
        held, bad = elpv()
        images: Made | list[np.ndarray] = held[:count]
        bad = bad[:count]
        said = ["elpv-dataset"]
    except ImportError as error:
        images = Made(count, size)
        bad = images.bad.astype(np.float32)
        said = [f"made images ({error})"]
    try:
        find_weights(DEFAULT_BACKBONE)
        pretrained = not options.short
    except ConfigurationError:
        pretrained = False
    said.append("the backbone's weights" if pretrained else "random weights")
    if importlib.util.find_spec("albumentations") is None:
        views.augmentation = plain_augmentation
        said.append("views by OpenCV: albumentations is not installed")
    brief = {"epochs": 2, "full_epochs": 1, "full_batch": 8, "context": 16} if options.short else {}
    settings = FitSettings(
        preset="full",
        input_size_px=(size, size),
        window=WINDOW,
        flips=("horizontal", "vertical"),
        pretrained=pretrained,
        **brief,
    )
    groups = [str(number // (4 if options.short else GROUP)) for number in range(count)]
    print(f"{count} images of {size} x {size}; {'; '.join(said)}\n")
    start = time.perf_counter()
    result = fit(images, bad[:, np.newaxis], groups, settings, say=print)
    whole = time.perf_counter() - start
    print("\n| stage | s |\n|---|--:|")
    for stage, seconds in result.seconds.items():
        print(f"| {stage} | {seconds:.1f} |")
    print(f"| **whole fit** | **{whole:.1f}** |")


if __name__ == "__main__":
    main()
