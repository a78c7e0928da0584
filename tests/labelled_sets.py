"""Labelled sets for tests: grey plates on disk, some with a dark scratch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from training.data.facts import ImageFacts
from training.data.rows import Row
from training.importing import Import, describe, plan, survey, write_set
from training.manifest import Manifest
from training.sources.folders import read_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.sources import Labelled

SIZE = 48
PRODUCT = "KN-42"
GROUP_PATTERN = r"(lot\d+)"


def plate(generator: np.random.Generator, *, scratched: bool) -> NDArray[np.uint8]:
    """A woven grey plate of 48 x 48 pixels, with or without a scratch."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    grey = 130 + 12 * np.sin(rows / 3 + generator.uniform(0, 6)) * np.cos(columns / 4)
    grey = grey + generator.normal(0, 5, grey.shape)
    if scratched:
        slope, start = generator.uniform(-0.4, 0.4), generator.uniform(12, 36)
        grey[abs(rows - start - slope * (columns - SIZE / 2)) < 2] -= 75
    return np.asarray(grey.clip(0, 255), dtype=np.uint8)


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """An image file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_folders(
    folder: Path, *, lots: int = 8, per_lot: int = 10, classes: Sequence[str] = ("scratch",)
) -> Path:
    """Class folders: in each lot four parts in ten are bad, of the classes in turn."""
    generator = np.random.default_rng(5)
    turn = 0
    for lot in range(lots):
        for part in range(per_lot):
            bad = part % 5 in (1, 3)
            label = classes[turn % len(classes)] if bad else "good"
            turn += bad
            name = f"lot{lot:02d}-{part:02d}.png"
            write_png(folder / label / name, plate(generator, scratched=bad))
    return folder


def silent(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def planned(labelled: Labelled, place: Path, *, reference: bool = False) -> Import:
    """What importing the source into `place` would write."""
    return plan(
        labelled,
        survey(labelled, silent),
        name=place.name,
        product=PRODUCT,
        modality="vision",
        flips=(),
        licence="CC0-1.0",
        origin="made for tests",
        place=place,
        reference=reference,
    )


def stored(labelled: Labelled, place: Path, *, reference: bool = False) -> bool:
    """Import the source into `place`; whether anything was written."""
    return write_set(planned(labelled, place, reference=reference), silent) is not None


def told(labelled: Labelled, place: Path) -> dict[str, str]:
    """What an import would say, by its headings."""
    return dict(describe(labelled, survey(labelled, silent), planned(labelled, place)))


def import_folders(source: Path, datasets: Path, name: str = "plates") -> Manifest:
    """The class folders as a data set, grouped by lot."""

    labelled = read_folders(source, group_from=GROUP_PATTERN)
    surveyed = survey(labelled, silent)
    planned = plan(
        labelled,
        surveyed,
        name=name,
        product=PRODUCT,
        modality="vision",
        flips=("horizontal", "vertical"),
        licence="CC0-1.0",
        origin="made for tests",
        place=datasets / name,
        reference=False,
    )
    return write_set(planned, silent) or planned.manifest


def bare_manifest(rows: Sequence[Row], classes: Sequence[str] = ("scratch",)) -> Manifest:
    """A manifest without files, for what only needs the rows."""
    return Manifest(
        name="plates",
        product=PRODUCT,
        rows=tuple(rows),
        classes=tuple(classes),
        licence="CC0-1.0",
        origin="made for tests",
        modality="vision",
        images=ImageFacts(bits=8, channels=1, grey_range=(0, 255), frame_size_px=(SIZE, SIZE)),
        folder=Path("nowhere"),
    )


def bare_rows(counts: Sequence[tuple[int, int]]) -> list[Row]:
    """Rows of (good, bad) parts for each group, one image a part."""
    rows: list[Row] = []
    for group, (good, bad) in enumerate(counts):
        for number in range(good + bad):
            part = f"g{group:03d}-{number:03d}"
            rows.append(
                Row(
                    path=f"images/{part}.png",
                    sha256=f"{len(rows):064x}",
                    label="scratch" if number >= good else "good",
                    part=part,
                    group=f"g{group:03d}",
                )
            )
    return rows
