from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.errors import ConfigurationError
from inspection.recipe import Recipe
from tests.labelled_sets import PRODUCT, import_folders, write_folders, write_png
from training.data.facts import ImageFacts
from training.data.regions import DefectRegion
from training.data.rows import Row, file_sha256
from training.fit import FitSettings
from training.fitting.preview import COLUMNS, OUTLINE, pick_rows, windowed, write_preview
from training.manifest import Manifest

FITTING = FitSettings(input_size_px=(64, 64), window=(0.0, 255.0), flips=("horizontal",))


def recipe_of(manifest: Manifest) -> Recipe:
    bits = manifest.images.bits
    return Recipe(
        product=PRODUCT,
        modality="vision",
        bits=bits,
        channels=1,
        input_size_px=(64, 64),
        window=(0.0, float(2**bits - 1)),
        classes=manifest.classes,
    )


def read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(cv2.imread(str(path)), dtype=np.uint8)


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("plates")
    return import_folders(write_folders(folder / "line", lots=3, per_lot=5), folder / "datasets")


def test_full_shows_every_image_and_its_variations(plates: Manifest, tmp_path: Path) -> None:
    full = replace(FITTING, preset="full")
    made = write_preview(plates, recipe_of(plates), full, tmp_path / "a" / "p.png", count=3)
    sheet = read(made.path)
    tile = (sheet.shape[1] - 8) // COLUMNS
    tops = [sheet[10:180, 10 + i * tile : 180 + i * tile] for i in range(COLUMNS)]
    assert len({top.tobytes() for top in tops}) == COLUMNS - 1, "the first view is the image itself"
    assert len(made.lines) == 3
    assert "part" in made.lines[0]


def test_the_other_presets_show_images_as_they_are(plates: Manifest, tmp_path: Path) -> None:
    small = write_preview(plates, recipe_of(plates), FITTING, tmp_path / "p.png", count=6)
    full = replace(FITTING, preset="full")
    large = write_preview(plates, recipe_of(plates), full, tmp_path / "q.png", count=6)
    assert read(small.path).shape[0] * 5 < read(large.path).shape[0]


def test_the_same_seed_gives_the_same_sheet(plates: Manifest, tmp_path: Path) -> None:
    full = replace(FITTING, preset="full")
    one, same = (
        write_preview(plates, recipe_of(plates), full, tmp_path / name, count=2, seed=4)
        for name in ("a.png", "b.png")
    )
    assert one.path.read_bytes() == same.path.read_bytes()
    assert one.lines == same.lines


def test_good_parts_and_every_class_are_shown(plates: Manifest) -> None:
    labels = [plates.rows[number].label for number in pick_rows(plates, 4, seed=0)]
    assert sorted(labels) == ["good", "good", "scratch", "scratch"]
    everything = pick_rows(plates, 100, seed=0)
    assert sorted(everything) == list(range(len(plates.rows)))


def deep_set(folder: Path, top: int) -> Manifest:
    """Four 16-bit images, one with a region, with levels up to `top`."""
    levels = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
    rows = []
    for number in range(4):
        path = f"images/{number}.png"
        write_png(folder / path, np.roll(levels, number, axis=0))
        square = DefectRegion(defect="void", polygon=((10, 10), (40, 10), (40, 40), (10, 40)))
        rows.append(
            Row(
                path=path,
                sha256=file_sha256(folder / path),
                label="void" if number == 0 else "good",
                part=f"부품-{number}",
                group="g",
                regions=(square,) if number == 0 else (),
            )
        )
    return Manifest(
        name="deep",
        product=PRODUCT,
        rows=tuple(rows),
        classes=("void",),
        licence="CC0-1.0",
        origin="made for tests",
        modality="vision",
        images=ImageFacts(bits=16, channels=1, grey_range=(0, top), frame_size_px=(64, 64)),
        folder=folder,
    )


def test_sixteen_bits_keep_their_shades_and_regions_are_outlined(tmp_path: Path) -> None:
    manifest = deep_set(tmp_path, 65535)
    fitting = replace(FITTING, window=(0.0, 65535.0))
    made = write_preview(manifest, recipe_of(manifest), fitting, tmp_path / "p.png", count=4)
    sheet = read(made.path)
    assert len(np.unique(sheet[8:188, 200:380, 0])) > 200
    marked = (sheet == np.array(OUTLINE, dtype=np.uint8)).all(axis=2)
    columns = np.flatnonzero(marked.any(axis=0)) // 188
    assert len(set(columns.tolist())) == 1  # of four images, the one that has a region
    shown = next(line for line in made.lines if "regions outlined" in line)
    assert "부품-0" in shown


def test_a_window_that_is_far_too_wide_is_told(tmp_path: Path) -> None:
    manifest = deep_set(tmp_path, 3000)
    fitting = replace(FITTING, window=(0.0, 65535.0))
    made = write_preview(manifest, recipe_of(manifest), fitting, tmp_path / "p.png", count=4)
    assert "nearly flat" in made.lines[-1]
    narrow = replace(fitting, window=(0.0, 3000.0))
    made = write_preview(manifest, recipe_of(manifest), narrow, tmp_path / "p.png", count=4)
    assert "nearly flat" not in made.lines[-1]


def test_colour_is_shown_blue_first_for_the_file() -> None:
    red = np.zeros((3, 2, 2), np.float32)
    red[0] = 255
    assert windowed(red, (0.0, 255.0))[0, 0].tolist() == [0, 0, 255]


def test_a_place_that_cannot_be_written_to_is_named(plates: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"p\.png"):
        write_preview(plates, recipe_of(plates), FITTING, tmp_path / "file" / "p.png", count=1)
    with pytest.raises(ConfigurationError):
        write_preview(plates, recipe_of(plates), FITTING, tmp_path / "p.png", count=0)
