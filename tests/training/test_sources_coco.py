"""COCO: boxes, polygons and run lengths become regions; what points nowhere is named."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import planned, silent, stored, write_png
from training.data.regions import region_masks
from training.importing import survey
from training.manifest import Manifest, read_manifest
from training.sources.coco import decode_run_lengths, read_coco

SIZE = (20, 24)


def document() -> dict[str, Any]:
    images = [
        {"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1], "lot": 7 + n}
        for n in range(1, 5)
    ]
    ring = [[2, 2, 8, 2, 8, 8, 2, 8], [12, 12, 15, 12, 15, 15, 12, 15]]
    return {
        "images": images,
        "categories": [
            {"id": 3, "name": "crack"},
            {"id": 5, "name": "void"},
            {"id": 6, "name": "stain"},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 3, "bbox": [4, 5, 6, 7]},
            {"id": 2, "image_id": 2, "category_id": 5, "segmentation": ring, "bbox": [2, 2, 1, 1]},
            {
                "id": 3,
                "image_id": 4,
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": {"size": list(SIZE), "counts": [41, 3, 436]},
            },
        ],
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(1, 5):
        pixels = generator.integers(0, 255, SIZE, dtype=np.uint8)
        write_png(tmp_path / "line" / f"{number}.png", pixels)
    return written(tmp_path / "line" / "labels.json", document())


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def mask_of(manifest: Manifest, path: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    row = next(row for row in manifest.rows if row.path == path)
    masks = region_masks(manifest, row, SIZE)
    assert masks is not None
    return masks


def test_regions_and_classes_are_those_of_the_annotations(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "datasets" / "plates"
    labelled = read_coco(source)
    assert labelled.classes == ("crack", "void")
    assert "good: 2 images that have no annotation" in labelled.notes
    assert "left out: categories without annotation: stain" in labelled.notes
    assert stored(labelled, place)
    manifest = read_manifest(place, verify=True)
    labels = {row.path: row.label for row in manifest.rows}
    assert labels == {
        "images/1.png": "good",
        "images/2.png": "crack;void",
        "images/3.png": "good",
        "images/4.png": "crack",
    }
    assert {row.lot for row in manifest.rows} == {"8", "9", "10", "11"}
    crack, void = mask_of(manifest, "images/2.png")
    assert int(crack.sum()) == 6 * 7
    assert crack[5:12, 4:10].all()
    assert int(void.sum()) == 36 + 9
    crack, void = mask_of(manifest, "images/4.png")
    assert np.argwhere(crack).tolist() == [[1, 2], [2, 2], [3, 2]]  # down the columns
    assert not void.any()
    assert not stored(read_coco(source), place)


def test_images_may_lie_elsewhere(source: Path, tmp_path: Path) -> None:
    apart = written(tmp_path / "labels.json", document())
    with pytest.raises(DataError, match="names 4 files that are not there"):
        read_coco(apart)
    assert len(read_coco(apart, images_dir=source.parent).files) == 4
    source.parent.rename(tmp_path / "images")
    assert len(read_coco(apart).files) == 4


def test_an_image_of_another_size_than_its_annotations_is_refused(source: Path) -> None:
    write_png(source.parent / "2.png", np.zeros((10, 24), np.uint8))
    with pytest.raises(DataError, match=r"2\.png is 24 x 10 pixels, its source says 24 x 20"):
        survey(read_coco(source), silent)


def test_a_polygon_outside_its_image_is_refused(source: Path) -> None:
    content = document()
    content["annotations"][0]["bbox"] = [100, 100, 5, 5]
    with pytest.raises(DataError, match=r"crack of 2\.png: its polygon lies outside"):
        survey(read_coco(written(source, content)), silent)


def test_a_hole_in_the_labels_is_not_good(source: Path, tmp_path: Path) -> None:
    """An annotation without a place is a fault; dropping it would call its image good."""
    content = document()
    del content["annotations"][0]["bbox"]
    with pytest.raises(DataError, match="annotation 1: it has neither a segmentation nor a bbox"):
        read_coco(written(source, content))
    assert not (tmp_path / "datasets").exists()


def test_files_of_the_same_name_need_their_part_said(source: Path) -> None:
    content = document()
    write_png(source.parent / "deep" / "1.png", np.zeros(SIZE, np.uint8))
    content["images"][2]["file_name"] = "deep/1.png"
    with pytest.raises(DataError, match="two files have the part name '1'"):
        read_coco(written(source, content))
    content["images"][0]["part"] = content["images"][2]["part"] = "P1"
    parts = [file.part for file in read_coco(written(source, content)).files]
    assert parts == ["P1", "2", "P1", "4"]


BROKEN: list[tuple[list[Any], Any, str]] = [
    ([], [], "wanted a JSON object"),
    (["images"], None, "no list of images"),
    (["annotations"], {}, "no list of annotations"),
    (["annotations", 0, "image_id"], 99, "annotation 1: there is no image 99"),
    (["annotations", 0, "category_id"], 4, "annotation 1: there is no category 4"),
    (["annotations", 0], 5, "annotation number 1: wanted a JSON object"),
    (["annotations", 0, "bbox"], [1, 2, 3], "annotation 1: .*a box is"),
    (["annotations", 0, "bbox"], [1, 2, 0, 3], "has no area"),
    (["annotations", 0, "bbox"], [1, 2, "3", 3], "a box is"),
    (["annotations", 0, "bbox"], [1, 2, float("nan"), 3], "a box is"),
    (["annotations", 1, "segmentation"], [[1, 2, 3]], "annotation 2: a polygon is"),
    (["annotations", 1, "segmentation"], [[1, 2, 3, 4, 5, 10**400]], "annotation 2: a polygon is"),
    (["annotations", 1, "segmentation"], "x", "neither polygons nor run lengths"),
    (["annotations", 2, "segmentation", "size"], [24, 20], "its mask has"),
    (["annotations", 2, "segmentation", "counts"], [1, 2], "cover 3 pixels of 480"),
    (["annotations", 2, "segmentation", "counts"], "~~", "run lengths are damaged"),
    (["annotations", 2, "segmentation", "size"], [10**9, 10**9], "a mask of size"),
    (["images", 1, "id"], 1, "two entries are image 1"),
    (["images", 1, "id"], None, "image number 2 has no id"),
    (["images", 1, "file_name"], "", "image 2 has no file_name"),
    (["images", 1, "file_name"], "gone.png", r"not there: gone\.png"),
    (["images", 1, "file_name"], "a\0b", "control character"),
    (["images", 1, "file_name"], "=cmd()", "formula"),
    (["images", 1, "lot"], {"a": 1}, "lot is"),
    (["categories", 1, "name"], "crack", "two categories have one name"),
    (["categories", 1, "name"], "good", "`good` is not a defect"),
    (["categories", 1, "name"], "OK", "good parts are called `good`"),
    (["categories", 1, "name"], None, "category 5 has no name"),
]


@pytest.mark.parametrize(("keys", "value", "what"), BROKEN)
def test_what_is_wrong_is_named(source: Path, keys: list[Any], value: Any, what: str) -> None:
    content: Any = document()
    if not keys:
        content = value
    else:
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    with pytest.raises(DataError, match=what):
        read_coco(written(source, content))


def test_what_is_no_json_is_named(source: Path) -> None:
    source.write_text('{"images": [')
    with pytest.raises(DataError, match=r"labels\.json: not JSON"):
        read_coco(source)
    source.write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"labels\.json: not JSON"):
        read_coco(source)
    source.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not JSON in UTF-8"):
        read_coco(source)
    source.write_text('{"images": [], "images": []}')
    with pytest.raises(DataError, match="a key comes twice"):
        read_coco(source)


def test_a_byte_order_mark_is_no_fault(source: Path) -> None:
    source.write_text(json.dumps(document()), encoding="utf-8-sig")
    assert len(read_coco(source).files) == 4


# Run lengths


def compressed(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[list[int], str]:
    """Run lengths of a mask, plain and as pycocotools' rleToString writes them."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            symbol = value & 0x1F
            value >>= 5
            more = value != (-1 if symbol & 0x10 else 0)
            text += chr((symbol | 0x20 * more) + 48)
    return counts, text


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_give_the_mask_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts, text = compressed(mask)
    for said in (counts, text):
        found = decode_run_lengths({"size": [height, width], "counts": said})
        assert (found == mask).all()


@given(st.text(max_size=12))
def test_any_run_lengths_are_a_mask_or_refused(text: str) -> None:
    with suppress(DataError):
        assert decode_run_lengths({"size": [4, 4], "counts": text}).shape == (4, 4)


def test_masks_are_planned_under_names_of_their_own(source: Path, tmp_path: Path) -> None:
    asked = planned(read_coco(source), tmp_path / "datasets" / "plates")
    assert [path for path in asked.files if path.startswith("masks/")] == ["masks/crack/4-3.png"]


def test_an_annotation_that_is_allowed_makes_no_image_bad(source: Path) -> None:
    content = document()
    content["annotations"][2]["attributes"] = {"allowed": True}
    files = {file.name: file for file in read_coco(written(source, content)).files}
    assert files["4.png"].label == "good"
    assert [region.allowed for region in files["4.png"].regions] == [True]
    content["annotations"][2]["attributes"] = {"allowed": "yes"}
    with pytest.raises(DataError, match="annotation 3: its attribute allowed"):
        read_coco(written(source, content))
