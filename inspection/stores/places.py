"""Which file is where in the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def records_path(data_dir: Path) -> Path:
    """The SQLite file of the records."""
    return data_dir / "records.db"


def records_url(data_dir: Path) -> str:
    """The database address of the records in this data folder."""
    return f"sqlite:///{records_path(data_dir)}"


def images_dir(data_dir: Path) -> Path:
    """The folder of original images and evidence maps."""
    return data_dir / "images"


def detectors_dir(data_dir: Path) -> Path:
    """The folder of the stations' calibrations and checks."""
    return data_dir / "detectors"


def backups_dir(data_dir: Path) -> Path:
    """Where `inspection db upgrade` leaves a copy of the records as they were."""
    return data_dir / "backups"


def last_backup(data_dir: Path) -> Path:
    """An empty file whose time says when `inspection backup` last ended well."""
    return data_dir / "last-backup"
