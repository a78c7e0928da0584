"""The split that is kept with a revision: made once by `inspection data split`, used by `train`.

    <revision>/split.csv     path,fold: the same form as a split that was made elsewhere
    <revision>/split.toml    how it was made

It does not belong to what a revision says, and not to its digest: making another one replaces it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import ConfigurationError, DataError
from inspection.recipe import first_complaint
from training.fitting.checkpoint import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from training.manifest import Manifest

SPLIT_NAME = "split.csv"
MADE_NAME = "split.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a saved split was made.

    Attributes:
        digest: SHA-256 over which part lies on which side.
        group_by: the fields that keep parts together.
        folds: how many numbered folds; 0 when the sides have names.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    digest: str
    seed: int
    group_by: tuple[str, ...]
    folds: int
    why: str


def save_split(manifest: Manifest, text: str, made: Made) -> Path:
    """Keep a split with the revision, in place of the former one.

    Args:
        manifest: the revision.
        text: of the CSV, `path,fold`.
        made: how.

    Raises:
        ConfigurationError: the disk refused.
    """
    place = manifest.revision_folder
    document = tomli_w.dumps(_adapter().dump_python(made, mode="json"))
    try:
        (place / MADE_NAME).unlink(missing_ok=True)  # without it there is no saved split
        write_whole(place / SPLIT_NAME, text.encode())
        write_whole(place / MADE_NAME, document.encode())
    except OSError as error:
        raise ConfigurationError(
            f"the split cannot be written to {place}: {error.strerror or error}",
            remedy="Free some disk space or correct the folder's rights, and run it again.",
        ) from error
    return place / SPLIT_NAME


def saved_split(manifest: Manifest) -> tuple[Path, Made] | None:
    """The split that is kept with the revision, and how it was made.

    Raises:
        DataError: what is there makes no sense.
    """
    place = manifest.revision_folder
    path = place / MADE_NAME
    if not path.exists():
        return None
    try:
        made = _adapter().validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_complaint(error)}") from error
    return place / SPLIT_NAME, made


@cache
def _adapter() -> TypeAdapter[Made]:
    return TypeAdapter(Made)
