"""The calibrations of all stations: which one is in force now, and why there is none.

    <folder>/<station>/20261122T060000Z-3f9a11c2d4e5.npz   calibrations; the newest is in force
                       health.jsonl                         checks; the last one counts
                       limits.toml                          where the defaults do not suit

    station -> looked at anew every LOOK_EVERY_S -> changed? -> read -> FlatField
                                                                     -> Unjudgeable, with its reason

Everything fails closed: a newest calibration that is damaged is not replaced by the one before it,
and a limits file that cannot be read leaves the station without judgement.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from inspection.detector.calibration import SUFFIX, Calibration, read_calibration
from inspection.detector.checks import CHECKS_NAME, Check, Trend, read_checks
from inspection.detector.health import LIMITS_NAME, Limits, read_limits
from inspection.errors import ConfigurationError, Unjudgeable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection.decoding.acquisition import Acquisition
    from inspection.detector.flat_field import FlatField

FOLDER: Final = "detectors"
LOOK_EVERY_S: Final = 1.0
"""So much later than it was written a calibration or a check counts, at most."""
CLOCKS_APART: Final = timedelta(minutes=5)
"""A time so far ahead is a clock that runs ahead; more is an error."""

MISSING: Final = "calibration-missing"
STALE: Final = "calibration-stale"
FOREIGN: Final = "calibration-foreign"
UNFIT: Final = "detector-unfit"

KV_APART: Final = 0.05
"""Share by which the tube voltage of an image may differ from the calibration's: pixels answer a
harder beam otherwise."""

_Seen = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one station's detector.

    Attributes:
        station: its name.
        file: name of the newest calibration file; None without one.
        calibration: what that file holds; None when it cannot be read.
        damage: why it, the checks or the limits cannot be read.
        trend: its checks.
        limits: what they are held to.
    """

    station: str
    file: str | None = None
    calibration: Calibration | None = None
    damage: str | None = None
    trend: Trend = field(default_factory=Trend)
    limits: Limits = field(default_factory=Limits)

    def age_s(self, now: datetime) -> float | None:
        """Age of the calibration in seconds."""
        made = self.calibration and datetime.fromisoformat(self.calibration.facts.made_at)
        return (now - made).total_seconds() if made else None

    def obstacle(self, now: datetime) -> tuple[str, str] | None:
        """(code, words) for which the station's images go to review; None when they are judged."""
        again = f"run inspection detector calibrate --station {self.station}"
        if self.damage is not None:
            return MISSING, f"{self.damage}: {again}"
        if self.calibration is None:
            return MISSING, f"there is no calibration of {self.station}: {again}"
        facts = self.calibration.facts
        if facts.station != self.station:
            return FOREIGN, f"the calibration is of station {facts.station}: {again}"
        late = _late(facts.made_at, facts.max_age_s, now)
        if late is not None:
            return STALE, f"the calibration of {self.station} is {late}: {again}"
        check = f"run inspection detector check --station {self.station}"
        every_h, last = self.limits.check_every_h, self.trend.last
        if self.trend.damaged:
            return UNFIT, f"the last check of {self.station} cannot be read: {check}"
        if last is not None and not last.fit:
            return UNFIT, (
                f"the detector of {self.station} was found unfit: {'; '.join(last.complaints)}: "
                f"calibrate or repair it, then {check}"
            )
        if every_h is None:
            return None
        if last is None:
            return STALE, f"the detector of {self.station} was never checked: {check}"
        if last.calibration != self.calibration.flat.digest:
            return STALE, f"{self.station} was not checked since it was calibrated: {check}"
        late = _late(last.checked_at, every_h * 3600, now)
        return None if late is None else (STALE, f"the check of {self.station} is {late}: {check}")


class DetectorBook:
    """The stations' calibrations below a folder. Safe to use from several threads."""

    def __init__(
        self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """A book of a folder that need not be there yet.

        Args:
            folder: `detectors` of the data folder.
            now: the clock.
        """
        self._folder = folder
        self._now = now
        self._pages: dict[str, _Page] = {}
        self._lock = threading.Lock()

    def flat_field(self, station: str, acquisition: Acquisition | None) -> FlatField:
        """The calibration in force of a station, for an image with this acquisition.

        Raises:
            Unjudgeable: `calibration-missing`, `calibration-stale`, `calibration-foreign` or
                `detector-unfit`; the message says what to do.
        """
        standing, flat = self._page(station).read()
        obstacle = standing.obstacle(self._now())
        if obstacle is not None or flat is None:
            code, words = obstacle or (MISSING, f"there is no calibration of {station}")
            raise Unjudgeable(words, reason=code)
        said = acquisition.detector if acquisition is not None else None
        if said is not None and flat.detector is not None and said != flat.detector:
            raise Unjudgeable(
                f"the image is of detector {said}, the calibration of {station} is of "
                f"{flat.detector}: run inspection detector calibrate --station {station}",
                reason=FOREIGN,
            )
        kv = acquisition.kv if acquisition is not None else None
        made_at_kv = standing.calibration.facts.kv if standing.calibration else None
        if kv and made_at_kv and abs(kv - made_at_kv) > KV_APART * made_at_kv:
            raise Unjudgeable(
                f"the image was taken at {kv:g} kV, the calibration of {station} at "
                f"{made_at_kv:g} kV: set the tube back, or run inspection detector calibrate "
                f"--station {station} at {kv:g} kV",
                reason=FOREIGN,
            )
        return flat

    def stations(self) -> tuple[Standing, ...]:
        """Every station that has a folder, by name."""
        try:
            names = [each.name for each in self._folder.iterdir() if each.is_dir()]
        except OSError:
            return ()
        found = sorted(unquote(name) for name in names)
        return tuple(self._page(name).read()[0] for name in found if folder_name(name) in names)

    def standing(self, station: str) -> Standing:
        """What is known of one station's detector; nothing, when it has no folder."""
        return self._page(station).read()[0]

    def folder(self, station: str) -> Path:
        """Where a station's calibrations and checks lie."""
        return self._folder / folder_name(station)

    def _page(self, station: str) -> _Page:
        with self._lock:
            page = self._pages.get(station)
        if page is not None:
            return page
        page = _Page(station, self.folder(station))
        if page.is_there():  # any name may come with an image: only those that mean something stay
            with self._lock:
                return self._pages.setdefault(station, page)
        return page


class _Page:
    """One station: read when it changed, looked at no more than once in LOOK_EVERY_S."""

    def __init__(self, station: str, folder: Path) -> None:
        self._station = station
        self._folder = folder
        self._lock = threading.Lock()
        self._looked = -LOOK_EVERY_S
        self._seen: _Seen | None = None
        self._found: tuple[Standing, FlatField | None] = (Standing(station=station), None)

    def is_there(self) -> bool:
        try:
            return self._folder.is_dir()
        except OSError:  # a name longer than the file system takes
            return False

    def read(self) -> tuple[Standing, FlatField | None]:
        with self._lock:
            if time.monotonic() - self._looked < LOOK_EVERY_S:
                return self._found
            seen = _look(self._folder)
            if seen != self._seen:
                self._found = self._read_anew(seen)
                self._seen = seen
            self._looked = time.monotonic()
            return self._found

    def _read_anew(self, seen: _Seen) -> tuple[Standing, FlatField | None]:
        files = [name for name, _, _ in seen if name.endswith(SUFFIX)]
        standing = Standing(station=self._station, file=max(files, default=None))
        before = self._found[0]
        try:
            standing = replace(
                standing, trend=read_checks(self._folder), limits=read_limits(self._folder)
            )
            if standing.file is not None:
                same = before.file == standing.file and _entry(self._seen, standing.file) == _entry(
                    seen, standing.file
                )
                kept = before.calibration if same else None
                calibration = kept or read_calibration(self._folder / standing.file)
                standing = replace(standing, calibration=calibration)
        except ConfigurationError as error:
            return replace(standing, damage=str(error)), None
        if standing.calibration is None:
            return standing, None
        flat, last = standing.calibration.flat, standing.trend.last
        ours = last is not None and last.calibration == flat.digest  # not of the one before
        checked_at = last.checked_at if last is not None and ours else None
        if flat.checked_at != checked_at:
            flat = replace(flat, checked_at=checked_at)
        return standing, flat


def folder_name(station: str) -> str:
    """A station's name as the name of a folder: no separator, no dot at its beginning."""
    name = quote(station, safe=" ")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def last_checks(standing: Standing, most: int) -> tuple[Check, ...]:
    """The newest checks, the oldest of them first."""
    return standing.trend.checks[-most:]


def _look(folder: Path) -> _Seen:
    """(name, time, size) of everything of a station that counts."""
    seen = []
    try:
        for path in folder.iterdir():
            if path.suffix == SUFFIX or path.name in (CHECKS_NAME, LIMITS_NAME):
                about = path.stat()
                seen.append((path.name, about.st_mtime_ns, about.st_size))
    except OSError:  # gone, or never there: nothing is known, and nothing is judged
        return ()
    return tuple(sorted(seen))


def _entry(seen: _Seen | None, name: str) -> tuple[str, int, int] | None:
    return next((each for each in seen or () if each[0] == name), None)


def _late(moment: str, most_s: float, now: datetime) -> str | None:
    """How a time is out of bounds, in words; None when it is not."""
    age = now - datetime.fromisoformat(moment)
    if age < -CLOCKS_APART:
        return f"of {moment}, which is yet to come (see this box's clock)"
    if age.total_seconds() > most_s:
        return f"of {moment}, older than {most_s / 3600:g} h"
    return None
