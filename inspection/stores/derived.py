"""Every row that is made from entries: the tables beside `entries`, which can all be made again.

    entry, its sequence  ->  DerivedRows.add  ->  rows, sums  ->  write  ->  the derived tables

`rebuild_derived` makes them all anew from the entries alone. What no entry says is left as it is:
`submissions` (who sent what under which key), `tree_heads` (where groups ended) and `checkpoints`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, select, update

from inspection.entries import kind_of
from inspection.errors import RecordsDamaged
from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    ViewSet,
    instant,
)
from inspection.record import InspectionRecord, ReviewRecord
from inspection.stores.reading import STORED, parse_row
from inspection.stores.rollups import GrowingTree, HourlyCounts
from inspection.stores.rows import insert_rows
from inspection.stores.schema import (
    counts,
    entries,
    erased_files,
    findings,
    holds,
    inspections,
    mentions,
    part_names,
    process_values,
    reviews,
    statements,
    tallies,
    tree_nodes,
    view_sets,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from inspection.entries import Entry
    from inspection.events import Statement
    from inspection.stores.rows import Row

DERIVED: Final = (
    inspections,
    findings,
    statements,
    reviews,
    mentions,
    part_names,
    holds,
    view_sets,
    process_values,
    erased_files,
    counts,
    tallies,
    tree_nodes,
)
"""In the order in which they are filled: a review refers to its inspection."""

CHUNK: Final = 1000

# A file that came again after it was erased may be erased again: the last time counts.
_ERASED_AGAIN: Final = "ON CONFLICT (sha256) DO UPDATE SET sequence = excluded.sequence"


class DerivedRows:
    """What the derived tables get for entries, gathered until `write`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: dict[Table, list[Row]] = defaultdict(list)
        self._counts = HourlyCounts()

    def add(self, sequence: int, entry: Entry) -> None:
        """Gather the rows of one entry, all or none.

        Raises:
            ValueError: a time of it is none.
            RecordsDamaged: it speaks of an entry that is not there.
        """
        if isinstance(entry, InspectionRecord):
            self._counts.add(sequence, entry)
            self._rows[inspections].append(inspection_row(sequence, entry))
            for defect_class in classes_of(entry):
                self._rows[findings].append((defect_class, sequence))
            if entry.views:
                self._close(sequence, entry)
            return
        parts, rows = self._of_statement(sequence, entry)
        self._rows[statements].append(statement_row(sequence, entry))
        for table, row in rows:
            self._rows[table].append(row)
        for product, part in sorted(parts):
            self._rows[mentions].append((product, part, sequence))

    def write(self) -> None:
        """Write what was gathered, and begin anew."""
        for table in DERIVED:
            rows = self._rows.pop(table, [])
            if table is erased_files:
                # Twice in one group: one statement may not touch a row twice.
                last: list[Row] = [*dict(rows).items()]
                insert_rows(self._connection, table, last, on_conflict=_ERASED_AGAIN)
            else:
                insert_rows(self._connection, table, rows)
        self._counts.write(self._connection)

    def _of_statement(
        self, sequence: int, entry: ReviewRecord | Statement
    ) -> tuple[set[tuple[str, str]], list[tuple[Table, Row]]]:
        """The parts that it mentions, and its rows beside those of `statements`."""
        match entry:
            case ReviewRecord():
                return {self._inspected(entry.inspection_id)}, [(reviews, _review(sequence, entry))]
            case PartEvent():
                return {(entry.product, entry.part)}, []
            case Naming():
                return (
                    {(entry.product, entry.part), (entry.product, entry.serial)},
                    [(part_names, self._named(sequence, entry))],
                )
            case Assembly():
                component = (entry.component_product, entry.component_part)
                return {(entry.product, entry.part), component}, []
            case Hold():
                parts = {(entry.product, entry.value)} if entry.scope == "part" else set()
                return parts, [(holds, _hold(sequence, entry))]
            case Release():
                return self._release(sequence, entry), []
            case ViewSet():
                return {(entry.product, entry.part)}, [(view_sets, _view_set(sequence, entry))]
            case ProcessValues():
                return set(), [(process_values, row) for row in process_rows(sequence, entry)]
            case Erasure():
                return set(), [
                    (erased_files, (digest, sequence)) for digest in dict.fromkeys(entry.files)
                ]

    # --- what an entry speaks of may have been gathered just before: that is written first ------

    def _inspected(self, inspection_id: str) -> tuple[str, str]:
        self.write()
        row = self._connection.execute(
            select(inspections.c.product, inspections.c.part).where(
                inspections.c.id == inspection_id
            )
        ).one_or_none()
        if row is None:
            raise RecordsDamaged(f"a review speaks of inspection {inspection_id}: there is none")
        return row.product, row.part

    def _named(self, sequence: int, naming: Naming) -> Row:
        self.write()
        old, new = naming.part, naming.serial
        if naming.why == "bound":
            old, new = new, old
        return (naming.product, new, root_of(self._connection, naming.product, old), sequence)

    def _release(self, sequence: int, release: Release) -> set[tuple[str, str]]:
        self.write()
        held = self._connection.execute(
            update(holds)
            .where(holds.c.id == release.hold_id)
            .values(released=sequence)
            .returning(holds.c.product, holds.c.scope, holds.c.value)
        ).one_or_none()
        if held is None:
            raise RecordsDamaged(f"a release speaks of hold {release.hold_id}: there is none")
        return {(held.product, held.value)} if held.scope == "part" else set()

    def _close(self, sequence: int, record: InspectionRecord) -> None:
        self.write()
        self._connection.execute(
            update(view_sets).where(view_sets.c.id == record.view_set).values(closed=sequence)
        )


def rebuild_derived(connection: Connection) -> None:
    """Empty every derived table, and fill it again from `entries`; one transaction, the caller's.

    Raises:
        RecordsDamaged: a body does not agree with its leaf, is none of its kind, or speaks of an
            entry that is not there.
    """
    for table in reversed(DERIVED):
        connection.execute(delete(table))
    derived, tree = DerivedRows(connection), GrowingTree()
    for sequence, entry, leaf in _all_entries(connection):
        if sequence != tree.size + 1:
            raise RecordsDamaged(f"record {tree.size + 1} is missing")
        try:
            derived.add(sequence, entry)
        except ValueError as error:
            raise RecordsDamaged(f"record {sequence}: {error}") from error
        tree.add(leaf)
        if sequence % CHUNK == 0:
            derived.write()
            tree.write(connection)
    derived.write()
    tree.write(connection)


def _all_entries(connection: Connection) -> Iterator[tuple[int, Entry, bytes]]:
    """Every entry in its order, proven against its leaf."""
    after = 0
    while rows := connection.execute(
        select(*STORED).where(entries.c.sequence > after).order_by(entries.c.sequence).limit(CHUNK)
    ).all():
        for row in rows:
            yield row.sequence, parse_row(row), row.leaf_hash
        after = rows[-1].sequence


# --- rows, in the order of the tables' columns ---------------------------------------------------

_INSPECTION: Final = attrgetter(*(c.name for c in inspections.columns if c.name != "sequence"))


def inspection_row(sequence: int, record: InspectionRecord) -> Row:
    """The row of `inspections`."""
    return (sequence, *_INSPECTION(record))


def classes_of(record: InspectionRecord) -> tuple[str, ...]:
    """The classes found, each once, strongest first."""
    return tuple(dict.fromkeys(finding.defect_class for finding in record.findings))


def statement_row(sequence: int, entry: ReviewRecord | Statement) -> Row:
    """The row of `statements`."""
    recorded_at = entry.reviewed_at if isinstance(entry, ReviewRecord) else entry.recorded_at
    return (sequence, kind_of(entry), entry.id, recorded_at)


def _review(sequence: int, entry: ReviewRecord) -> Row:
    whose = (entry.inspection_id, entry.disposition, entry.reviewer, entry.reviewed_at)
    return (sequence, entry.id, *whose)


def _hold(sequence: int, entry: Hold) -> Row:
    held = (entry.product, entry.scope, entry.value, int(entry.legal))
    return (entry.id, sequence, *held, None)


def _view_set(sequence: int, entry: ViewSet) -> Row:
    return (entry.id, sequence, entry.station, entry.product, entry.part, None)


def process_rows(sequence: int, entry: ProcessValues) -> list[Row]:
    """The rows of `process_values`, times in UTC."""
    return [
        (
            sequence,
            item,
            value.product,
            value.part,
            value.machine,
            value.name,
            value.value,
            value.unit,
            in_utc(value.at),
            None if value.until is None else in_utc(value.until),
        )
        for item, value in enumerate(entry.values)
    ]


def in_utc(text: str) -> str:
    """A time with a zone as columns have it: UTC, milliseconds, Z.

    Raises:
        ValueError: in UTC it lies outside of the years 1 to 9999.
    """
    try:
        moment = instant(text).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is out of range") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def root_of(connection: Connection, product: str, name: str) -> str:
    """The identity under which a part is kept; its own name when it was never renamed."""
    root: str | None = connection.execute(
        select(part_names.c.root).where(part_names.c.product == product, part_names.c.name == name)
    ).scalar()
    return name if root is None else root
