"""What a backup says of itself: `manifest.json`, written last, and the lists of its files.

    manifest.json          tree head, and SHA-256 of the files that it names
      records-STAMP.db         every row, as a record store of SQLite
      files-STAMP.sha256       SHA-256 and path of every image: `sha256sum -c` reads it, too
      detectors-STAMP.sha256   of the stations' calibrations and checks, where there are any

A folder without manifest is no backup: one that was interrupted has none, or the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import InputError, RecordError, RecordsDamaged
from inspection.stores.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "manifest.json"
IMAGES: Final = "images"
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file of the backup's folder: name, length and SHA-256 in hex."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if "/" in self.name or self.name.startswith(".") or not is_digest(self.sha256):
            raise RecordError("a backup's manifest names a file of its own folder, by digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole backup.

    Attributes:
        made_at: when its snapshot was taken, RFC 3339 in UTC.
        kept_in: the kind of database that the records were in.
        revision: of the tables.
        tree_size, tree_root: the head of the hash tree; the root in hex.
        records, files: the two files beside the manifest.
        images, image_bytes: how many files the list names, and their length in all.
        missing: digests that the records name, but the store did not have when it was backed up.
        detectors: the list of calibrations and checks; None where there are none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    format: Literal["inspection-backup-1"]
    made_at: str
    kept_in: Literal["sqlite", "postgresql"]
    revision: str
    tree_size: int
    tree_root: str
    records: Listed
    files: Listed
    images: int
    image_bytes: int
    missing: tuple[str, ...]
    detectors: Listed | None = None

    def __post_init__(self) -> None:
        digests = (self.tree_root, *self.missing)
        if self.tree_size < 0 or not all(is_digest(text) for text in digests):
            raise RecordError("a backup's manifest holds a tree head and digests")

    @property
    def head(self) -> str:
        """The tree head, as `inspection verify --expect` takes it."""
        return f"{self.tree_size}:{self.tree_root}"


_MANIFEST: Final = TypeAdapter(Manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a backup's folder; None when it holds no whole backup.

    Raises:
        RecordsDamaged: there is one, but it is none of this format.
        RecordError: it cannot be read.
    """
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{folder / NAME} cannot be read: {error.strerror}") from error
    try:
        # Arrays become tuples: strict JSON mode allows that.
        return _MANIFEST.validate_json(text)
    except (ValidationError, RecordError) as error:
        raise RecordsDamaged(
            f"{folder / NAME} is not the manifest of a backup that this release knows",
            remedy="Use another backup, or the release that made this one.",
        ) from error


def require_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        InputError: the folder is none, or holds no whole backup.
        RecordsDamaged: as `read_manifest`.
    """
    found = read_manifest(folder)
    if found is None:
        raise InputError(
            f"{folder} holds no whole backup: it has no {NAME}",
            remedy="Name the folder that `inspection backup` wrote; one that was interrupted "
            "before its first manifest cannot be restored.",
        )
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make this the backup that the folder holds: from the rename on, and not before.

    Raises:
        OSError: the disk refuses; the folder holds the backup that it held.
    """
    part = folder / f"{NAME}.part"
    said = asdict(manifest)
    if manifest.detectors is None:
        del said["detectors"]  # so that the release before reads it too
    with part.open("w", encoding="utf-8") as file:
        json.dump(said, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / NAME)
    sync_folder(folder)


# --- the list of files ---------------------------------------------------------------------------


def write_list(path: Path, digests: list[bytes]) -> Listed:
    """Write the list of images in the form of sha256sum; `digests` are in order.

    Raises:
        OSError: the disk refuses.
    """
    sums = hashlib.sha256()
    with path.open("xb") as file:
        for digest in digests:
            text = digest.hex()
            line = f"{text}  {IMAGES}/{text[:2]}/{text[2:]}\n".encode()
            sums.update(line)
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return Listed(name=path.name, size_bytes=size, sha256=sums.hexdigest())


def read_list(path: Path) -> Iterator[str]:
    """The digests in a list of images, in hex.

    Raises:
        RecordsDamaged: a line is not one of such a list.
        OSError: it cannot be read.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            digest = line[:64]
            if not is_digest(digest) or line != (f"{digest}  {IMAGES}/{digest[:2]}/{digest[2:]}\n"):
                raise RecordsDamaged(f"{path} holds a line that names no image")
            yield digest


def listed(path: Path) -> Listed:
    """A file as the manifest lists it. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Listed(name=path.name, size_bytes=file.tell(), sha256=digest)


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in hex, lower case."""
    return len(text) == 64 and set(text) <= _HEX


# --- what both directions need -------------------------------------------------------------------


@contextmanager
def disk_answers(doing: str) -> Iterator[None]:
    """Turn what the disk refuses into RecordError; `doing` says what could not be done."""
    try:
        yield
    except OSError as error:
        remedy = "See that there is room, and the right to write there; then run it again."
        where = f" ({error.filename})" if error.filename else ""
        raise RecordError(f"{doing}: {error.strerror}{where}", remedy=remedy) from error


def bring_file(source: Path, target: Path, data: bytes) -> None:
    """Make `target` the file `source`, whose contents are `data`: a link, or else a copy.

    Files that are kept by their digest are never changed, so two folders of one file system can
    share them. The folder's name is synced by the caller.

    Raises:
        OSError: the disk refuses; `target` is not there then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return
    except OSError:
        # Another file system, one without links, another owner's file, too many links.
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                os.fchmod(file.fileno(), 0o444)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
