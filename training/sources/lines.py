"""A JSONL manifest: a JSON object for every image, one a line.

    {"path": "a.png", "label": "good", "part": "P1", "lot": "7"}
    {"path": "b.png", "labels": ["crack", "void"], "annotator": "kim",
     "regions": [{"defect": "crack", "polygon": [[3, 4], [9, 4], [9, 8]]},
                 {"defect": "crack", "box": [20, 4, 6, 6]},
                 {"defect": "void", "mask": "masks/b.png"}]}

Paths are relative to the file. Corners and boxes (x, y, width, height) are in pixels. Several lines
about one path, by different annotators, are votes. A region with "allowed": true shows, but is
small enough for its zone: the label need not name it.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from inspection.errors import DataError
from training.sources import LabelledRegion
from training.sources.entries import KNOWN, Entry, joined, labelled_entries
from training.sources.naming import Naming

if TYPE_CHECKING:
    from pathlib import Path

    from training.sources import Labelled

FAR_PX = 1e6  # no image is so large; NaN is not below it either
KEYS = ("path", "label", "labels", "regions", *KNOWN)


def read_lines(
    path: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The labelled images that the lines name.

    Args:
        path: of the JSONL file.
        part_from: where in an image's path the part stands, for lines that do not say it.
        group_from: the same for the group.

    Raises:
        DataError: a line, a value or a file is missing or makes no sense; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not JSONL in UTF-8: {error}") from error
    entries = [
        _entry(f"{path}, line {number}", line, path.parent)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not entries:
        raise DataError(f"{path} names no images")
    return labelled_entries(
        entries,
        folder=path.parent,
        layout=f"manifest {path}",
        naming=Naming(part_from=part_from, group_from=group_from),
        remedy="Add a key `part` that says which part each image shows.",
    )


def box_polygon(box: Any) -> tuple[tuple[float, float], ...]:
    """The corners of a box (x, y, width, height).

    Raises:
        DataError: it is not four numbers, or has no area.
    """
    x, y, width, height = _numbers(box, 4, "a box is [x, y, width, height]")
    if width <= 0 or height <= 0:
        raise DataError(f"box {box} has no area")
    return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def read_object(text: str, where: str) -> dict[str, Any]:
    """A JSON object in which no key comes twice.

    Raises:
        DataError: it is not JSON, or not an object.
    """
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{where}: wanted a JSON object")
    return document


def field_texts(document: dict[str, Any], where: str) -> dict[str, str]:
    """What an object says of its image, by the names in `KNOWN`, as texts.

    Raises:
        DataError: a value is neither a text nor a number.
    """
    said = {}
    for name in KNOWN:
        value = document.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"{where}: {name} is {value!r}, neither a text nor a number")
        said[name] = str(value).strip()
    return said


def _entry(where: str, line: str, folder: Path) -> Entry:
    document = read_object(line, where)
    unknown = [name for name in document if name not in KEYS]
    if unknown:
        raise DataError(
            f"{where}: unknown keys: {', '.join(unknown)}", remedy=f"Possible: {', '.join(KEYS)}."
        )
    path = document.get("path")
    if not isinstance(path, str) or not path.strip():
        raise DataError(f"{where}: path is missing")
    if ("label" in document) == ("labels" in document):
        raise DataError(f"{where}: one of label and labels is wanted")
    labels = document.get("labels", [document.get("label")])
    if not isinstance(labels, list) or not all(isinstance(each, str) and each for each in labels):
        raise DataError(f"{where}: labels are {labels!r}, not a list of classes")
    regions = document.get("regions", [])
    try:
        if not isinstance(regions, list):
            raise DataError("regions are not a list")
        found = tuple(_region(each, folder) for each in regions)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return Entry(
        where=where,
        path=path.strip(),
        label=joined(labels),
        fields=field_texts(document, where),
        regions=found,
    )


def _region(document: Any, folder: Path) -> LabelledRegion:
    if not isinstance(document, dict) or not isinstance(document.get("defect"), str):
        raise DataError(f"region {document!r} names no defect")
    kinds = [name for name in document if name not in ("defect", "allowed")]
    if len(kinds) != 1 or kinds[0] not in ("polygon", "box", "mask"):
        raise DataError(f"a region has a defect and one of polygon, box, mask; this has {kinds}")
    (kind,), defect, allowed = kinds, document["defect"], document.get("allowed", False)
    if not isinstance(allowed, bool):
        raise DataError(f"allowed is {allowed!r}, not true or false")
    value = document[kind]
    if kind == "box":
        return LabelledRegion(defect=defect, polygon=box_polygon(value), allowed=allowed)
    if kind == "polygon":
        if not isinstance(value, list) or len(value) < 3:
            raise DataError("a polygon is a list of at least three corners [x, y]")
        corners = tuple(_numbers(each, 2, "a corner is [x, y]") for each in value)
        polygon = tuple((x, y) for x, y in corners)
        return LabelledRegion(defect=defect, polygon=polygon, allowed=allowed)
    if not isinstance(value, str) or not value or "\0" in value:
        raise DataError(f"mask {value!r} is not a path")
    name = PurePosixPath(value.replace("\\", "/"))
    return LabelledRegion(defect=defect, mask=folder / name, name=str(name), allowed=allowed)


def _numbers(value: Any, count: int, what: str) -> tuple[float, ...]:
    good = isinstance(value, list) and len(value) == count
    if not good or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < FAR_PX
        for each in value
    ):
        raise DataError(f"{value!r}: {what}, in pixels")
    return tuple(float(each) for each in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key comes twice")
    return document
