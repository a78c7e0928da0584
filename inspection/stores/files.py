"""Files under the SHA-256 of what they hold.

    put   bytes -> digest -> incoming/<temporary> -> fsync -> rename -> <2 hex>/<62 hex>
            -> fsync folder
    lay   the same without any fsync: what is laid outlives this process, and the machine only
          once `settle` was called, or because somebody carries its bytes (`carrying.py`)

A name that is there is a whole file: what a crash interrupts stays in `incoming/` and goes when
the store is next opened. Only what was laid and never settled may be cut off or missing after a
loss of power. Nothing is ever overwritten with something else, because the name is the content.
Whoever brings a file that is there already makes it young again, so that `remove`, which takes
away old files only, never takes one that a new record is about to name. What is taken away goes
through `incoming/` with its digest; a crash on that way ends with the file back in its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inspection.errors import NotFound, RecordError, RecordsDamaged
from inspection.image_store import Laid
from inspection.stores.direct import write_direct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INCOMING: Final = "incoming"
STALE_AFTER_S: Final = 3600.0
"""A temporary file lives for milliseconds; one of this age belongs to nobody."""

TRIED_BYTES: Final = 1024 * 1024
"""What `check` asks the disk for."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{62}")
_ASIDE = re.compile(r"[0-9]+-[0-9a-f]{16}-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A file that no digest names: what an interrupted request left, or a stranger's."""

    path: Path
    size_bytes: int


class FileImageStore:
    """Images and evidence maps below `root`. Safe to use from several threads and processes."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        """Open the store; unless it is read-only, make its folder and clear what crashes left.

        Raises:
            RecordError: the folder cannot be made or written.
        """
        self.root = root
        self._read_only = read_only
        self._folders: set[Path] = set()
        self._durable_folders: set[Path] = set()
        self._disk: int | None = None
        if read_only:
            return
        try:
            _make_folders(root / INCOMING)
            self._put_back()
            _clear_stale(root / INCOMING)
        except OSError as error:
            raise _refused(error, root) from error

    def put(self, data: bytes, *, anew: bool = False) -> str:
        """Keep `data`; return its SHA-256 in hex once file and name are durable.

        Args:
            data: the contents.
            anew: whether to write a file that is there once more, and rely on nothing that was
                written before: after a failed sync what is read may not be what the disk has.

        Raises:
            RecordError: the disk refused, or the store is read-only; nothing half-written is left
                under a digest.
        """
        digest = hashlib.sha256(data).hexdigest()
        self._bring(data, digest, durable=True, anew=anew)
        return digest

    def lay(self, data: bytes, sha256: str, *, durable: bool = False) -> Laid:
        """Keep `data` under its digest; whole at once, but not durable unless that is asked for.

        Args:
            data: the contents.
            sha256: of the contents, which whoever calls has computed.
            durable: whether to return only once file and name are.

        Raises:
            RecordError: as `put`.
        """
        return self._bring(data, sha256, durable=durable)

    def take_back(self, laid: Laid) -> None:
        """Remove what was laid, unless it was there before or somebody else has laid it since.

        Raises:
            RecordError: the disk refused.
        """
        if laid.made is None:
            return
        try:
            self._remove(
                laid.sha256, lambda status: (status.st_ino, status.st_mtime_ns) == laid.made
            )
        except OSError as error:
            raise _refused(error, self.path(laid.sha256)) from error

    def settle(self) -> None:
        """Make all that was laid so far durable, with everything else on the same disk.

        One `syncfs` instead of two `fsync` a file. It tells of write errors since Linux 5.8: once,
        and of those before the descriptor was opened only if nobody else was told. So one stays
        open.

        Raises:
            RecordError: something could not be written; the next call does not try it again.
        """
        try:
            if self._disk is None:
                self._disk = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._disk)
            sync_disk(self._disk)
        except OSError as error:
            raise _refused(error, self.root) from error

    def get(self, sha256: str) -> bytes:
        """The bytes under this digest, verified.

        Raises:
            NotFound: there are none.
            RecordsDamaged: what is there has another digest.
            RecordError: the disk does not give it.
        """
        if not _DIGEST.fullmatch(sha256):
            raise NotFound(f"{sha256[:80]!r} is not the SHA-256 of an image")
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no image {sha256}") from None
        except OSError as error:
            raise RecordError(f"image {sha256} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RecordsDamaged(f"the file of image {sha256} holds something else")
        return data

    def check(self) -> None:
        """Write a file as images are written, and take it away again.

        Raises:
            RecordError: the disk refused, or the store is read-only.
        """
        if self._read_only:
            raise RecordError(f"{self.root} was opened to read only")
        path = self.root / INCOMING / f"{os.getpid()}-{os.urandom(8).hex()}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, TRIED_BYTES)  # a quota shows here
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                path.unlink()
        except OSError as error:
            raise _refused(error, self.root) from error

    def remove(self, sha256: str, *, older_than: float) -> int:
        """Take the file of this digest away, unless it was put again since.

        Args:
            sha256: of the file.
            older_than: Unix time in seconds; a file that is younger stays.

        Returns:
            The bytes that it held; 0 when there is none, or it stays.

        Raises:
            RecordError: the disk refused, or the store is read-only.
        """
        if self._read_only:
            raise RecordError(f"{self.root} was opened to read only")
        try:
            return self._remove(sha256, lambda status: status.st_mtime < older_than)
        except OSError as error:
            raise _refused(error, self.path(sha256)) from error

    def path(self, sha256: str) -> Path:
        """Where the file of this digest is, or would be."""
        return self.root / sha256[:2] / sha256[2:]

    def digests(self) -> Iterator[str]:
        """The digest of every file that is kept, by name, folder by folder; reads no contents."""
        for folder in _sorted_entries(self.root):
            if folder.is_dir(follow_symlinks=False) and _SHARD.fullmatch(folder.name):
                for entry in _sorted_entries(self.root / folder.name):
                    if _REST.fullmatch(entry.name):
                        yield folder.name + entry.name

    def leftovers(self) -> Iterator[Leftover]:
        """Every file below the store that is not named by a digest."""
        for folder, _, names in os.walk(self.root):
            place = self.root / os.path.relpath(folder, self.root)
            shard = place.parent == self.root and bool(_SHARD.fullmatch(place.name))
            for name in sorted(names):
                if not (shard and _REST.fullmatch(name)):
                    with contextlib.suppress(FileNotFoundError):  # renamed while we look
                        path = place / name
                        yield Leftover(path=path, size_bytes=path.lstat().st_size)

    def _bring(self, data: bytes, digest: str, *, durable: bool, anew: bool = False) -> Laid:
        path = self.path(digest)
        if self._read_only:
            raise RecordError(f"{self.root} was opened to read only")
        made = None
        try:
            if durable:
                self._make_durable_folder(path.parent)
            elif path.parent not in self._folders:
                path.parent.mkdir(exist_ok=True)
                self._folders.add(path.parent)
            if anew or not _settled(path, data, durable=durable):
                there = path.exists()  # damaged: another record may need what replaces it
                made = self._write(path, data, durable=durable)
                made = None if there else made
            if durable:
                sync_folder(path.parent)
        except OSError as error:
            raise _refused(error, path) from error
        return Laid(sha256=digest, made=made)

    def _remove(self, sha256: str, goes: Callable[[os.stat_result], bool]) -> int:
        """Take a file away if it `goes`; the bytes that it held."""
        path = self.path(sha256)
        aside = self.root / INCOMING / f"{os.getpid()}-{os.urandom(8).hex()}-{sha256}"
        try:
            if not goes(path.stat()):
                return 0
            # Aside first: whoever puts it from now on does not find it, and writes it anew; whoever
            # found it before has made it young before it looks whether it is still there.
            path.rename(aside)
            status = aside.stat()
            if not goes(status):
                aside.replace(path)
                sync_folder(path.parent)
                return 0
            aside.unlink()
        except FileNotFoundError:
            return 0
        return status.st_size

    def _put_back(self) -> None:
        """What a crash left on its way out. Whoever is taking it away just now lets it be then."""
        for entry in _sorted_entries(self.root / INCOMING):
            if (found := _ASIDE.fullmatch(entry.name)) is not None:
                path, aside = self.path(found[1]), self.root / INCOMING / entry.name
                with contextlib.suppress(FileNotFoundError):
                    if path.exists():
                        aside.unlink()
                    else:
                        aside.rename(path)

    def _make_durable_folder(self, folder: Path) -> None:
        # Another thread may have made the folder and not yet synced it: that it exists proves
        # nothing, so every store syncs the parent of every folder once before relying on it.
        if folder in self._durable_folders:
            return
        folder.mkdir(exist_ok=True)
        sync_folder(self.root)
        self._durable_folders.add(folder)

    def _write(self, path: Path, data: bytes, *, durable: bool) -> tuple[int, int]:
        """Inode and time in ns of the new file: two that are written at once may agree in time."""
        temporary = self.root / INCOMING / f"{os.getpid()}-{os.urandom(8).hex()}"
        # Read-only from the start: whoever edits a kept image has to mean it.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            try:
                # What is not synced now is written out later, by way of the page cache.
                if not (durable and write_direct(descriptor, data)):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                if durable:
                    os.fsync(descriptor)
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            return status.st_ino, status.st_mtime_ns
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def _settled(path: Path, data: bytes, *, durable: bool) -> bool:
    """Whether the file is there with these contents, synced; a damaged one is to be replaced."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != len(data) or file.read() != data:
                return False
            now = time.time_ns()  # finer than the kernel's own: no two are alike
            os.utime(file.fileno(), ns=(now, now))  # young again: see FileImageStore._remove
            if durable:
                os.fsync(file.fileno())  # whoever wrote it may not have come this far
            return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        sync_folder(made.parent)


def sync_disk(descriptor: int) -> None:
    """Make everything durable that was written to the disk of what is open there; syncfs(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear_stale(incoming: Path) -> None:
    # Age and owner both: process numbers begin anew in every container, and clocks jump.
    now = time.time()
    for entry in _sorted_entries(incoming):
        with contextlib.suppress(FileNotFoundError):
            old = now - entry.stat(follow_symlinks=False).st_mtime > STALE_AFTER_S
            if old and not _someone_elses(entry.name):
                (incoming / entry.name).unlink()


def _someone_elses(name: str) -> bool:
    """Whether a process that runs now, and is not this one, may be writing this file."""
    owner = name.partition("-")[0]
    if not owner.isdecimal() or int(owner) == os.getpid():
        return False
    try:
        os.kill(int(owner), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _refused(error: OSError, path: Path) -> RecordError:
    remedy = None
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = (
            "Make room on the disk of the data folder; the station keeps the image and retries."
        )
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "Give the server's user the right to write to the data folder."
    return RecordError(f"{path} could not be written: {error.strerror}", remedy=remedy)
