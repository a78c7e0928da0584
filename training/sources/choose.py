"""Which kind of source somebody has named: told, or seen from what lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from training.sources import Labelled

KINDS = ("folders", "table", "jsonl", "coco", "masks", "elpv")
BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco"}  # any other file: a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was said of a source, beside where it is.

    Attributes:
        kind: one of `KINDS`; found out when absent.
        part_from: where in a path the part stands; see `training.sources.naming.Naming`.
        group_from: the same for the group.
        images_dir: where file names in COCO begin.
    """

    kind: str | None = None
    part_from: str | None = None
    group_from: str | None = None
    images_dir: Path | None = None


def read_source(source: Path | None, asked: Asked) -> Labelled:
    """The labelled images of a source.

    Raises:
        DataError: it is not there, or is not laid out as its kind is.
        MissingExtra: the package elpv-dataset is not installed.
    """
    from training.sources.coco import read_coco
    from training.sources.elpv import read_elpv
    from training.sources.folders import read_folders
    from training.sources.lines import read_lines
    from training.sources.segmented import (
        is_test_layout,
        read_images_and_masks,
        read_test_layout,
    )
    from training.sources.table import read_table

    kind, part, group = asked.kind, asked.part_from, asked.group_from
    if kind == "elpv":
        if part or group:
            raise DataError("--part-from and --group-from do not go with --from elpv")
        return read_elpv(source)
    if source is None or not source.exists():
        raise DataError(f"{source} is not there")
    kind = kind or kind_of(source)
    if asked.images_dir is not None and kind != "coco":
        raise DataError("--images-dir goes with COCO", remedy="Leave it out.")
    if source.is_dir() != (kind in ("folders", "masks")):
        what = "a folder" if source.is_dir() else "a file"
        raise DataError(f"{source} is {what}; --from {kind} wants the other")
    if kind == "table":
        return read_table(source, part_from=part, group_from=group)
    if kind == "jsonl":
        return read_lines(source, part_from=part, group_from=group)
    if kind == "coco":
        return read_coco(source, images_dir=asked.images_dir, part_from=part, group_from=group)
    if kind == "masks" and is_test_layout(source):
        return read_test_layout(source, part_from=part, group_from=group)
    if kind == "masks":
        return read_images_and_masks(source, part_from=part, group_from=group)
    return read_folders(source, part_from=part, group_from=group)


def kind_of(source: Path) -> str:
    """The kind that a folder or a file looks like."""
    from training.sources.segmented import is_images_and_masks, is_test_layout

    if source.is_file():
        return BY_SUFFIX.get(source.suffix.lower(), "table")
    return "masks" if is_test_layout(source) or is_images_and_masks(source) else "folders"
