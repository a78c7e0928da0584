"""The recipe of a data set: from what its images are, and from the files beside it."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from inspection.errors import DataError, RecipeError
from inspection.recipe import Recipe, first_complaint, load_recipe
from inspection.references import reference_views
from inspection.serials import SerialFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inspection.recipe import Flip
    from training.manifest import Manifest

SERIAL_NAME = "serial.toml"
RECIPE_NAME = "recipe.toml"


def recipe_for(
    manifest: Manifest,
    *,
    input_size_px: tuple[int, int],
    flips: Sequence[Flip] | None = None,
    serial_length: int | None = None,
    recipe_file: Path | None = None,
) -> Recipe:
    """How the product of this set is inspected.

    A recipe file (`recipe_file`, or recipe.toml in the data set's folder) is taken as it is.
    Otherwise: depth, channels, frame size and classes are those of the images, the window is the
    whole range of the depth, and images are flat-fielded where the set names a calibration.

    Args:
        manifest: the set.
        input_size_px: (height, width) of the network's input.
        flips: turns and flips that training may use; those of dataset.toml when absent.
        serial_length: characters of a mark, the check character included; serial.toml in the data
            set's folder says more. Any text when there is neither.
        recipe_file: instead of all this.

    Raises:
        RecipeError: a file does not hold.
        DataError: the recipe in a file does not fit the images.
    """
    beside = manifest.folder / RECIPE_NAME
    path = recipe_file if recipe_file is not None else beside if beside.exists() else None
    if path is not None:
        recipe = load_recipe(path)
        reference_views(recipe, path.parent)  # a view that is missing or does not fit, found early
        _check_against(recipe, manifest, path)
    else:
        recipe = Recipe(
            product=manifest.product,
            modality=manifest.modality,
            bits=manifest.images.bits,
            channels=manifest.images.channels,
            input_size_px=input_size_px,
            window=(0.0, float(2**manifest.images.bits - 1)),
            classes=manifest.classes,
            frame_size_px=manifest.images.frame_size_px,
            flips=tuple(manifest.flips if flips is None else flips),
            serial=_serial_beside(manifest.folder / SERIAL_NAME),
            flat_field=manifest.calibration is not None,
        )
    if serial_length is not None:
        recipe = replace(recipe, serial=SerialFormat(length=serial_length))
    return recipe


def _serial_beside(path: Path) -> SerialFormat | None:
    if not path.exists():
        return None
    try:
        return _adapter().validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {first_complaint(error)}") from error


def _check_against(recipe: Recipe, manifest: Manifest, path: Path) -> None:
    images = manifest.images
    unknown = sorted(set(manifest.classes) - set(recipe.classes))
    unseen = sorted(set(recipe.classes) - set(manifest.classes))
    if recipe.flat_field and manifest.calibration is None:
        raise DataError(
            f"{path} flat-fields, but the data set {manifest.name} names no calibration",
            remedy="Import it again with --calibration FILE.npz, which "
            "`inspection detector calibrate` writes.",
        )
    for wrong, what in (
        (recipe.product != manifest.product, f"is for product {recipe.product}"),
        (recipe.bits != images.bits, f"wants {recipe.bits} bits"),
        (recipe.channels != images.channels, f"wants {recipe.channels} channels"),
        (bool(unknown), f"does not know the labels {', '.join(unknown)}"),
        (bool(unseen), f"has classes that no image shows: {', '.join(unseen)}"),
        (recipe.classes != manifest.classes, f"wants classes in the order {manifest.classes}"),
    ):
        if wrong:
            raise DataError(f"{path} does not fit the data set {manifest.name}: it {what}")


@cache
def _adapter() -> TypeAdapter[SerialFormat]:
    return TypeAdapter(SerialFormat)
