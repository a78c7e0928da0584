"""The stations' calibrations and checks in a backup, with the records that name them.

    DATA_DIR/detectors/STATION/FILE -> digest -> FOLDER/detectors/<2 hex>/<62 hex>
                                    -> the list: digest, STATION/FILE -> manifest
    the list -> every digest -> DATA_DIR/detectors/STATION/FILE, and read once more

Calibrations are never changed, so they are shared like images. Checks and limits are, so each
backup has them as they were. What was measured stays in the backup when the store loses it.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

from inspection.detector.book import FOLDER
from inspection.detector.calibration import MOST_META_BYTES, MOST_PIXELS, SUFFIX, read_calibration
from inspection.detector.checks import CHECKS_NAME
from inspection.detector.health import LIMITS_NAME
from inspection.errors import ConfigurationError, NotFound, RecordsDamaged
from inspection.stores.files import FileImageStore, sync_folder
from inspection.stores.manifest import Listed, bring_file, listed

if TYPE_CHECKING:
    from pathlib import Path

    Names = dict[str, str]
    """SHA-256 in hex of each file, by `STATION/FILE` in order."""

DETECTORS: Final = FOLDER
MOST_FILES: Final = 100_000
MOST_BYTES: Final = 9 * MOST_PIXELS + 2 * MOST_META_BYTES
"""Of one file: offset, gain and bad pixels of the largest detector."""

_NAME: Final = r"(?!\.)[ -.0-~]+"  # printable ASCII without a slash, and not hidden
_PLACE: Final = re.compile(f"{_NAME}/{_NAME}")
_LINE: Final = re.compile(f"([0-9a-f]{{64}})  ({_NAME}/{_NAME})\n")


def bring_detectors(source: Path, folder: Path, before: Names) -> tuple[Names, int, list[str]]:
    """Have every file of the stations in the backup's folder.

    Args:
        source: `detectors` of the data folder; need not be there.
        folder: of the backup.
        before: what the backup before has.

    Returns:
        What the backup has now, how many files are new, and a sentence for each that is damaged or
        left out.

    Raises:
        OSError, RecordError: the disk refuses.
    """
    names = {name: each for name, each in before.items() if not name.endswith(f"/{LIMITS_NAME}")}
    here = sorted(path for path in source.glob("*/*") if _counts(path))
    if not here and not names:
        return {}, 0, []
    kept = FileImageStore(folder / DETECTORS)
    brought, problems = 0, list[str]()
    touched: set[Path] = set()
    for path in here:
        name = f"{path.parent.name}/{path.name}"
        if path.stat().st_size > MOST_BYTES or len(names) >= MOST_FILES:
            problems.append(f"detectors/{name} is past what a backup takes; the backup lacks it")
            continue
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        names[name] = digest
        target = kept.path(digest)
        if target.exists():
            continue
        brought += 1
        if path.suffix != SUFFIX or path.is_symlink():
            kept.put(data)
            continue
        bring_file(path, target, data)
        touched |= {target.parent, target.parent.parent}
        try:
            read_calibration(path)
        except ConfigurationError as error:
            problems.append(f"detectors/{name}: {error}; the backup has it as it is")
    for place in sorted(touched):
        sync_folder(place)
    return dict(sorted(names.items())), brought, problems


def write_names(path: Path, names: Names) -> Listed:
    """Write the list, in the form of sha256sum, for the folder that it is restored to.

    Raises:
        OSError: the disk refuses.
    """
    with path.open("x", encoding="utf-8") as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in names.items())
        file.flush()
        os.fsync(file.fileno())
    return listed(path)


def read_names(path: Path) -> Names:
    """What a list names.

    Raises:
        RecordsDamaged: a line is none, or leads elsewhere. OSError: it cannot be read.
    """
    names: Names = {}
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            found = _LINE.fullmatch(line)
            if found is None or len(names) >= MOST_FILES or found[2] in names:
                raise RecordsDamaged(f"{path} holds a line that names no file of a station")
            names[found[2]] = found[1]
    return names


def check_detectors(folder: Path, names: Names) -> list[str]:
    """What does not hold of the files that a backup's list names."""
    problems = []
    kept = FileImageStore(folder / DETECTORS, read_only=True)
    for name, digest in names.items():
        try:
            kept.get(digest)
        except NotFound:
            problems.append(f"detectors/{name} is missing")
        except RecordsDamaged:
            problems.append(f"detectors/{name} holds something else")
    return problems


def place_detectors(folder: Path, names: Names, target: Path) -> None:
    """Put the files that a list names where the server looks for them.

    Args:
        folder: of the backup.
        names: what its list says.
        target: `detectors` of the data folder; holds nothing but what an interrupted restore left.

    Raises:
        RecordsDamaged: what was put there is something else. OSError: the disk refuses.
    """
    kept = FileImageStore(folder / DETECTORS, read_only=True)
    for name, digest in names.items():
        path, data = target / name, kept.get(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == SUFFIX:
            bring_file(kept.path(digest), path, data)
        else:  # it will be written to: a file of its own
            part = path.with_name(f".{path.name}.part")
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        if listed(path).sha256 != digest:
            raise RecordsDamaged(f"{path} is not what the backup has under this name")
    for place in sorted({(target / name).parent for name in names} | {target, target.parent}):
        if names:
            sync_folder(place)


def clear_detectors(folder: Path, names: Names) -> None:
    """Take away what the list does not name: checks as they were before."""
    if not (folder / DETECTORS).is_dir():
        return
    kept = FileImageStore(folder / DETECTORS)
    for digest in set(kept.digests()) - set(names.values()):
        kept.path(digest).unlink(missing_ok=True)


def _counts(path: Path) -> bool:
    """Whether it is a station's file that the server reads."""
    ours = path.suffix == SUFFIX or path.name in (CHECKS_NAME, LIMITS_NAME)
    return ours and bool(_PLACE.fullmatch(f"{path.parent.name}/{path.name}")) and path.is_file()
