"""Pictures of simulated castings and surfaces for docs/simulator.md.

    python benchmarks/castings/pictures.py [--folder docs/pictures]

Radiographs are shown as a reader sees them: the logarithm, from its half to its 99.5th percentile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from training.simulation.casting import VIEWS, Pose, as_cast, knuckle, roughen, thickness  # noqa: E402
from training.simulation.defects import CLASSES, grow, missing_mm  # noqa: E402
from training.simulation.physics import Beam, Detector  # noqa: E402
from training.simulation.scene import make_scene  # noqa: E402
from training.simulation.surfaces import FINISHES  # noqa: E402
from training.simulation.writing_faces import FaceOrder, write_faces  # noqa: E402

SEED = 3
SIZES_MM = {
    "gas-porosity": 1.6,
    "shrinkage-cavity": 3.0,
    "shrinkage-sponge": 5.0,
    "inclusion-less-dense": 2.0,
    "inclusion-more-dense": 1.2,
    "crack": 7.0,
    "cold-shut": 9.0,
}
PATCH_PX, PATCH_SHOWN_PX = 96, 168


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE.parent.parent / "docs" / "pictures")
    parser.add_argument("--short", action="store_true", help="into a folder that goes again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.short else options.folder
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "casting-views.png", views())
        save(folder / "casting-defects.png", defects())
        save(folder / "surfaces.png", surfaces(folder))


def views() -> np.ndarray:
    """One part from the front and from the left."""
    scene = make_scene(7, SEED, beam=Beam(), detector=Detector(bad_share=0.0), views=VIEWS)
    return np.hstack([small(as_read(shot.image), 320) for shot in scene.shots])


def defects() -> np.ndarray:
    """A patch of the same plate for each class of defect, 9.6 mm wide."""
    beam, detector = Beam(), Detector(bad_share=0.0)
    rng = np.random.default_rng(SEED)
    features = as_cast(knuckle(), rng)
    pose = Pose()
    whole = roughen(thickness(features, pose, detector.size_px, detector.pitch_mm), 0.1, rng)
    patches = []
    for name in CLASSES:
        at = (-18.5, 6.0, 0.0)
        grown = grow(name, at, np.random.default_rng(SEED + 1), size_mm=SIZES_MM[name])
        holed = whole.copy()
        shadow, rows, columns = missing_mm(grown, pose, detector.size_px, detector.pitch_mm)
        holed[rows, columns] -= shadow
        signal = beam.signal(np.maximum(holed, 0), detector.pitch_mm)
        image = replace(detector, gain_spread=0.0).expose(signal, beam.quanta, rng)
        row, column = (round(value / 0.1 + 511.5) for value in (at[1], at[0]))
        half = PATCH_PX // 2
        cut = image[row - half : row + half, column - half : column + half]
        shown = cv2.resize(as_read(cut, (25, 80)), (PATCH_SHOWN_PX, PATCH_SHOWN_PX))
        cv2.putText(shown, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA)
        patches.append(shown)
    patches.append(np.full_like(patches[0], 255))
    return np.vstack([np.hstack(patches[:4]), np.hstack(patches[4:])])


def surfaces(folder: Path) -> np.ndarray:
    """A face of each finish, under raking light, with what is wrong with it."""
    place = folder / "faces"
    order = FaceOrder(faces=6, seed=SEED, first=0, size_px=512, finishes=FINISHES)
    write_faces(order, place, processes=1)
    shown = []
    for finish in FINISHES:
        masks = sorted((place / "masks").glob(f"*/*{finish}*.png"))
        images = sorted((place / "images").glob(f"*{finish}*"))
        stem = masks[0].stem if masks else images[0].stem
        image = next(path for path in images if path.stem == stem)
        shown.append(small(cv2.imread(str(image)), 200))
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    return np.hstack(shown)


def as_read(image: np.ndarray, within: tuple[float, float] = (0.5, 99.5)) -> np.ndarray:
    """8 bits of the logarithm, windowed."""
    log = np.log(np.maximum(image.astype(np.float32) - 1500, 50))
    low, high = np.percentile(log, within)
    return np.asarray(np.clip((log - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def small(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def save(path: Path, picture: np.ndarray) -> None:
    coarse = (picture & 0xFC) | 2  # 64 grey levels: noise does not compress
    cv2.imwrite(str(path), coarse, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
