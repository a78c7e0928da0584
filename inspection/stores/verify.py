"""Does the store agree with itself? Everything that can be recomputed is, and compared.

    1. the database's own check of its pages, indexes and references; on SQLite, its tables'
       definitions
    2. each entry in order: number, month, body, leaf; the tree grows by the recomputed leaf
    3. every other table: what the entries make it hold, and nothing more (verify_rows.py)
    4. each tree head: the root, and the peaks, of the tree at its size; the last covers all
    5. checkpoints, and what witnesses and people noted elsewhere (verify_checkpoints.py)
    6. each file that a record names: there, with that digest, or erased on record; files that no
       record names are a note, for a crash between file and record leaves one (verify_files.py)

The store is opened to read only and the server may go on. What was there at the start is read in
many short transactions; what came meanwhile, and the sums of all tables, in one at the end.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, type_coerce
from sqlalchemy.types import NullType

from inspection.errors import InputError, InspectionError, RecordsDamaged
from inspection.proofs.archive import read_entry
from inspection.proofs.merkle import Frontier, leaf_hash
from inspection.stores.audit import audit_problems
from inspection.stores.database import integrity_problems, open_engine, translated
from inspection.stores.definitions import definition_problems
from inspection.stores.migrate import require_current
from inspection.stores.schema import carried_files, checkpoints, entries, tree_heads
from inspection.stores.verify_checkpoints import CheckpointCheck
from inspection.stores.verify_files import FilesCheck
from inspection.stores.verify_months import MonthCheck
from inspection.stores.verify_rows import DerivedCheck, end_of_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Row, Table

    from inspection.entries import Entry
    from inspection.proofs.notes import VerifierKey
    from inspection.stores.files import FileImageStore

CHUNK: Final = 500
"""Records read at a time: between chunks the database's log can be cleared away."""

PROBLEMS_LISTED: Final = 100

_HEX: Final = frozenset("0123456789abcdef")
_BEFORE_ALL: Final = -(2**63)
_AFTER_ALL: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """The root of the hash tree over the first `size` records, in hex."""

    size: int
    root: str

    @classmethod
    def parse(cls, text: str) -> TreeHead:
        """A head as `inspection verify` prints it, SIZE:ROOT.

        Raises:
            InputError: it is no such thing.
        """
        size, _, root = text.strip().lower().partition(":")
        if not (size.isascii() and size.isdecimal()) or len(root) != 64 or set(root) - _HEX:
            raise InputError(
                f"{text!r} is not a tree head",
                remedy="Give it as `inspection verify` printed it: SIZE:ROOT, the root in hex.",
            )
        return cls(size=int(size), root=root)

    def __str__(self) -> str:
        return f"{self.size}:{self.root}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What is known from elsewhere than the store itself.

    Attributes:
        heads: tree heads that people noted.
        files: of witnesses, with checkpoints.
        keys: whose signatures are checked: the log's, and witnesses'.
    """

    heads: tuple[TreeHead, ...] = ()
    files: tuple[Path, ...] = ()
    keys: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was checked, and what does not hold.

    Attributes:
        records: all entries of the tree; `kinds` says how many of each.
        heads: tree heads compared.
        checkpoints: of the table; `signatures` that hold, `unchecked` ones of keys not given.
        outside: heads and checkpoints from elsewhere that were compared.
        covered: the largest size that one of them vouches for.
        images: files that records name, read and compared with their digest; `erased` of them are
            gone, as an entry says.
        extra_files: files that no record names; harmless.
        head: of the tree as recomputed from the bodies.
        notes: what is worth knowing and no damage.
        problems: one sentence each; the list is cut after PROBLEMS_LISTED, and says so.
    """

    records: int
    kinds: dict[str, int]
    heads: int
    checkpoints: int
    signatures: int
    unchecked: int
    outside: int
    covered: int
    images: int
    erased: int
    extra_files: int
    head: TreeHead
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    @property
    def inspections(self) -> int:
        """How many of the records are inspections."""
        return self.kinds.get("inspection", 0)


def verify_store(
    url: str,
    images: FileImageStore,
    *,
    outside: Outside | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check the records at `url` and the files they name.

    Args:
        url: of the database.
        images: the files; opened to read only will do.
        outside: what was noted elsewhere, to be found again.
        progress: called with records done and records in all.

    Raises:
        InputError: there is no such database, or a witness's file cannot be read.
        ConfigurationError: the database is of another release.
        RecordError: it cannot be read at all.
    """
    engine = open_engine(url, read_only=True)
    try:
        return _Verification(url, engine, images, outside or Outside(), progress).run()
    finally:
        engine.dispose()


@dataclass(slots=True)
class _Problems:
    listed: list[str] = field(default_factory=list)
    unlisted: int = 0

    def add(self, text: str) -> None:
        if len(self.listed) < PROBLEMS_LISTED:
            self.listed.append(text)
        else:
            self.unlisted += 1


class _Verification:
    """One run. The numbers in the comments are those of the module's docstring."""

    def __init__(
        self,
        url: str,
        engine: Engine,
        images: FileImageStore,
        outside: Outside,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._url = url
        self._engine = engine
        self._outside = outside
        self._progress = progress
        self._problems = _Problems()
        self._notes: list[str] = []
        self._tree = Frontier()
        self._last = _BEFORE_ALL
        self._next = 1
        self._months = MonthCheck(self._problems.add)
        self._kinds: Counter[str] = Counter()
        self._heads = _Heads(self._problems.add)
        self._rows = DerivedCheck(self._problems.add)
        self._signed = CheckpointCheck(outside.keys, self._problems.add)
        self._files = FilesCheck(images, self._problems.add)

    def run(self) -> VerifyReport:
        for head in self._outside.heads:
            what = f"the expected tree head over {head.size} records"
            self._signed.expect(what, head.size, bytes.fromhex(head.root))
        for path in self._outside.files:
            if self._signed.expect_file(path):
                self._notes.append(f"{path}: the last checkpoint is torn; a crash leaves that")
        try:
            require_current(self._url)
            self._read_all()
        except RecordsDamaged as error:
            self._problems.add(str(error))
        self._files.finish()
        self._signed.finish(self._tree.size)
        problems = [*self._problems.listed]
        if self._problems.unlisted:
            problems.append(f"and {self._problems.unlisted:,} more")
        return VerifyReport(
            records=self._tree.size,
            kinds=dict(sorted(self._kinds.items())),
            heads=self._heads.compared,
            checkpoints=self._signed.checkpoints,
            signatures=self._signed.signatures,
            unchecked=self._signed.unchecked,
            outside=self._signed.outside,
            covered=self._signed.covered,
            images=self._files.named,
            erased=self._files.erased,
            extra_files=self._files.extra(),
            head=TreeHead(size=self._tree.size, root=self._tree.root().hex()),
            notes=tuple(self._notes),
            problems=tuple(problems),
        )

    def _read_all(self) -> None:
        with self._reading() as connection:
            for problem in (*integrity_problems(connection), *definition_problems(connection)):  # 1
                self._problems.add(problem)
            for problem in audit_problems(connection):
                self._problems.add(problem)
        with self._reading() as connection:
            for row in connection.execute(select(carried_files)):
                self._files.carry(row.image)
                self._files.carry(row.evidence)
        with self._reading() as connection:
            end = _end(connection)
        while self._last < end:
            with self._reading() as connection:
                if not self._chunk(connection, end, end):
                    break
        with self._reading() as connection:
            last = _end(connection)
            while self._chunk(connection, last, last):
                pass
            self._finish(connection, last)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated("the records cannot be read"), self._engine.begin() as connection:
            yield connection

    def _chunk(self, connection: Connection, end: int, total: int) -> bool:
        """The next records up to `end`; whether there were any."""
        rows = _range(connection, entries, self._last, end, limit=CHUNK)
        if not rows:
            return False
        upto = rows[-1].sequence
        heads = {row.size: row for row in _range(connection, tree_heads, self._last, upto)}
        signed = {row.size: row for row in _range(connection, checkpoints, self._last, upto)}
        for row in rows:
            self._record(row)
            size = self._tree.size
            if (head := heads.pop(row.sequence, None)) is not None:
                self._heads.compare(head, self._tree)
            if (note := signed.pop(row.sequence, None)) is not None:
                self._signed.row(note.size, note.note, size, self._tree.root())
            self._signed.reached(size, self._tree.root())
        self._heads.stray(list(heads))
        for size in signed:
            self._problems.add(f"the checkpoint over {size} records ends at no record")
        self._rows.compare(connection)
        self._last = upto
        if self._progress is not None:
            self._progress(self._tree.size, total)
        return True

    def _finish(self, connection: Connection, end: int) -> None:
        for name, found in end_of_tables(connection).items():
            if found > end:
                self._problems.add(f"table {name} has a row {found}, but records end at {end}")
            elif name == tree_heads.name and found != end:
                self._problems.add(f"the last tree head covers {found} records, there are {end}")
        self._heads.stray([row.size for row in _range(connection, tree_heads, end, _AFTER_ALL)])
        for row in _range(connection, checkpoints, end, _AFTER_ALL):
            self._problems.add(f"the checkpoint over {row.size} records ends at no record")
        self._heads.sum_up()
        self._rows.finish(connection)

    def _record(self, row: Row[Any]) -> None:  # 2
        number, problem = row.sequence, self._problems.add
        if number != self._next:
            problem(f"record {self._next} is missing: the next one is {number}")
        self._next = number + 1
        body = row.body if isinstance(row.body, bytes) else str(row.body).encode("utf-8", "replace")
        leaf = leaf_hash(body)
        self._tree.add(leaf)
        self._rows.leaf(leaf)
        if row.leaf_hash != leaf:
            problem(f"record {number}: its body does not have its leaf hash")
        entry = _parse(row.kind, body)
        self._months.entry(number, row.month, entry)
        if entry is None:
            problem(f"record {number}: its body is not canonical JSON of its kind")
            return
        self._kinds[row.kind] += 1
        if row.id != entry.id:
            problem(f"record {number}: its id column does not agree with its body")
        try:
            self._rows.entry(number, entry)  # 3
            self._files.entry(number, entry)  # 6
        except (ValueError, TypeError, OverflowError) as error:
            problem(f"record {number}: something in its body is not what it should be: {error}")


class _Heads:
    """Tree heads against the tree as recomputed at their size (4)."""

    def __init__(self, problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._bad: list[int] = []
        self._good = 0
        self.compared = 0

    def compare(self, row: Row[Any], tree: Frontier) -> None:
        self.compared += 1
        if row.root == tree.root() and row.peaks == b"".join(tree.peaks):
            if not self._bad:
                self._good = row.size
        else:
            self._bad.append(row.size)

    def stray(self, sizes: list[int]) -> None:
        for size in sizes:
            self.compared += 1
            self._problem(f"the tree head over {size} records ends at no record")

    def sum_up(self) -> None:
        # One changed record spoils every head after it: say where it begins, not each of them.
        if self._bad:
            first = self._bad[0]
            self._problem(
                f"{len(self._bad):,} of {self.compared:,} tree heads do not hold, the "
                f"first over {first} records: one of the records {self._good + 1} to {first} "
                "was changed, or the head was"
            )


def _parse(kind: object, body: bytes) -> Entry | None:
    """The record, or None when the body is none of its kind or not in its one written form."""
    try:
        return read_entry(str(kind), body)
    except (ValueError, RecursionError, InspectionError):
        return None


def _end(connection: Connection) -> int:
    return int(connection.execute(select(func.max(entries.c.sequence))).scalar() or 0)


def _range(
    connection: Connection, table: Table, after: int, upto: int, limit: int | None = None
) -> list[Row[Any]]:
    """Rows in the order of their number, as the database has them: no type is taken for granted."""
    number = table.c.sequence if "sequence" in table.c else table.c.size
    query = (
        select(*(type_coerce(column, NullType()).label(column.name) for column in table.columns))
        .where(number > after, number <= upto)
        .order_by(number)
        .limit(limit)
    )
    return list(connection.execute(query))
