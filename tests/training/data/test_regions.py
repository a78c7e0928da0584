"""Where a defect is: polygons and masks, in frame pixels and in the network's geometry."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import DataError
from inspection.frame import decode_image
from inspection.recipe import Recipe, Region, prepare
from tests.labelled_sets import bare_manifest, bare_rows, write_png
from training.data.regions import (
    DefectRegion,
    dump_regions,
    parse_regions,
    polygon_mask,
    prepared_lengths,
    prepared_masks,
    read_mask,
    region_masks,
)

if TYPE_CHECKING:
    from training.manifest import Manifest

SIZE = (48, 48)


def box(x: float, y: float, width: float, height: float) -> tuple[tuple[float, float], ...]:
    return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def recipe(*, region: Region | None = None) -> Recipe:
    return Recipe(
        product="KN-42",
        modality="vision",
        bits=8,
        channels=1,
        input_size_px=(32, 32),
        window=(0, 255),
        classes=("scratch",),
        region=region,
    )


def manifest_with(*regions: DefectRegion, folder: Path = Path("nowhere")) -> Manifest:
    """Two images, a good and a bad one; the bad one has these regions."""
    good, bad = bare_rows([(1, 1)])
    return replace(bare_manifest([good, replace(bad, regions=regions)]), folder=folder)


whole = st.integers(0, 30)


@given(whole, whole, st.integers(1, 17), st.integers(1, 17))
def test_a_box_of_whole_numbers_covers_just_its_pixels(x: int, y: int, w: int, h: int) -> None:
    mask = polygon_mask(box(x, y, w, h), SIZE)
    expected = np.zeros(SIZE, dtype=np.bool_)
    expected[y : y + h, x : x + w] = True
    assert (mask == expected).all()


corner = st.tuples(st.floats(-20, 70), st.floats(-20, 70))


@given(st.lists(corner, min_size=3, max_size=8))
def test_any_polygon_covers_the_pixels_whose_centres_it_holds(
    corners: list[tuple[float, float]],
) -> None:
    mask = polygon_mask(corners, SIZE)
    inside = np.zeros(SIZE, dtype=np.bool_)
    for y in range(SIZE[0]):
        for x in range(0, SIZE[1], 5):  # the even-odd rule, centre by centre
            px, py, odd = x + 0.5, y + 0.5, False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= py) != (y1 <= py):
                    at = x0 + (py - y0) / (y1 - y0) * (x1 - x0)
                    if abs(at - px) < 1e-6:
                        return  # on the edge: either is right
                    odd ^= at < px
            inside[y, x] = odd
    if inside.any():
        assert (mask[:, ::5] == inside[:, ::5]).all()


def test_a_hairline_is_not_lost() -> None:
    assert polygon_mask(box(3.1, 3, 0.2, 6), SIZE).sum() == 7
    assert not polygon_mask(box(60, 60, 5, 5), SIZE).any()


def test_what_covers_what_by_class(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[40:44, 40:44] = 7
    write_png(tmp_path / "masks" / "b.png", mask)
    data = (tmp_path / "masks" / "b.png").read_bytes()
    manifest = manifest_with(
        DefectRegion(defect="scratch", polygon=box(2, 2, 4, 4)),
        DefectRegion(defect="scratch", mask="masks/b.png", mask_sha256=sha256(data).hexdigest()),
        folder=tmp_path,
    )
    good, bad = manifest.rows
    masks = region_masks(manifest, bad, SIZE)
    assert masks is not None
    assert masks.shape == (1, *SIZE)
    assert masks.dtype == np.bool_
    assert masks.sum() == 32
    none = region_masks(manifest, good, SIZE)
    assert none is not None
    assert not none.any()
    assert region_masks(manifest, replace(bad, regions=()), SIZE) is None
    with pytest.raises(DataError, match=r"is 48 x 48 pixels, its image .* 64 x 50"):
        region_masks(manifest, bad, (50, 64))
    (tmp_path / "masks" / "b.png").write_bytes(data + b"x")
    with pytest.raises(DataError, match="altered since"):
        region_masks(manifest, bad, SIZE)
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match="No such file"):
        region_masks(manifest, bad, SIZE)


def test_masks_go_through_the_geometry_of_the_image(tmp_path: Path) -> None:
    spot = np.zeros(SIZE, np.uint8)
    spot[10:22, 13:31] = 200
    write_png(tmp_path / "spot.png", spot)
    frame = decode_image((tmp_path / "spot.png").read_bytes())
    manifest = manifest_with(DefectRegion(defect="scratch", polygon=box(13, 10, 18, 12)))
    for place in (None, Region(top=4, left=8, height=36, width=30)):
        masks = prepared_masks(manifest, recipe(region=place), [1])
        assert masks.shape == (1, 1, 32, 32)
        assert masks.dtype == np.float32
        image = prepare(frame, recipe(region=place))
        assert masks[0] == pytest.approx(image / 200, abs=1e-6)
    assert prepared_masks(manifest, recipe(), [0, 1], size_px=(8, 8)).shape == (2, 1, 8, 8)
    unknown = prepared_masks(manifest_with(), recipe(), [0, 1])
    assert np.isnan(unknown[1]).all()
    assert not unknown[0].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_any_value_but_zero_is_the_defect(channels: int) -> None:
    pixels = np.zeros((6, 8, channels), np.uint8)
    pixels[2, 3, channels - 1] = 1
    done, data = cv2.imencode(".png", pixels)
    assert done
    assert np.argwhere(read_mask(data.tobytes())).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({}, "a polygon or a mask"),
        ({"polygon": box(1, 1, 2, 2), "mask": "a.png"}, "a polygon or a mask"),
        ({"polygon": ((0, 0), (1, 1))}, "2 corners"),
        ({"polygon": ((0, 0), (1, 1), (float("nan"), 2))}, "no number"),
        ({"mask": "a.png"}, "needs its digest"),
    ],
)
def test_regions_that_make_no_sense_cannot_be_built(parts: dict[str, object], what: str) -> None:
    with pytest.raises(DataError, match=what):
        DefectRegion(defect="scratch", **parts)  # type: ignore[arg-type]


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
polygons = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=3, max_size=5)
regions = st.one_of(
    st.builds(DefectRegion, defect=names, polygon=polygons.map(tuple)),
    st.builds(DefectRegion, defect=names, mask=names, mask_sha256=st.just("0" * 64)),
)


@given(st.dictionaries(names, st.lists(regions, min_size=1, max_size=3).map(tuple), max_size=4))
def test_any_regions_survive_their_file(known: dict[str, tuple[DefectRegion, ...]]) -> None:
    assert parse_regions(dump_regions(known), "test") == known


def test_a_broken_line_of_regions_is_named() -> None:
    with pytest.raises(DataError, match="test, line 2"):
        parse_regions('{"path":"a","regions":[]}\n{"path":"b"}\n', "test")


def test_the_digest_changes_with_a_region_and_not_with_where_a_mask_lies() -> None:
    plain = manifest_with()
    placed = manifest_with(DefectRegion(defect="scratch", mask="m/a.png", mask_sha256="1" * 64))
    moved = manifest_with(DefectRegion(defect="scratch", mask="n/b.png", mask_sha256="1" * 64))
    other = manifest_with(DefectRegion(defect="scratch", mask="m/a.png", mask_sha256="2" * 64))
    digests = [each.digest for each in (plain, placed, moved, other)]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_a_region_of_a_defect_that_the_label_does_not_name_is_refused() -> None:
    _, bad = bare_rows([(1, 1)])
    region = DefectRegion(defect="void", polygon=box(1, 1, 2, 2))
    with pytest.raises(DataError, match="does not name the defect of a region: void"):
        replace(bad, regions=(region,))


def test_lengths_are_those_of_each_marked_thing_allowed_or_not() -> None:
    manifest = manifest_with(
        DefectRegion(defect="scratch", polygon=box(4, 4, 12, 8)),
        DefectRegion(defect="scratch", polygon=box(32, 32, 8, 8), allowed=True),
        DefectRegion(defect="scratch", polygon=box(24.5, 4.5, 1, 1), allowed=True),
    )
    scaled = replace(recipe(), pitch_mm=0.5)
    found = prepared_lengths(manifest, scaled, np.arange(2), size_px=(12, 12))
    assert found.shape == (2, 1, 12, 12)
    assert found.dtype == np.float16
    assert not found[0].any()
    assert (found[1, 0, 1:3, 1:4] == np.float16(0.5 * (np.hypot(11, 7) + 1))).all()
    assert (found[1, 0, 8:10, 8:10] == np.float16(0.5 * (np.hypot(7, 7) + 1))).all()
    assert np.isnan(found[1, 0, 1, 6])  # a sixteenth of that cell
    masks = prepared_masks(manifest, scaled, np.arange(2), size_px=(12, 12))
    assert masks[1, 0, 1:3, 1:4].all()
    assert not masks[1, 0, 8:10, 8:10].any()
    with pytest.raises(DataError, match="pitch_mm"):
        prepared_lengths(manifest, recipe(), np.arange(2), size_px=(12, 12))


def test_what_is_allowed_stays_so_in_the_file() -> None:
    regions = {
        "a.png": (
            DefectRegion(defect="scratch", polygon=box(4, 4, 2, 2), allowed=True),
            DefectRegion(defect="scratch", mask="m.png", mask_sha256="0" * 64, allowed=True),
            DefectRegion(defect="scratch", polygon=box(4, 4, 2, 2)),
        )
    }
    assert parse_regions(dump_regions(regions), "regions.jsonl") == regions
    allowed, _, refused = (region.content for region in regions["a.png"])
    assert allowed != refused
