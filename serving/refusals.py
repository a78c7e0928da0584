"""What was refused to whom, on its way into the audit log.

    a refusal -> Refusals.note: counted with its like -> every second -> one row for each kind
                                 too many kinds, or too many rows today -> one row for the rest

Whoever is refused a thousand times a second makes one row a second, and whoever varies what he
sends makes BURST rows and then one for every REFILL_S: at most 9,240 rows on the first day and
8,640 on each later one, about 3 MB. What was refused in the second before a crash is only in the
log on stderr, where every refusal has a line of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from inspection.errors import InspectionError
from inspection.stores.audit import AuditEvent, printable

if TYPE_CHECKING:
    from inspection.stores.audit import AuditLog

AUDITED: Final = frozenset(
    {"key-required", "not-allowed", "scope-missing", "foreign-place", "key-over-limit"}
)
"""Codes of refusals that say who may do what. What is wrong with an image or a field is counted in
`inspection_rejected_requests_total` and has its line in the log, but is no matter of access."""

EVERY_S: Final = 1.0
KINDS_AT_ONCE: Final = 64
BURST: Final = 600
REFILL_S: Final = 10.0

log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What makes refusals alike.

    Attributes:
        call: method and route, never a path as it was sent.
        key: the name on the key that was sent, right or not; None when there was none like it.
    """

    code: str
    call: str
    key: str | None
    address: str | None


@dataclass(slots=True)
class _Counted:
    first: str
    count: int = 0


@dataclass(slots=True)
class _Gathered:
    """What came since the last writing."""

    kinds: dict[Refusal, _Counted] = field(default_factory=dict)
    others: _Counted | None = None

    def add(self, refusal: Refusal, at: str, count: int = 1) -> None:
        """Count some more of a kind."""
        found = self.kinds.get(refusal)
        if found is None and len(self.kinds) < KINDS_AT_ONCE:
            found = self.kinds[refusal] = _Counted(at)
        if found is None:
            self.other(at, count)
        else:
            found.count += count

    def other(self, at: str, count: int) -> None:
        """Count some more that are told from each other no longer."""
        if self.others is None:
            self.others = _Counted(at)
        self.others.count += count


class Refusals:
    """Gathers refusals, and writes them on a thread of its own. For any thread."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._gathered = _Gathered()
        self._rows = float(BURST)
        self._filled_s = time.monotonic()
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what was gathered, and stop."""
        self._closing.set()
        self._some.set()
        self._thread.join()

    def note(self, refusal: Refusal) -> None:
        """Count one refusal; it is on record about a second later."""
        at = _now()
        with self._lock:
            self._gathered.add(refusal, at)
        self._some.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._some.clear()
            try:
                self.write()
            except Exception:  # the thread goes on, whatever it meets
                log.exception("refusals were not noted")
            self._closing.wait(EVERY_S)
        self._rows = max(self._rows, 1.0)  # whatever is left makes one row, and is not lost
        self.write()

    def write(self) -> None:
        """Write what was gathered now."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        with self._lock:
            gathered, self._gathered = self._gathered, _Gathered()
        events = self._events(gathered)
        if not events:
            return
        try:
            self._audit.add(events)
        except InspectionError as error:
            log.warning("refusals were not noted", extra={"detail": str(error)})
            with self._lock:  # once more, with what comes until then
                for refusal, counted in gathered.kinds.items():
                    self._gathered.add(refusal, counted.first, counted.count)
                if gathered.others is not None:
                    self._gathered.other(gathered.others.first, gathered.others.count)

    def _events(self, gathered: _Gathered) -> list[AuditEvent]:
        """The rows to write now; what there is no room for is counted in the next."""
        now_s = time.monotonic()
        self._rows = min(BURST, self._rows + (now_s - self._filled_s) / REFILL_S)
        self._filled_s = now_s
        events = []
        for refusal, counted in [*gathered.kinds.items()]:
            if self._rows < 2:  # the last one is for the sum
                del gathered.kinds[refusal]
                gathered.other(counted.first, counted.count)
                continue
            self._rows -= 1
            detail = printable(f"{refusal.code}: {refusal.call}")
            events.append(
                AuditEvent(
                    at=counted.first,
                    act="refused",
                    by=None if refusal.key is None else printable(refusal.key),
                    address=refusal.address and printable(refusal.address),
                    detail=detail,
                    count=counted.count,
                )
            )
        rest = gathered.others
        if rest is not None and self._rows >= 1:
            self._rows -= 1
            words = "of many kinds, summed"
            at = rest.first
            events.append(AuditEvent(at=at, act="refused", by=None, detail=words, count=rest.count))
        elif rest is not None:
            with self._lock:
                self._gathered.other(rest.first, rest.count)
            gathered.others = None
            self._some.set()  # there will be room, whether or not more comes
        return events


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
