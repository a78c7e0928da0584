"""The labelled set as training sees it: a row for every image, and what is known of the whole.

    datasets/<name>/
        images/...          the image files, unless they were left where they were
        masks/...           the mask files, where there are any
        calibrations/...    of the detector that took the images, where one is named
        revisions/<n>/      what is said of them; never changed once it is there
            manifest.csv    a line for every image
            regions.jsonl   where the defects are, a line for every image that says it
            dataset.toml    name, product, classes, licence, origin, what the images are, counts,
                            digest, and which revision this came from

Revisions share images and masks, which are only ever added. The newest revision is the one that
counts. A set of the first release has manifest.csv and dataset.toml beside images/: that is its
revision 1. Without a manifest, dataset.toml there only describes a set that was not imported here.
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
from training.data.facts import CalibrationFile, ImageFacts
from training.data.regions import dump_regions, parse_regions
from training.data.rows import (
    GOOD,
    Row,
    check_rows,
    digest_rows,
    file_sha256,
    listed,
    parse_rows,
    rows_as_csv,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST_NAME = "manifest.csv"
REGIONS_NAME = "regions.jsonl"
DESCRIPTION_NAME = "dataset.toml"
REVISIONS = "revisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A labelled set, complete and without contradictions. Rows are in canonical order.

    Attributes:
        classes: the defect classes; none when the set holds good parts only.
        calibration: of the detector that took the images; None when it is not known.
        digest: SHA-256 over product, classes, rows and calibration; paths and folders are left out
            of it, so it stays when the set moves.
        folder: where row paths begin.
        revision: counts from 1.
        parent: the revision that this one was made from; None for an import of its own.
        reason: why this revision was made, in words.
        created_at: UTC, ISO 8601.
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
    calibration: CalibrationFile | None = None
    folder: Path = field(default=Path(), compare=False)
    revision: int = field(default=1, compare=False)
    parent: int | None = field(default=None, compare=False)
    reason: str | None = field(default=None, compare=False)
    created_at: str | None = field(default=None, compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.revision < 1:
            raise DataError(f"revision {self.revision}: revisions count from 1")
        check_rows(self.rows, self.classes)
        ordered = tuple(sorted(self.rows, key=lambda row: (row.group, row.part, row.sha256)))
        object.__setattr__(self, "rows", ordered)
        taken_with = None if self.calibration is None else self.calibration.digest
        digest = digest_rows(self.product, self.classes, ordered, taken_with)
        object.__setattr__(self, "digest", digest)

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
        """(N, K) float32 soft labels, a column for each of `classes`.

        Where several voted, the share of them that names the class; else the label's certainty.
        """
        table = np.zeros((len(self.rows), len(self.classes)), dtype=np.float32)
        for i, row in enumerate(self.rows):
            if row.votes:
                named = Counter(name for vote in row.votes for name in vote.defects)
                table[i] = [named[name] / len(row.votes) for name in self.classes]
            elif row.bad:
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

    @property
    def reference(self) -> str:
        """Name and revision, such as knuckles@2."""
        return f"{self.name}@{self.revision}"

    @property
    def revision_folder(self) -> Path:
        """Where what is said of this revision lies."""
        return revision_folder(self.folder, self.revision)


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
    calibration: CalibrationFile | None = None
    revision: int = 1
    parent: int | None = None
    reason: str | None = None
    created_at: str | None = None


def revision_numbers(folder: Path) -> tuple[int, ...]:
    """The revisions that a data set's folder holds, the oldest first."""
    numbers = {number for number, place in _numbered(folder).items() if any(place.iterdir())}
    if (folder / MANIFEST_NAME).exists():  # of the first release
        numbers.add(1)
    return tuple(sorted(numbers))


def next_revision(folder: Path) -> int:
    """The first number that no revision has, or had: a removed one leaves its empty folder."""
    return max([*revision_numbers(folder), *_numbered(folder)], default=0) + 1


def _numbered(folder: Path) -> dict[int, Path]:
    places = folder / REVISIONS
    found = places.iterdir() if places.is_dir() else ()
    return {int(p.name): p for p in found if p.name.isascii() and p.name.isdigit() and p.is_dir()}


def revision_folder(folder: Path, revision: int) -> Path:
    """Where manifest.csv and dataset.toml of a revision lie, or would lie."""
    place = folder / REVISIONS / str(revision)
    if revision == 1 and not place.exists() and (folder / MANIFEST_NAME).exists():
        return folder
    return place


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.csv, regions.jsonl, then dataset.toml, into `folder`.

    Equal sets give equal bytes.
    """
    (folder / MANIFEST_NAME).write_text(rows_as_csv(manifest.rows), encoding="utf-8")
    regions = dump_regions({row.path: row.regions for row in manifest.rows if row.regions})
    if regions:
        (folder / REGIONS_NAME).write_text(regions, encoding="utf-8")
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
            calibration=manifest.calibration,
            revision=manifest.revision,
            parent=manifest.parent,
            reason=manifest.reason,
            created_at=manifest.created_at,
        ),
        mode="json",
        exclude_none=True,
    )
    text = tomli_w.dumps(document, multiline_strings=True)
    (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")


def described_digest(folder: Path) -> str | None:
    """The digest that dataset.toml in `folder` names; None where there is no dataset.toml."""
    return _describe(folder).digest if (folder / DESCRIPTION_NAME).exists() else None


def read_manifest(
    folder: Path,
    *,
    revision: int | None = None,
    verify: bool = False,
    complete: bool = True,
) -> Manifest:
    """The data set in `folder`.

    Args:
        folder: such as datasets/knuckles.
        revision: the newest when absent.
        verify: read every image and compare its SHA-256.
        complete: whether images that are gone are an error.

    Raises:
        DataError: it is not there, its files contradict each other, or images are missing.
    """
    numbers = revision_numbers(folder)
    if not numbers:
        raise _nothing_there(folder)
    number = numbers[-1] if revision is None else revision
    if number not in numbers:
        raise DataError(
            f"{folder} has no revision {number}; there are {listed([str(n) for n in numbers])}",
            remedy=f"`inspection data show {folder.name}` shows the newest.",
        )
    place = revision_folder(folder, number)
    description = _describe(place)
    if description.revision != number:
        raise DataError(f"{place / DESCRIPTION_NAME} is of revision {description.revision}")
    manifest = Manifest(
        name=description.name,
        product=description.product,
        rows=_read_rows(place),
        classes=description.classes,
        licence=description.licence,
        origin=description.origin,
        modality=description.modality,
        images=description.images,
        flips=description.flips,
        calibration=description.calibration,
        folder=folder,
        revision=number,
        parent=description.parent,
        reason=description.reason,
        created_at=description.created_at,
    )
    if manifest.digest != description.digest:
        raise DataError(
            f"{place / MANIFEST_NAME} was altered since it was imported",
            remedy="A revision is never edited in place: correct the source and import it again, "
            "which makes the next revision.",
        )
    missing = [path for path in files_of(manifest) if not (folder / path).is_file()]
    if missing and complete:
        raise DataError(
            f"{folder}: {len(missing)} images are missing: {listed(missing)}",
            remedy="Bring the files back, or import the source again.",
        )
    if verify:
        verify_images(manifest)
    return manifest


def files_of(manifest: Manifest) -> dict[str, str]:
    """The SHA-256 of every image and mask, and of the calibration, by its path."""
    images = {row.path: row.sha256 for row in manifest.rows}
    regions = (region for row in manifest.rows for region in row.regions)
    masks = {each.mask: each.mask_sha256 for each in regions if each.mask and each.mask_sha256}
    taken_with = manifest.calibration
    return {**images, **masks, **({taken_with.path: taken_with.sha256} if taken_with else {})}


def verify_images(manifest: Manifest) -> None:
    """Read every image and mask and compare its SHA-256: quick beside what decodes them.

    Raises:
        DataError: files were altered or cannot be read; names the first of them.
    """
    try:
        altered = [
            path
            for path, digest in files_of(manifest).items()
            if file_sha256(manifest.folder / path) != digest
        ]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror or error}") from error
    if altered:
        raise DataError(
            f"{manifest.folder}: {len(altered)} images were altered since they were imported: "
            f"{listed(altered)}",
            remedy="Bring the files back, or import the source again.",
        )


def _nothing_there(folder: Path) -> DataError:
    if not (folder / DESCRIPTION_NAME).exists():
        return DataError(
            f"there is no data set in {folder}",
            remedy="`inspection data list` shows those that are there; "
            "`inspection data import DIR --name NAME` makes one.",
        )
    return DataError(
        f"{folder} describes the data set {_describe(folder).name}, but its images are not here",
        remedy="Import it: see README.md in that folder, or `inspection data import --help`.",
    )


def _describe(folder: Path) -> _Description:
    path = folder / DESCRIPTION_NAME
    try:
        return _adapter().validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_complaint(error)}") from error


def _read_rows(folder: Path) -> tuple[Row, ...]:
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
        path = folder / REGIONS_NAME
        regions = (
            parse_regions(path.read_text(encoding="utf-8"), str(path)) if path.exists() else {}
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    rows = parse_rows(io.StringIO(text, newline=""), str(folder / MANIFEST_NAME), regions)
    astray = sorted(set(regions) - {row.path for row in rows})
    if astray:
        raise DataError(f"{path}: regions of images that the manifest lacks: {listed(astray)}")
    return rows


@cache
def _adapter() -> TypeAdapter[_Description]:
    return TypeAdapter(_Description)
