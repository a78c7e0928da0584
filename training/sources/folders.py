"""Class folders: `good/` and a folder for every defect class.

    DIR/good/0001.png          a good part
    DIR/crack/0002.png         a part with a crack
    DIR/crack;void/0003.png    a part with both
    DIR/masks/crack/0002.png   where its crack is, if that is known (see `training.sources.masks`)

The part is the file's name without suffix and the group is the part, unless patterns say where in
the path they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection.errors import DataError
from training.data.rows import GOOD, check_label, defects_of
from training.sources import (
    IMAGE_SUFFIXES,
    OK_NAMES,
    Labelled,
    LabelledFile,
    check_class_name,
    classes_of,
    images_under,
    refuse_shared_parts,
)
from training.sources.masks import MASKS, MaskFiles
from training.sources.naming import Naming, refuse_unnamed

if TYPE_CHECKING:
    from pathlib import Path

LISTS = (".csv", ".jsonl", ".ndjson", ".json")
SHOWN_FOLDERS = 4


def read_folders(
    folder: Path, *, part_from: str | None = None, group_from: str | None = None
) -> Labelled:
    """The labelled images under `folder`.

    Args:
        folder: holds `good` and a folder for every defect class.
        part_from: where in the path the part stands; see `training.sources.naming.Naming`.
        group_from: the same for the group.

    Raises:
        DataError: it is not laid out like this; says what was found and what may be meant.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if not (folder / GOOD).is_dir():
        raise wrong_level(folder)
    naming = Naming(part_from=part_from, group_from=group_from)
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name not in (GOOD, MASKS) and not entry.name.startswith(".")
    )
    for name in names:
        check_label(name)
        for each in name.split(";"):
            check_class_name(each)
    masks = MaskFiles.under(folder / MASKS)
    files: list[LabelledFile] = []
    stray, ignored = _beside(folder)
    for label in (GOOD, *names):
        found, others = files_of_class(folder / label, folder, label, naming, masks)
        files += found
        ignored += others
    refuse_unnamed(files)
    if part_from is None:
        refuse_shared_parts(
            files,
            named=[False] * len(files),
            remedy="Name files after their parts; or say with --part-from where the part stands in "
            "the path, if these are two images of one part.",
        )
    return Labelled(
        layout=f"class folders in {folder}" + (", with masks" if masks.paths else ""),
        files=masks.with_empty_ones(files),
        classes=classes_of(files),
        ignored=tuple(ignored),
        stray=tuple(stray),
        notes=naming.notes,
    )


def files_of_class(
    place: Path, root: Path, label: str, naming: Naming, masks: MaskFiles
) -> tuple[list[LabelledFile], list[str]]:
    """The labelled images in one class's folder, and the names of what are no images there.

    A part or group that the patterns do not find is empty.

    Raises:
        DataError: there is no image in it.
    """
    images, others = images_under(place)
    if not images:
        raise DataError(
            f"class {label!r} is empty: {place} holds no PNG, TIFF or JPEG",
            remedy="Put images into it, or remove the folder.",
        )
    files = []
    for path in images:
        name = path.relative_to(root).as_posix()
        key = path.relative_to(place).with_suffix("").as_posix()
        files.append(
            LabelledFile(
                file=path,
                name=name,
                label=";".join(sorted(label.split(";"))),
                part=naming.part(name) or "",
                group=naming.group(name) or "",
                regions=masks.claim(defects_of(label), key),
                mask_key=key,
            )
        )
    return files, [path.relative_to(root).as_posix() for path in others]


def wrong_level(folder: Path) -> DataError:
    """Why there is no `good` here, and which folder may be meant."""
    children = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in children if entry.is_dir()]
    held = " and ".join(repr(entry.name) for entry in folders[:SHOWN_FOLDERS]) or "no folders"
    if len(folders) > SHOWN_FOLDERS:
        held += f" and {len(folders) - SHOWN_FOLDERS} more"
    deeper = [entry for entry in folders if (entry / GOOD).is_dir()]
    said = [entry for entry in folders if entry.name.lower() in OK_NAMES]
    files = [entry for entry in children if entry.suffix.lower() in LISTS]
    files += sorted((folder / "annotations").glob("*.json"))
    images = [entry for entry in children if entry.suffix.lower() in IMAGE_SUFFIXES]
    if said:
        hint = f"rename {said[0].name!r} to `{GOOD}`: so good parts are called here"
    elif folder.name == GOOD or (folder.parent / GOOD).is_dir():
        hint = f"did you mean {folder.parent}?"
    elif deeper:
        hint = f"did you mean {deeper[0]}?"
    elif files:
        hint = f"did you mean {files[0]}?"
    elif (folder / "images").is_dir():
        hint = f"did you mean {folder / 'images'}?"
    elif images:
        hint = "images lie in it directly; they belong into `good` and a folder for every class"
    else:
        hint = f"a folder `{GOOD}` and one for every defect class are wanted"
    return DataError(
        f"{folder} holds {held}; {hint}",
        remedy="Name the folder that holds `good` and the folders of the defect classes.",
    )


def _beside(folder: Path) -> tuple[list[str], list[str]]:
    """Images, and other files, that lie beside the class folders."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return images, [name for name in names if name not in images]
