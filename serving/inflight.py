"""Which requests are being worked on now, so that a retry does not run beside its original."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from inspection.errors import InFlight

if TYPE_CHECKING:
    from inspection.record import InspectionRequest

Name = tuple[str, str, str]


class InFlightGuard:
    """Holds (station, key) and (station, capture_id) of every request that is worked on.

    In memory, because a request that was running when the process died is not running any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Name] = set()

    def hold(self, request: InspectionRequest) -> Held:
        """Take both names, or neither.

        Raises:
            InFlight: another request holds one of them.
        """
        names: frozenset[Name] = frozenset(
            {
                (request.station, "key", request.idempotency_key),
                (request.station, "capture", request.capture_id),
            }
        )
        with self._lock:
            if taken := names & self._held:
                what = {"key": "Idempotency-Key", "capture": "capture_id"}
                _, kind, value = min(taken)
                raise InFlight(f"a request with {what[kind]} {value!r} is still running")
            self._held |= names
        return Held(self, names)

    def _release(self, names: frozenset[Name]) -> None:
        with self._lock:
            self._held -= names


class Held:
    """What one request holds; given back once, by whoever is last to need it."""

    def __init__(self, guard: InFlightGuard, names: frozenset[Name]) -> None:
        self._guard = guard
        self._names = names

    def release(self) -> None:
        """Let others through."""
        self._guard._release(self._names)
