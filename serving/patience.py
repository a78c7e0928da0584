"""How often something that failed is tried again, and when that ends.

    failed -> at once or after 1 s -> 2 -> 4 ... 300 s -> MOST times within WINDOW_S: given up

What failed longer ago than the window is forgiven: an engine that hangs once a day is replaced
each time. One that hangs whenever it runs is not replaced for ever: each that hangs keeps its
memory and its thread.
"""

from __future__ import annotations

from collections import deque
from typing import Final

MOST: Final = 10
"""With waits that double from 1 s, and stay at LONGEST_S, this lasts a quarter of an hour."""

WINDOW_S: Final = 3600.0
LONGEST_S: Final = 300.0


class Patience:
    """Counts the failures of one thing. Times are of the monotonic clock, in seconds.

    Args:
        at_once: whether the first failure is followed by a try without any wait.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._failures: deque[float] = deque()
        self._at_once = at_once

    def failed(self, now: float) -> None:
        """It failed, now."""
        self._failures.append(now)
        while now - self._failures[0] > WINDOW_S:
            self._failures.popleft()

    @property
    def failures(self) -> int:
        """How many there were within the window, as of the last one."""
        return len(self._failures)

    @property
    def given_up(self) -> bool:
        """Whether it is not tried again by itself."""
        return self.failures >= MOST

    @property
    def wait_s(self) -> float:
        """How long after the last failure it is tried again."""
        doublings = self.failures - (2 if self._at_once else 1)
        return min(2.0**doublings, LONGEST_S) if doublings >= 0 else 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to try again."""
        if self.given_up or not self._failures:
            return False
        return now - self._failures[-1] >= self.wait_s
