"""The reference views of a recipe, read from the files beside it and held against it.

recipe.toml, reference*.png | .tif  ->  bytes, digest  ->  Frame  ->  ReferenceView
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from inspection.errors import ImageError, RecipeError
from inspection.frame import decode_image
from inspection.zones.registration import ReferenceView

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.recipe import Recipe
    from inspection.zones.reference import Reference


def reference_views(recipe: Recipe, folder: Path) -> tuple[ReferenceView, ...]:
    """The reference views that a recipe names, from the folder that it lies in.

    Raises:
        RecipeError: a file is missing, is not the one that the recipe names, or does not fit it.
    """
    return tuple(_view(recipe, reference, folder) for reference in recipe.references)


def reference_bytes(reference: Reference, folder: Path) -> bytes:
    """The file, held against its digest.

    Raises:
        RecipeError: it is missing, or another one.
    """
    path = folder / reference.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(
            f"{path}: {error.strerror or error}",
            remedy="Put the reference view beside the recipe that names it.",
        ) from error
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise RecipeError(
            f"{path} is not the reference view that the recipe names",
            remedy="Write the file's SHA-256 into the recipe once its zones are drawn over it.",
        )
    return data


def _view(recipe: Recipe, reference: Reference, folder: Path) -> ReferenceView:
    path = folder / reference.file
    try:
        frame = decode_image(reference_bytes(reference, folder))
    except ImageError as error:
        raise RecipeError(f"{path}: {error}", remedy=error.remedy) from error
    if recipe.frame_size_px is None or recipe.pitch_mm is None:  # the recipe saw to it
        raise RecipeError(f"{path}: its recipe has no frame_size_px or no pitch_mm")
    found = (frame.size_px, frame.channels, frame.bits)
    if found != (recipe.frame_size_px, recipe.channels, recipe.bits):
        raise RecipeError(
            f"{path} is {frame.size_px[1]} x {frame.size_px[0]} pixels of {frame.channels} "
            f"channels, {frame.bits} bits; frames are {recipe.frame_size_px[1]} x "
            f"{recipe.frame_size_px[0]} of {recipe.channels}, {recipe.bits} bits",
            remedy="Use an image as the station takes it.",
        )
    region = recipe.judged_region(frame.size_px)
    if region.top + region.height > frame.size_px[0] or (
        region.left + region.width > frame.size_px[1]
    ):
        raise RecipeError(f"{path}: the recipe's region lies outside of it")
    return ReferenceView(
        reference=reference,
        whole=frame.pixels,
        corner_px=(region.left, region.top),
        size_px=(region.height, region.width),
        pitch_mm=recipe.pitch_mm,
    )
