"""A set of machined faces in a folder: 8-bit colour, labels, masks, truth.

images/FINISH-NUMBER.png   labels.csv   labels.jsonl   masks/   truth.jsonl   set.json (last)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from inspection.errors import DataError
from training.simulation.surfaces import FINISHES, SURFACE_CLASSES, Finish, make_surface
from training.simulation.writing import (
    Made,
    in_processes,
    whole_folder,
    write_labels,
    write_lines,
    write_mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOT_FACES: Final = 50
COLUMNS: Final = ("path", "label", "part", "lot")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceOrder:
    """What is to be made: `faces` of each finish, counted from `first`."""

    faces: int
    seed: int = 0
    first: int = 0
    size_px: int = 512
    finishes: tuple[Finish, ...] = FINISHES

    def __post_init__(self) -> None:
        if self.faces < 1 or self.first < 0 or self.seed < 0:
            raise DataError("faces counts from 1, the first face and the seed from 0")
        if not self.finishes or len(set(self.finishes)) != len(self.finishes):
            raise DataError("name at least one finish, each once")


def write_faces(
    order: FaceOrder,
    folder: Path,
    *,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make the set in a folder that is not there yet; the same order gives the same bytes.

    Raises:
        DataError: the folder is there, or cannot be written.
    """
    with whole_folder(folder, ("images", "masks")) as part:
        jobs = [
            (order, part, finish, number)
            for finish in order.finishes
            for number in range(order.first, order.first + order.faces)
        ]
        lines = in_processes(_write_face, jobs, processes, progress)
        write_labels(part, lines, COLUMNS)
        write_lines(part / "truth.jsonl", (json.dumps(line.pop("truth")) for line in lines))
        bad = [line for line in lines if line["label"] != "good"]
        made: dict[str, Any] = {
            "images": len(lines),
            "bad_parts": len(bad),
            "defects": {
                name: count
                for name in SURFACE_CLASSES
                if (count := sum(name in line["label"].split(";") for line in bad))
            },
            "digest": hashlib.sha256("".join(i["sha256"] for i in lines).encode()).hexdigest(),
        }
        about = {
            "format": 1,
            "seed": order.seed,
            "first": order.first,
            "faces": order.faces,
            "finishes": list(order.finishes),
            "size_px": order.size_px,
        }
        (part / "set.json").write_text(json.dumps({**about, **made}, indent=2) + "\n")
    return Made(folder=folder, **made)


def _write_face(job: tuple[FaceOrder, Path, Finish, int]) -> dict[str, Any]:
    order, folder, finish, number = job
    face = make_surface(number, order.seed, finish=finish, size_px=order.size_px)
    stem = f"{finish}-{number:05d}"
    encoded = cv2.imencode(".png", cv2.cvtColor(face.image, cv2.COLOR_RGB2BGR))[1].tobytes()
    (folder / "images" / f"{stem}.png").write_bytes(encoded)
    shown = {each.defect_class for each in face.defects}
    classes = [name for name in SURFACE_CLASSES if name in shown]
    regions = []
    for name in classes:
        mask = np.zeros(face.image.shape[:2], dtype=np.uint8)
        for each in face.defects:
            if each.defect_class == name:
                mask[each.mask] = 255
        if mask.any():
            regions.append(write_mask(folder, name, stem, mask))
    return {
        "path": f"images/{stem}.png",
        "label": ";".join(classes) or "good",
        "part": stem,
        "lot": f"{finish}-{number // LOT_FACES}",
        "regions": regions,
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "truth": {
            "part": stem,
            "finish": finish,
            "defects": [
                {
                    "class": each.defect_class,
                    "size_mm": round(each.size_mm, 4),
                    "mask_px": int(each.mask.sum()),
                }
                for each in face.defects
            ],
        },
    }
