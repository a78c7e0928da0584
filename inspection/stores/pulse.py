"""Waiting for the next commit without asking the database over and over.

    writer: COMMIT -> beat(sequence)  ->  everyone who waits for something past `after` goes on

It knows only the commits of its own process; `wait_beyond` looks at the database for the others'.
"""

from __future__ import annotations

import threading
import time


class Pulse:
    """The sequence of the last commit that this process knows of, and whoever waits for more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = 0
        self._closed = False

    def beat(self, sequence: int) -> None:
        """Everything up to `sequence` is committed: called after the commit, never before."""
        with self._changed:
            if sequence > self._newest:
                self._newest = sequence
                self._changed.notify_all()

    def wait(self, after: int, timeout_s: float) -> int:
        """The newest sequence known, as soon as it is past `after` or the time is over."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._newest <= after and not self._closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._newest

    def close(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
