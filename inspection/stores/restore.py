"""Restoring a backup: to SQLite or PostgreSQL, whichever it came from.

    check_backup    manifest -> its files' digests -> the tree recomputed -> every image's digest
                      -> every calibration's, and what else there is of the stations
    restore         checked wholly -> target empty? -> marker
                      -> records staged beside the target, brought to this release
                      -> images, calibrations, checks linked or copied
                      -> records in place: a rename, or one transaction
                      -> verify_store with the backup's tree head -> marker gone

Nothing of the target is touched before the backup has proven itself. A restore that is interrupted
leaves a marker and no records; the same backup can then be restored again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inspection.errors import ConfigurationError, InputError, NotFound, RecordsDamaged
from inspection.stores.database import database_at
from inspection.stores.detector_files import check_detectors, place_detectors, read_names
from inspection.stores.files import FileImageStore, sync_folder
from inspection.stores.manifest import (
    IMAGES,
    bring_file,
    disk_answers,
    listed,
    read_list,
    require_manifest,
)
from inspection.stores.migrate import schema_status, upgrade_tables
from inspection.stores.places import detectors_dir, images_dir
from inspection.stores.portable import examine_records, load_records
from inspection.stores.schema import REVISION
from inspection.stores.sqlite import Sqlite
from inspection.stores.steps import known_revisions
from inspection.stores.verify import Outside, TreeHead, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection.stores.database import Database
    from inspection.stores.manifest import Manifest
    from inspection.stores.verify import VerifyReport

    Progress = Callable[[int, int], None]

MARKER: Final = "restoring"
"""In the data folder while a restore is under way: the tree head of its backup."""

STAGED: Final = "records.restoring.db"
_SAID: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBackup:
    """A backup that was read from end to end.

    Attributes:
        problems: a sentence for everything that does not hold; empty when it can be restored.
    """

    folder: Path
    manifest: Manifest
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it is whole."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A backup in its new place; `report` is of the records there, all of them checked anew."""

    manifest: Manifest
    report: VerifyReport


def check_backup(folder: Path, *, progress: Progress | None = None) -> CheckedBackup:
    """Read a backup from end to end; changes nothing.

    Raises:
        InputError: the folder holds no whole backup.
        RecordsDamaged: its manifest cannot be understood.
        RecordError: the disk does not give it.
    """
    manifest = require_manifest(folder)
    with disk_answers("the backup cannot be read"):
        problems = _check_files(folder, manifest, progress)
    return CheckedBackup(folder=folder, manifest=manifest, problems=tuple(problems))


def restore(
    folder: Path, *, data_dir: Path, url: str, progress: Progress | None = None
) -> Restored:
    """Put a backup into an empty data folder and an empty database.

    Args:
        folder: of the backup.
        data_dir: gets the images and the stations' calibrations; made when it is missing.
        url: gets the records: a SQLite file that is not there, or a database without tables.
        progress: called with files done and files in all, first of checking, then of restoring.

    Raises:
        InputError: there is no whole backup, or the target is not empty.
        ConfigurationError: the backup is of a newer release.
        RecordsDamaged: the backup does not hold; the target is as it was.
        RecordError: a disk or the database refused; the same backup can be restored again.
    """
    checked = check_backup(folder, progress=progress)
    if not checked.ok:
        more = len(checked.problems) - _SAID
        said = "; ".join(checked.problems[:_SAID]) + (f"; and {more:,} more" if more > 0 else "")
        raise RecordsDamaged(
            f"the backup {folder} does not hold: {said}",
            remedy="Restore another backup; nothing was changed.",
        )
    manifest = checked.manifest
    if manifest.revision not in known_revisions():
        raise ConfigurationError(
            f"the backup is of schema {manifest.revision}, which this release does not know",
            remedy="Install the release that made it.",
        )
    database = database_at(url)
    with disk_answers("the backup could not be restored"):
        wanted = _require_empty(data_dir, database, url, manifest)
        _mark(data_dir, manifest)
        images = FileImageStore(images_dir(data_dir))
        if wanted:
            _bring_images(folder, images, manifest, progress)
            if manifest.detectors is not None:
                names = read_names(folder / manifest.detectors.name)
                place_detectors(folder, names, detectors_dir(data_dir))
            _place_records(folder, data_dir, database, url)
        head = TreeHead(size=manifest.tree_size, root=manifest.tree_root)
        report = verify_store(url, images, outside=Outside(heads=(head,)))
        (data_dir / MARKER).unlink()
        sync_folder(data_dir)
    return Restored(manifest=manifest, report=report)


def _check_files(folder: Path, manifest: Manifest, progress: Progress | None) -> list[str]:
    problems = []
    for wanted in (manifest.records, manifest.files, manifest.detectors):
        if wanted is None:
            continue
        try:
            if listed(folder / wanted.name) != wanted:
                problems.append(f"{wanted.name} does not have the digest in the manifest")
        except FileNotFoundError:
            problems.append(f"{wanted.name} is missing")
    if problems:
        return problems  # everything else would be read from these
    try:
        contents = examine_records(folder / manifest.records.name)
    except RecordsDamaged as error:
        return [str(error)]
    if (contents.size, contents.root) != (manifest.tree_size, manifest.tree_root):
        problems.append("its records do not have the tree head in the manifest")
    known_missing = {bytes.fromhex(name) for name in manifest.missing}
    here = set()
    images = FileImageStore(folder / IMAGES, read_only=True)
    for done, name in enumerate(read_list(folder / manifest.files.name), start=1):
        here.add(bytes.fromhex(name))
        try:
            images.get(name)
        except NotFound:
            problems.append(f"image {name} is missing")
        except RecordsDamaged:
            problems.append(f"image {name} holds something else")
        if progress is not None and (done % 1000 == 0 or done == manifest.images):
            progress(done, manifest.images)
    if here | known_missing != contents.files:
        problems.append("its list of files is not that of its records")
    if manifest.detectors is not None:
        problems += check_detectors(folder, read_names(folder / manifest.detectors.name))
    return problems


def _require_empty(data_dir: Path, database: Database, url: str, manifest: Manifest) -> bool:
    """Whether the records still have to be brought: they have not, when only the check is left.

    Raises:
        InputError: the target holds anything but what this restore left when it was interrupted.
    """
    marker = data_dir / MARKER
    again = marker.exists() and marker.read_text(encoding="ascii") == manifest.head
    if marker.exists() and not again:
        raise InputError(
            f"{data_dir} holds what is left of restoring another backup",
            remedy="Restore that one, or name another folder.",
        )
    held = database.exists() and schema_status(url).state != "empty"
    if again:
        return not held
    if held or (isinstance(database, Sqlite) and database.exists()):
        raise InputError(
            f"{database.shown} is not empty",
            remedy="Name a database without tables, or a data folder without records: what is "
            "there is never overwritten.",
        )
    if isinstance(database, Sqlite):
        # A log without its file would be taken for the new file's, and spoil it.
        for log in ("-wal", "-shm", "-journal"):
            left = database.path.with_name(database.path.name + log)
            if left.exists():
                raise InputError(
                    f"{left} is there, but not the records that it belongs to",
                    remedy="Keep it with the records it was moved away from, or name another "
                    "data folder.",
                )
    images = FileImageStore(images_dir(data_dir), read_only=True)
    if next(images.digests(), None) is not None:
        raise InputError(
            f"{images.root} is not empty",
            remedy="Name another data folder, or move the images away.",
        )
    stations = detectors_dir(data_dir)
    if manifest.detectors is not None and stations.is_dir() and any(stations.iterdir()):
        raise InputError(
            f"{stations} is not empty, and the backup has the stations' calibrations",
            remedy="Name another data folder, or move the detectors away.",
        )
    return True


def _mark(data_dir: Path, manifest: Manifest) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / MARKER).write_text(manifest.head, encoding="ascii")
    sync_folder(data_dir)


def _bring_images(
    folder: Path, images: FileImageStore, manifest: Manifest, progress: Progress | None
) -> None:
    kept = FileImageStore(folder / IMAGES, read_only=True)
    touched = {images.root}
    for done, name in enumerate(read_list(folder / manifest.files.name), start=1):
        target = images.path(name)
        bring_file(kept.path(name), target, kept.get(name))
        touched.add(target.parent)
        if progress is not None and (done % 1000 == 0 or done == manifest.images):
            progress(done, manifest.images)
    for place in sorted(touched):
        sync_folder(place)


def _place_records(folder: Path, data_dir: Path, database: Database, url: str) -> None:
    """Stage the records beside their place, bring them to this release, put them there at once."""
    manifest = require_manifest(folder)
    beside = database.path.parent if isinstance(database, Sqlite) else data_dir
    staged = beside / STAGED
    staged.unlink(missing_ok=True)
    with suppress(FileExistsError):
        beside.mkdir(parents=True)
    shutil.copyfile(folder / manifest.records.name, staged)
    staged.chmod(0o600)
    if manifest.revision != REVISION:
        upgrade_tables(f"sqlite:///{staged}")
    if isinstance(database, Sqlite):
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(database.path)
        sync_folder(beside)
    else:
        load_records(staged, url)
        staged.unlink()
