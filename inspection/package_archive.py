"""A model package as one file, to carry to a box that no network reaches.

    export: the package, verified -> manifest -> every file, hashed again -> renamed to FILE
    import: a plain file -> manifest -> the size it must have -> every file into a hidden folder,
            held against its digest -> load_package -> renamed to MODEL/VERSION

The file is an ordinary tar (`tar tf` lists it), and a package can be written in one way only: the
manifest as canonical JSON (RFC 8785), the files in its order, headers without times and owners,
zeros after each file and at the end. Importing makes every header itself and compares, so no name,
link or size is ever taken from the file, and a byte that differs anywhere is refused.

The digest of the package says what it is, not who made it: compare it with what export printed.
Nothing here promotes a model.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Final, Literal

import rfc8785
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import ConfigurationError, PackageDamaged
from inspection.package import (
    MIB,
    ModelPackage,
    check_model_name,
    format_of,
    largest_of,
    load_package,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.registry import Registry

MANIFEST_NAME: Final = "inspection-package.json"
LARGEST_MANIFEST: Final = 64 * 1024
BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
PIECE: Final = MIB
# What says that a package is whole comes last, as in its folder.
MARKS: Final = ("package.toml", "package.sha256")
_CLOSED = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedFile:
    """One file of the package: its name, its size in bytes and its SHA-256."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not 0 <= self.size_bytes <= (largest_of(self.name) or MIB):
            raise ValueError(f"{self.name} cannot have {self.size_bytes} bytes")
        if re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise ValueError(f"{self.name} has no SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a package file holds; its first member.

    Attributes:
        format: 1.
        model, version: the package's reference.
        digest: the package's digest, the SHA-256 of its package.toml.
        files: all files of a package's format, sorted, then package.toml and package.sha256.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    format: Literal[1]
    model: str
    version: int
    digest: str
    files: tuple[CarriedFile, ...]

    def __post_init__(self) -> None:
        check_model_name(self.model)
        if not 1 <= self.version < 2**53:  # what canonical JSON can write
            raise ValueError("a model's versions count from 1")
        names = tuple(file.name for file in self.files)
        if names != (*sorted({*names} - {*MARKS}), *MARKS) or format_of(names[:-2]) is None:
            raise ValueError(f"no package holds {', '.join(names)}")
        if self.files[-2].sha256 != self.digest:
            raise ValueError("the package's digest is not that of package.toml")

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.model}@{self.version}"

    @property
    def total_bytes(self) -> int:
        """How large the file is that holds this package, to the byte."""
        files = (len(header(self, file)) + padded(file.size_bytes) for file in self.files)
        text = dump_manifest(self)
        return BLOCK + padded(len(text)) + sum(files) + len(END)


def export_package(registry: Registry, reference: str, target: Path) -> Manifest:
    """Write a package into one file, whole or not at all.

    Args:
        registry: where it is.
        reference: `name@version`, or `name@promoted`.
        target: the file; there must be none yet.

    Raises:
        NotFound: there is no such package.
        PackageDamaged: it does not hold, or changed meanwhile.
        ConfigurationError: the file exists, or could not be written.
    """
    package = registry.load(reference)
    remedy = "Name a file that is not there yet, in a folder that is."
    if target.exists() or target.is_symlink():
        raise ConfigurationError(f"{target} exists; nothing was written", remedy=remedy)
    manifest = _manifest_of(package)
    partial: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        partial = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            text = dump_manifest(manifest)
            file.write(_tar_header(MANIFEST_NAME, len(text)) + text + _zeros_after(len(text)))
            for carried in manifest.files:
                file.write(header(manifest, carried))
                _copy(package.folder / carried.name, file, carried)
                file.write(_zeros_after(carried.size_bytes))
            file.write(END)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise ConfigurationError(
            f"{target} could not be written: {error.strerror or error}",
            remedy=f"{remedy} A stick formatted as FAT32 takes files up to 4 GiB.",
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return manifest


def import_package(registry: Registry, source: Path) -> ModelPackage:
    """Verify a package file and put the package where it belongs, whole or not at all.

    A package that is there already, byte for byte, is left as it is.

    Raises:
        PackageDamaged: the file is damaged, cut short, too long, or no package file.
        ConfigurationError: another package has its name and version, or had it when it was
            promoted; or the folder could not be written.
    """
    with _open_plain(source) as file:
        manifest = _read_manifest(file, source)
        _refuse_another(registry, manifest)
        place = registry.root / manifest.model / str(manifest.version)
        building: Path | None = None
        try:
            registry.root.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=".importing-", dir=registry.root))
            building.chmod(0o755)
            for carried in manifest.files:
                _expect(file, header(manifest, carried), source)
                _take(file, building / carried.name, carried, source)
                _expect(file, _zeros_after(carried.size_bytes), source)
            _expect(file, END, source)
            _check(building, manifest, source)
            _sync_folder(building)
            if place.exists():
                _refuse_another(registry, manifest)  # it may have come meanwhile
                return registry.load(manifest.reference)
            place.parent.mkdir(exist_ok=True)
            building.rename(place)
            _sync_folder(place.parent)
            _sync_folder(registry.root)
        except OSError as error:
            raise ConfigurationError(
                f"{manifest.reference} could not be written to {registry.root}: "
                f"{error.strerror or error}; nothing was changed",
                remedy="Free some disk space or correct the folder's rights, and import it again.",
            ) from error
        finally:
            if building is not None:
                shutil.rmtree(building, ignore_errors=True)
    return registry.load(manifest.reference)


def dump_manifest(manifest: Manifest) -> bytes:
    """The one way to write it."""
    return rfc8785.dumps({**asdict(manifest), "files": [asdict(file) for file in manifest.files]})


def header(manifest: Manifest, file: CarriedFile) -> bytes:
    """The tar header of a file: MODEL/VERSION/NAME, as `tar xf` would unpack it."""
    name = f"{manifest.model}/{manifest.version}/{file.name}"
    return _tar_header(name, file.size_bytes)


def padded(size_bytes: int) -> int:
    """A size, rounded up to whole blocks of a tar."""
    return -(-size_bytes // BLOCK) * BLOCK


def _tar_header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    # GNU's form knows long names and files of 8 GiB and more.
    return info.tobuf(tarfile.GNU_FORMAT)


def _zeros_after(size_bytes: int) -> bytes:
    return bytes(padded(size_bytes) - size_bytes)


def _manifest_of(package: ModelPackage) -> Manifest:
    digests = {**package.files, "package.toml": package.digest}
    mark = f"{package.digest}  package.toml\n".encode()
    digests["package.sha256"] = hashlib.sha256(mark).hexdigest()
    try:
        files = tuple(
            CarriedFile(
                name=name,
                size_bytes=(package.folder / name).stat().st_size,
                sha256=digests[name],
            )
            for name in (*sorted(package.files), *MARKS)
        )
    except OSError as error:
        raise PackageDamaged(f"{package.folder} cannot be read: {error.strerror}") from error
    return Manifest(
        format=1,
        model=package.document.model,
        version=package.document.version,
        digest=package.digest,
        files=files,
    )


def _copy(source: Path, into: BinaryIO, carried: CarriedFile) -> None:
    """Append a file of the package; what comes is held against its size and digest.

    Raises:
        PackageDamaged: it cannot be read, or changed since the package was loaded.
    """
    seen, left = hashlib.sha256(), carried.size_bytes
    try:
        file = source.open("rb")
    except OSError as error:
        raise PackageDamaged(f"{source} cannot be read: {error.strerror}") from error
    with file:
        while piece := _read(file, min(PIECE, left), source):
            seen.update(piece)
            into.write(piece)
            left -= len(piece)
        longer = _read(file, 1, source)
    if left or longer or seen.hexdigest() != carried.sha256:
        raise PackageDamaged(f"{source} changed while it was exported")


def _read_manifest(file: BinaryIO, source: Path) -> Manifest:
    """The first member, in its one form; and the file has the size that it gives.

    Raises:
        PackageDamaged: it is no package file, damaged, cut short or too long.
    """
    first = _read(file, BLOCK, source)
    try:
        size = tarfile.TarInfo.frombuf(first, "utf-8", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _damaged(source, f"it does not begin as a package file does: {error}") from error
    if not 0 < size <= LARGEST_MANIFEST or first != _tar_header(MANIFEST_NAME, size):
        raise _damaged(source, "it does not begin as a package file does")
    text = _read(file, size, source)
    try:
        manifest = _adapter().validate_json(text)
    except (ValidationError, ConfigurationError) as error:
        raise _damaged(source, "its manifest makes no sense") from error
    if dump_manifest(manifest) != text:
        raise _damaged(source, "its manifest was changed")
    _expect(file, _zeros_after(size), source)
    found, wanted = os.fstat(file.fileno()).st_size, manifest.total_bytes
    if found != wanted:
        raise _damaged(source, f"it has {found:,} bytes; {manifest.reference} takes {wanted:,}")
    return manifest


def _refuse_another(registry: Registry, manifest: Manifest) -> None:
    """What has a name and version keeps it.

    Raises:
        ConfigurationError: another package is there, or was when somebody decided on it.
        PackageDamaged: what is there does not hold.
    """
    place = registry.root / manifest.model / str(manifest.version)
    if place.exists() and (there := load_package(place)).digest != manifest.digest:
        raise ConfigurationError(
            f"{place} is another package ({there.digest[:12]}, not {manifest.digest[:12]}); "
            "nothing was changed",
            remedy="Give the new one the next version where it was made, and export it again.",
        )
    for line in registry.history():
        if line.reference == manifest.reference and line.digest != manifest.digest:
            raise ConfigurationError(
                f"the log has {manifest.reference} as another package ({line.digest[:12]}, not "
                f"{manifest.digest[:12]}), {line.action}d on {line.at[:10]}; nothing was changed",
                remedy="Give the new one the next version where it was made, and export it again.",
            )


def _take(file: BinaryIO, target: Path, carried: CarriedFile, source: Path) -> None:
    """Write the next `size_bytes` to a new file, durably, and compare the digest."""
    seen, left = hashlib.sha256(), carried.size_bytes
    with target.open("xb") as into:
        while left and (piece := _read(file, min(PIECE, left), source)):
            seen.update(piece)
            into.write(piece)
            left -= len(piece)
        into.flush()
        os.fsync(into.fileno())
    if left or seen.hexdigest() != carried.sha256:
        raise _damaged(source, f"{carried.name} in it does not agree with its digest")


def _expect(file: BinaryIO, wanted: bytes, source: Path) -> None:
    if _read(file, len(wanted), source) != wanted:
        raise _damaged(source, "something in it is not as export writes it")


def _check(building: Path, manifest: Manifest, source: Path) -> None:
    """What was written is a package, and the one that the manifest names."""
    try:
        package = load_package(building)
    except ConfigurationError as error:
        what = str(error).replace(str(building), manifest.reference)
        raise _damaged(source, f"the package in it does not hold: {what}") from error
    if (package.reference, package.digest) != (manifest.reference, manifest.digest):
        raise _damaged(source, f"it says {manifest.reference} and holds {package.reference}")


def _read(file: BinaryIO, count: int, source: Path) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise PackageDamaged(f"{source} cannot be read: {error.strerror}") from error


@contextmanager
def _open_plain(path: Path) -> Iterator[BinaryIO]:
    """A plain file; a pipe in its place would have the reader wait for ever."""
    remedy = "Name the file that `inspection package export` wrote."
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", remedy=remedy) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"{path} is not a plain file", remedy=remedy)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _damaged(source: Path, how: str) -> PackageDamaged:
    return PackageDamaged(
        f"{source} is refused: {how}; nothing was changed",
        remedy="Export the package again, copy the new file, and compare its size.",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)
