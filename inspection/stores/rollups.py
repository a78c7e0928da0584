"""What is summed up while entries are written: counts by hour, and roots of complete subtrees.

inspection, ...  ->  HourlyCounts  ->  one upsert a group and row of `counts`, `tallies`
leaf, ...        ->  GrowingTree   ->  a row of `tree_nodes` when 256**n leaves are complete
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from inspection.proofs.merkle import NODE_HEIGHT, Frontier, node_hash
from inspection.stores.rows import insert_rows
from inspection.stores.schema import counts, tree_nodes
from inspection.stores.tallies import add_tallies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from inspection.record import InspectionRecord

Key = tuple[int, str, str, str, str, str, str, str, str]

# Sequences only rise, so the lowest is the one that was there first.
_ADD_UP: Final = (
    "ON CONFLICT (hour, product, station, lot, machine, mould, disposition, reason, defect_class) "
    "DO UPDATE SET inspections = counts.inspections + excluded.inspections, "
    "first = counts.first + excluded.first, highest = excluded.highest"
)


def hour_of(received_at: str) -> int:
    """Hours since 1970 in UTC of a time with a zone.

    Raises:
        ValueError: it is no time, or has no zone.
    """
    moment = datetime.fromisoformat(received_at)
    if moment.tzinfo is None:
        raise ValueError(f"{received_at!r} has no zone")
    return int((moment - _EPOCH).total_seconds() // 3600)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Sum:
    inspections: int
    first: int
    lowest: int
    highest: int


class HourlyCounts:
    """Inspections of one group, summed up by the keys of `counts`."""

    def __init__(self) -> None:
        self._sums: dict[Key, _Sum] = {}

    def add(self, sequence: int, record: InspectionRecord) -> None:
        """Count an inspection; single views of a set are not counted.

        Raises:
            ValueError: `received_at` is no time with a zone.
        """
        if record.view is not None:
            return
        counted = dict.fromkeys(("", *(finding.defect_class for finding in record.findings)))
        hour = hour_of(record.received_at)
        first = int(record.attempt == 1)
        for defect_class in counted:
            key = (
                hour,
                record.product,
                record.station,
                record.lot or "",
                record.machine or "",
                record.mould or "",
                record.disposition,
                record.reason,
                defect_class,
            )
            found = self._sums.get(key)
            if found is None:
                self._sums[key] = _Sum(1, first, sequence, sequence)
            else:
                found.inspections += 1
                found.first += first
                found.highest = sequence

    def rows(self) -> list[tuple[int | str, ...]]:
        """Rows of `counts` that hold what was added, and nothing else."""
        return [
            (*key, total.inspections, total.first, total.lowest, total.highest)
            for key, total in self._sums.items()
        ]

    def write(self, connection: Connection) -> None:
        """Add the sums to what the table has, and begin anew."""
        if not self._sums:
            return
        rows = self.rows()
        insert_rows(connection, counts, rows, on_conflict=_ADD_UP)
        add_tallies(connection, rows)
        self._sums.clear()


class GrowingTree(Frontier):
    """A frontier that keeps the roots of the subtrees that become complete, until `write`."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        super().__init__(size, peaks)
        self._nodes: list[tuple[int, int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        node, below, height = leaf, self.size, 0
        while below & 1:
            node = node_hash(self.peaks.pop(), node)
            below >>= 1
            height += 1
            if height % NODE_HEIGHT == 0:
                self._nodes.append((height // NODE_HEIGHT, below, node))
        self.peaks.append(node)
        self.size += 1

    def write(self, connection: Connection) -> None:
        """Write the nodes that became complete, and begin anew."""
        insert_rows(connection, tree_nodes, self._nodes)
        self._nodes = []
