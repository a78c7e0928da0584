"""A labelled set of detector files is imported as it is: DICOM, and TIFF in tiles, 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tifffile

from inspection.frame import decode_image
from tests.dicom_files import dicom
from tests.labelled_sets import stored
from training.manifest import read_manifest
from training.sources.folders import read_folders

if TYPE_CHECKING:
    from pathlib import Path


def test_dicom_and_tiled_tiff_are_imported_with_every_bit(tmp_path: Path) -> None:
    line, random = tmp_path / "line", np.random.default_rng(4)
    pixels = {}
    for number in range(12):
        folder = line / ("good" if number % 2 else "pore")
        folder.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 65536, (64, 64), np.uint16)
        if number % 3:
            path = folder / f"lot{number // 4}-{number:02d}.dcm"
            path.write_bytes(dicom(image, syntax="rle"))
        else:
            path = folder / f"lot{number // 4}-{number:02d}.tif"
            tifffile.imwrite(path, image, tile=(32, 32), compression="lzw")
        pixels[path.name] = image
    place = tmp_path / "datasets" / "castings"
    assert stored(read_folders(line), place)
    manifest = read_manifest(place, verify=True)
    assert (manifest.images.frame_size_px, manifest.images.bits) == ((64, 64), 16)
    found = [decode_image(manifest.file(row).read_bytes()) for row in manifest.rows]
    assert {frame.media_type for frame in found} == {"application/dicom", "image/tiff"}
    left = {image.tobytes() for image in pixels.values()}
    assert {frame.pixels.tobytes() for frame in found} == left
