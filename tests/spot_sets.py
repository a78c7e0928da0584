"""Labelled sets of the spot model's images: what it says of each kind is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.labelled_sets import bare_manifest, write_png
from tests.spot_model import part_image
from training.data.facts import ImageFacts
from training.data.rows import Row, file_sha256
from training.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FACTS = ImageFacts(bits=8, channels=1, grey_range=(0, 255), frame_size_px=(128, 128))


def spot_set(folder: Path, kinds: Sequence[str], *, per_group: int = 4) -> Manifest:
    """One part an image: "good" passes, "bad" fails, "unsure" (bad) and "novel" (good) go to
    review."""
    rows = []
    for number, kind in enumerate(kinds):
        path = folder / "images" / f"{number:03d}.png"
        write_png(path, part_image(kind, seed=number))
        rows.append(
            Row(
                path=f"images/{path.name}",
                sha256=file_sha256(path),
                label="good" if kind in ("good", "novel") else "spot",
                part=f"{kind}-{number:03d}",
                group=f"lot-{number // per_group}",
            )
        )
    return replace(bare_manifest(rows, ["spot"]), folder=folder, images=FACTS)
