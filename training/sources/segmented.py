"""Folders in which masks say what the images show, or where.

    good parts and a test set                 images and masks only
    DIR/train/good/000.png                    DIR/images/0001.png
    DIR/test/good/000.png                     DIR/images/0002.png
    DIR/test/crack/000.png                    DIR/masks/crack/0002.png
    DIR/ground_truth/crack/000_mask.png

On the left the folders say what an image shows, and masks where; on the right an image is good when
no mask marks anything in it. Masks may lie in `masks` itself, which then holds one for every image.
Class folders with masks beside them are read by `training.sources.folders`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inspection.errors import DataError, ImageError
from training.data.regions import read_mask
from training.data.rows import GOOD, listed
from training.sources import (
    Labelled,
    LabelledFile,
    check_class_name,
    classes_of,
    images_under,
    refuse_shared_parts,
)
from training.sources.folders import files_of_class, wrong_level
from training.sources.masks import MASKS, MaskFiles
from training.sources.naming import Naming, refuse_unnamed

if TYPE_CHECKING:
    from pathlib import Path

ONLY_CLASS = "defect"  # of masks that lie in no class's folder
TRUTH = "ground_truth"


def is_test_layout(folder: Path) -> bool:
    """Whether good parts to train on, a test set and its masks lie in it."""
    return (folder / TRUTH).is_dir() and (folder / "test").is_dir()


def is_images_and_masks(folder: Path) -> bool:
    """Whether images and masks lie in it, and no class folders."""
    both = (folder / "images").is_dir() and (folder / MASKS).is_dir()
    return both and not (folder / GOOD).is_dir()


def read_test_layout(
    folder: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The images of train/good and test/CLASS, with the masks of ground_truth/CLASS.

    Without `part_from`, the part is the path: these sets count from 000 in every folder.

    Raises:
        DataError: a folder is missing or empty, or a mask belongs to no image.
    """
    naming = Naming(part_from=part_from, group_from=group_from, whole_path=True)
    masks = MaskFiles.under(folder / TRUTH)
    files: list[LabelledFile] = []
    ignored: list[str] = []
    for side in ("train", "test"):
        places = [p for p in sorted((folder / side).glob("*")) if p.is_dir()]
        for place in places:
            if place.name != GOOD:
                check_class_name(place.name)
            found, others = files_of_class(place, folder, place.name, naming, masks)
            ignored += others
            if side == "test" and place.name == GOOD:
                found = [_with_good_mask(file, masks) for file in found]
            files += found
    if not files:
        raise DataError(f"{folder}/train and {folder}/test hold no class folders")
    astray = [str(path) for key, path in masks.paths.items() if key not in masks.claimed]
    if astray:
        raise DataError(f"{len(astray)} masks belong to no image: {listed(astray)}")
    refuse_unnamed(files)
    return Labelled(
        layout=f"train, test and ground_truth in {folder}",
        files=tuple(files),
        classes=classes_of(files),
        ignored=tuple(ignored),
        notes=(*naming.notes, "sides: train and test are taken together; `train` splits anew"),
    )


def read_images_and_masks(
    folder: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The images under `images`; what they show, and where, from `masks`.

    Raises:
        DataError: masks and images do not belong together, or a mask cannot be read.
    """
    for place in (folder / "images", folder / MASKS):
        if not place.is_dir():
            raise wrong_level(folder)
    naming = Naming(part_from=part_from, group_from=group_from)
    place = folder / MASKS
    by_class = any(entry.is_dir() for entry in place.iterdir())
    masks = MaskFiles.under(place, one_class=None if by_class else ONLY_CLASS)
    marking = {key: path for key, path in masks.paths.items() if _marks(path)}
    names = sorted({label for label, _ in masks.paths} - {GOOD})
    unmarked = [name for name in names if name not in {label for label, _ in marking}]
    if unmarked:
        raise DataError(f"no mask of {listed(unmarked)} marks anything: all values are 0")
    images, others = images_under(folder / "images")
    files = []
    for path in images:
        name = path.relative_to(folder / "images").as_posix()
        key = path.relative_to(folder / "images").with_suffix("").as_posix()
        defects = [label for label in names if (label, key) in marking]
        files.append(
            LabelledFile(
                file=path,
                name=name,
                label=";".join(defects) or GOOD,
                part=naming.part(name) or "",
                group=naming.group(name) or "",
                regions=masks.claim(defects, key),
                mask_key=key,
            )
        )
    bare = [f.name for f in files if not by_class and (ONLY_CLASS, f.mask_key) not in masks.paths]
    if bare:
        raise DataError(
            f"{len(bare)} images have no mask: {listed(bare)}",
            remedy="Give good images a mask of zeros, or put masks into folders of their classes.",
        )
    refuse_unnamed(files)
    if part_from is None:
        refuse_shared_parts(
            files,
            named=[False] * len(files),
            remedy="Say with --part-from where the part stands in the path.",
        )
    return Labelled(
        layout=f"images and masks in {folder}",
        files=masks.with_empty_ones(files),
        classes=classes_of(files),
        ignored=tuple(path.relative_to(folder).as_posix() for path in others),
        notes=(*naming.notes, "good: images in which no mask marks anything"),
    )


def _with_good_mask(file: LabelledFile, masks: MaskFiles) -> LabelledFile:
    """The file with the mask of zeros that some sets have for good images."""
    key = GOOD, file.mask_key
    if key not in masks.paths:
        return file
    masks.claimed.add(key)
    return replace(file, empty_masks=(masks.paths[key],))


def _marks(path: Path) -> bool:
    try:
        return bool(read_mask(path.read_bytes()).any())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error
