"""A calibration as a file: whole and unaltered, or refused.

    Calibration -> meta (canonical JSON), offset, gain, bad -> SHA-256 over them -> one .npz
    .npz -> sizes, kinds and names as expected -> SHA-256 agrees -> Calibration

Files are never overwritten; their names begin with the time, so the last name is the newest. No
pickle is ever read: the arrays' headers are parsed here, against the sizes that they claim.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.canonical import canonical_bytes
from inspection.detector.bad_pixels import Clusters
from inspection.detector.flat_field import FlatField
from inspection.errors import ConfigurationError, InspectionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX: Final = ".npz"
MOST_PIXELS: Final = 64 * 1024 * 1024
MOST_META_BYTES: Final = 64 * 1024

_KINDS: Final = {"offset": np.dtype("<f4"), "gain": np.dtype("<f4"), "bad": np.dtype("?")}
_HEADER: Final = 4096
"""More than any header of such an array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a calibration beside its arrays.

    Attributes:
        station, detector, made_at, level: as in FlatField.
        max_age_s: how long it holds, in seconds.
        dark_frames, open_frames: how many it was made from.
        kv, ma, exposure_ms: of the open beam, where its files say them.
        open_level: median grey levels that the open beam adds.
        dark_noise: median noise of a pixel without beam, grey levels.
        snr: median of signal to noise of a pixel in one open frame.
        bad: pixels that are bad, by kind.
        clusters: how they lie together.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    station: str
    detector: str | None
    made_at: str
    level: float
    max_age_s: float
    dark_frames: int
    open_frames: int
    kv: float | None
    ma: float | None
    exposure_ms: float | None
    open_level: float
    dark_noise: float
    snr: float
    bad: dict[str, int]
    clusters: Clusters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """A flat field, and what is known of it."""

    flat: FlatField
    facts: Facts


def make_calibration(
    facts: Facts,
    *,
    offset: NDArray[np.float32],
    gain: NDArray[np.float32],
    bad: NDArray[np.bool_],
) -> Calibration:
    """A calibration under its digest.

    Raises:
        ConfigurationError: arrays or facts do not hold.
    """
    digest = hashlib.sha256(b"inspection detector calibration 1\n")
    meta = canonical_bytes(asdict(facts))
    digest.update(f"{len(meta)}\n".encode() + meta)
    for name, array in (("offset", offset), ("gain", gain), ("bad", bad)):
        digest.update(f"{name} {array.shape[0]} {array.shape[1]}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype=_KINDS[name]).data)
    try:
        flat = FlatField(
            station=facts.station,
            detector=facts.detector,
            offset=offset,
            gain=gain,
            bad=bad,
            made_at=facts.made_at,
            digest=digest.hexdigest(),
            level=facts.level,
        )
    except ValueError as error:
        raise ConfigurationError(f"a calibration made at {facts.made_at!r}") from error
    return Calibration(flat=flat, facts=facts)


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write it as a new file of the folder, which is made if need be; return the file.

    Raises:
        ConfigurationError: it cannot be written; nothing half-written is left under the name.
    """
    flat = calibration.flat
    moment = "".join(c for c in flat.made_at[:19] if c.isalnum())
    path = folder / f"{moment}Z-{flat.digest[:12]}{SUFFIX}"
    buffer = io.BytesIO()
    np.savez(
        buffer,
        meta=np.frombuffer(canonical_bytes(asdict(calibration.facts)), dtype=np.uint8),
        digest=np.frombuffer(flat.digest.encode(), dtype=np.uint8),
        offset=flat.offset,
        gain=flat.gain,
        bad=flat.bad,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_new(path, buffer.getbuffer())
    except OSError as error:
        raise ConfigurationError(
            f"the calibration {path} cannot be written: {error.strerror or error}",
            remedy="Name a data folder that this user may write: --data-dir.",
        ) from error
    return path


def write_new(path: Path, data: bytes | memoryview) -> None:
    """A file that was not there, whole and durable, or none.

    Raises:
        OSError: it is there already, or the disk refuses.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename it never replaces a file
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        ConfigurationError: it cannot be read, is damaged, or is not what its digest says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) != len(_KINDS) + 2:
                raise ValueError("it holds other things")
            meta = _member(archive, "meta", np.dtype(np.uint8), MOST_META_BYTES).tobytes()
            told = _member(archive, "digest", np.dtype(np.uint8), 64).tobytes()
            arrays = {
                name: _member(archive, name, kind, MOST_PIXELS * kind.itemsize)
                for name, kind in _KINDS.items()
            }
        facts = _adapter().validate_python(json.loads(meta))
        found = make_calibration(facts, **arrays)
    except OSError as error:
        raise ConfigurationError(
            f"the calibration {path.name} cannot be read: {error.strerror or error}",
            remedy="Name the file that `inspection detector calibrate` wrote.",
        ) from error
    except (
        *(zipfile.BadZipFile, zipfile.LargeZipFile, ValidationError, InspectionError),
        *(ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, IndexError),
    ) as error:
        raise _damaged(path, str(error).split("\n", maxsplit=1)[0]) from error
    if found.flat.digest.encode() != told:
        raise _damaged(path, "its content does not agree with its digest")
    return found


def _damaged(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the calibration {path.name} is damaged: {why}",
        remedy="Calibrate again: inspection detector calibrate.",
    )


def _member(
    archive: zipfile.ZipFile, name: str, kind: np.dtype[Any], most_bytes: int
) -> NDArray[Any]:
    """One array of the archive; its size is known before anything of it is read."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > most_bytes + _HEADER:
        raise ValueError(f"{name} is packed, or larger than any detector")
    with archive.open(info) as file:
        data = file.read()  # to the end, so its checksum is compared
    buffer = io.BytesIO(data)
    if np.lib.format.read_magic(buffer) != (1, 0):
        raise ValueError(f"{name} is of another format")
    shape, fortran, found = np.lib.format.read_array_header_1_0(buffer, max_header_size=_HEADER)
    start = buffer.tell()
    if fortran or found != kind or len(data) - start != kind.itemsize * int(np.prod(shape)):
        raise ValueError(f"{name} is not what its header says")
    return np.frombuffer(data, dtype=kind, offset=start).reshape(shape)


@cache
def _adapter() -> TypeAdapter[Facts]:
    return TypeAdapter(Facts)
