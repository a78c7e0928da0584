"""The spot model with a reference view and two zones: what is said of each kind is known.

The part is a dark, patterned face of 12.8 mm. A bright spot of 1.5 mm makes the network fail it
(`tests/spot_model.py`); the left half allows 2.4 mm, the right half 0.8 mm.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.package import write_package
from inspection.zones.reference import Reference
from inspection.zones.shapes import Rule, Zone
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from inspection.recipe import Recipe

SIDE_PX = 128
PITCH_MM = 0.1
CENTRES = {"allowed": (40, 56), "broken": (88, 56)}
"""(x, y) of the spot of each kind, in the middle of a cell of the network's map."""


@cache
def face() -> NDArray[np.float32]:
    """The part without spots: smooth dark blotches, no two alike."""
    blotches = np.random.default_rng(7).normal(0, 1, (SIDE_PX, SIDE_PX)).astype(np.float32)
    smooth = cv2.GaussianBlur(blotches, (0, 0), 5)
    return np.asarray(51 + 14 * smooth / smooth.std(), dtype=np.float32)


def zoned_image(kind: str, *, seed: int = 0) -> NDArray[np.uint8]:
    """(128, 128) uint8: "good", "allowed", "broken", or "shifted" by 2 mm."""
    image = face() + np.random.default_rng(seed).normal(0, 1, face().shape)
    if kind in CENTRES:
        cv2.circle(image, CENTRES[kind], 7, 255.0, -1)
    if kind == "shifted":
        image = np.roll(image, 20, axis=1)
    return np.asarray(np.clip(image, 5, 255).astype(np.uint8))


def zoned_png(kind: str, *, seed: int = 0) -> bytes:
    """The same as a PNG file."""
    done, data = cv2.imencode(".png", zoned_image(kind, seed=seed))
    assert done
    return bytes(data)


def zoned_recipe(recipe: Recipe) -> Recipe:
    """The spot model's recipe with a reference view and two zones."""
    half = SIDE_PX * PITCH_MM / 2
    left = ((-half, -half), (0.0, -half), (0.0, half), (-half, half))
    right = ((0.0, -half), (half, -half), (half, half), (0.0, half))
    reference = Reference(
        file="reference.png",
        sha256=hashlib.sha256(zoned_png("good", seed=99)).hexdigest(),
        max_shift_mm=1.0,
        least_tile_agreement=-1.0,  # a spot as large as a tile is no other part
    )
    return replace(
        recipe,
        frame_size_px=(SIDE_PX, SIDE_PX),
        pitch_mm=PITCH_MM,
        references=(reference,),
        zones=(
            Zone(name="오른쪽", polygon=right, rules=(Rule(largest_mm=0.8),)),
            Zone(name="left", polygon=left, rules=(Rule(largest_mm=2.4),)),
        ),
    )


def write_zoned_package(root: Path) -> ModelPackage:
    """The package `zoned@1` under `root`, of format 3; not promoted."""
    plain = write_spot_package(root / "plain", model="zoned")
    kept = ("model.onnx", "model.safetensors", "report.json")
    files: dict[str, bytes | Path] = {name: plain.folder / name for name in kept}
    files["reference.png"] = zoned_png("good", seed=99)
    return write_package(root, plain.document, zoned_recipe(plain.recipe), files)
