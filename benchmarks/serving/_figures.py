"""What is made of the numbers: percentiles, rates, goodput, ratios, and the rows of the table.

    Answers (one line a request) -> rate, p50, p99, goodput -> Row -> results.md

Nothing here measures anything, so all of it can be tested with numbers that are made up.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RECORD: Final = np.dtype(
    [("due", "f8"), ("sent", "f8"), ("answered", "f8"), ("status", "i4"), ("number", "u4")]
)
"""As load.c writes it: seconds of the monotonic clock; status 0 is no answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What became of the requests of one run.

    Attributes:
        records: of RECORD, one a request.
        seconds: how long requests were sent.
        client_cpu_s, server_cpu_s: user and system time that the run took of each.
    """

    records: NDArray[np.void]
    seconds: float
    client_cpu_s: float
    server_cpu_s: float

    def of(self, *statuses: int) -> NDArray[np.void]:
        """The requests that were answered so."""
        return self.records[np.isin(self.records["status"], statuses)]

    def statuses(self) -> dict[int, int]:
        """How often each status came."""
        values, counts = np.unique(self.records["status"], return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}

    def rate(self, settle_s: float = 0.0) -> float:
        """Inspections answered a second, between `settle_s` and the end of the sending."""
        start = float(self.records["due"].min()) + settle_s
        end = float(self.records["due"].min()) + self.seconds
        answered = self.of(200, 201)["answered"]
        return float(((answered >= start) & (answered < end)).sum() / (end - start))

    def goodput(self, deadline_s: float, settle_s: float = 0.0) -> float:
        """Inspections answered in time a second; a late one does not count."""
        start = float(self.records["due"].min()) + settle_s
        end = float(self.records["due"].min()) + self.seconds
        done = self.of(200, 201)
        timely = done[done["answered"] - done["due"] <= deadline_s]
        inside = (timely["answered"] >= start) & (timely["answered"] < end)
        return float(inside.sum() / (end - start))

    def times_ms(self, *statuses: int) -> NDArray[np.float64]:
        """From when a request was due to its answer."""
        some = self.of(*statuses)
        return np.asarray((some["answered"] - some["due"]) * 1000, dtype=np.float64)

    def late(self, deadline_s: float) -> int:
        """Requests that were accepted and answered after their deadline, counted from sending."""
        done = self.of(200, 201)
        return int((done["answered"] - done["sent"] > deadline_s).sum())

    def lag_ms(self) -> float:
        """99th percentile of how long after its time a request left: the client's own lateness."""
        return percentile((self.records["sent"] - self.records["due"]) * 1000, 99)

    @property
    def server_cpu_ms(self) -> float:
        """The server's CPU for each inspection."""
        return 1000 * self.server_cpu_s / max(1, len(self.of(200, 201)))

    @property
    def client_share(self) -> float:
        """The client's share of all CPU that the two took."""
        return self.client_cpu_s / max(1e-9, self.client_cpu_s + self.server_cpu_s)


def percentile(values: Sequence[float] | NDArray[np.float64], centile: float) -> float:
    """The smallest value that at least `centile` % of the values do not exceed; nan of none."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not len(ordered):
        return math.nan
    return float(ordered[max(0, math.ceil(centile / 100 * len(ordered)) - 1)])


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        figure: what was measured.
        value: as it is written, with its unit.
        target: as the specification says it.
        met: whether the value reaches it; None where there is no target.
        how: rounds, spread, conditions.
        command: what measures it again.
        raw: numbers to keep.
    """

    figure: str
    value: str
    target: str
    met: bool | None
    how: str
    command: str
    raw: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As it is kept in results.jsonl."""
        return asdict(self)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """`median (lowest to highest of n rounds)`."""
    low, high = min(values), max(values)
    return f"{median(values):{form}} ({low:{form}} to {high:{form}}, {len(values)} rounds)"


def answers_of(path: Path, *, seconds: float, client_cpu_s: float, server_cpu_s: float) -> Answers:
    """What load.c wrote.

    Raises:
        ValueError: no request at all was sent.
    """
    records = np.fromfile(path, dtype=RECORD)
    if not len(records):
        raise ValueError(f"{path} holds no request")
    return Answers(
        records=records, seconds=seconds, client_cpu_s=client_cpu_s, server_cpu_s=server_cpu_s
    )
