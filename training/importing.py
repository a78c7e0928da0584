"""From a source to a data set on disk.

    Labelled -> survey (decode every image) -> Manifest -> images, manifest.csv, dataset.toml

A data set is built in a hidden folder beside its place and renamed, so it is there whole or not at
all. Files that people put into its folder (README.md, serial.toml, recipe.toml) are kept.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from inspection.errors import ConfigurationError, DataError, ImageError, RecipeError
from inspection.frame import decode_image
from inspection.package import check_model_name
from training.manifest import (
    DESCRIPTION_NAME,
    MANIFEST_NAME,
    ImageFacts,
    Manifest,
    described_digest,
    read_manifest,
    write_manifest,
)
from training.rows import GOOD, Row, counted, file_sha256, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from inspection.recipe import Flip
    from training.sources import Labelled, LabelledFile

    Progress = Callable[[str, int, int], None]

OURS = ("images", MANIFEST_NAME, DESCRIPTION_NAME)
WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the images of a source are. Sizes are (height, width) in pixels.

    Attributes:
        sha256: of each file, in the source's order.
        sizes: how many images have which size, the commonest first.
        grey_range: lowest and highest grey level that occurs.
        duplicates: names of files with the same bytes, a tuple for each set of them.
    """

    sha256: tuple[str, ...]
    bits: Literal[8, 16]
    channels: Literal[1, 3]
    sizes: tuple[tuple[tuple[int, int], int], ...]
    grey_range: tuple[int, int]
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def facts(self) -> ImageFacts:
        """The same as the manifest keeps it."""
        return ImageFacts(
            bits=self.bits,
            channels=self.channels,
            grey_range=self.grey_range,
            frame_size_px=self.sizes[0][0] if len(self.sizes) == 1 else None,
        )


def survey(labelled: Labelled, progress: Progress) -> Survey:
    """Decode every image once.

    Raises:
        DataError: some cannot be decoded (all are listed together), depth or channels differ, or
            the same image is called good and bad.
    """
    facts: list[tuple[str, int, int, tuple[int, int], int, int]] = []
    unreadable: list[str] = []
    total = len(labelled.files)
    progress("read images", 0, total)
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, found in enumerate(pool.map(_look_at, labelled.files), start=1):
            if isinstance(found, str):
                unreadable.append(found)
            else:
                facts.append(found)
            progress("read images", done, total)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read: {listed(unreadable)}",
            remedy="Copy these files again from where they come from, or take them out.",
        )
    kinds = Counter((bits, channels) for _, bits, channels, *_ in facts)
    if len(kinds) > 1:
        what = ", ".join(f"{n} of {b} bits, {_colour(c)}" for (b, c), n in kinds.most_common())
        raise DataError(
            f"the images are not of one kind: {what}",
            remedy="A recipe judges one depth and one kind of pixel: import them as two sets.",
        )
    same: dict[str, list[LabelledFile]] = {}
    for file, (digest, *_) in zip(labelled.files, facts, strict=True):
        same.setdefault(digest, []).append(file)
    _refuse_contradictions(same.values())
    _, bits, channels, *_ = facts[0]
    return Survey(
        sha256=tuple(fact[0] for fact in facts),
        bits=16 if bits == 16 else 8,
        channels=3 if channels == 3 else 1,
        sizes=tuple(Counter(fact[3] for fact in facts).most_common()),
        grey_range=(min(fact[4] for fact in facts), max(fact[5] for fact in facts)),
        duplicates=tuple(
            tuple(file.name for file in files) for files in same.values() if len(files) > 1
        ),
    )


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
) -> Manifest:
    """The manifest that an import would write.

    Raises:
        DataError: the name will not do, or the labels contradict each other.
    """
    check_set_name(name)
    if not product or product.strip() != product or "/" in product:
        raise DataError(f"product {product!r} cannot be used as a name")
    rows = [
        Row(
            path=_place_of(file, digest, place if reference else None),
            sha256=digest,
            label=file.label,
            part=file.part,
            group=file.group,
            probability=file.probability,
            lot=file.lot,
            mould=file.mould,
            captured_at=file.captured_at,
        )
        for file, digest in zip(labelled.files, surveyed.sha256, strict=True)
    ]
    return Manifest(
        name=name,
        product=product,
        rows=tuple(rows),
        classes=labelled.classes,
        licence=licence,
        origin=origin,
        modality=modality,
        images=surveyed.facts,
        flips=tuple(flips),
        folder=place,
    )


def check_set_name(name: str) -> None:
    """Refuse a name that would not do as a folder's.

    Raises:
        DataError: see `inspection.package.check_model_name`.
    """
    try:
        check_model_name(name)
    except RecipeError as error:
        raise DataError(str(error).replace("model's", "data set's")) from error


def write_set(
    manifest: Manifest,
    labelled: Labelled,
    surveyed: Survey,
    *,
    reference: bool,
    replace: bool,
    progress: Progress,
) -> bool:
    """Put the data set into its place, whole or not at all.

    Returns:
        Whether anything was written; False when the very same set is there already.

    Raises:
        DataError: another set has the place, and `replace` is not given.
        ConfigurationError: the disk refused.
    """
    place = manifest.folder
    if not _may_write(manifest, replace=replace):
        return False
    building: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".importing-{place.name}-", dir=place.parent))
        building.chmod(0o755)
        if not reference:
            _copy_images(building, labelled, surveyed, progress)
        write_manifest(manifest, building)
        _exchange(building, place)
    except OSError as error:
        raise ConfigurationError(
            f"the data set could not be written to {place}: {error.strerror or error}",
            remedy="Free some disk space or correct the folder's rights, and run it again.",
        ) from error
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
    return True


def _refuse_contradictions(same: Iterable[Sequence[LabelledFile]]) -> None:
    pairs = []
    for files in same:
        good = [file for file in files if file.label == GOOD]
        bad = [file for file in files if file.label != GOOD]
        if good and bad:
            pairs.append(f"{good[0].name} (good) = {bad[0].name} ({bad[0].label})")
    if pairs:
        raise DataError(
            f"{counted(len(pairs), 'image')} under contradictory labels, byte for byte the same: "
            f"{listed(pairs)}",
            remedy="Find out which label is right, and take the other file out.",
        )


def _look_at(file: LabelledFile) -> tuple[str, int, int, tuple[int, int], int, int] | str:
    """(sha256, bits, channels, size, lowest, highest grey level), or what is wrong, in words."""
    try:
        frame = decode_image(file.file.read_bytes())
    except (ImageError, OSError) as error:
        return f"{file.name} ({error})"
    low, high = int(frame.pixels.min()), int(frame.pixels.max())
    return frame.sha256, frame.bits, frame.channels, frame.size_px, low, high


def _place_of(file: LabelledFile, digest: str, reference_from: Path | None) -> str:
    if reference_from is not None:
        relative = os.path.relpath(file.file.resolve(), reference_from.resolve())
        return PurePosixPath(relative).as_posix()
    name = PurePosixPath(file.name)
    if name.is_absolute() or ".." in name.parts:  # outside its source: it gets a name of its own
        name = PurePosixPath(digest[:16] + name.suffix.lower())
    return f"images/{name}"


def _may_write(manifest: Manifest, *, replace: bool) -> bool:
    """False when the same set is there; DataError when another one is and must not be replaced."""
    place, remedy = manifest.folder, "Choose another --name, or add --replace."
    if (place / MANIFEST_NAME).exists():
        try:
            there = read_manifest(place, verify=True)
        except DataError as error:
            if not replace:
                raise DataError(f"{place} is there, but {error}", remedy=remedy) from error
            return True
        if there == manifest:
            return False
        if not replace:
            raise DataError(f"{place} holds another data set", remedy=remedy)
    described = described_digest(place)
    if described not in (None, manifest.digest) and not replace:
        raise DataError(
            f"{place / DESCRIPTION_NAME} describes another content than this source has",
            remedy=remedy,
        )
    return True


def _copy_images(building: Path, labelled: Labelled, surveyed: Survey, progress: Progress) -> None:
    total = len(labelled.files)
    files = zip(labelled.files, surveyed.sha256, strict=True)
    progress("copy images", 0, total)
    for done, (file, digest) in enumerate(files, start=1):
        target = building / _place_of(file, digest, None)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.file, target)
        if file_sha256(target) != digest:
            raise DataError(f"{file.name} changed while it was being copied")
        progress("copy images", done, total)


def _exchange(building: Path, place: Path) -> None:
    """Put `building` where `place` is; what people added to `place` goes along."""
    if not place.exists():
        building.rename(place)
        return
    for entry in place.iterdir():
        if entry.name in OURS:
            continue
        if entry.is_dir():
            shutil.copytree(entry, building / entry.name, copy_function=_link_or_copy)
        else:
            _link_or_copy(entry, building / entry.name)
    aside = Path(tempfile.mkdtemp(prefix=f".replaced-{place.name}-", dir=place.parent)) / "set"
    place.rename(aside)
    try:
        building.rename(place)
    except OSError:
        aside.rename(place)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _colour(channels: int) -> str:
    return "grey" if channels == 1 else "colour"


def describe(labelled: Labelled, surveyed: Survey, manifest: Manifest) -> list[tuple[str, str]]:
    """What was understood, as (heading, text) lines for a person."""
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
        ("pixels", f"{surveyed.bits} bits, {_colour(surveyed.channels)}"),
        ("sizes", listed(sizes)),
        ("grey levels", f"{low} to {high} of 0 to {2**surveyed.bits - 1}"),
        ("duplicates", listed([" = ".join(same) for same in surveyed.duplicates]) or "none"),
        ("licence", manifest.licence),
    ]
    if labelled.ignored:
        lines.append(("ignored", f"{labelled.ignored} files that are no images"))
    return lines


def _heading_and_text(note: str) -> tuple[str, str]:
    """A note "heading: text" as a pair."""
    heading, _, text = note.partition(": ")
    return heading, text
