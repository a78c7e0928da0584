"""Mask images say where a defect is, or that there is one; contradictions are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection.errors import DataError
from tests.labelled_sets import plate, silent, stored, told, write_folders, write_png
from training.data.regions import region_masks
from training.importing import survey
from training.manifest import read_manifest, verify_images
from training.sources import Labelled
from training.sources.choose import Asked, kind_of, read_source
from training.sources.folders import read_folders
from training.sources.segmented import read_images_and_masks, read_test_layout

SIZE = (48, 48)


def write_mask(path: Path, *, marks: bool = True, size: tuple[int, int] = SIZE) -> None:
    mask = np.zeros(size, np.uint8)
    mask[10:14, 20:30] = 255 * marks
    write_png(path, mask)


def write_image(path: Path, seed: int, *, bad: bool = True) -> None:
    write_png(path, plate(np.random.default_rng(seed), scratched=bad))


def read(folder: Path) -> Labelled:
    return read_source(folder, Asked())


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Class folders; each crack has a mask, no void has."""
    folder = write_folders(tmp_path / "line", lots=3, per_lot=5, classes=("crack", "void"))
    for path in (folder / "crack").iterdir():
        write_mask(folder / "masks" / "crack" / f"{path.stem}_mask.png")
    return folder


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    """Good parts to train on, and a test set with its masks; numbers begin anew in each folder."""
    folder = tmp_path / "bottle"
    for number in range(3):
        write_image(folder / "train" / "good" / f"{number:03d}.png", number, bad=False)
        write_image(folder / "test" / "good" / f"{number:03d}.png", 10 + number, bad=False)
        write_image(folder / "test" / "crack" / f"{number:03d}.png", 20 + number)
        write_mask(folder / "ground_truth" / "crack" / f"{number:03d}_mask.png")
    return folder


@pytest.fixture
def segmented(tmp_path: Path) -> Path:
    """Images, and masks in folders of the classes; image 2 shows both."""
    folder = tmp_path / "line"
    for number in range(4):
        write_image(folder / "images" / f"{number}.png", number)
    write_mask(folder / "masks" / "crack" / "1.png")
    write_mask(folder / "masks" / "crack" / "2.png")
    write_mask(folder / "masks" / "void" / "2.png")
    write_mask(folder / "masks" / "void" / "3.png", marks=False)
    return folder


def test_masks_beside_class_folders_say_where(line: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in line.rglob("*.png")}
    place = tmp_path / "datasets" / "plates"
    assert kind_of(line) == "folders"
    labelled = read(line)
    assert labelled.classes == ("crack", "void")
    assert told(labelled, place)["regions"] == "3 of 6 bad images say where"
    assert stored(labelled, place)
    manifest = read_manifest(place, verify=True)
    for row in manifest.rows:
        masks = region_masks(manifest, row, SIZE)
        if row.label == "void":
            assert masks is None
            continue
        assert masks is not None
        assert masks.sum(axis=(1, 2)).tolist() == [40 * (row.label == "crack"), 0]
    assert {path: path.read_bytes() for path in line.rglob("*.png")} == before
    mask = next((place / "masks" / "crack").iterdir())
    write_mask(mask, size=(48, 47))
    with pytest.raises(DataError, match=r"1 images were altered.*: masks/crack/"):
        verify_images(manifest)
    mask.unlink()
    with pytest.raises(DataError, match="missing: masks/crack/"):
        read_manifest(place)


def test_masks_may_stay_where_they_are(line: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    assert stored(read(line), place, reference=True)
    manifest = read_manifest(place, verify=True)
    placed = [region.mask for row in manifest.rows for region in row.regions]
    assert all(mask is not None and mask.startswith("../../line/masks/crack/") for mask in placed)
    assert [path.name for path in place.iterdir()] == ["revisions"]


def test_a_mask_that_contradicts_its_image_is_refused(line: Path) -> None:
    def complaint() -> str:
        with pytest.raises(DataError) as caught:
            survey(read_folders(line), silent)
        return str(caught.value)

    victim = min((line / "masks" / "crack").iterdir())
    image = f"crack/{victim.stem.removesuffix('_mask')}.png"
    kept = victim.read_bytes()
    write_mask(victim, size=(40, 48))
    assert f"crack of {image}: its mask" in complaint()
    assert "is 48 x 40 pixels, the image 48 x 48" in complaint()
    write_mask(victim, marks=False)
    assert "marks nothing: all values are 0" in complaint()
    victim.write_bytes(kept[:60])
    assert f"crack of {image}: " in complaint()
    victim.write_bytes(kept)
    good = min((line / "good").iterdir())
    write_mask(line / "masks" / "crack" / good.name)
    assert f"marks a defect, but good/{good.name} is good" in complaint()
    write_mask(line / "masks" / "crack" / good.name, marks=False)
    survey(read_folders(line), silent)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("masks/crack/nobody.png", "1 masks belong to no image: .*nobody.png"),
        ("masks/loose.png", "lies in no class's folder"),
        ("masks/crack/{stem}.png", "two masks of one image and class"),
        ("masks/crack/{stem}.jpg", "a mask cannot be a JPEG"),
    ],
)
def test_masks_that_belong_nowhere_are_refused(line: Path, name: str, what: str) -> None:
    stem = min((line / "crack").iterdir()).stem
    write_mask(line / name.format(stem=stem))
    with pytest.raises(DataError, match=what):
        read_folders(line)


def test_a_test_set_with_ground_truth_is_understood(tested: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "bottle"
    assert kind_of(tested) == "masks"
    labelled = read(tested)
    assert labelled.classes == ("crack",)
    assert min(file.part for file in labelled.files) == "test/crack/000"
    assert stored(labelled, place)
    manifest = read_manifest(place, verify=True)
    assert manifest.counts() == {"images": 9, "parts": 9, "groups": 9, "bad_parts": 3}
    assert all(bool(row.regions) == row.bad for row in manifest.rows)
    write_mask(tested / "ground_truth" / "good" / "001.png")
    with pytest.raises(DataError, match=r"marks a defect, but test/good/001\.png is good"):
        survey(read_test_layout(tested), silent)
    write_mask(tested / "ground_truth" / "crack" / "009_mask.png")
    with pytest.raises(DataError, match="1 masks belong to no image"):
        read_test_layout(tested)


def test_images_are_what_their_masks_say(segmented: Path) -> None:
    labelled = read(segmented)
    assert kind_of(segmented) == "masks"
    labels = {file.part: file.label for file in labelled.files}
    assert labels == {"0": "good", "1": "crack", "2": "crack;void", "3": "good"}
    assert "good: images in which no mask marks anything" in labelled.notes
    survey(labelled, silent)


def test_masks_without_class_folders_must_be_there_for_every_image(tmp_path: Path) -> None:
    folder = tmp_path / "line"
    for number in range(3):
        write_image(folder / "images" / f"{number}.png", number)
        write_mask(folder / "masks" / f"{number}.png", marks=number == 1)
    labelled = read_images_and_masks(folder)
    assert [file.label for file in labelled.files] == ["good", "defect", "good"]
    (folder / "masks" / "2.png").unlink()
    with pytest.raises(DataError, match=r"1 images have no mask: 2\.png") as caught:
        read_images_and_masks(folder)
    assert "a mask of zeros" in caught.value.remedy
    (folder / "masks" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        read_images_and_masks(folder)


def test_a_class_whose_masks_are_all_empty_is_refused(segmented: Path) -> None:
    write_mask(segmented / "masks" / "stain" / "3.png", marks=False)
    with pytest.raises(DataError, match="no mask of stain marks anything"):
        read(segmented)
