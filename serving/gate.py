"""Who is let in: a request whose answer would come too late is refused at the door, in a moment.

    headers -> Deadline
            -> Gate.enter: what waits x time an answer takes <= half of the time left -> Entry
            -> the body is in: from here on the server's own time is measured
            -> a worker begins: time enough for the work, and somebody still there?
            -> judged, recorded

A queue that may grow makes everybody late. What is refused costs nothing, leaves nothing behind and
says when to come again; what is let in is answered. Between the two: what was let in, and would be
late by the time that work takes now, or whose caller has gone, is dropped and not recorded. What
was begun is recorded and answered, late too: the record is true, and whoever sends the same again
gets it at once.
"""

from __future__ import annotations

import math
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from inspection.errors import RequestError
from serving.errors import DeadlinePassed, Overloaded

if TYPE_CHECKING:
    from starlette.requests import Request

SMOOTHING: Final = 0.1
"""Weight of the newest time in the moving averages; the last twenty or so matter."""

SPREADS: Final = 3.0
"""Work is taken to last its mean and so many mean deviations; RFC 6298 takes four for a network."""

QUEUE_SHARE: Final = 0.5
"""Of the time left, what waiting may take; the rest is for what no average foretells: a commit that
takes long, a body that comes late, other programs."""

ENOUGH: Final = 3
"""Of so many answers the quickest is believed, and before them nobody is refused for what they
took: the first ones may stall."""

HEADER: Final = "X-Deadline-Ms"
LONGEST_MS: Final = 600_000
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([^\s,;\"]+)\"?\s*(?=$|[,;])", re.IGNORECASE)


def deadline_of(request: Request, default_s: float) -> float:
    """The moment, on the monotonic clock, up to which the caller wants the answer.

    `X-Deadline-Ms: 800`, or `Prefer: wait=5` in whole seconds (RFC 7240, section 4.3); the sooner
    one when both are there.

    Raises:
        RequestError: a header that says no such time.
    """
    asked = [_number(HEADER, text) / 1000 for text in request.headers.getlist(HEADER)]
    for text in request.headers.getlist("Prefer"):
        asked += [_number("Prefer: wait", said) for said in _WAIT.findall(text)]
    return time.monotonic() + min(asked or [default_s])


def _number(name: str, text: str) -> float:
    longest = LONGEST_MS if name == HEADER else LONGEST_MS // 1000
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not 1 <= int(text) <= longest:
        raise RequestError(
            f"{name} {text[:40]!r} is not a whole number from 1 to {longest}",
            remedy=f"Send {HEADER}: 800 (milliseconds) or Prefer: wait=5 (seconds).",
        )
    return float(text)


@dataclass(slots=True, eq=False)
class Entry:
    """One request that was let in."""

    gate: Gate
    deadline: float
    entered: float = field(default_factory=time.monotonic)
    _gone: bool = field(default=False, init=False)
    _arrived: bool = field(default=False, init=False)
    _begun: float | None = field(default=None, init=False)
    _left: bool = field(default=False, init=False)

    def arrived(self) -> None:
        """Its body is in: it waits for the server, no more for its caller's network."""
        if not self._arrived:
            self._arrived = True
            self.gate._arrive()

    def caller_gone(self) -> None:
        """Nobody waits for the answer any more."""
        self._gone = True

    def begin(self) -> None:
        """A worker is about to begin.

        Raises:
            DeadlinePassed: there is no use in it any more.
        """
        if self._gone:
            raise DeadlinePassed("the caller has gone")
        now = time.monotonic()
        if (late := now - self.deadline) > 0:
            raise DeadlinePassed(f"the deadline passed {late * 1000:.0f} ms before work began")
        # Whoever gives less time than the work takes, and had not to wait, gets it late: better
        # than never.
        whole = (1 - QUEUE_SHARE) * (self.deadline - self.entered)
        if -late < min(self.gate.work_s, whole):
            raise DeadlinePassed(f"{-late * 1000:.0f} ms before the deadline is too late to begin")
        self._begun = now

    def leave(self) -> None:
        """It is done with, once."""
        if not self._left:
            self._left = True
            self.gate._leave(arrived=self._arrived, begun=self._begun)


class Gate:
    """Counts who is inside and measures how quickly answers come out, refusals by a worker too.

    Args:
        longest_queue: the most requests inside, whatever their deadlines: each holds its image.
    """

    def __init__(self, *, longest_queue: int) -> None:
        self._longest = longest_queue
        self._inside = 0
        self._arrived = 0
        self._per_answer_s: float | None = None
        self._timed = 0
        self._since = 0.0
        self._work_s = 0.0
        self._spread_s = 0.0
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        """How many were let in and are not done."""
        return self._inside

    @property
    def per_answer_s(self) -> float | None:
        """The time between two answers while there is work; None before the first."""
        return self._per_answer_s

    @property
    def work_s(self) -> float:
        """How long it takes at most, nearly always, from beginning to answer."""
        return self._work_s + SPREADS * self._spread_s

    def enter(self, deadline: float) -> Entry:
        """Let a request in.

        Args:
            deadline: see `deadline_of`.

        Raises:
            Overloaded: its answer would come after its deadline, or too many are inside.
        """
        now = time.monotonic()
        with self._lock:
            wait_s = (self._inside + 1) * (self._per_answer_s or 0.0)
            # Where the server has nothing to do, it is tried, and measured anew.
            known = self._arrived and self._timed >= ENOUGH
            late_s = wait_s - QUEUE_SHARE * (deadline - now) if known else 0.0
            if self._inside >= self._longest or late_s > 0:
                raise Overloaded(
                    f"{self._inside} requests wait, and an answer would take {wait_s:.1f} s",
                    retry_after_s=max(1, math.ceil(late_s if late_s > 0 else wait_s / 2)),
                )
            self._inside += 1
        return Entry(self, deadline)

    def _arrive(self) -> None:
        with self._lock:
            if self._arrived == 0:
                self._since = time.monotonic()
            self._arrived += 1

    def _leave(self, *, arrived: bool, begun: float | None) -> None:
        now = time.monotonic()
        with self._lock:
            self._inside -= 1
            self._arrived -= arrived
            if arrived and begun is not None:
                off = now - begun - self._work_s
                self._work_s += SMOOTHING * off
                self._spread_s += SMOOTHING * (abs(off) - self._spread_s)
                # Since the answer before, or since there was work again: with several at once this
                # is the time between two answers, which is what one more in the queue costs.
                spent, self._since = now - self._since, now
                self._timed += 1
                known = spent if self._per_answer_s is None else self._per_answer_s
                few = self._timed <= ENOUGH
                self._per_answer_s = (
                    min(known, spent) if few else known + SMOOTHING * (spent - known)
                )
