"""The access keys as a running server knows them: in memory, so that asking costs microseconds.

    records -> every second, on a thread of its own -> credentials by ID -> opened(text)
            <- every minute, when each key was last used

What is changed elsewhere (a key revoked at the command line) counts here within REFRESH_S. A text
whose ID is not known, or no longer valid, is looked up anew, so a key that was just made opens at
once. When the keys cannot be read for STALE_S nothing is opened any more: whether a key was revoked
meanwhile cannot be known.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from inspection.errors import InspectionError, RecordError
from inspection.stores.keys import taken_apart
from serving.errors import KeyOverLimit

if TYPE_CHECKING:
    from inspection.stores.keys import AccessKey, AccessKeys, Credential, State

REFRESH_S: Final = 1.0
STALE_S: Final = 10.0
NOTED_EVERY_S: Final = 60.0
_LOOKED_UP_EVERY_S: Final = 0.05
"""Texts that open nothing cannot make the server read the keys more often than this."""

log = logging.getLogger("serving")


@dataclass(slots=True, eq=False)
class Allowance:
    """What one key may still ask for: a token bucket, and requests being answered.

    Used on the server's event loop only.
    """

    key: AccessKey
    at_work: int = 0
    _tokens: float = field(default=inf, init=False)
    _counted_s: float = field(default=0.0, init=False)

    def take(self, now_s: float) -> None:
        """Count one request in.

        Args:
            now_s: by the monotonic clock.

        Raises:
            KeyOverLimit: it is one too many now.
        """
        key = self.key
        if key.at_once is not None and self.at_work >= key.at_once:
            raise KeyOverLimit(
                f"the key {key.name!r} has {self.at_work} requests being answered, its limit",
                retry_after_s=1,
            )
        if key.rate_per_s is not None:
            room = key.burst if key.burst is not None else max(1, ceil(key.rate_per_s))
            earned = (now_s - self._counted_s) * key.rate_per_s
            self._tokens = min(room, self._tokens + earned)
            self._counted_s = now_s
            if self._tokens < 1:
                raise KeyOverLimit(
                    f"the key {key.name!r} may send {key.rate_per_s:g} requests a second",
                    retry_after_s=max(1, ceil((1 - self._tokens) / key.rate_per_s)),
                )
            self._tokens -= 1
        self.at_work += 1

    def give_back(self) -> None:
        """One was answered."""
        self.at_work -= 1


class KeyRing:
    """The keys of the records, read again and again. For any thread; allowances for one loop."""

    def __init__(self, keys: AccessKeys) -> None:
        """Read the keys, and start to follow them.

        Raises:
            RecordError: they cannot be read.
        """
        self._keys = keys
        self._lock = threading.Lock()
        self._by_id: dict[str, Credential] = {}
        self._any_active = False
        self._read_s = -inf
        self._allowances: dict[str, Allowance] = {}
        self._used: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following, and write down what is still to be noted."""
        self._stop.set()
        self._thread.join()
        self._note()

    def refresh(self) -> None:
        """Read the keys now, unless that was done a moment ago. Blocks.

        Raises:
            RecordError: they cannot be read.
        """
        with self._lock:
            left_s = self._read_s + _LOOKED_UP_EVERY_S - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)  # whoever asks for what is not there waits, and nobody else
            began_s = time.monotonic()
            found = self._keys.credentials()
            self._by_id = {each.key.id: each for each in found}
            self._any_active = any(each.key.active for each in found)
            self._read_s = began_s

    async def look_again(self) -> None:
        """Read the keys anew, from a moment after this call on; those who wait share one reading.

        Raises:
            RecordError: they cannot be read.
        """
        before = self._looking
        if before is not None and not before.done():  # it may have begun too early
            await asyncio.wait([before])
        if self._looking is before:
            self._looking = asyncio.create_task(asyncio.to_thread(self.refresh))
        assert self._looking is not None  # noqa: S101  it was made just now, or by another
        await asyncio.shield(self._looking)

    def any_active(self) -> bool:
        """Whether there is a key that was not revoked; an expired one keeps the door shut.

        Raises:
            RecordError: that was not to be known for too long.
        """
        self._check_fresh()
        return self._any_active

    def opened(self, text: str) -> tuple[AccessKey | None, State]:
        """(the key that this text is of, what it opens); no key when its secret is not known.

        Raises:
            RecordError: the keys could not be read for too long.
        """
        self._check_fresh()
        key_id, secret = taken_apart(text)
        found = self._by_id.get(key_id)
        if found is None:
            return None, "unknown"
        now_s = time.time()
        state = found.state(secret, now_s)
        if state == "unknown":
            return None, state
        if state == "valid":
            self._used[key_id] = now_s
        return found.key, state

    def named(self, text: str) -> str | None:
        """The name on the key whose ID is in this text, whether or not its secret is right."""
        found = self._by_id.get(taken_apart(text)[0])
        return None if found is None else found.key.name

    def allowance(self, key: AccessKey) -> Allowance | None:
        """Where a key's requests are counted; None where it has no limits."""
        if key.rate_per_s is None and key.at_once is None:
            return None
        found = self._allowances.get(key.id)
        if found is None:
            found = self._allowances[key.id] = Allowance(key)
        found.key = key
        return found

    def _check_fresh(self) -> None:
        if time.monotonic() - self._read_s > STALE_S:
            raise RecordError(f"the access keys could not be read for {STALE_S:g} s")

    def _follow(self) -> None:
        noted_s = time.monotonic()
        while not self._stop.wait(REFRESH_S):
            try:
                self.refresh()
                if time.monotonic() - noted_s >= NOTED_EVERY_S:
                    noted_s = time.monotonic()
                    self._note()
            except InspectionError as error:
                log.warning("keys cannot be read", extra={"detail": str(error)})
            except Exception:  # the thread goes on, or every key would be refused soon
                log.exception("keys not followed")

    def _note(self) -> None:
        used, self._used = self._used, {}
        used = used.copy()  # whoever took hold of it a moment ago may still be adding
        if not used:
            return
        try:
            self._keys.used({key_id: _written(at_s) for key_id, at_s in used.items()})
        except InspectionError as error:  # it is told later, when it was used again
            log.warning("use of keys was not noted", extra={"detail": str(error)})


def _written(at_s: float) -> str:
    moment = datetime.fromtimestamp(at_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
