"""What the images of a set have in common, and what they were taken with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from inspection.detector.calibration import read_calibration
from inspection.errors import ConfigurationError, DataError
from training.data.rows import file_sha256, listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from inspection.detector.flat_field import FlatField

CALIBRATIONS = "calibrations"
"""Where a set keeps its detector's calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the images of a set have in common.

    Attributes:
        bits, channels: 8 or 16; 1 or 3.
        frame_size_px: (height, width) when all images agree on it.
        grey_range: lowest and highest grey level that occurs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    bits: Literal[8, 16]
    channels: Literal[1, 3]
    grey_range: tuple[int, int]
    frame_size_px: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFile:
    """The calibration of the detector that took a set's images.

    Attributes:
        path: of its file, relative to the set's folder.
        sha256: of the file.
        digest: of the calibration, as inspections name it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    sha256: str
    digest: str


def calibration_file(
    path: Path, facts: ImageFacts, stations: Iterable[str | None]
) -> CalibrationFile:
    """A calibration as a set would keep it.

    Args:
        path: what `inspection detector calibrate` wrote.
        facts: what the set's images are.
        stations: which station took each image, where that is known.

    Raises:
        ConfigurationError: it is damaged.
        DataError: it is not of the detector that took the images, or several took them.
    """
    made = read_calibration(path)
    station = made.facts.station
    others = sorted({each for each in stations if each is not None} - {station})
    if others:
        raise DataError(
            f"{path.name} is the calibration of station {station}, but images are of "
            f"{listed(others)}",
            remedy="Import a set for each detector, each with its own calibration.",
        )
    if (facts.bits, facts.channels, facts.frame_size_px) != (16, 1, made.flat.size_px):
        height, width = made.flat.size_px
        raise DataError(
            f"{path.name} is for 16-bit grey images of {width} x {height}, which these are not",
            remedy="Name the calibration of the detector that took them.",
        )
    digest = made.flat.digest
    return CalibrationFile(
        path=f"{CALIBRATIONS}/{digest}.npz", sha256=file_sha256(path), digest=digest
    )


def flat_field_in(folder: Path, calibration: CalibrationFile | None, name: str) -> FlatField:
    """The flat field that a set's images are corrected by.

    Raises:
        DataError: the set names none, or its file is gone or damaged.
    """
    if calibration is None:
        raise DataError(
            f"the recipe flat-fields, but the data set {name} names no calibration",
            remedy="Import it again with --calibration FILE.npz, which "
            "`inspection detector calibrate` writes.",
        )
    try:
        flat = _read(folder / calibration.path, calibration.sha256)
    except ConfigurationError as error:
        raise DataError(
            f"{folder}: {error}", remedy="Bring the file back, or import the set again."
        ) from error
    if flat.digest != calibration.digest:
        raise DataError(
            f"{folder / calibration.path} is another calibration than the set names",
            remedy="Bring the file back, or import the set again.",
        )
    return flat


@lru_cache(maxsize=4)
def _read(path: Path, _sha256: str) -> FlatField:
    """A set's images are read many times over; its calibration once."""
    return read_calibration(path).flat
