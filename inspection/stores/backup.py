"""Backing up: a folder that holds the records and every file that they name, proven while made.

    lock the folder -> snapshot of all rows (`portable.py`) -> its tree recomputed
      -> is it the continuation of the backup that the folder holds?
      -> images that the folder lacks: read, compared with their digest, linked or copied
      -> the stations' calibrations and checks likewise (`detector_files.py`)
      -> all of it synced: what is linked may be young, and carried by its record only
      -> lists of files -> manifest.json by rename: from here the new backup counts
      -> what only the backup before needed goes

The server may go on. An image is in its place before its record is there, so every image that the
snapshot names is there. A backup that is interrupted leaves the one before it as it was.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from inspection.errors import InputError, NotFound, RecordError, RecordsDamaged
from inspection.stores.database import database_at, open_engine, translated
from inspection.stores.detector_files import (
    DETECTORS,
    bring_detectors,
    clear_detectors,
    read_names,
    write_names,
)
from inspection.stores.files import FileImageStore, sync_folder
from inspection.stores.manifest import (
    IMAGES,
    Manifest,
    bring_file,
    disk_answers,
    listed,
    read_list,
    read_manifest,
    write_list,
    write_manifest,
)
from inspection.stores.migrate import require_current
from inspection.stores.portable import copy_records, examine_records
from inspection.stores.schema import REVISION, erased_files
from inspection.stores.sqlite import Sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inspection.stores.portable import Contents

    Progress = Callable[[int, int], None]

SNAPSHOTS: Final = 3
"""How often a snapshot is taken anew because files that it names were erased meanwhile."""

_ASKED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was made.

    Attributes:
        folder: where it is.
        manifest: what it holds.
        brought: files that the folder did not have before.
        removed: files that the backup before had, and that were erased from the records since.
        problems: a sentence for each file that the store lacks, or that is damaged there; the
            backup has it only where it says so.
    """

    folder: Path
    manifest: Manifest
    brought: int
    removed: int
    problems: tuple[str, ...]


def make_backup(
    url: str,
    images: FileImageStore,
    folder: Path,
    *,
    detectors: Path | None = None,
    progress: Progress | None = None,
) -> Backup:
    """Back the records at `url` and their images up to `folder`, which may hold a backup of them.

    Args:
        url: of the database.
        images: the files; opened to read only will do.
        folder: made when it is missing; no other backup or restore uses it meanwhile.
        detectors: where the stations' calibrations and checks lie, if anywhere.
        progress: called with files done and files in all.

    Raises:
        InputError: there are no records, or the folder holds something else.
        ConfigurationError: the records are of another release.
        RecordsDamaged: the records do not agree with their tree, or do not continue the backup
            that is there; that one is left as it is.
        RecordError: a disk or the database refused; the backup that was there still stands.
    """
    require_current(url)
    with disk_answers("the backup could not be made"), _locked(folder):
        before = _backup_before(folder)
        making = _Making(url, images, folder, before, detectors, progress)
        try:
            return making.run()
        except BaseException:
            making.give_up()
            raise


class _Making:
    """One run into a locked folder."""

    def __init__(
        self,
        url: str,
        images: FileImageStore,
        folder: Path,
        before: Manifest | None,
        detectors: Path | None,
        progress: Progress | None,
    ) -> None:
        self._url = url
        self._images = images
        self._folder = folder
        self._kept = FileImageStore(folder / IMAGES)
        self._before = before
        self._detectors = detectors
        self._progress = progress
        self._touched: set[Path] = set()
        self._unfinished: list[Path] = []
        self._brought = 0
        self._images_brought: list[str] = []
        self._bytes = 0

    def run(self) -> Backup:
        for _ in range(SNAPSHOTS):
            made_at = datetime.now(UTC)
            stem = f"{made_at:%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"
            records = self._new(f"records-{stem}.db")
            copy_records(self._url, records)
            contents = self._examine(records)
            here, missing, problems = self._bring(contents)
            if not self._erased_since(contents.size, missing):
                break
            records.unlink()
        else:
            raise RecordError(
                "images are being erased faster than they can be backed up",
                remedy="Run the backup again when retention is done.",
            )
        for touched in sorted(self._touched):
            sync_folder(touched)
        names, wrong = self._bring_detectors()
        problems += wrong
        self._sync()
        manifest = Manifest(
            format="inspection-backup-1",
            made_at=made_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            kept_in="sqlite" if isinstance(database_at(self._url), Sqlite) else "postgresql",
            revision=REVISION,
            tree_size=contents.size,
            tree_root=contents.root,
            records=listed(records),
            files=write_list(self._new(f"files-{stem}.sha256"), here),
            images=len(here),
            image_bytes=self._bytes,
            missing=tuple(digest.hex() for digest in missing),
            detectors=write_names(self._new(f"detectors-{stem}.sha256"), names) if names else None,
        )
        removable = list(self._only_before(contents))
        write_manifest(self._folder, manifest)
        self._unfinished.clear()
        self._clear(manifest, removable)
        clear_detectors(self._folder, names)
        return Backup(
            folder=self._folder,
            manifest=manifest,
            brought=self._brought,
            removed=len(removable),
            problems=tuple(problems),
        )

    def give_up(self) -> None:
        """Take away what no manifest names, so that a full disk has its room back."""
        for path in self._unfinished:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _new(self, name: str) -> Path:
        self._unfinished.append(self._folder / name)
        return self._folder / name

    def _examine(self, records: Path) -> Contents:
        """Recompute the copy's tree; whoever rewrote history does not get the old one replaced."""
        earlier = 0 if self._before is None else self._before.tree_size
        contents = examine_records(records, earlier=earlier)
        if self._before is not None and contents.earlier_root != self._before.tree_root:
            raise RecordsDamaged(
                f"the records do not continue those in {self._folder}: their first {earlier:,} "
                f"are not the ones that were backed up at {self._before.made_at}",
                remedy="Back up to another folder, keep this one, and find out which of the two "
                "histories is the true one.",
            )
        return contents

    def _bring(self, contents: Contents) -> tuple[list[bytes], list[bytes], list[str]]:
        """Have every named file in the folder: which are, which are not, and what was wrong."""
        here, missing, problems = list[bytes](), list[bytes](), list[str]()
        self._bytes = 0
        for done, digest in enumerate(sorted(contents.files), start=1):
            name = digest.hex()
            path = self._kept.path(name)
            wrong = None if path.exists() else self._bring_one(name, path)
            if wrong is None:
                here.append(digest)
                self._bytes += path.stat().st_size
            else:
                missing.append(digest)
                problems.append(wrong)
            if self._progress is not None and (done % 1000 == 0 or done == len(contents.files)):
                self._progress(done, len(contents.files))
        return here, missing, problems

    def _bring_one(self, name: str, path: Path) -> str | None:
        try:
            data = self._images.get(name)
        except NotFound:
            return f"the store lacks file {name}, and so does the backup"
        except RecordsDamaged:
            return f"file {name} holds something else in the store; the backup lacks it"
        bring_file(self._images.path(name), path, data)
        self._touched.update((path.parent, path.parent.parent))
        self._brought += 1
        self._images_brought.append(name)
        return None

    def _sync(self) -> None:
        """Have the disk keep what was brought; what it may not have is not taken for kept later."""
        try:
            if self._brought:
                self._kept.settle()
        except RecordError:
            for name in self._images_brought:
                self._kept.path(name).unlink(missing_ok=True)
            raise

    def _bring_detectors(self) -> tuple[dict[str, str], list[str]]:
        """What the backup has of the stations, by name, and what is wrong with it."""
        list_before = self._before.detectors if self._before is not None else None
        before = {} if list_before is None else read_names(self._folder / list_before.name)
        if self._detectors is None:
            return before, []
        names, brought, problems = bring_detectors(self._detectors, self._folder, before)
        self._brought += brought
        return names, problems

    def _erased_since(self, size: int, missing: list[bytes]) -> bool:
        """Whether retention took one of these files after the snapshot."""
        if not missing:
            return False
        engine = open_engine(self._url, read_only=True)
        try:
            with translated("the records cannot be read"), engine.begin() as connection:
                for start in range(0, len(missing), _ASKED_AT_ONCE):
                    names = [digest.hex() for digest in missing[start : start + _ASKED_AT_ONCE]]
                    query = select(erased_files.c.sha256).where(
                        erased_files.c.sha256.in_(names), erased_files.c.sequence > size
                    )
                    if connection.execute(query.limit(1)).first() is not None:
                        return True
        finally:
            engine.dispose()
        return False

    def _only_before(self, contents: Contents) -> Iterator[str]:
        """Files of the backup before that no record names now: they were erased."""
        if self._before is None:
            return
        for name in read_list(self._folder / self._before.files.name):
            if bytes.fromhex(name) not in contents.files:
                yield name

    def _clear(self, manifest: Manifest, removable: list[str]) -> None:
        """Take away what the new manifest does not need; nothing depends on this any more."""
        lists = (manifest.records, manifest.files, manifest.detectors)
        needed = {each.name for each in lists if each is not None}
        for pattern in ("records-*", "files-*", "detectors-*"):
            for path in self._folder.glob(pattern):
                if path.name not in needed:
                    path.unlink()
        for name in removable:
            self._kept.path(name).unlink(missing_ok=True)


def _backup_before(folder: Path) -> Manifest | None:
    before = read_manifest(folder)
    if before is None:
        ours = {IMAGES, DETECTORS}
        strange = [
            path.name
            for path in sorted(folder.iterdir())
            if path.name not in ours
            and not path.name.startswith(("records-", "files-", "detectors-", "manifest"))
        ]
        if strange:
            raise InputError(
                f"{folder} holds other things: {', '.join(strange[:5])}",
                remedy="Name an empty folder, or one that `inspection backup` has written.",
            )
    return before


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, made when it is missing, for this process alone."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder", remedy="Name a folder to back up to.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordError(
                f"another backup to {folder} is running", remedy="Wait until it is done."
            ) from None
        yield
    finally:
        os.close(descriptor)
