"""The labelled set as training sees it: a row for every image, and what is known of the whole.

    datasets/<name>/
        images/...      the image files, unless they were left where they were
        manifest.csv    a line for every image
        dataset.toml    name, product, classes, licence, origin, what the images are, counts, digest

`dataset.toml` is written last: without it there is no data set. Without the manifest beside it,
the folder only describes one that was not imported here.
"""

from __future__ import annotations

import io
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import DataError
from inspection.recipe import Flip, first_complaint
from training.rows import GOOD, Row, digest_rows, file_sha256, listed, parse_rows, rows_as_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MANIFEST_NAME = "manifest.csv"
DESCRIPTION_NAME = "dataset.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the images of a set have in common.

    Attributes:
        bits, channels: 8 or 16; 1 or 3.
        frame_size_px: (height, width) when all images agree on it.
        grey_range: lowest and highest grey level that occurs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    bits: Literal[8, 16]
    channels: Literal[1, 3]
    grey_range: tuple[int, int]
    frame_size_px: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A labelled set, complete and without contradictions. Rows are in canonical order.

    Attributes:
        digest: SHA-256 over product, classes and rows; paths and folders are left out of it, so it
            stays when the set moves.
        folder: where row paths begin.
    """

    name: str
    product: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    licence: str
    origin: str
    modality: Literal["x-ray", "vision"]
    images: ImageFacts
    flips: tuple[Flip, ...] = ()
    folder: Path = field(default=Path(), compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        _check_rows(self.rows, self.classes)
        ordered = tuple(sorted(self.rows, key=lambda row: (row.group, row.part, row.sha256)))
        object.__setattr__(self, "rows", ordered)
        object.__setattr__(self, "digest", digest_rows(self.product, self.classes, ordered))

    @property
    def bad(self) -> NDArray[np.bool_]:
        """(N,) whether each row's part is bad: one image that shows a defect is enough."""
        bad_parts = {row.part for row in self.rows if row.bad}
        return np.array([row.part in bad_parts for row in self.rows], dtype=np.bool_)

    @property
    def parts(self) -> tuple[str, ...]:
        """(N,) the part of each row."""
        return tuple(row.part for row in self.rows)

    @property
    def groups(self) -> tuple[str, ...]:
        """(N,) the group of each row."""
        return tuple(row.group for row in self.rows)

    def targets(self) -> NDArray[np.float32]:
        """(N, K) float32 soft labels, a column for each of `classes`."""
        table = np.zeros((len(self.rows), len(self.classes)), dtype=np.float32)
        for i, row in enumerate(self.rows):
            if row.bad:
                table[i, [self.classes.index(name) for name in row.defects]] = row.certainty
            else:  # a doubt about a good part belongs to a class only when there is just one
                table[i, :] = row.certainty
        return table

    def counts(self) -> dict[str, int]:
        """How many images, parts, groups and bad parts there are."""
        return {
            "images": len(self.rows),
            "parts": len(set(self.parts)),
            "groups": len(set(self.groups)),
            "bad_parts": len({row.part for row in self.rows if row.bad}),
        }

    def label_counts(self) -> dict[str, int]:
        """How many images show good parts, and each class."""
        labels = Counter(name for row in self.rows for name in (row.defects or (GOOD,)))
        return {name: labels[name] for name in (GOOD, *self.classes)}

    def file(self, row: Row) -> Path:
        """Where the row's image lies."""
        return self.folder / row.path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """What dataset.toml holds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    product: str
    modality: Literal["x-ray", "vision"]
    classes: tuple[str, ...]
    licence: str
    origin: str
    digest: str
    images: ImageFacts
    counts: dict[str, int]
    labels: dict[str, int]
    flips: tuple[Flip, ...] = ()


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.csv, then dataset.toml, into `folder`. Equal sets give equal bytes."""
    (folder / MANIFEST_NAME).write_text(rows_as_csv(manifest.rows), encoding="utf-8")
    document = _adapter().dump_python(
        _Description(
            name=manifest.name,
            product=manifest.product,
            modality=manifest.modality,
            classes=manifest.classes,
            licence=manifest.licence,
            origin=manifest.origin,
            digest=manifest.digest,
            images=manifest.images,
            counts=manifest.counts(),
            labels=manifest.label_counts(),
            flips=manifest.flips,
        ),
        mode="json",
        exclude_none=True,
    )
    text = tomli_w.dumps(document, multiline_strings=True)
    (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")


def described_digest(folder: Path) -> str | None:
    """The digest that dataset.toml in `folder` names; None where there is no dataset.toml."""
    return _describe(folder).digest if (folder / DESCRIPTION_NAME).exists() else None


def read_manifest(folder: Path, *, verify: bool = False) -> Manifest:
    """The data set in `folder`.

    Args:
        folder: such as datasets/knuckles.
        verify: read every image and compare its SHA-256.

    Raises:
        DataError: it is not there, its files contradict each other, or images are missing.
    """
    if not (folder / DESCRIPTION_NAME).exists():
        raise DataError(
            f"there is no data set in {folder}",
            remedy="`inspection data list` shows those that are there; "
            "`inspection data import DIR --name NAME` makes one.",
        )
    description = _describe(folder)
    if not (folder / MANIFEST_NAME).exists():
        raise DataError(
            f"{folder} describes the data set {description.name}, but its images are not here",
            remedy="Import it: see README.md in that folder, or `inspection data import --help`.",
        )
    manifest = Manifest(
        name=description.name,
        product=description.product,
        rows=_read_rows(folder / MANIFEST_NAME),
        classes=description.classes,
        licence=description.licence,
        origin=description.origin,
        modality=description.modality,
        images=description.images,
        flips=description.flips,
        folder=folder,
    )
    if manifest.digest != description.digest:
        raise DataError(
            f"{folder / MANIFEST_NAME} was altered since it was imported",
            remedy="A data set is never edited in place: correct the source and import it with "
            "--replace, or under a new name.",
        )
    missing = [row.path for row in manifest.rows if not manifest.file(row).is_file()]
    if missing:
        raise DataError(f"{folder}: {len(missing)} images are missing: {listed(missing)}")
    if verify:
        verify_images(manifest)
    return manifest


def verify_images(manifest: Manifest) -> None:
    """Read every image and compare its SHA-256: quick beside anything that decodes them.

    Raises:
        DataError: images were altered or cannot be read; names the first of them.
    """
    try:
        altered = [
            row.path for row in manifest.rows if file_sha256(manifest.file(row)) != row.sha256
        ]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror or error}") from error
    if altered:
        raise DataError(
            f"{manifest.folder}: {len(altered)} images were altered since they were imported: "
            f"{listed(altered)}",
            remedy="Bring the files back, or import the source again with --replace.",
        )


def _check_rows(rows: Sequence[Row], classes: Sequence[str]) -> None:
    if not rows:
        raise DataError("the set holds no images")
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} paths occur more than once: {listed(sorted(twice))}")
    if not classes or len(set(classes)) != len(classes) or GOOD in classes:
        raise DataError("classes must name at least one defect class, each once, and not `good`")
    unknown = sorted({name for row in rows for name in row.defects} - set(classes))
    if unknown:
        raise DataError(f"labels that are not among the classes: {listed(unknown)}")
    used = Counter(name for row in rows for name in (row.defects or (GOOD,)))
    empty = [name for name in (GOOD, *classes) if not used[name]]
    if empty:
        raise DataError(
            f"no image of: {listed(empty)}",
            remedy="Add images of it, or leave the class out; good and bad parts are both needed.",
        )
    doubtful = [row.path for row in rows if not row.bad and row.certainty > 0]
    if doubtful and len(classes) > 1:
        raise DataError(
            f"good rows with a probability above 0, but {len(classes)} classes it could mean: "
            f"{listed(doubtful)}"
        )
    places: dict[str, set[str]] = {}
    for row in rows:
        places.setdefault(row.part, set()).add(row.group)
    torn = sorted(part for part, groups in places.items() if len(groups) > 1)
    if torn:
        raise DataError(f"{len(torn)} parts lie in more than one group: {listed(torn)}")


def _describe(folder: Path) -> _Description:
    path = folder / DESCRIPTION_NAME
    try:
        return _adapter().validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_complaint(error)}") from error


def _read_rows(path: Path) -> tuple[Row, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    return parse_rows(io.StringIO(text, newline=""), str(path))


@cache
def _adapter() -> TypeAdapter[_Description]:
    return TypeAdapter(_Description)
