"""From a source to a revision of a data set.

    Labelled -> survey (decode every image) -> plan: Manifest, files to copy, what changes
             -> write_set: nothing (the same is there), or the next revision

What is written, and that it is written whole or not at all, is in `training.data.revisions`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataError, RecipeError
from inspection.package import check_model_name
from training.data.facts import calibration_file
from training.data.regions import DefectRegion
from training.data.revisions import (
    IMAGES,
    MASKS,
    Changes,
    NewFile,
    bring_back,
    changes_between,
    clean_leftovers,
    write_revision,
)
from training.data.rows import FIELDS, Row, counted, file_sha256, listed
from training.data.survey import Survey, colour, survey
from training.manifest import (
    DESCRIPTION_NAME,
    Manifest,
    described_digest,
    files_of,
    next_revision,
    read_manifest,
    revision_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inspection.recipe import Flip
    from training.sources import Labelled, LabelledFile, LabelledRegion

    Progress = Callable[[str, int, int], None]

__all__ = ["Import", "Survey", "check_set_name", "describe", "plan", "survey", "write_set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What an import would write.

    Attributes:
        manifest: the set as it would be.
        files: all images and masks that the set keeps itself, by their path in it.
        former: the newest revision that is there.
        changes: against it.
    """

    manifest: Manifest
    files: Mapping[str, NewFile]
    former: Manifest | None
    changes: Changes | None

    @property
    def same(self) -> bool:
        """Whether the newest revision says just this, and keeps its images in the same way."""
        if self.former is None or self.changes != Changes():
            return False
        return _keeps(self.former) == _keeps(self.manifest)


def plan(
    labelled: Labelled,
    surveyed: Survey,
    *,
    name: str,
    product: str,
    modality: Literal["x-ray", "vision"],
    flips: Sequence[Flip],
    licence: str,
    origin: str,
    place: Path,
    reference: bool,
    calibration: Path | None = None,
) -> Import:
    """What an import would write, and how that differs from what is there.

    Args:
        labelled: the source.
        surveyed: what its images are.
        name: of the data set.
        product: as stations and the MES send it.
        modality: of the images.
        flips: under which a part stays such a part.
        licence: of the images.
        origin: where they come from.
        place: the data set's folder, such as datasets/knuckles.
        reference: leave images and masks where they are.
        calibration: of the detector that took the images; the former revision's when absent.

    Raises:
        DataError: the name will not do, the labels contradict each other, a description that is
            there without images names another digest, or the calibration is not of these images.
        ConfigurationError: the calibration is damaged.
    """
    check_set_name(name)
    if not product or product.strip() != product or "/" in product:
        raise DataError(f"product {product!r} cannot be used as a name")
    former, known = _revisions_in(place)
    shelf = _Shelf(place=place, known=known, reference=reference)
    rows = [
        Row(
            path=shelf.place_of(file.file, digest, IMAGES, file.name),
            sha256=digest,
            label=file.label,
            part=file.part,
            group=file.group,
            probability=file.probability,
            votes=file.votes,
            regions=shelf.regions_of(file, masks),
            **{name: getattr(file, name) for name in FIELDS},
        )
        for file, digest, masks in zip(
            labelled.files, surveyed.sha256, surveyed.mask_sha256, strict=True
        )
    ]
    taken_with = None if former is None else former.calibration
    if calibration is not None:
        stations = (file.station for file in labelled.files)
        taken_with = calibration_file(calibration, surveyed.facts, stations)
        shelf.files[taken_with.path] = NewFile(source=calibration, sha256=taken_with.sha256)
    manifest = Manifest(
        name=name,
        product=product,
        rows=tuple(rows),
        classes=labelled.classes,
        licence=licence,
        origin=origin,
        modality=modality,
        images=surveyed.facts,
        flips=tuple(flips),
        calibration=taken_with,
        folder=place,
        revision=next_revision(place),
    )
    if former is None and described_digest(place) not in (None, manifest.digest):
        raise DataError(
            f"{place / DESCRIPTION_NAME} describes another content than this source has",
            remedy="Choose another --name; or move that file away, if this is the right content.",
        )
    return Import(
        manifest=manifest,
        files=shelf.files,
        former=former,
        changes=None if former is None else changes_between(former, manifest),
    )


def check_set_name(name: str) -> None:
    """Refuse a name that would not do as a folder's.

    Raises:
        DataError: see `inspection.package.check_model_name`.
    """
    try:
        check_model_name(name)
    except RecipeError as error:
        raise DataError(str(error).replace("model's", "data set's"), remedy=error.remedy) from error


def write_set(planned: Import, progress: Progress) -> Manifest | None:
    """Write the next revision, whole or not at all.

    When the very same is there, files of it that are gone or altered are brought back.

    Returns:
        The set under its revision; None when nothing was to be written.

    Raises:
        DataError: a file changed meanwhile, or another import came between.
        ConfigurationError: the disk refused; the former revision is as it was.
    """
    folder = planned.manifest.folder
    clean_leftovers(folder.parent)
    lacking = {
        path: file for path, file in planned.files.items() if not _holds(folder / path, file.sha256)
    }
    if planned.same:
        if lacking:
            bring_back(folder, lacking, progress)
        return None
    seen = 0 if planned.former is None else planned.former.revision
    reason = "first import" if planned.changes is None else planned.changes.in_words()
    return write_revision(
        planned.manifest, reason=reason, after=seen, new_files=lacking, progress=progress
    )


def describe(labelled: Labelled, surveyed: Survey, planned: Import) -> list[tuple[str, str]]:
    """What was understood, as (heading, text) lines for a person."""
    manifest = planned.manifest
    counts, labels = manifest.counts(), manifest.label_counts()
    sizes = [f"{w} x {h} ({n})" for (h, w), n in surveyed.sizes]
    low, high = surveyed.grey_range
    lines = [
        ("layout", labelled.layout),
        ("product", f"{manifest.product} ({manifest.modality})"),
        ("images", f"{counts['images']}, in {counts['parts']} parts and {counts['groups']} groups"),
        ("classes", ", ".join(f"{name} {count}" for name, count in labels.items())),
        ("bad parts", str(counts["bad_parts"])),
        *[_heading_and_text(note) for note in labelled.notes],
        ("pixels", f"{surveyed.bits} bits, {colour(surveyed.channels)}"),
        ("sizes", listed(sizes)),
        ("grey levels", f"{low} to {high} of 0 to {2**surveyed.bits - 1}"),
        ("duplicates", listed([" = ".join(same) for same in surveyed.duplicates]) or "none"),
        ("licence", manifest.licence),
    ]
    placed = sum(bool(row.marked) for row in manifest.rows)
    allowed = sum(len(row.regions) - len(row.marked) for row in manifest.rows)
    bad = sum(row.bad for row in manifest.rows)
    for heading, text in (
        ("regions", f"{placed} of {bad} bad images say where" if placed else ""),
        ("allowed", f"{counted(allowed, 'region')} that no part is bad for" if allowed else ""),
        ("calibration", manifest.calibration.digest[:12] if manifest.calibration else ""),
        ("odd sizes", listed(surveyed.odd_sizes) if len(sizes) > 1 else ""),
        ("no images", _named(labelled.ignored)),
        (
            "stray",
            f"{_named(labelled.stray)}; they lie in no class's folder" * bool(labelled.stray),
        ),
        ("note", "no defect classes: only --preset anomaly can learn from it" * (not bad)),
        ("revision", _against(planned)),
    ):
        if text:
            lines.append((heading, text))
    return lines


@dataclass(slots=True, kw_only=True)
class _Shelf:
    """Where images and masks of a source are to lie.

    Attributes:
        known: the SHA-256 of what revisions name already, by path.
        files: what the set is to keep itself.
    """

    place: Path
    known: Mapping[str, str]
    reference: bool
    files: dict[str, NewFile] = field(default_factory=dict)

    def place_of(self, source: Path | bytes, digest: str, kind: str, name: str) -> str:
        """The path of a file, relative to the set's folder."""
        if self.reference and isinstance(source, Path):
            relative = os.path.relpath(source.resolve(), self.place.resolve())
            return PurePosixPath(relative).as_posix()
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts:  # outside its source: a name of its own
            own = hashlib.sha256(name.encode()).hexdigest()[:16]
            inner = PurePosixPath(own + inner.suffix.lower())
        path = f"{kind}/{inner}"
        taken = self.files[path].sha256 if path in self.files else self.known.get(path, digest)
        if taken != digest:
            path = f"{kind}/{inner.with_stem(f'{inner.stem}-{digest[:12]}')}"
        self.files[path] = NewFile(source=source, sha256=digest)
        return path

    def regions_of(
        self, file: LabelledFile, digests: Sequence[str | None]
    ) -> tuple[DefectRegion, ...]:
        """The regions of a file, their masks in their places."""
        return tuple(
            self._region(region, digest)
            for region, digest in zip(file.regions, digests, strict=True)
        )

    def _region(self, region: LabelledRegion, digest: str | None) -> DefectRegion:
        if region.mask is None or digest is None:
            return DefectRegion(
                defect=region.defect, polygon=region.polygon, allowed=region.allowed
            )
        path = self.place_of(region.mask, digest, MASKS, region.name)
        return DefectRegion(
            defect=region.defect, mask=path, mask_sha256=digest, allowed=region.allowed
        )


def _revisions_in(place: Path) -> tuple[Manifest | None, dict[str, str]]:
    """The newest revision, and the SHA-256 of every file that any revision names."""
    known: dict[str, str] = {}
    newest = None
    for number in revision_numbers(place):
        newest = read_manifest(place, revision=number, complete=False)
        known.update(files_of(newest))
    return newest, known


def _keeps(manifest: Manifest) -> set[bool]:
    """Whether images lie in the set's own folder, or elsewhere."""
    return {row.path.startswith(f"{IMAGES}/") for row in manifest.rows}


def _holds(path: Path, digest: str) -> bool:
    try:
        return file_sha256(path) == digest
    except OSError:
        return False


def _against(planned: Import) -> str:
    """Which revision this will be, and what it changes."""
    if planned.former is None or planned.changes is None:
        return ""
    if planned.same:
        return f"{planned.former.revision}, as it is there already"
    words = planned.changes.in_words()
    text = f"{planned.manifest.revision}; against {planned.former.revision}: {words}"
    shown = [f"{path} {was} -> {now}" for path, was, now in planned.changes.relabelled]
    return f"{text} ({listed(shown)})" if shown else text


def _named(names: Sequence[str]) -> str:
    return f"{len(names)}: {listed(names)}" if names else ""


def _heading_and_text(note: str) -> tuple[str, str]:
    """A note "heading: text" as a pair."""
    heading, _, text = note.partition(": ")
    return heading, text
