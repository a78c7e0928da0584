"""What each entry makes the other tables hold, and whether they hold that and nothing more.

    entry -> expected rows -> looked up by key -> the same, column by column?
    all entries seen       -> as many rows in every table as were expected?

Both together leave no room: every row that ought to be there is, as it ought to be, and there are
no others. Written apart from `derived.py`, which fills the tables, so that one checks the other.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from inspection.entries import kind_of
from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    ViewSet,
)
from inspection.proofs.merkle import NODE_HEIGHT, tree_root
from inspection.record import InspectionRecord, ReviewRecord
from inspection.stores.schema import (
    erased_files,
    findings,
    holds,
    inspections,
    mentions,
    part_names,
    process_values,
    reviews,
    statements,
    submissions,
    tree_heads,
    tree_nodes,
    view_sets,
)
from inspection.stores.verify_sums import SumsCheck
from inspection.stores.verify_tables import look_up, number_of, same

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Table

    from inspection.entries import Entry
    from inspection.events import Statement

Values = dict[str, Any]

KEYS: Final[dict[Table, tuple[str, ...]]] = {
    inspections: ("sequence",),
    findings: ("defect_class", "sequence"),
    statements: ("sequence",),
    reviews: ("sequence",),
    mentions: ("product", "part", "sequence"),
    part_names: ("product", "name"),
    holds: ("id",),
    view_sets: ("id",),
    process_values: ("sequence", "item"),
    erased_files: ("sha256",),
    tree_nodes: ("level", "position"),
}
"""The tables that are compared row by row, and what a row is looked up by."""

_LATER: Final = ("released", "closed")  # set by an entry that comes after the row's own


class DerivedCheck:
    """Follows the entries in order and compares the other tables with them.

    Args:
        problem: told of each thing that does not hold.
    """

    def __init__(self, problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._expected: dict[Table, list[Values]] = defaultdict(list)
        self._rows: dict[Table, int] = dict.fromkeys(KEYS, 0)
        self._later = {holds: 0, view_sets: 0}
        self._sums = SumsCheck(problem)
        self._leaves = 0
        self._levels: list[list[bytes]] = [[]]
        self._speaking: list[tuple[int, Entry]] = []

    def leaf(self, leaf: bytes) -> None:
        """The recomputed leaf of the next entry, in order."""
        self._leaves += 1
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) == 1 << NODE_HEIGHT:
            node, self._levels[level] = tree_root(self._levels[level]), []
            level += 1
            position = (self._leaves >> NODE_HEIGHT * level) - 1
            self._expect(tree_nodes, {"level": level, "position": position, "hash": node})
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(node)

    def entry(self, sequence: int, entry: Entry) -> None:
        """The next entry that could be read."""
        if isinstance(entry, InspectionRecord):
            self._expect(inspections, _columns(inspections, entry, sequence=sequence))
            classes = {finding.defect_class for finding in entry.findings}
            for each in classes:
                self._expect(findings, {"defect_class": each, "sequence": sequence})
            if entry.view is None:
                self._sums.count(sequence, entry, classes)
            if entry.views:
                self._speaking.append((sequence, entry))
            return
        recorded_at = entry.reviewed_at if isinstance(entry, ReviewRecord) else entry.recorded_at
        self._expect(
            statements,
            {
                "sequence": sequence,
                "kind": kind_of(entry),
                "id": entry.id,
                "recorded_at": recorded_at,
            },
        )
        self._statement(sequence, entry)

    def compare(self, connection: Connection) -> None:
        """Look up what was expected since the last time."""
        expected, self._expected = self._expected, defaultdict(list)
        for table, rows in expected.items():
            self._compare_rows(connection, table, rows)
        speaking, self._speaking = self._speaking, []
        for sequence, entry in speaking:
            self._speak(connection, sequence, entry)
        late, self._expected = self._expected, defaultdict(list)
        for table, rows in late.items():
            self._compare_rows(connection, table, rows)

    def finish(self, connection: Connection) -> None:
        """When all entries were seen: sums, and that no table holds more than was expected."""
        self.compare(connection)
        for table, expected in self._rows.items():
            self._compare_number(connection, table, expected)
        for table, column in ((holds, "released"), (view_sets, "closed")):
            found = number_of(connection, select(func.count(table.c[column])))
            if found != self._later[table]:
                self._problem(
                    f"table {table.name}: {found} rows are {column}, entries say so of "
                    f"{self._later[table]}"
                )
        self._sums.compare(connection)
        self._submissions(connection)

    # --- what an entry makes -------------------------------------------------------------------

    def _statement(self, sequence: int, entry: ReviewRecord | Statement) -> None:
        parts: set[tuple[str, str]] = set()
        match entry:
            case ReviewRecord():
                self._expect(reviews, _columns(reviews, entry, sequence=sequence))
                self._speaking.append((sequence, entry))
            case Release():
                self._speaking.append((sequence, entry))
            case Naming():
                parts = {(entry.product, entry.part), (entry.product, entry.serial)}
                self._speaking.append((sequence, entry))
            case Erasure():
                self._speaking.append((sequence, entry))
            case PartEvent():
                parts = {(entry.product, entry.part)}
            case Assembly():
                parts = {
                    (entry.product, entry.part),
                    (entry.component_product, entry.component_part),
                }
            case Hold():
                parts = {(entry.product, entry.value)} if entry.scope == "part" else set()
                row = _columns(holds, entry, sequence=sequence, legal=int(entry.legal))
                self._expect(holds, row)
            case ViewSet():
                parts = {(entry.product, entry.part)}
                self._expect(view_sets, _columns(view_sets, entry, sequence=sequence))
            case ProcessValues():
                for item, value in enumerate(entry.values):
                    row = _columns(process_values, value, sequence=sequence, item=item)
                    row |= {"at": _utc(value.at), "until": value.until and _utc(value.until)}
                    self._expect(process_values, row)
        self._mention(sequence, parts)

    def _speak(self, connection: Connection, sequence: int, entry: Entry) -> None:
        """What an entry makes of rows that entries before it made."""
        match entry:
            case ReviewRecord():
                row = _one(connection, inspections, id=entry.inspection_id)
                if row is None or row["sequence"] >= sequence:
                    self._problem(f"record {sequence}: the inspection that it reviews is missing")
                    return
                self._mention(sequence, {(row["product"], row["part"])})
            case Release():
                row = _one(connection, holds, id=entry.hold_id)
                if row is None or row["sequence"] >= sequence:
                    self._problem(f"record {sequence}: the hold that it releases is missing")
                    return
                self._later[holds] += self._settled(row, "released", sequence)
                if row["scope"] == "part":
                    self._mention(sequence, {(row["product"], row["value"])})
            case InspectionRecord():
                row = _one(connection, view_sets, id=entry.view_set)
                if row is None or row["sequence"] >= sequence:
                    self._problem(f"record {sequence}: the set of views that it closes is missing")
                    return
                self._later[view_sets] += self._settled(row, "closed", sequence)
            case Naming():
                name, of = entry.serial, entry.part
                if entry.why == "bound":
                    name, of = of, name
                row = _one(connection, part_names, product=entry.product, name=of)
                # A name that was given later says nothing about this one.
                known = row is not None and row["sequence"] < sequence
                root = row["root"] if row is not None and known else of
                values = {"product": entry.product, "name": name, "root": root}
                self._expect(part_names, {**values, "sequence": sequence})
            case Erasure():
                for digest in dict.fromkeys(entry.files):
                    row = _one(connection, erased_files, sha256=digest)
                    if row is None or row["sequence"] < sequence:
                        self._problem(f"record {sequence}: file {digest} is not listed as erased")
                    elif row["sequence"] == sequence:  # otherwise a later entry erases it again
                        self._rows[erased_files] += 1

    def _settled(self, row: Values, column: str, sequence: int) -> int:
        if row[column] == sequence:
            return 1
        self._problem(f"record {sequence}: what it has {column} does not say so")
        return 0

    def _mention(self, sequence: int, parts: set[tuple[str, str]]) -> None:
        for product, part in parts:
            self._expect(mentions, {"product": product, "part": part, "sequence": sequence})

    # --- comparing -----------------------------------------------------------------------------

    def _expect(self, table: Table, row: Values) -> None:
        self._expected[table].append(row)

    def _compare_rows(self, connection: Connection, table: Table, rows: list[Values]) -> None:
        names = KEYS[table]
        found = look_up(connection, table, names, [tuple(row[n] for n in names) for row in rows])
        self._rows[table] += len(rows)
        for row in rows:
            have = found.get(tuple(row[name] for name in names))
            where = _place(table, row)
            if have is None:
                self._problem(f"{where}: its row in table {table.name} is missing")
                continue
            wrong = [n for n, v in row.items() if n not in _LATER and not same(have[n], v)]
            if wrong:
                self._problem(
                    f"{where}: columns of table {table.name} do not agree with its body: "
                    f"{', '.join(wrong)}"
                )

    def _compare_number(self, connection: Connection, table: Table, expected: int) -> None:
        found = number_of(connection, select(func.count()).select_from(table))
        if found != expected:
            self._problem(f"table {table.name} holds {found} rows, the entries make {expected}")

    def _submissions(self, connection: Connection) -> None:
        """What no entry says is whose key it was; that it added something can be checked."""
        lost = connection.execute(
            select(submissions.c.sequence)
            .outerjoin(statements, statements.c.sequence == submissions.c.sequence)
            .where(statements.c.sequence.is_(None))
            .limit(5)
        ).scalars()
        for sequence in lost:
            self._problem(f"table submissions: record {sequence} is no statement")


# --- rows --------------------------------------------------------------------------------------


def end_of_tables(connection: Connection) -> dict[str, int]:
    """The highest number in each table that is read along with the entries."""
    return {
        table.name: number_of(connection, select(func.max(table.c[column])))
        for table, column in (
            (inspections, "sequence"),
            (reviews, "sequence"),
            (statements, "sequence"),
            (tree_heads, "size"),
        )
    }


def _columns(table: Table, source: object, **given: Any) -> Values:
    """The columns of a table from attributes of the same name."""
    return {
        column.name: given[column.name] if column.name in given else getattr(source, column.name)
        for column in table.columns
        if column.name not in _LATER
    }


def _one(connection: Connection, table: Table, **key: Any) -> Values | None:
    return look_up(connection, table, tuple(key), [tuple(key.values())]).get(tuple(key.values()))


def _place(table: Table, row: Values) -> str:
    if table is tree_nodes:
        return f"node {row['position']} of level {row['level']} of the hash tree"
    return f"record {row['sequence']}"


def _utc(text: str) -> str:
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
