"""Where in an image a defect is: polygons and mask files, and what they cover in pixels.

    DefectRegion -> region_masks (frame pixels) -> prepared_masks (the network's input)

Coordinates are those of COCO: x to the right, y down, (0, 0) the outer corner of the first pixel,
so that a box (x, y, width, height) of whole numbers covers width times height pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from inspection.errors import DataError, ImageError
from inspection.frame import decode_image
from training.data.cells import COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection.recipe import Recipe
    from training.data.rows import Row
    from training.manifest import Manifest


FAR_PX = 1e6  # outside any image; OpenCV counts in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectRegion:
    """One place where an image shows a defect: a polygon or a mask, never both.

    Attributes:
        defect: one of the classes that the image's label names.
        polygon: corners (x, y) in frame pixels, at least three; empty when there is a mask.
        mask: path of a mask file, relative to the data set's folder, with `/`; any value but 0 is
            the defect. It has the frame's size.
        mask_sha256: hex digest of that file.
        allowed: it shows, but is small enough for its zone: the part is not bad for it, and the
            label need not name its class. A detail branch learns from it how long is too long.
    """

    defect: str
    polygon: tuple[tuple[float, float], ...] = ()
    mask: str | None = None
    mask_sha256: str | None = None
    allowed: bool = False

    def __post_init__(self) -> None:
        if bool(self.polygon) == (self.mask is not None):
            raise DataError(f"a region of {self.defect!r} needs a polygon or a mask, and one only")
        if self.polygon and len(self.polygon) < 3:
            raise DataError(f"a polygon of {self.defect!r} has {len(self.polygon)} corners, not 3")
        if not all(math.isfinite(number) for corner in self.polygon for number in corner):
            raise DataError(f"a polygon of {self.defect!r} has a corner that is no number")
        if (self.mask is None) != (self.mask_sha256 is None):
            raise DataError(f"a mask of {self.defect!r} needs its digest")

    @property
    def content(self) -> list[Any]:
        """What tells it from another region; where a mask lies is left out."""
        told = [self.defect, [list(corner) for corner in self.polygon], self.mask_sha256]
        return [*told, "allowed"] if self.allowed else told


def ordered_regions(regions: Iterable[DefectRegion]) -> tuple[DefectRegion, ...]:
    """The regions in canonical order."""
    return tuple(sorted(regions, key=lambda region: json.dumps(region.content)))


def dump_regions(regions: Mapping[str, Iterable[DefectRegion]]) -> str:
    """The text of regions.jsonl: a line for every image, by its path."""
    lines = []
    for path, each in sorted(regions.items()):
        document = {"path": path, "regions": [_as_json(region) for region in each]}
        lines.append(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(lines)


def parse_regions(text: str, source: str) -> dict[str, tuple[DefectRegion, ...]]:
    """The regions of each image, by its path.

    Raises:
        DataError: a line makes no sense; names it.
    """
    found: dict[str, tuple[DefectRegion, ...]] = {}
    for number, line in enumerate(io.StringIO(text), start=1):
        try:
            document = json.loads(line)
            found[document["path"]] = tuple(_from_json(each) for each in document["regions"])
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{source}, line {number}: {error}") from error
    return found


def _as_json(region: DefectRegion) -> dict[str, Any]:
    said: dict[str, Any] = {"defect": region.defect}
    if region.polygon:
        said["polygon"] = [list(corner) for corner in region.polygon]
    else:
        said |= {"mask": region.mask, "sha256": region.mask_sha256}
    return said | {"allowed": True} if region.allowed else said


def _from_json(document: dict[str, Any]) -> DefectRegion:
    defect, allowed = str(document["defect"]), bool(document.get("allowed", False))
    if "polygon" in document:
        corners = tuple((float(x), float(y)) for x, y in document["polygon"])
        return DefectRegion(defect=defect, polygon=corners, allowed=allowed)
    return DefectRegion(
        defect=defect,
        mask=str(document["mask"]),
        mask_sha256=str(document["sha256"]),
        allowed=allowed,
    )


def region_masks(
    manifest: Manifest, row: Row, size_px: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Where the image shows each class as the label names it; what is allowed is left out.

    Args:
        manifest: the set; its classes give the order.
        row: of the set.
        size_px: (height, width) of the image.

    Returns:
        (K, H, W); all False for a good row. None when the place is not known: a class that the
        label names has no region.

    Raises:
        DataError: a mask is gone, altered, damaged or of another size.
    """
    if set(row.defects) - {region.defect for region in row.marked}:
        return None
    return _drawn(manifest, row, row.marked, size_px)


def prepared_masks(
    manifest: Manifest,
    recipe: Recipe,
    rows: NDArray[np.int64] | Sequence[int],
    *,
    size_px: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """The masks in the geometry of the network's input.

    Args:
        manifest: the set.
        recipe: its region is cut out, as `inspection.recipe.prepare` does with the image.
        rows: (n,) row numbers of the manifest.
        size_px: (height, width) wanted, such as the evidence map's; the input's when absent.

    Returns:
        (N, K, h, w) float32: the share of each cell that the defect covers, by averaging over
        areas; NaN for an image whose defect's place is not known.

    Raises:
        DataError: see `region_masks`; or an image cannot be read.
    """
    size = size_px or recipe.input_size_px
    prepared = np.zeros((len(rows), len(manifest.classes), *size), dtype=np.float32)
    for i, number in enumerate(rows):
        row = manifest.rows[int(number)]
        if not row.bad:
            continue
        frame_size = manifest.images.frame_size_px or _size_of(manifest, row)
        masks = region_masks(manifest, row, frame_size)
        if masks is None:
            prepared[i] = np.nan
            continue
        inside = _judged(recipe, frame_size)
        for k, plane in enumerate(masks):
            prepared[i, k] = _resized(plane[inside].astype(np.float32), size)
    return prepared


def prepared_lengths(
    manifest: Manifest, recipe: Recipe, rows: NDArray[np.int64], *, size_px: tuple[int, int]
) -> NDArray[np.float16]:
    """How long the things are that people marked, allowed or not, in the network's geometry.

    Args:
        manifest: the set.
        recipe: with a pitch; its region is cut out.
        rows: (n,) row numbers of the manifest.
        size_px: (height, width) wanted, such as the evidence map's.

    Returns:
        (N, K, h, w) float16 mm: the longest extent of what covers `COVERED` of a cell or more; 0
        where nothing is marked, NaN where less is covered, but some.

    Raises:
        DataError: see `region_masks`; an image cannot be read; or the recipe has no pitch.
    """
    if recipe.pitch_mm is None:
        raise DataError("lengths in mm need the recipe's pitch_mm")
    prepared = np.zeros((len(rows), len(manifest.classes), *size_px), dtype=np.float16)
    for i, number in enumerate(rows):
        row = manifest.rows[int(number)]
        if not row.regions:
            continue
        frame_size = manifest.images.frame_size_px or _size_of(manifest, row)
        inside = _judged(recipe, frame_size)
        for k, plane in enumerate(_drawn(manifest, row, row.regions, frame_size)):
            for mask in _things(plane):
                share = _resized(mask[inside].astype(np.float32), size_px)
                length = longest_px(mask) * recipe.pitch_mm
                prepared[i, k][share >= COVERED] = length
                touched = (share > 0) & (share < COVERED) & (prepared[i, k] == 0)
                prepared[i, k][touched] = np.nan
    return prepared


def _judged(recipe: Recipe, frame_size_px: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of what is judged."""
    part = recipe.judged_region(frame_size_px)
    return slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)


def longest_px(mask: NDArray[np.bool_]) -> float:
    """From end to end of what a mask holds, over its outermost pixels."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1).astype(np.int32)
    hull = cv2.convexHull(points)[:, 0].astype(np.float64)
    apart = np.hypot(*(hull[:, np.newaxis] - hull[np.newaxis]).T)
    return float(apart.max()) + 1.0


def _things(plane: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The pieces that hang together, corners included."""
    count, labels = cv2.connectedComponents(plane.astype(np.uint8), connectivity=8)
    for number in range(1, count):
        yield np.asarray(labels == number)


def _drawn(
    manifest: Manifest, row: Row, regions: Iterable[DefectRegion], size_px: tuple[int, int]
) -> NDArray[np.bool_]:
    """(K, H, W): what these regions of an image cover."""
    masks = np.zeros((len(manifest.classes), *size_px), dtype=np.bool_)
    for region in regions:
        plane = masks[manifest.classes.index(region.defect)]
        if region.mask is None:
            plane |= polygon_mask(region.polygon, size_px)
        else:
            plane |= _mask_of(manifest, row, region, size_px)
    return masks


def polygon_mask(
    polygon: Sequence[tuple[float, float]], size_px: tuple[int, int]
) -> NDArray[np.bool_]:
    """(H, W) the pixels whose centre lies inside the polygon (even-odd rule).

    A polygon that holds no centre, such as a hairline, marks the pixels that its outline passes.
    What lies outside the image is cut off.
    """
    covered = np.zeros(size_px, dtype=np.bool_)
    corners = np.asarray(polygon, dtype=np.float64)
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, size_px[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, size_px[::-1]).astype(int).tolist()
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    centres = np.arange(top, bottom)[:, np.newaxis] + 0.5
    crossed = (np.minimum(y0, y1) <= centres) & (centres < np.maximum(y0, y1))  # (rows, edges)
    rows, edges = np.nonzero(crossed)
    share = (rows + top + 0.5 - y0[edges]) / (y1[edges] - y0[edges])
    at = x0[edges] + share * (x1[edges] - x0[edges])
    columns = np.clip(np.ceil(at - 0.5), left, right).astype(np.int64) - left
    turns = np.zeros((bottom - top, right - left + 1), dtype=np.int64)
    np.add.at(turns, (rows, columns), 1)
    covered[top:bottom, left:right] = np.cumsum(turns, axis=1)[:, :-1] % 2
    if not covered.any():
        outline = np.zeros(size_px, dtype=np.uint8)
        near = np.clip(np.floor(corners), -FAR_PX, FAR_PX).astype(np.int32)
        cv2.polylines(outline, [near], isClosed=True, color=1)
        covered = outline.astype(np.bool_)
    return covered


def read_mask(data: bytes) -> NDArray[np.bool_]:
    """(H, W) which pixels of a mask file are not 0.

    Raises:
        ImageError: it is not an image, or damaged.
    """
    pixels = decode_image(data).pixels
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels, dtype=np.bool_)


def _mask_of(
    manifest: Manifest, row: Row, region: DefectRegion, size_px: tuple[int, int]
) -> NDArray[np.bool_]:
    path = manifest.folder / (region.mask or "")
    try:
        data = path.read_bytes()
        mask = read_mask(data)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error
    if hashlib.sha256(data).hexdigest() != region.mask_sha256:
        raise DataError(f"{path} was altered since it was imported")
    if mask.shape != size_px:
        raise DataError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, "
            f"its image {row.path} {size_px[1]} x {size_px[0]}"
        )
    return mask


def _size_of(manifest: Manifest, row: Row) -> tuple[int, int]:
    path = manifest.file(row)
    try:
        return decode_image(path.read_bytes()).size_px
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error


def _resized(plane: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size_px
    if plane.shape == size_px:
        return plane
    shrinks = height < plane.shape[0] or width < plane.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (width, height), interpolation=method), dtype=np.float32)
