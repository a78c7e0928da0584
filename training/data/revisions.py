"""Writing and removing revisions of a data set: whole, or not at all.

    lock the set -> clean up -> .importing-*/ (new images, masks, manifest) -> images/, masks/
                 -> rename the manifest's folder to revisions/<n>

The rename is the moment at which a revision is there. What is killed before it leaves the former
revision as it was, and perhaps images that no revision names; the next import takes these over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from inspection.errors import ConfigurationError, DataError
from training.data.facts import CALIBRATIONS
from training.data.rows import counted, file_sha256
from training.manifest import (
    DESCRIPTION_NAME,
    MANIFEST_NAME,
    REVISIONS,
    files_of,
    next_revision,
    read_manifest,
    revision_folder,
    revision_numbers,
    write_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from training.data.rows import Row
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

STAGE = ".importing-"
IMAGES, MASKS = "images", "masks"  # where copies of a source's files lie in a set
DESCRIBED = (
    *("name", "product", "classes", "licence", "origin", "modality", "flips"),
    "calibration",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that a revision needs and the set does not hold yet.

    Attributes:
        source: where it lies now, or its bytes.
        sha256: hex digest that the copy must have.
    """

    source: Path | bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a set differs from another, by the images' digests.

    Attributes:
        added, removed: paths of images that only the later, only the earlier set has.
        relabelled: (path, former label, label).
        redescribed: paths of images of which part, group, region or something else changed.
        described: which fields of the description differ, such as "licence".
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str, str], ...] = ()
    redescribed: tuple[str, ...] = ()
    described: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Such as "12 images added, 1 relabelled"."""
        counts = [
            (len(self.added), "added"),
            (len(self.removed), "removed"),
            (len(self.relabelled), "relabelled"),
            (len(self.redescribed), "described otherwise"),
        ]
        said = [f"{counted(count, 'image')} {what}" for count, what in counts if count]
        if self.described:
            said.append(f"{', '.join(self.described)} changed")
        return ", ".join(said) or "nothing changed"


def changes_between(before: Manifest, after: Manifest) -> Changes:
    """What `after` says otherwise than `before`. Images of the same bytes are taken in order."""
    former: dict[str, list[int]] = {}
    for i, row in enumerate(before.rows):
        former.setdefault(row.sha256, []).append(i)
    added, relabelled, redescribed = [], [], []
    for row in after.rows:
        if not former.get(row.sha256):
            added.append(row.path)
            continue
        was = before.rows[former[row.sha256].pop(0)]
        if was.label != row.label:
            relabelled.append((row.path, was.label, row.label))
        elif _told(was) != _told(row):
            redescribed.append(row.path)
    return Changes(
        added=tuple(added),
        removed=tuple(before.rows[i].path for left in former.values() for i in left),
        relabelled=tuple(relabelled),
        redescribed=tuple(redescribed),
        described=tuple(
            name for name in DESCRIBED if getattr(before, name) != getattr(after, name)
        ),
    )


def write_revision(
    manifest: Manifest,
    *,
    reason: str,
    parent: int | None = None,
    after: int | None = None,
    new_files: Mapping[str, NewFile] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write the next revision of the set in `manifest.folder`.

    To give images other labels: `write_revision(replace(manifest, rows=...), reason="...",
    parent=manifest.revision)`; images are shared with the parent.

    Args:
        manifest: what the revision says; its own number is not looked at.
        reason: why it is made, in words for a person.
        parent: the revision that it was made from.
        after: the newest revision that was looked at, 0 for none; refused when there is a newer.
        new_files: by their path in the set; what is there already is not copied again.
        progress: told of every file that is copied.

    Returns:
        The manifest under its number.

    Raises:
        DataError: a file changed while it was copied, or another import came between.
        ConfigurationError: the disk refused; the former revision is as it was.
    """
    folder = manifest.folder
    with writing(folder) as stage:
        if after not in (None, max(revision_numbers(folder), default=0)):
            raise DataError(f"another revision of {folder} came between", remedy="Run it again.")
        following = next_revision(folder)
        numbered = replace(
            manifest,
            revision=following,
            parent=parent,
            reason=reason,
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        _stage_files(stage, new_files or {}, progress)
        said = stage / "revision"
        said.mkdir()
        write_manifest(numbered, said)
        for path in said.iterdir():
            _sync(path)
        _publish_files(stage, folder, new_files or {})
        (folder / REVISIONS).mkdir(exist_ok=True)
        said.rename(folder / REVISIONS / str(following))
        _sync(folder / REVISIONS)
    return numbered


def bring_back(folder: Path, files: Mapping[str, NewFile], progress: Progress) -> None:
    """Put files that are gone or altered into their places in a set again.

    Raises:
        DataError, ConfigurationError: see `write_revision`.
    """
    with writing(folder) as stage:
        _stage_files(stage, files, progress)
        _publish_files(stage, folder, files)


def remove_revision(folder: Path, revision: int) -> int:
    """Remove a revision, and the images and masks that no other revision names.

    The last revision takes with it all that was imported; what people put into the folder stays.

    Returns:
        How many images and masks were deleted.

    Raises:
        DataError: there is no such revision.
        ConfigurationError: the disk refused.
    """
    with writing(folder) as stage:
        numbers = revision_numbers(folder)
        if revision not in numbers:
            raise DataError(f"{folder} has no revision {revision}")
        kept: set[str] = set()
        for number in numbers:
            if number != revision:
                kept |= _named_files(folder, number)
        doomed = _named_files(folder, revision) - kept
        place = revision_folder(folder, revision)
        if place == folder:  # of the first release: from here on, dataset.toml only describes
            (folder / MANIFEST_NAME).rename(stage / MANIFEST_NAME)
            (folder / DESCRIPTION_NAME).unlink()
        else:
            place.rename(stage / "revision")
        if kept:
            (folder / REVISIONS / str(revision)).mkdir(
                parents=True
            )  # its number is not given again
        else:
            shutil.rmtree(folder / REVISIONS, ignore_errors=True)
        deleted = 0
        for path in sorted(doomed):
            file = folder / path
            if _copied(path) and _inside(file, folder) and file.is_file():
                file.unlink()
                deleted += 1
                _remove_empty(file.parent, folder)
    with suppress(OSError):
        folder.rmdir()
    return deleted


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Hold the set's lock, and a hidden folder in it to build in; both are given back.

    Raises:
        ConfigurationError: another import is writing, or the disk refuses.
    """
    stage: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _lock(descriptor, folder)
            _clean_up(folder)
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
            yield stage
        finally:
            if stage is not None:
                shutil.rmtree(stage, ignore_errors=True)
            os.close(descriptor)
            with suppress(OSError):
                folder.rmdir()  # only when nothing is in it
    except OSError as error:
        raise ConfigurationError(
            f"the data set could not be written to {folder}: {error.strerror or error}",
            remedy="Free some disk space or correct the folder's rights, and run it again.",
        ) from error


def clean_leftovers(datasets_dir: Path) -> None:
    """Remove what killed imports left in any set that nobody is writing to now."""
    for stage in datasets_dir.glob(f"*/{STAGE}*"):
        with suppress(ConfigurationError), writing(stage.parent):
            pass


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"another command is writing to {folder}",
            remedy="Wait until it is done, and run this again.",
        ) from error


def _clean_up(folder: Path) -> None:
    for leftover in folder.glob(f"{STAGE}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _stage_files(stage: Path, files: Mapping[str, NewFile], progress: Progress | None) -> None:
    for done, (name, file) in enumerate(files.items(), start=1):
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.source, bytes):
            target.write_bytes(file.source)
        else:
            shutil.copyfile(file.source, target)
        if file_sha256(target) != file.sha256:
            raise DataError(f"{name} changed while it was being copied")
        if progress is not None:
            progress("copy images", done, len(files))


def _publish_files(stage: Path, folder: Path, files: Mapping[str, NewFile]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).rename(folder / name)


def _named_files(folder: Path, revision: int) -> set[str]:
    return set(files_of(read_manifest(folder, revision=revision, complete=False)))


def _copied(path: str) -> bool:
    """Whether an import put the file there; a referenced one may lie in the set's folder too."""
    return path.startswith((f"{IMAGES}/", f"{MASKS}/", f"{CALIBRATIONS}/"))


def _inside(file: Path, folder: Path) -> bool:
    """Whether a file is the set's own, and not one that is only referenced."""
    return file.resolve().is_relative_to(folder.resolve())


def _remove_empty(place: Path, folder: Path) -> None:
    while place != folder and place.is_relative_to(folder):
        try:
            place.rmdir()
        except OSError:
            return
        place = place.parent


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told(row: Row) -> Row:
    """The row without what may change and leave the set the same: where its files lie."""
    regions = tuple(
        each if each.mask is None else replace(each, mask=each.mask_sha256) for each in row.regions
    )
    return replace(row, path="-", regions=regions)
