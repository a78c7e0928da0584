"""`inspection recipe draft`: a recipe to draw zones in, from a data set and one good part.

data set -> recipe_for -> + pixel pitch, reference view -> recipe.toml, reference.png beside it
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cv2
import numpy as np

from inspection.display import Display
from inspection.errors import DataError, ImageError
from inspection.frame import decode_image
from inspection.recipe import dump_recipe, judged_pixels
from inspection.references import reference_views
from inspection.zones.reference import Reference
from inspection.zones.shapes import Rule, Zone
from training.commands.data import DATASETS, find_set
from training.data.facts import flat_field_in
from training.recipe_for import RECIPE_NAME, recipe_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.frame import Frame
    from inspection.recipe import Recipe
    from training.manifest import Manifest

DEFAULT_INPUT_PX = 1024
HEAD = """\
# How {product} is inspected; docs/recipe.md has every key. What to do next:
#   draw the zones: millimetres from the middle of {file}, x to the right, y down;
#   the first zone that a defect touches counts, so the strictest stands first;
#   look at them: inspection recipe show {path} --png zones.png
"""


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="IMAGE",
    help="An image of a good part, lying as it should.",
)
@click.option(
    "--pitch-mm",
    type=click.FloatRange(0, 10, min_open=True),
    help="Size of a pixel on the part; from the image where it says so.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The recipe; reference.png comes beside it.  [default: recipe.toml in the data set]",
)
@DATASETS
def draft(
    name: str, reference: Path, pitch_mm: float | None, output: Path | None, datasets_dir: Path
) -> None:
    """Begin a recipe with zones for data set NAME.

    Where the set names a detector calibration, the reference view is flat-fielded by it.
    """
    manifest = find_set(datasets_dir, name)
    path = output or manifest.folder / RECIPE_NAME
    view = path.with_name("reference.png")
    for each in (path, view):
        if each.exists():
            raise DataError(
                f"{each} is there already; nothing was written",
                remedy="Name another file with --output, or take it away first.",
            )
    try:
        frame = decode_image(reference.read_bytes())
    except OSError as error:
        raise DataError(f"{reference}: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{reference} cannot be read: {error}", remedy=error.remedy) from error
    pitch = pitch_mm or frame.pitch_mm
    if pitch is None:
        raise DataError(
            f"{reference} does not say how large a pixel is on the part",
            remedy="Measure something of known length in the image, and give --pitch-mm.",
        )
    png = _png_of(frame, manifest)
    made = _begun(manifest, frame, pitch, Reference(file=view.name, sha256=_sha256(png)))
    try:
        view.write_bytes(png)
        head = HEAD.format(product=made.product, file=view.name, path=path)
        path.write_text(head + dump_recipe(made), encoding="utf-8")
    except OSError as error:
        for each in (view, path):  # neither was there before
            with suppress(OSError):
                each.unlink()
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    reference_views(made, path.parent)
    click.echo(f"{path}  with {view.name}; next: inspection recipe show {path} --png zones.png")


def _begun(manifest: Manifest, frame: Frame, pitch_mm: float, reference: Reference) -> Recipe:
    """The set's recipe with one zone, the whole view, in which nothing is allowed."""
    plain = recipe_for(manifest, input_size_px=(DEFAULT_INPUT_PX, DEFAULT_INPUT_PX))
    down, across = (0.5 * size * pitch_mm for size in frame.size_px)
    corners = ((-across, -down), (across, -down), (across, down), (-across, down))
    return replace(
        plain,
        frame_size_px=frame.size_px,
        pitch_mm=pitch_mm,
        references=(reference,),
        zones=(Zone(name="body", polygon=corners, rules=(Rule(largest_mm=0.0),)),),
        display=Display(),
    )


def _png_of(frame: Frame, manifest: Manifest) -> bytes:
    """The view without loss, flat-fielded where the set is."""
    pixels: NDArray[np.uint8] | NDArray[np.uint16] = frame.pixels
    if manifest.calibration is not None:
        whole = replace(
            recipe_for(manifest, input_size_px=(DEFAULT_INPUT_PX, DEFAULT_INPUT_PX)), region=None
        )
        flat = flat_field_in(manifest.folder, manifest.calibration, manifest.name)
        levels = judged_pixels(frame, whole, flat)
        pixels = np.clip(np.rint(levels), 0, 65_535).astype(np.uint16)
    picture = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise DataError("the reference view could not be written as PNG")
    return bytes(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
