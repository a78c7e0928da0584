"""From a detector's file to the network's input, each of 65,536 levels stays a level of its own.

A step of 8 bits anywhere on that way would leave 256 of them, one of bf16 some thousands.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import tifffile

from inspection.frame import decode_image
from inspection.recipe import Recipe, prepare
from tests.dicom_files import SYNTAXES, dicom

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LEVELS = np.random.default_rng(16).permutation(2**16).astype(np.uint16).reshape(256, 256)


def png(pixels: NDArray[np.uint16]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def tiff(**options: object) -> Callable[[NDArray[np.uint16]], bytes]:
    def written(pixels: NDArray[np.uint16]) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **options)  # type: ignore[arg-type]
        return buffer.getvalue()

    return written


FORMS: dict[str, Callable[[NDArray[np.uint16]], bytes]] = {
    "png": png,
    "tiff": tiff(),
    "tiff-big-endian": tiff(byteorder=">"),
    "tiff-lzw-tiles": tiff(compression="lzw", tile=(64, 64), predictor=True),
    "tiff-zlib-strips": tiff(compression="zlib", rowsperstrip=30),
    "bigtiff": tiff(bigtiff=True),
    **{f"dicom-{syntax}": partial(dicom, syntax=syntax) for syntax in SYNTAXES},
}


def recipe(side: int) -> Recipe:
    return Recipe(
        product="KN-42",
        modality="x-ray",
        bits=16,
        channels=1,
        input_size_px=(side, side),
        window=(0, 65535),
        classes=("pore",),
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_level_reaches_the_network(form: str) -> None:
    frame = decode_image(FORMS[form](LEVELS))
    assert frame.bits == 16
    np.testing.assert_array_equal(frame.pixels, LEVELS)
    (image,) = prepare(frame, recipe(256))
    assert image.dtype == np.float32
    assert len(np.unique(image)) == 2**16
    order = np.argsort(LEVELS, axis=None)
    assert (np.diff(image.ravel()[order]) > 0).all()


def test_every_level_survives_a_reduction() -> None:
    doubled = LEVELS.repeat(2, axis=0).repeat(2, axis=1)
    (image,) = prepare(decode_image(FORMS["tiff"](doubled)), recipe(256))
    assert len(np.unique(image)) == 2**16
