"""The figures of docs/decisions/0020-detector.md: cost of flat-fielding, and methods of background.

    python benchmarks/detector/figures.py [--parts 4] [--size 2048]
    python benchmarks/detector/figures.py --short

Cost is processor time of one thread, best of 15. For the background, spots of 3 % are planted on
simulated castings, every 48 pixels where there is metal; the figure is the median response of a box
of 0.7 diameters to the spot, over the 99th percentile of the same box without spots.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tifffile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from inspection.detector.background import Background, remove_background  # noqa: E402
from inspection.detector.calibrating import calibrate, sum_up  # noqa: E402
from inspection.frame import Frame, decode_image  # noqa: E402
from training.simulation.physics import Beam, Detector  # noqa: E402
from training.simulation.scene import make_scene  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inspection.detector.calibration import Calibration

    Map = NDArray[np.float32]

CONTRAST = 0.03
STEP_PX = 48


def calibrated(panel: Detector, seed: int) -> Calibration:
    """A calibration of 16 dark and 16 open frames of a simulated panel."""
    rng = np.random.default_rng(seed)

    def frames(signal: float) -> list[tuple[str, Frame]]:
        even = np.full(panel.size_px, signal, np.float32)
        images = (panel.expose(even, Beam().quanta, rng) for _ in range(16))
        return [
            (str(n), Frame(pixels=image, sha256="0" * 64, media_type="image/tiff"))
            for n, image in enumerate(images)
        ]

    dark = sum_up(frames(0), kind="dark")
    beam = sum_up(frames(1), kind="open", offset=dark.mean)
    made_at = "2026-11-22T00:00:00Z"
    return calibrate(dark, beam, station="x", made_at=made_at, max_age_s=1e6)


def best_ms(run: Callable[[], object], rounds: int = 15) -> float:
    """Least processor time of some rounds, in milliseconds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return 1000 * min(spent)


def cost(size: int) -> None:
    """Flat field, float32 and background beside decoding."""
    panel = Detector(size_px=(size, size))
    made = calibrated(panel, 1)
    found = set(np.flatnonzero(made.flat.bad).tolist())
    expected = 1 / panel.noise_of(1.0, Beam().quanta)
    print(f"bad pixels found exactly: {found == set(panel.bad_pixels.tolist())} ({len(found)})")
    print(f"signal to noise {made.facts.snr:.1f}, by formula {expected:.1f}")
    image = panel.expose(np.full(panel.size_px, 0.4, np.float32), 60_000, np.random.default_rng(2))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, metadata=None)
    data = buffer.getvalue()
    frame = decode_image(data)
    levels = made.flat.correct(frame)
    for name, run in {
        "decode raw TIFF": lambda: decode_image(data),
        "to float32": lambda: frame.pixels.astype(np.float32),
        "flat field": lambda: made.flat.correct(frame),
        "background": lambda: remove_background(levels, Background(), scale=(1, 1)),
    }.items():
        print(f"{name:<16}{best_ms(run):8.1f} ms")


def methods() -> dict[str, Callable[[Map], Map]]:
    """Ways to take the background away, by name."""

    def gaussian(pixels: Map) -> Map:
        levels = np.log(np.maximum(pixels, 1))
        return np.asarray(levels - cv2.GaussianBlur(levels, (0, 0), 6), dtype=np.float32)

    def median(pixels: Map) -> Map:
        levels = np.log(np.maximum(pixels, 1))
        height, width = levels.shape
        small = cv2.resize(levels, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        wide = cv2.resize(cv2.medianBlur(small, 5), (width, height))
        return np.asarray(levels - wide, dtype=np.float32)

    def guided(size_px: int, contrast: float) -> Callable[[Map], Map]:
        how = Background(size_px=size_px, contrast=contrast)
        return lambda pixels: remove_background(pixels, how, scale=(1, 1))

    found: dict[str, Callable[[Map], Map]] = {
        "logarithm": lambda pixels: np.log(np.maximum(pixels, 1)),
        "Gaussian 6": gaussian,
        "median 20": median,
    }
    for size, contrast in ((9, 0.02), (13, 0.02), (13, 0.04), (25, 0.02), (65, 0.02)):
        found[f"guided {size} {contrast}"] = guided(size, contrast)
    return found


def background(parts: int, diameter: int) -> None:
    """Response to planted spots over the clutter of the castings themselves."""
    panel, beam = Detector(), Beam()
    flat = calibrated(panel, 1).flat
    down, across = np.mgrid[-8:9, -8:9]
    spot = np.sqrt(np.clip(1 - (np.hypot(down, across) / (diameter / 2)) ** 2, 0, None))
    side = max(3, round(0.7 * diameter) | 1)
    ratios: dict[str, list[float]] = {name: [] for name in methods()}
    for number in range(parts):
        scene = make_scene(1000 + number, 3, beam=beam, detector=panel)
        plain = flat.corrected(scene.shots[0].image)
        with_spots, places = plain.copy(), []
        for row in range(30, plain.shape[0] - 30, STEP_PX):
            for column in range(30, plain.shape[1] - 30, STEP_PX):
                if plain[row - 12 : row + 12, column - 12 : column + 12].mean() < 40_000:
                    with_spots[row - 8 : row + 9, column - 8 : column + 9] *= 1 + CONTRAST * spot
                    places.append((row, column))
        rows, columns = np.array(places).T
        metal = cv2.dilate((plain < 45_000).astype(np.uint8), np.ones((9, 9))) > 0
        for name, remove in methods().items():
            before, after = (cv2.blur(remove(each), (side, side)) for each in (plain, with_spots))
            clutter = np.abs(before[metal] - np.median(before[metal]))
            response = np.median((after - before)[rows, columns])
            ratios[name].append(float(response / np.percentile(clutter, 99)))
    for name, values in ratios.items():
        print(f"{diameter} px  {name:<16}{np.mean(values):6.2f}")


def main() -> None:
    """Read the options and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--short", action="store_true", help="one casting, a small panel")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    cost(256 if asked.short else asked.size)
    for diameter in (4, 8):
        background(1 if asked.short else asked.parts, diameter)


if __name__ == "__main__":
    main()
