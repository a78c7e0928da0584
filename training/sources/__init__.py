"""Where labelled images come from: each source gives `Labelled`; `training.importing` stores it.

class folders, images and masks, CSV, JSONL, COCO, elpv-dataset  ->  Labelled
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataError
from training.data.rows import GOOD, defects_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inspection.recipe import Flip
    from training.data.rows import Vote

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm")
LONGEST_TEXT = 512  # of a path, a part, a lot
FORMULA = re.compile(r"[=@]|[+-].*[(|!]")  # what a spreadsheet would run
OK_NAMES = ("good", "ok", "pass", "gut", "normal", "nodefect", "no_defect")  # what others call it


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRegion:
    """Where an image shows a defect, as its source says it; see `training.data.regions`.

    Attributes:
        mask: the mask's file, or a PNG's bytes where the source holds no file.
        name: of the mask in the data set, with `/`.
        allowed: it shows, and the part is not bad for it.
    """

    defect: str
    polygon: tuple[tuple[float, float], ...] = ()
    mask: Path | bytes | None = None
    name: str = ""
    allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """One image and what its source says about it; see `training.data.rows.Row`.

    Attributes:
        file: where it lies now.
        name: its path inside the source, with `/`; its name in the data set.
        size_px: (height, width) that the source says the image has.
        mask_key: by which masks in folders are found: its path in its class's folder, without
            suffix.
        empty_masks: mask files that must hold nothing but 0.
    """

    file: Path
    name: str
    label: str
    part: str
    group: str
    probability: float | None = None
    lot: str | None = None
    mould: str | None = None
    captured_at: str | None = None
    station: str | None = None
    view: str | None = None
    annotator: str | None = None
    votes: tuple[Vote, ...] = ()
    regions: tuple[LabelledRegion, ...] = ()
    size_px: tuple[int, int] | None = None
    mask_key: str = ""
    empty_masks: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        texts = (self.name, self.part, self.group, self.lot, self.mould, self.captured_at)
        for text in (*texts, self.station, self.view, self.annotator):
            check_text(text or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A source, understood.

    Attributes:
        layout: what kind of source this is, in words.
        product: the product it belongs to, where the source knows it.
        ignored: files that are no images.
        stray: images that lie where no class is.
        notes: what a person should know of how parts and groups were found.
    """

    layout: str
    files: tuple[LabelledFile, ...]
    classes: tuple[str, ...]
    product: str | None = None
    licence: str = "not stated"
    origin: str = "not stated"
    modality: Literal["x-ray", "vision"] | None = None
    flips: tuple[Flip, ...] = ()
    ignored: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def images_under(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images at any depth, and the other files; both sorted. Hidden folders are left out."""
    images: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            known = name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
            (images if known else others).append(Path(place) / name)
    return images, others


def classes_of(files: Iterable[LabelledFile]) -> tuple[str, ...]:
    """The defect classes that labels and votes name, sorted.

    Raises:
        DataError: a name would not survive; see `check_class_name`.
    """
    said = {label for f in files for label in (f.label, *(vote.label for vote in f.votes))}
    classes = sorted({name for label in said for name in defects_of(label)})
    for name in classes:
        check_class_name(name)
    return tuple(classes)


def refuse_shared_parts(
    files: Sequence[LabelledFile], *, named: Sequence[bool], remedy: str
) -> None:
    """Refuse a part that was only guessed from a file's name, when another file has it too.

    Args:
        files: of the source.
        named: (n,) whether the source itself named each file's part.
        remedy: how the source can name it.

    Raises:
        DataError: it would become one part with two images.
    """
    seen: dict[str, tuple[str, bool]] = {}
    for file, known in zip(files, named, strict=True):
        first, first_known = seen.setdefault(file.part, (file.name, known))
        if first != file.name and not (known and first_known):
            raise DataError(
                f"two files have the part name {file.part!r}: {first}, {file.name}", remedy=remedy
            )


def check_class_name(name: str) -> None:
    """Refuse a class name that would not survive in a manifest, a label or a page.

    Raises:
        DataError: it is empty, hidden, or holds a separator or a control character; or it is
            another word for good.
    """
    if not name or name != name.strip() or name.startswith("."):
        raise DataError(f"{name!r} cannot be a class name")
    if any(symbol in ";,/\\" or not symbol.isprintable() for symbol in name):
        raise DataError(f"class name {name!r}: `;`, `,`, `/` and `\\` cannot be used in it")
    if name != GOOD and name.lower() in OK_NAMES:
        raise DataError(
            f"class name {name!r}: good parts are called `good`, in small letters",
            remedy=f"Rename {name!r} to `good`; or, if it is a defect, give it another name.",
        )
    check_text(name)


def check_text(text: str) -> None:
    """Refuse a text that would harm a file, a page or a spreadsheet that it is shown in.

    Raises:
        DataError: it is very long, holds a control character, or reads as a formula.
    """
    if len(text) > LONGEST_TEXT:
        raise DataError(f"{text[:40]!r}... has {len(text)} characters; {LONGEST_TEXT} are the most")
    if any(ord(symbol) < 32 or ord(symbol) == 127 for symbol in text):
        raise DataError(f"{text!r} holds a control character")
    if FORMULA.match(text):
        raise DataError(
            f"{text!r} begins like a formula; a spreadsheet would run it",
            remedy="Name it otherwise, at its source.",
        )
