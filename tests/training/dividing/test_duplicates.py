"""Copies of an exposure are found however they were processed; look-alikes are left alone."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, write_png
from training.data.rows import Row, file_sha256
from training.dividing.duplicates import (
    Pair,
    find_likenesses,
    near_duplicates,
    perceptual_hash,
    perceptual_hashes,
)
from training.dividing.same_exposure import likeness, working_grey
from training.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Grey8 = NDArray[np.uint8]

SIDE = 200


def casting(generator: np.random.Generator, *, moved: float = 0.6) -> NDArray[np.float64]:
    """A radiograph in grey levels 0..255: one mould, a little moved, with quantum noise."""
    dx, dy = generator.uniform(-moved, moved, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    rows, columns = rows + dy, columns + dx
    grey = 120 + 40 * np.sin(rows / 31) * np.cos(columns / 23)
    grey += 50 / (1 + np.exp((np.hypot(rows - 100, columns - 90) - 45) / 2))  # a boss
    grey -= 35 / (1 + np.exp((abs(rows - 40) - 9) / 1.5))  # a rib
    return np.asarray(grey + generator.normal(0, 3, grey.shape))


def eight(grey: NDArray[np.floating] | NDArray[np.integer]) -> Grey8:
    return np.asarray(np.rint(grey).clip(0, 255), dtype=np.uint8)


def jpeg(pixels: Grey8, quality: int) -> Grey8:
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def resized(pixels: Grey8, factor: float) -> Grey8:
    size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.uint8)


def shifted(pixels: Grey8, right: float, down: float) -> Grey8:
    matrix = np.array([[1, 0, right], [0, 1, down]], dtype=np.float32)
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


PROCESSING: dict[str, Callable[[Grey8], Grey8]] = {
    "jpeg 90": lambda a: jpeg(a, 90),
    "jpeg 75": lambda a: jpeg(a, 75),
    "half": lambda a: resized(a, 0.5),
    "larger": lambda a: resized(a, 1.5),
    "brighter": lambda a: eight(a * 1.1 + 6),
    "darker": lambda a: eight(a * 0.8),
    "gamma": lambda a: eight(255 * (a / 255) ** 0.8),
    "noisier": lambda a: eight(a + np.random.default_rng(4).normal(0, 3, a.shape)),
    "moved 1 px": lambda a: shifted(a, 1, 0),
    "moved 2 px": lambda a: shifted(a, -2, 1),
    "blurred": lambda a: np.asarray(cv2.GaussianBlur(a, (0, 0), 0.8), dtype=np.uint8),
    "moved, brighter, jpeg": lambda a: jpeg(eight(shifted(a, 1, 1) * 1.1 + 4), 85),
}


def make_set(folder: Path, images: dict[str, NDArray[np.uint8] | NDArray[np.uint16]]) -> Manifest:
    rows = []
    (folder / "revisions" / "1").mkdir(parents=True)
    for number, (name, pixels) in enumerate(images.items()):
        path = f"images/{name}.png"
        write_png(folder / path, pixels)
        label = "scratch" if number % 3 == 1 else "good"
        digest = file_sha256(folder / path)
        rows.append(Row(path=path, sha256=digest, label=label, part=name, group=name))
    bare = bare_manifest(rows)
    return Manifest(
        name=bare.name,
        product=bare.product,
        rows=bare.rows,
        classes=bare.classes,
        licence=bare.licence,
        origin=bare.origin,
        modality=bare.modality,
        images=bare.images,
        folder=folder,
    )


def named(manifest: Manifest, pairs: tuple[Pair, ...]) -> set[tuple[str, ...]]:
    rows = manifest.rows
    return {tuple(sorted((rows[p.first].part, rows[p.second].part))) for p in pairs}


@pytest.mark.parametrize("how", PROCESSING)
def test_a_processed_copy_is_found_among_castings_of_one_mould(how: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    images = {f"part{i:02d}": eight(casting(generator)) for i in range(14)}
    images["copy"] = PROCESSING[how](images["part03"])
    manifest = make_set(tmp_path, dict(images))
    assert named(manifest, near_duplicates(manifest)) == {("copy", "part03")}


def test_castings_of_one_mould_are_no_duplicates() -> None:
    generator = np.random.default_rng(8)
    exposures = [working_grey(eight(casting(generator))) for _ in range(8)]
    for one, other in combinations(exposures, 2):
        found = likeness(one, other)
        assert not found.same_exposure
        assert found.shared < 0.2


def test_things_of_one_texture_that_differ_in_a_detail_are_no_duplicates() -> None:
    """Like cells sawn one after the other from one ingot: the same crystals, another spot."""
    generator = np.random.default_rng(9)
    crystals = cv2.GaussianBlur(generator.normal(0, 40, (SIDE, SIDE)), (0, 0), 1.5) * 4
    slow = cv2.GaussianBlur(generator.normal(0, 40, (2, SIDE, SIDE)).transpose(1, 2, 0), (0, 0), 3)
    one, other = (
        working_grey(
            eight(130 + crystals + 2 * slow[..., i] + generator.normal(0, 2, slow.shape[:2]))
        )
        for i in range(2)
    )
    assert not likeness(one, other).same_exposure


def test_sixteen_bits_are_compared_in_full(tmp_path: Path) -> None:
    """The castings below differ only in bits that a conversion to 8 would lose."""
    generator = np.random.default_rng(10)

    def sixteen(grey: NDArray[np.float64]) -> NDArray[np.uint16]:
        return np.asarray(30000 + grey * 3, dtype=np.uint16)

    grey = [casting(generator) for _ in range(12)]
    images: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {
        f"part{i:02d}": sixteen(each) for i, each in enumerate(grey)
    }
    images["copy"] = np.asarray(images["part05"] * 1.02 + 100, dtype=np.uint16)
    manifest = make_set(tmp_path, images)
    assert named(manifest, near_duplicates(manifest)) == {("copy", "part05")}


def test_equal_files_are_exact_and_each_is_paired_with_the_first(tmp_path: Path) -> None:
    generator = np.random.default_rng(12)
    images = {name: eight(casting(generator)) for name in "abcd"}
    images["b"] = images["c"] = images["a"]
    manifest = make_set(tmp_path, dict(images))
    pairs = near_duplicates(manifest)
    assert [(pair.kind, pair.distance) for pair in pairs] == [("exact", 0), ("exact", 0)]
    assert named(manifest, pairs) == {("a", "b"), ("a", "c")}


def test_the_hash_hardly_changes_with_processing_and_much_with_the_scene() -> None:
    generator = np.random.default_rng(13)
    scenes = [cv2.GaussianBlur(generator.normal(0, 1, (SIDE, SIDE)), (0, 0), 4) for _ in range(4)]
    grey = [eight(np.asarray(128 + 400 * scene, dtype=np.float64)) for scene in scenes]
    hashes = [perceptual_hash(each) for each in grey]
    assert all(0 <= value < 2**256 for value in hashes)
    for one, other in combinations(hashes, 2):
        assert (one ^ other).bit_count() > 80
    for name, process in PROCESSING.items():
        if "moved" not in name:
            assert (perceptual_hash(process(grey[0])) ^ hashes[0]).bit_count() < 16, name
    wide = np.asarray(grey[0], dtype=np.uint16) * 200 + 7000
    assert (perceptual_hash(wide) ^ hashes[0]).bit_count() < 4
    assert perceptual_hash(np.repeat(grey[0][..., np.newaxis], 3, axis=2)) == hashes[0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 40), (5, 7, 3)])
def test_tiny_and_blank_images_have_a_hash_and_no_duplicates(shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 90, dtype=np.uint8)
    assert 0 <= perceptual_hash(pixels) < 2**256
    assert not likeness(working_grey(pixels), working_grey(pixels)).same_exposure


def test_the_answer_is_kept_beside_the_revision_and_made_again_when_spoilt(tmp_path: Path) -> None:
    generator = np.random.default_rng(14)
    images = {f"part{i}": eight(casting(generator)) for i in range(4)}
    images["copy"] = jpeg(images["part1"], 90)
    manifest = make_set(tmp_path, dict(images))
    stages: list[str] = []

    def told(stage: str, _done: int, _total: int) -> None:
        stages.append(stage)

    first = find_likenesses(manifest, told)
    assert set(stages) == {"duplicates", "compare look-alikes"}
    (kept,) = tmp_path.glob("**/duplicates-*.json")
    stages.clear()
    assert find_likenesses(manifest, told) == first
    assert stages == []
    kept.write_text(kept.read_text().replace(manifest.digest, "0" * 64))
    assert find_likenesses(manifest, told) == first
    kept.write_text("{")
    assert find_likenesses(manifest, told) == first
    assert perceptual_hashes(manifest) == first.hashes


def test_an_unreadable_image_is_named_and_never_kept(tmp_path: Path) -> None:
    generator = np.random.default_rng(15)
    manifest = make_set(tmp_path, {f"part{i}": eight(casting(generator)) for i in range(4)})
    (tmp_path / "images/part2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"images/part2\.png"):
        near_duplicates(manifest)
    assert find_likenesses(manifest).hashes.count(None) == 1
    assert not list(tmp_path.glob("**/duplicates-*.json"))


def test_a_pair_is_of_two_rows_in_order() -> None:
    with pytest.raises(DataError):
        Pair(first=3, second=3, kind="near", distance=0)
    with pytest.raises(DataError):
        Pair(first=1, second=2, kind="exact", distance=4)
