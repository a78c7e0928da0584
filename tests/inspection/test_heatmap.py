"""The evidence lands on the pixels that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from inspection.frame import Frame
from inspection.heatmap import overlay_png, region_of_evidence, sigmoid
from inspection.recipe import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decoded(data: bytes) -> NDArray[Any]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def test_sigmoid_has_no_overflow() -> None:
    values = sigmoid(np.array([-1e4, 0, 1e4], np.float32))
    np.testing.assert_allclose(values, [0, 0.5, 1])


def test_the_box_is_around_the_strongest_spot_only() -> None:
    local = np.zeros((10, 20))
    local[2:4, 5:8] = 0.9
    local[3, 6] = 1.0
    local[8, 18] = 0.8
    judged = Region(top=100, left=50, height=100, width=200)
    region = region_of_evidence(local, judged, limit=0.5)
    assert (region.top, region.left, region.height, region.width) == (120, 100, 20, 30)


def test_a_faint_map_gives_its_strongest_cell() -> None:
    local = np.full((4, 4), 0.01)
    local[3, 3] = 0.02
    region = region_of_evidence(local, Region(top=0, left=0, height=30, width=30), limit=0.5)
    assert (region.top, region.left) == (22, 22)
    assert region.top + region.height == 30
    assert region.left + region.width == 30


def test_colour_lies_where_the_evidence_is_and_nowhere_else() -> None:
    pixels = np.random.default_rng(0).integers(1000, 9000, (80, 120)).astype(np.uint16)
    frame = Frame(pixels=pixels, sha256="0" * 64, media_type="image/tiff")
    local = np.zeros((4, 4))
    local[0, 3] = 1.0
    judged = Region(top=40, left=60, height=40, width=60)
    data = overlay_png(frame, local, judged, alpha=0.8)
    picture = decoded(data)
    assert picture.shape == (80, 120, 3)
    colourful = picture.max(axis=2).astype(int) - picture.min(axis=2) > 8
    assert colourful[42:46, 112:118].any()
    assert not colourful[:38].any()
    assert not colourful[:, :58].any()


def test_alpha_zero_shows_the_image_alone_and_large_images_shrink() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (500, 2000)).astype(np.uint8)
    frame = Frame(pixels=pixels, sha256="0" * 64, media_type="image/png")
    whole = Region(top=0, left=0, height=500, width=2000)
    data = overlay_png(frame, np.ones((3, 3)), whole, alpha=0, longest_px=1000)
    picture = decoded(data)
    assert picture.shape == (250, 1000, 3)
    assert (picture.max(axis=2) == picture.min(axis=2)).all()
