"""Where labelled images come from: each source gives `Labelled`; `training.importing` stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inspection.recipe import Flip

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """One image and what its source says about it; see `training.rows.Row`.

    Attributes:
        file: where it lies now.
        name: its path inside the source, with `/`; its name in the data set.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A source, understood.

    Attributes:
        layout: what kind of source this is, in words.
        product: the product it belongs to, where the source knows it.
        ignored: how many files were no images.
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
    ignored: int = 0
    notes: tuple[str, ...] = ()


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
        DataError: it is empty, hidden, or holds a separator or a control character.
    """
    if not name or name != name.strip() or name.startswith("."):
        raise DataError(f"{name!r} cannot be a class name")
    if any(symbol in ";,/\\" or not symbol.isprintable() for symbol in name):
        raise DataError(f"class name {name!r}: `;`, `,`, `/` and `\\` cannot be used in it")
    if name.lower() == "good" and name != "good":
        raise DataError(f"class name {name!r}: good parts are called `good`, in small letters")
