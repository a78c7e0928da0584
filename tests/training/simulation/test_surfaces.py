"""Machined faces: seen as they are made, with defects where the masks say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from inspection.cli import main
from inspection.errors import DataError
from training.simulation.surfaces import (
    FINISHES,
    SURFACE_CLASSES,
    Finish,
    Surface,
    make_surface,
)
from training.simulation.writing_faces import FaceOrder, write_faces
from training.sources.choose import Asked, read_source

if TYPE_CHECKING:
    from pathlib import Path


def faces(finish: Finish, count: int, rate: float) -> list[Surface]:
    return [make_surface(n, 5, finish=finish, size_px=192, rate=rate) for n in range(count)]


@pytest.mark.parametrize("finish", FINISHES)
def test_a_face_is_well_exposed_colour_and_the_same_every_time(finish: Finish) -> None:
    (one,) = faces(finish, 1, 0.0)
    assert one.image.shape == (192, 192, 3)
    assert one.image.dtype == np.uint8
    assert 90 < np.median(one.image) < 160
    assert (one.image == 255).mean() < 0.01
    assert one.defects == ()
    assert np.array_equal(one.image, faces(finish, 1, 0.0)[0].image)


def test_a_brushed_face_is_striped_and_a_cast_one_is_not() -> None:
    def stripes(finish: Finish) -> float:
        grey = faces(finish, 1, 0.0)[0].image.mean(axis=2)
        across, along = np.diff(grey, axis=0).std(), np.diff(grey, axis=1).std()
        return float(across / along)

    assert stripes("brushed") > 1.2
    assert stripes("cast") == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("name", SURFACE_CLASSES)
def test_defects_change_the_picture_where_their_mask_is(finish: Finish, name: str) -> None:
    inside, outside = [], []
    for number in range(40):
        bad = make_surface(number, 5, finish=finish, size_px=192, rate=0.6)
        masks = [each.mask for each in bad.defects if each.defect_class == name]
        if not masks:
            continue
        assert all(each.size_mm > 0 for each in bad.defects if each.mask.any())
        grey = bad.image.astype(float).mean(axis=2)
        grey /= np.median(grey)
        mask = np.any(masks, axis=0)
        # A stain darkens evenly; everything else throws light and shadow.
        told = 1 - grey if name == "stain" else np.abs(grey - cv2.blur(grey, (41, 41)))
        if 4 <= mask.sum() < mask.size:
            inside.append(told[mask].mean())
            outside.append(told[~mask].mean())
    assert len(inside) > 5
    if name == "stain":
        assert np.mean(inside) > np.mean(outside) + 0.08
    else:
        assert np.mean(inside) > 1.15 * np.mean(outside)


def test_a_set_can_be_imported_and_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    order = FaceOrder(faces=6, seed=2, size_px=96, finishes=("turned",))
    made = write_faces(order, tmp_path / "a", processes=1)
    again = write_faces(order, tmp_path / "b", processes=2)
    assert made.digest == again.digest
    assert made.images == 6
    for name in ("labels.csv", "labels.jsonl"):
        assert len(read_source(tmp_path / "a" / name, Asked()).files) == 6
    truths = [json.loads(line) for line in (tmp_path / "a/truth.jsonl").read_text().splitlines()]
    assert sum(bool(each["defects"]) for each in truths) == made.bad_parts > 0


def test_what_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError):
        FaceOrder(faces=0)
    with pytest.raises(DataError):
        FaceOrder(faces=1, finishes=("cast", "cast"))
    with pytest.raises(DataError, match="64 to 4096"):
        make_surface(0, 0, finish="cast", size_px=32)
    target = str(tmp_path / "s")
    command = ["simulate", "surfaces", target, "--faces", "1", "--size", "64", "--finish", "cast"]
    assert main(command) == 0
    assert "next: inspection data import" in capsys.readouterr().out
    assert main(command) == 3
