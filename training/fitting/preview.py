"""A contact sheet of what the network will see, before any time is spent on training.

    rows -> prepare (as serving) -> window -> picture, with the outlines of its regions
                                `-> views that `full` draws on -> pictures beside it

Grey is shown as the network gets it: the recipe's window from black to white. An image that is all
black here is all black to the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.errors import ConfigurationError
from training.data.images import PreparedImages
from training.data.regions import prepared_masks
from training.data.rows import GOOD
from training.fitting.views import draw_seed, orientations, turned, variation, ways_of_views

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.recipe import Recipe
    from training.fit import FitSettings
    from training.manifest import Manifest

    Picture = NDArray[np.uint8]

COLUMNS = 6
TILE_PX = 180  # the longer side of a picture
MARGIN_PX = 8
CAPTION_PX = 34
DARK, PALE, OUTLINE = (60, 60, 60), (255, 255, 255), (0, 140, 255)  # OpenCV's order: blue first
DULL = 0.10  # of the window: images that use less of it look flat to the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A contact sheet that was written.

    Attributes:
        path: of the PNG.
        lines: what is on it, a line for every image, with names as they are (the picture itself
            can only show ASCII), then what a person should know.
    """

    path: Path
    lines: tuple[str, ...]


def write_preview(
    manifest: Manifest,
    recipe: Recipe,
    fitting: FitSettings,
    path: Path,
    *,
    count: int = 12,
    seed: int = 0,
) -> Preview:
    """Write the contact sheet as a PNG; folders above it are made.

    With preset `full` a line of the sheet is one image: as it is, then views of it that training
    draws on; outlines are turned with them, but not shifted. The other presets see every image as
    it is, so the sheet is filled with images.

    Args:
        manifest: the set.
        recipe: what the images are prepared by.
        fitting: preset, window and flips.
        path: of the PNG; one that is there is replaced.
        count: how many images, of good parts and of every class in turn.
        seed: of the choice; the views follow from the fit's own.

    Raises:
        ConfigurationError: no images were asked for, or the file cannot be written.
        DataError: an image cannot be used.
    """
    if count < 1:
        raise ConfigurationError("a preview shows 1 image or more")
    chosen = pick_rows(manifest, count, seed)
    images = PreparedImages(manifest, recipe, chosen)
    views = COLUMNS if fitting.preset == "full" else 1
    ways = orientations(fitting.flips)
    way_of = ways_of_views(fitting.flips, views, len(chosen))
    vary = variation(fitting)
    tiles: list[Picture] = []
    lines: list[str] = []
    used: list[float] = []
    for place, number in enumerate(chosen):
        row, image = manifest.rows[number], images[place]
        masks = prepared_masks(manifest, recipe, [number])[0] if row.marked else None
        used.append(float(np.ptp(np.clip(image, *fitting.window))))
        doubted = row.certainty not in (0.0, 1.0)
        label = f"{row.label} (probability {row.certainty:.2f})" if doubted else row.label
        name = f"{place + 1} {label}"
        tiles.append(_tile(windowed(image, fitting.window), name, row.part, masks))
        for view in range(1, views):
            way = ways[way_of[view, place]]
            seen = turned(vary(image, draw_seed(fitting.seed, view, place)), way)
            outlines = None if masks is None else turned(masks, way)
            tiles.append(
                _tile(windowed(seen, fitting.window), f"{place + 1} view {view}", "", outlines)
            )
        where = "regions outlined" if row.marked else "place unknown" if row.bad else "good"
        lines.append(f"{place + 1}: {row.path}, part {row.part}, {label}, {where}")
    low, high = fitting.window
    if float(np.median(used)) < DULL * (high - low):
        lines.append(
            f"these images use {np.median(used) / (high - low):.1%} of the window {low:g} to "
            f"{high:g}: to the network they are nearly flat; set `window` in the recipe"
        )
    _write(path, _sheet(tiles))
    return Preview(path=path, lines=tuple(lines))


def pick_rows(manifest: Manifest, count: int, seed: int) -> list[int]:
    """Row numbers: good parts and every class in turn, images with regions first, all at random."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(manifest.rows)).tolist()
    order.sort(key=lambda number: not manifest.rows[number].marked)
    queues = {
        name: [n for n in order if name in (manifest.rows[n].defects or (GOOD,))]
        for name in (GOOD, *manifest.classes)
    }
    chosen: list[int] = []
    while len(chosen) < min(count, len(manifest.rows)):
        for queue in queues.values():
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def windowed(image: NDArray[np.float32], window: tuple[float, float]) -> Picture:
    """(H, W, 3) uint8, blue first, of (C, H, W) float32 grey levels: the window as 0..255."""
    low, high = window
    shown = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    levels = np.round(shown * 255).astype(np.uint8)
    planes = np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels[::-1]
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _tile(picture: Picture, first: str, second: str, masks: NDArray[np.float32] | None) -> Picture:
    """A picture with the outlines of its regions, and two lines of text under it."""
    scale = TILE_PX / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    shown = np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)
    for plane in () if masks is None else np.nan_to_num(masks):
        covered = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)) > 0
        found, _ = cv2.findContours(
            covered.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(shown, found, -1, OUTLINE, 1)
    tile = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), PALE, dtype=np.uint8)
    tile[: size[1], : size[0]] = shown
    for line, text in enumerate((first, second)):
        place = (1, TILE_PX + 14 + 15 * line)
        plain = text.encode("ascii", "replace").decode()
        cv2.putText(tile, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, DARK, 1, cv2.LINE_AA)
    return tile


def _sheet(tiles: list[Picture]) -> Picture:
    """Tiles in lines of `COLUMNS`, on white."""
    lines = -(-len(tiles) // COLUMNS)
    columns = min(COLUMNS, len(tiles))
    step_y, step_x = TILE_PX + CAPTION_PX + MARGIN_PX, TILE_PX + MARGIN_PX
    shape = (lines * step_y + MARGIN_PX, columns * step_x + MARGIN_PX, 3)
    sheet = np.full(shape, PALE, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        line, column = divmod(index, COLUMNS)
        top, left = MARGIN_PX + line * step_y, MARGIN_PX + column * step_x
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _write(path: Path, sheet: Picture) -> None:
    done, data = cv2.imencode(".png", sheet)
    if not done:
        raise ConfigurationError("the preview could not be encoded")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(data))
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror or error}", remedy="Name a place that can be written to."
        ) from error
