"""A whole simulated set in a folder: images, labels, and the truth beside them.

    parts, in several processes -> images/, masks/ -> labels, truth, process values -> set.json last

    images/SERIAL-VIEW.tif          16-bit grey, as it leaves the detector: no flat-field
    masks/CLASS/SERIAL-VIEW.png     defects for which the part is refused; 255 is the defect
    masks/CLASS/SERIAL-VIEW-allowed.png   those that a reader would see, and that its zones allow
    labels.csv, labels.jsonl        for `inspection data import`; the second one names the masks
    truth.jsonl                     a line a part: every defect, accepted ones too, in every view
    process.csv                     what the machines measured, a line a value
    causes.json                     what was planted
    calibration/                    dark and open-beam frames of the same detector
    recipe.toml                     zones and what they let pass, drawn over reference.png
    set.json                        seed, tube, detector, digest: written last

A folder without set.json is one that was not finished.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import cv2
import numpy as np
import tifffile

from inspection.errors import DataError
from inspection.recipe import dump_recipe
from training.simulation.casting import VIEWS
from training.simulation.physics import Beam, Detector
from training.simulation.process import CYCLE_S, PRODUCT, truth
from training.simulation.recipe import casting_recipe
from training.simulation.scene import Scene, Shot, make_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_Job = TypeVar("_Job")

STATION: Final = "xray-1"
ANY_DEFECT: Final = "defect"
ROSE_CNR: Final = 3.0
"""Contrast to noise from which a reader sees what is there (Rose), and so would mark it."""

CALIBRATION_FRAMES: Final = 16
LABEL_COLUMNS: Final = ("path", "label", "part", "lot", "mould", "captured_at", "station", "view")
MOST_RATE: Final = 3.0
"""Defects of a class that may be asked for in every part: more no longer look like a casting."""
PROCESS_COLUMNS: Final = ("product", "serial", "machine", "name", "value", "unit", "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made.

    Attributes:
        parts: how many, counted from `first`: two sets of one seed with other numbers share no
            part.
        views: how many of VIEWS each part shows.
        one_class: call every defect `defect` in labels and masks; the truth keeps its class.
        least_rate: of each class at least so many defects are expected in a part. 0 makes parts as
            they are cast; more makes a set as it is collected to learn from.
    """

    parts: int
    seed: int = 0
    first: int = 0
    views: int = 1
    one_class: bool = False
    least_rate: float = 0.0
    beam: Beam = field(default_factory=Beam)
    detector: Detector = field(default_factory=Detector)

    def __post_init__(self) -> None:
        if self.parts < 1 or self.first < 0 or self.seed < 0:
            raise DataError("parts counts from 1, the first part and the seed from 0")
        if self.first + self.parts > 32**5:
            raise DataError("a serial numbers 33,554,432 parts at most")
        if not 0 <= self.least_rate <= MOST_RATE:
            raise DataError(f"the least rate lies between 0 and {MOST_RATE:g} defects a part")
        if not 1 <= self.views <= len(VIEWS):
            raise DataError(f"views lies between 1 and {len(VIEWS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a finished set holds. `digest` is over every image's, in order."""

    folder: Path
    images: int
    bad_parts: int
    defects: dict[str, int]
    digest: str


def write_set(
    order: Order,
    folder: Path,
    *,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make the set in a folder that is not there yet.

    The same order gives the same bytes on the same kind of machine, however many processes make
    it: every part has a random generator of its own.

    Raises:
        DataError: the folder is there, or cannot be written.
    """
    with whole_folder(folder, ("images", "masks", "calibration")) as part:
        made = _fill(order, part, processes, progress)
    return Made(folder=folder, **made)


@contextmanager
def whole_folder(folder: Path, inner: Iterable[str]) -> Iterator[Path]:
    """A place to fill that becomes `folder` when all went well, and leaves nothing when not.

    Raises:
        DataError: the folder is there, or cannot be written.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already", remedy="Name another folder, or remove it.")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name in inner:
            (part / name).mkdir(parents=True)
        yield part
        part.rename(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def in_processes(
    make: Callable[[_Job], dict[str, Any]],
    jobs: Sequence[_Job],
    processes: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    """What `make` gives for each job, in order; as many processes as there are cores if absent."""
    lines: list[dict[str, Any]] = []
    count = processes or os.cpu_count() or 1
    with ProcessPoolExecutor(count, get_context("spawn"), _start_worker) as pool:
        for done, line in enumerate(pool.map(make, jobs, chunksize=8), start=1):
            lines.append(line)
            if progress is not None:
                progress(done, len(jobs))
    return lines


def _fill(
    order: Order, folder: Path, processes: int | None, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    _write_calibration(order, folder / "calibration")
    numbers = range(order.first, order.first + order.parts)
    jobs = [(order, folder, number) for number in numbers]
    lines = in_processes(_write_part, jobs, processes, progress)
    _write_labels(folder, lines)
    _write_process(folder, lines)
    write_lines(folder / "truth.jsonl", (json.dumps(line["truth"]) for line in lines))
    (folder / "causes.json").write_text(json.dumps(truth(order.least_rate), indent=2) + "\n")
    images = [image for line in lines for image in line["images"]]
    defects: dict[str, int] = {}
    for line in lines:
        for name in line["label"]:
            defects[name] = defects.get(name, 0) + 1
    if defects:
        _write_recipe(order, folder, tuple(sorted(defects)))
    made = {
        "images": len(images),
        "bad_parts": sum(bool(line["label"]) for line in lines),
        "defects": dict(sorted(defects.items())),
        "digest": hashlib.sha256("".join(i["sha256"] for i in images).encode()).hexdigest(),
    }
    about = {"format": 1, "product": PRODUCT, "order": asdict(order), **made}
    (folder / "set.json").write_text(json.dumps(about, indent=2) + "\n")
    return made


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes are the threads


def _write_part(job: tuple[Order, Path, int]) -> dict[str, Any]:
    order, folder, number = job
    scene = make_scene(
        number,
        order.seed,
        beam=order.beam,
        detector=order.detector,
        views=VIEWS[: order.views],
        least_rate=order.least_rate,
    )
    images = [_write_shot(scene, shot, order, folder) for shot in scene.shots]
    origin = scene.origin
    taken = origin.cast_at + timedelta(minutes=25)
    return {
        "label": (ANY_DEFECT,) if scene.classes and order.one_class else scene.classes,
        "images": images,
        "origin": origin,
        "captured_at": taken.isoformat(),
        "truth": {
            "serial": origin.serial,
            "number": number,
            "lot": origin.lot,
            "machine": origin.machine,
            "mould": origin.mould,
            "cavity": origin.cavity,
            "shift": origin.shift,
            "cast_at": origin.cast_at.isoformat(),
            "process": {name: value for name, (value, _) in origin.process_values().items()},
            "label": list(scene.classes) or ["good"],
            "defects": [_defect_truth(scene, n) for n in range(len(scene.defects))],
        },
    }


def _write_shot(scene: Scene, shot: Shot, order: Order, folder: Path) -> dict[str, Any]:
    stem = f"{scene.origin.serial}-{shot.view.name}"
    path = folder / "images" / f"{stem}.tif"
    dots_cm = 10.0 / order.detector.pitch_mm
    tifffile.imwrite(
        path,
        shot.image,
        photometric="minisblack",
        metadata=None,
        software=False,
        resolution=(dots_cm, dots_cm),
        resolutionunit="CENTIMETER",
    )
    masks: dict[tuple[bool, str], NDArray[np.uint8]] = {}
    for seen in shot.seen:
        allowed = not scene.rejectable(seen.defect)
        if seen.mask.any() and (not allowed or seen.cnr >= ROSE_CNR):
            name = ANY_DEFECT if order.one_class else scene.defects[seen.defect].defect_class
            key = allowed, name
            mask = masks.setdefault(key, np.zeros(shot.image.shape, dtype=np.uint8))
            height, width = seen.mask.shape
            window = mask[seen.top : seen.top + height, seen.left : seen.left + width]
            window[seen.mask] = 255
    regions: list[dict[str, Any]] = [
        write_mask(folder, name, f"{stem}-allowed", mask) | {"allowed": True}
        if allowed
        else write_mask(folder, name, stem, mask)
        for (allowed, name), mask in sorted(masks.items(), key=lambda each: each[0])
    ]
    return {
        "path": f"images/{stem}.tif",
        "view": shot.view.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "regions": regions,
    }


def write_mask(folder: Path, defect: str, stem: str, mask: NDArray[np.uint8]) -> dict[str, str]:
    """Write a mask, and name it as a region of `data import`."""
    place = Path("masks") / defect / f"{stem}.png"
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    return {"defect": defect, "mask": place.as_posix()}


def _defect_truth(scene: Scene, number: int) -> dict[str, Any]:
    defect = scene.defects[number]
    return {
        "class": defect.defect_class,
        "size_mm": round(defect.size_mm, 4),
        "depth_mm": round(defect.depth_mm, 4),
        "at_mm": [round(value, 4) for value in defect.at_mm],
        "zone": scene.zones[number],
        "severity": defect.severity,
        "rejectable": scene.rejectable(number),
        "views": {
            shot.view.name: {
                "cnr": round(shot.seen[number].cnr, 4),
                "contrast": round(shot.seen[number].contrast, 6),
                "box_px": [
                    shot.seen[number].left,
                    shot.seen[number].top,
                    *reversed(shot.seen[number].mask.shape),
                ],
                "mask_px": int(shot.seen[number].mask.sum()),
                "length_mm": round(shot.seen[number].length_mm, 4),
            }
            for shot in scene.shots
        },
    }


def _write_labels(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    rows: list[dict[str, Any]] = []
    lines = list(lines)
    labelled = {name for line in lines for name in line["label"]}
    for line in lines:
        origin = line["origin"]
        for image in line["images"]:
            regions = [each for each in image["regions"] if each["defect"] in labelled]
            row = {
                "path": image["path"],
                "label": ";".join(line["label"]) or "good",
                "part": origin.serial,
                "lot": origin.lot,
                "mould": origin.mould,
                "captured_at": line["captured_at"],
                "station": STATION,
                "view": image["view"],
            }
            rows.append(row | {"regions": regions})
    write_labels(folder, rows, LABEL_COLUMNS)


def write_labels(folder: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """labels.csv without regions, labels.jsonl with them."""
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with_masks = (
        json.dumps({key: row[key] for key in (*columns, "regions") if row[key] or key in columns})
        for row in rows
    )
    write_lines(folder / "labels.jsonl", with_masks)


def _write_recipe(order: Order, folder: Path, classes: tuple[str, ...]) -> None:
    """The recipe for data sets with these classes, and its reference views."""
    recipe, files = casting_recipe(classes, order.views, beam=order.beam, detector=order.detector)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "recipe.toml").write_text(dump_recipe(recipe), encoding="utf-8")


def _write_process(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    with (folder / "process.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PROCESS_COLUMNS)
        for line in lines:
            origin = line["origin"]
            at = (origin.cast_at - timedelta(seconds=CYCLE_S)).isoformat()
            for name, (value, unit) in origin.process_values().items():
                writer.writerow([PRODUCT, origin.serial, "", name, value, unit, at])


def _write_calibration(order: Order, folder: Path) -> None:
    """Dark and open-beam frames: what a detector is calibrated with."""
    detector = order.detector
    rng = np.random.default_rng([order.seed, 2**32 - 1])
    dark = np.zeros(detector.size_px, dtype=np.float32)
    for kind, signal in (("dark", dark), ("open", dark + 1)):
        for number in range(CALIBRATION_FRAMES):
            frame = detector.expose(signal, order.beam.quanta, rng)
            name = f"{kind}-{number:02d}.tif"
            tifffile.imwrite(folder / name, frame, metadata=None, software=False)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
