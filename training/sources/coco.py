"""COCO JSON: boxes, polygons and run lengths become regions, categories become classes.

    images: [{id, file_name, width, height}]   categories: [{id, name}]
    annotations: [{image_id, category_id, segmentation | bbox}]

An image without annotations is good; so is one whose annotations all have the attribute `allowed`:
true, for what shows but is small enough for its zone. Beside COCO's own keys an image may say what
a line of a table may: part, group, lot, mould, captured_at, station, view, annotator.
Format: https://cocodataset.org/#format-data; run lengths after pycocotools' maskApi.c.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.errors import DataError
from training.data.rows import listed
from training.sources import Labelled, LabelledRegion, check_class_name
from training.sources.entries import Entry, joined, labelled_entries
from training.sources.lines import FAR_PX, box_polygon, field_texts, read_object
from training.sources.naming import Naming

MOST_PIXELS = 64 * 1024 * 1024  # of a mask in run lengths: what an image may have
NEEDED = ("images", "annotations", "categories")


def read_coco(
    path: Path,
    *,
    images_dir: Path | None = None,
    part_from: str | None = None,
    group_from: str | None = None,
) -> Labelled:
    """The labelled images of a COCO file.

    Args:
        path: of the JSON file.
        images_dir: where file names begin; when absent, the file's folder or `images` beside it.
        part_from: where in the file name the part stands, for images that do not say it.
        group_from: the same for the group.

    Raises:
        DataError: it is not COCO, an ID points nowhere, or a region makes no sense; names it.
    """
    try:
        document = read_object(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not JSON in UTF-8: {error}") from error
    missing = [name for name in NEEDED if not isinstance(document.get(name), list)]
    if missing:
        raise DataError(
            f"{path} is not COCO: it has no list of {', '.join(missing)}",
            remedy="Export it as COCO; a JSONL manifest ends in .jsonl.",
        )
    images = _by_id(document["images"], "image", path)
    categories = {
        number: _category(entry, path)
        for number, entry in _by_id(document["categories"], "category", path).items()
    }
    if len(set(categories.values())) < len(categories):
        raise DataError(f"{path}: two categories have one name: {', '.join(categories.values())}")
    regions: dict[str, list[LabelledRegion]] = {number: [] for number in images}
    for position, annotation in enumerate(document["annotations"], start=1):
        where = f"{path}, annotation {_id_of(annotation, position)}"
        image, defect = _pointed_at(annotation, images, categories, where)
        try:
            found = _regions(annotation, images[image], defect, position)
            allowed = _allowed(annotation)
            regions[image] += [replace(region, allowed=allowed) for region in found]
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    entries = [
        _entry(entry, f"{path}, image {number}", regions[number])
        for number, entry in images.items()
    ]
    if not entries:
        raise DataError(f"{path} names no images")
    bare = sum(all(region.allowed for region in each) for each in regions.values())
    used = {r.defect for each in regions.values() for r in each if not r.allowed}
    unused = [name for name in categories.values() if name not in used]
    notes = [f"good: {bare} images that have no annotation"]
    if unused:
        notes.append(f"left out: categories without annotation: {listed(unused)}")
    return labelled_entries(
        entries,
        folder=images_dir or _images_dir(path, entries[0].path),
        layout=f"COCO {path}",
        naming=Naming(part_from=part_from, group_from=group_from),
        remedy="Say with --part-from where the part stands in the file name; or add a key `part` "
        "to each image.",
        notes=tuple(notes),
        elsewhere=" Name another folder with --images-dir.",
    )


def decode_run_lengths(document: dict[str, Any]) -> NDArray[np.bool_]:
    """(H, W) the mask of {"size": [H, W], "counts": [...] or "..."}.

    Raises:
        DataError: sizes or lengths make no sense.
    """
    size, counts = document.get("size"), document.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(isinstance(n, int) and 0 < n <= MOST_PIXELS for n in size)
        or size[0] * size[1] > MOST_PIXELS
    ):
        raise DataError(f"run lengths of a mask of size {size!r}")
    if isinstance(counts, str):
        counts = _decode_counts(counts)
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise DataError("run lengths are not whole numbers")
    if sum(counts) != size[0] * size[1]:
        raise DataError(f"run lengths cover {sum(counts)} pixels of {size[0] * size[1]}")
    values = np.arange(len(counts)) % 2 == 1  # they begin with what is not the object
    return np.repeat(values, counts).reshape((size[0], size[1]), order="F")


def _decode_counts(text: str) -> list[int]:
    """The lengths out of COCO's compressed form: 6 bits a character, as differences."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(text) or not 48 <= ord(text[position]) < 112 or shift > 40:
                raise DataError("run lengths are damaged")
            symbol = ord(text[position]) - 48
            value |= (symbol & 0x1F) << shift
            more = bool(symbol & 0x20)
            position += 1
            shift += 5
            if not more and symbol & 0x10:
                value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
    return counts


def _by_id(entries: list[Any], what: str, path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
            raise DataError(f"{path}: {what} number {position} has no id")
        if str(entry["id"]) in found:
            raise DataError(f"{path}: two entries are {what} {entry['id']}")
        found[str(entry["id"])] = entry
    return found


def _category(entry: dict[str, Any], path: Path) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise DataError(f"{path}: category {entry['id']} has no name")
    try:
        check_class_name(name.strip())
        if name.strip() == "good":
            raise DataError("`good` is not a defect: images without annotations are good")
    except DataError as error:
        raise DataError(f"{path}: category {entry['id']}: {error}", remedy=error.remedy) from error
    return name.strip()


def _id_of(annotation: Any, position: int) -> str:
    number = annotation.get("id") if isinstance(annotation, dict) else None
    return str(number) if number is not None else f"number {position}"


def _pointed_at(
    annotation: Any,
    images: dict[str, dict[str, Any]],
    categories: dict[str, str],
    where: str,
) -> tuple[str, str]:
    """The image's ID and the class that an annotation names."""
    if not isinstance(annotation, dict):
        raise DataError(f"{where}: wanted a JSON object")
    image, category = str(annotation.get("image_id")), str(annotation.get("category_id"))
    if image not in images:
        raise DataError(f"{where}: there is no image {image}")
    if category not in categories:
        raise DataError(
            f"{where}: there is no category {category}",
            remedy=f"The categories are {', '.join(f'{n} {c}' for n, c in categories.items())}.",
        )
    return image, categories[category]


def _allowed(annotation: dict[str, Any]) -> bool:
    """Whether its attributes say that the part is not bad for it."""
    attributes = annotation.get("attributes")
    allowed = attributes.get("allowed", False) if isinstance(attributes, dict) else False
    if not isinstance(allowed, bool):
        raise DataError(f"its attribute allowed is {allowed!r}, not true or false")
    return allowed


def _regions(
    annotation: dict[str, Any], image: dict[str, Any], defect: str, position: int
) -> list[LabelledRegion]:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        mask = decode_run_lengths(segmentation)
        if _size_of(image) not in (None, mask.shape):
            raise DataError(f"its mask has {mask.shape}, its image {_size_of(image)} pixels")
        _, data = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        name = f"{defect}/{PurePosixPath(str(image.get('file_name'))).stem}-{position}.png"
        return [LabelledRegion(defect=defect, mask=data.tobytes(), name=name)]
    if segmentation:
        if not isinstance(segmentation, list):
            raise DataError("its segmentation is neither polygons nor run lengths")
        return [LabelledRegion(defect=defect, polygon=_polygon(each)) for each in segmentation]
    if annotation.get("bbox") is None:
        raise DataError("it has neither a segmentation nor a bbox")
    return [LabelledRegion(defect=defect, polygon=box_polygon(annotation["bbox"]))]


def _polygon(numbers: Any) -> tuple[tuple[float, float], ...]:
    if (
        not isinstance(numbers, list)
        or len(numbers) < 6
        or len(numbers) % 2
        or not all(isinstance(n, int | float) and abs(n) < FAR_PX for n in numbers)
    ):
        raise DataError("a polygon is [x1, y1, x2, y2, x3, y3, ...], in pixels")
    return tuple((float(x), float(y)) for x, y in zip(numbers[::2], numbers[1::2], strict=True))


def _entry(image: dict[str, Any], where: str, regions: list[LabelledRegion]) -> Entry:
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where} has no file_name")
    return Entry(
        where=where,
        path=name.strip(),
        label=joined(sorted({region.defect for region in regions if not region.allowed})),
        fields=field_texts(image, where),
        regions=tuple(regions),
        size_px=_size_of(image),
    )


def _size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    size = image.get("height"), image.get("width")
    height, width = size
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _images_dir(path: Path, first: str) -> Path:
    beside = path.parent / "images"
    name = PurePosixPath(first.replace("\\", "/"))
    try:
        found = not (path.parent / name).is_file() and (beside / name).is_file()
    except (OSError, ValueError):
        found = False
    return beside if found else path.parent
