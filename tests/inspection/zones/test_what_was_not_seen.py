"""What lies outside the frame, or is of another size than the recipe counts in, is not judged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from inspection.errors import RecipeError, Unjudgeable
from inspection.frame import Acquisition, Frame
from inspection.recipe import judged_pixels
from inspection.references import reference_views
from inspection.zones.reference import Reference
from inspection.zones.registration import ReferenceView, register
from tests.simulated_parts import SIZE_PX, casting_recipe
from tests.zoned_model import PITCH_MM, SIDE_PX, face

if TYPE_CHECKING:
    from pathlib import Path


def test_a_part_that_is_half_a_tile_out_of_the_frame_is_not_judged() -> None:
    whole = np.clip(face(), 5, 255)
    wide = np.pad(whole, ((0, 0), (0, 20)), mode="symmetric").astype(np.float32)
    view = ReferenceView(
        reference=Reference(file="reference.png", sha256="0" * 64, least_tile_agreement=-1.0),
        whole=whole.astype(np.uint8),
        corner_px=(0, 0),
        size_px=(SIDE_PX, SIDE_PX),
        pitch_mm=PITCH_MM,
    )
    assert register(wide[:, 3 : SIDE_PX + 3], view).unseen == 0
    with pytest.raises(Unjudgeable, match="outside the frame") as refused:
        register(wide[:, 12 : SIDE_PX + 12], view)  # 1.2 mm, where 5 mm are allowed
    assert refused.value.reason == "misaligned"


def test_a_frame_whose_file_says_another_pitch_is_not_sized_by_the_recipe() -> None:
    pixels = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint16)
    frame = Frame(pixels=pixels, sha256="0" * 64, media_type="image/tiff")
    recipe = casting_recipe()
    assert judged_pixels(frame, recipe).shape == pixels.shape
    assert judged_pixels(replace(frame, pitch_mm=0.35), recipe).shape == pixels.shape  # 72 dpi
    frame = replace(frame, media_type="application/dicom", acquisition=Acquisition(kv=120.0))
    assert judged_pixels(frame, recipe).shape == pixels.shape
    assert judged_pixels(replace(frame, pitch_mm=0.204), recipe).shape == pixels.shape
    for pitch_mm in (0.15, 0.3):
        with pytest.raises(Unjudgeable, match="mm on the part"):
            judged_pixels(replace(frame, pitch_mm=pitch_mm), recipe)


def test_a_reference_view_has_the_depth_of_the_frames(tmp_path: Path) -> None:
    done, data = cv2.imencode(".png", np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint8))
    assert done
    (tmp_path / "reference.png").write_bytes(bytes(data))
    named = Reference(file="reference.png", sha256=hashlib.sha256(bytes(data)).hexdigest())
    with pytest.raises(RecipeError, match=r"8 bits; frames are .* 16 bits"):
        reference_views(replace(casting_recipe(), references=(named,)), tmp_path)
