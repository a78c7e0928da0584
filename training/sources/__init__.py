"""Where labelled images come from: each source gives `Labelled`; `training.importing` stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataError

if TYPE_CHECKING:
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
