"""How many processed copies of real images are told for one exposure, by kind of processing.

    python benchmarks/duplicates/recall.py            # 200 cells of elpv-dataset
    python benchmarks/duplicates/recall.py --short    # 20

The limits of `training.dividing.same_exposure` were settled before this was run, on other cells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.frame import decode_image  # noqa: E402
from training.dividing.same_exposure import likeness, working_grey  # noqa: E402
from training.sources.elpv import read_elpv  # noqa: E402

Pixels = NDArray[np.uint8]
SEED = 20261122


def processings(generator: np.random.Generator) -> dict[str, Callable[[Pixels], Pixels]]:
    """What becomes of an image on its way through mails, viewers and hands."""

    def jpeg(quality: int) -> Callable[[Pixels], Pixels]:
        def through(image: Pixels) -> Pixels:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)

        return through

    def sized(factor: float) -> Callable[[Pixels], Pixels]:
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return lambda image: np.asarray(
            cv2.resize(image, None, fx=factor, fy=factor, interpolation=method), dtype=np.uint8
        )

    def clipped(image: NDArray[np.float64]) -> Pixels:
        return np.clip(image, 0, 255).astype(np.uint8)

    def moved(image: Pixels) -> Pixels:
        matrix = np.array([[1, 0, 2], [0, 1, 1]], dtype=np.float32)
        size = (image.shape[1], image.shape[0])
        border = cv2.BORDER_REPLICATE
        return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=border), dtype=np.uint8)

    return {
        "JPEG 95": jpeg(95),
        "JPEG 90": jpeg(90),
        "JPEG 75": jpeg(75),
        "half the size": sized(0.5),
        "1.5 times the size": sized(1.5),
        "noise of 1 grey level": lambda i: clipped(i + generator.normal(0, 1, i.shape)),
        "noise of 3 grey levels": lambda i: clipped(i + generator.normal(0, 3, i.shape)),
        "moved by (2, 1) px": moved,
        "a tenth brighter": lambda i: clipped(i * 1.1),
        "gamma 0.8": lambda i: clipped(255 * (i / 255.0) ** 0.8),
        "blurred, sigma 0.8": lambda i: np.asarray(
            cv2.GaussianBlur(i, (0, 0), 0.8), dtype=np.uint8
        ),
    }


def main() -> None:
    """Print a line for each processing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="20 images")
    count = 20 if parser.parse_args().short else 200
    generator = np.random.default_rng(SEED)
    files = read_elpv().files
    chosen = generator.choice(len(files), count, replace=False)
    images = [decode_image(files[i].file.read_bytes()).pixels.astype(np.uint8) for i in chosen]
    for name, process in processings(generator).items():
        told = sum(
            likeness(working_grey(i), working_grey(process(i))).same_exposure for i in images
        )
        print(f"{name:<24} {told} of {count}", flush=True)


if __name__ == "__main__":
    main()
