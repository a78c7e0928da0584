"""Does the store agree with itself? Everything that can be recomputed is, and compared.

    1. the database's own check of its pages, indexes and references
    2. where the records end now: what is added later is left for the next time
    3. each record in order: number, body, leaf, index row; the tree grows by the recomputed leaf
    4. each tree head: the root, and the peaks, of the tree at its size; the last covers all
    5. each image and evidence map that a record names: its file is there and has that digest
    6. files that no record names: a note, for a crash between file and record leaves one

The store is opened to read only and the server may go on: records are only ever added, so what was
true of the first n stays true.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import rfc8785
from sqlalchemy import func, select, type_coerce
from sqlalchemy.types import NullType

from inspection.entries import parse_entry
from inspection.errors import InputError, InspectionError, NotFound, RecordError, RecordsDamaged
from inspection.merkle import EMPTY_ROOT, Frontier, leaf_hash
from inspection.record import InspectionRecord
from inspection.stores.database import integrity_problems, open_engine, translated
from inspection.stores.migrate import require_current
from inspection.stores.schema import entries, index_row, inspections, reviews, tree_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, Row, Table

    from inspection.entries import Entry
    from inspection.stores.files import FileImageStore

CHUNK: Final = 500
"""Records read at a time: between chunks the database's log can be cleared away."""

PROBLEMS_LISTED: Final = 100

_HEX: Final = frozenset("0123456789abcdef")
_BEFORE_ALL: Final = -(2**63)


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
class VerifyReport:
    """What was checked, and what does not hold.

    Attributes:
        records: all entries of the tree; `inspections` and `reviews` are its parts.
        heads: tree heads compared, the expected ones included.
        images: files read and compared with their digest.
        extra_files: files that no record names; harmless.
        head: of the tree as recomputed from the bodies.
        problems: one sentence each; the list is cut after PROBLEMS_LISTED, and says so.
    """

    records: int
    inspections: int
    reviews: int
    heads: int
    images: int
    extra_files: int
    head: TreeHead
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify_store(
    url: str,
    images: FileImageStore,
    *,
    expected: tuple[TreeHead, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check the records at `url` and the files they name.

    Args:
        url: of the database.
        images: the files; opened to read only will do.
        expected: tree heads that were noted earlier, to be found again.
        progress: called with records done and records in all.

    Raises:
        InputError: there is no such database.
        ConfigurationError: it is of another release.
        RecordError: it cannot be read at all.
    """
    engine = open_engine(url, read_only=True)
    try:
        return _Verification(url, engine, images, expected, progress).run()
    finally:
        engine.dispose()


class _Verification:
    """One run. The numbers in the comments are those of the module's docstring."""

    def __init__(
        self,
        url: str,
        engine: Engine,
        images: FileImageStore,
        expected: tuple[TreeHead, ...],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._url = url
        self._engine = engine
        self._images = images
        self._expected = expected
        self._progress = progress
        self._problems: list[str] = []
        self._unlisted = 0
        self._tree = Frontier()
        self._next = 1
        self._counts = {"inspection": 0, "review": 0}
        self._heads = 0
        self._bad_heads: list[int] = []
        self._good_head = 0
        self._named: set[bytes] = set()

    def run(self) -> VerifyReport:
        try:
            require_current(self._url)
            self._read_all()
        except RecordsDamaged as error:
            self._problem(str(error))
        extra = sum(
            1 for digest in self._images.digests() if bytes.fromhex(digest) not in self._named
        )
        extra += sum(1 for _ in self._images.leftovers())  # 6
        problems = [*self._problems]
        if self._unlisted:
            problems.append(f"and {self._unlisted:,} more")
        return VerifyReport(
            records=self._tree.size,
            inspections=self._counts["inspection"],
            reviews=self._counts["review"],
            heads=self._heads,
            images=len(self._named),
            extra_files=extra,
            head=TreeHead(size=self._tree.size, root=self._tree.root().hex()),
            problems=tuple(problems),
        )

    def _read_all(self) -> None:
        with self._reading() as connection:
            for problem in integrity_problems(connection):  # 1
                self._problem(problem)
        with self._reading() as connection:
            end = self._end(connection)  # 2
        for head in self._expected:
            if head.size == 0:
                self._compare_root(
                    "the expected tree head", 0, EMPTY_ROOT, bytes.fromhex(head.root)
                )
            elif head.size > end:
                self._problem(
                    f"the expected tree head is over {head.size} records, the store has {end}: "
                    "records were removed, or this is another store"
                )
        last = _BEFORE_ALL
        while True:
            with self._reading() as connection:
                rows = _range(connection, entries, last, end, limit=CHUNK)
                upto = rows[-1].sequence if len(rows) == CHUNK else end
                index = {
                    "inspection": _by_number(_range(connection, inspections, last, upto)),
                    "review": _by_number(_range(connection, reviews, last, upto)),
                }
                heads = _by_number(_range(connection, tree_heads, last, upto))
            for row in rows:
                self._record(row, index)
                if (head_row := heads.pop(row.sequence, None)) is not None:
                    self._head(head_row)
                for head in self._expected:
                    if head.size == row.sequence:
                        self._compare_root(
                            f"the expected tree head over {head.size} records",
                            head.size,
                            self._tree.root(),
                            bytes.fromhex(head.root),
                        )
            self._strays(index, heads)
            if self._progress is not None:
                self._progress(self._tree.size, end)
            if len(rows) < CHUNK:
                break
            last = upto
        self._sum_up_heads()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated("the records cannot be read"), self._engine.begin() as connection:
            yield connection

    def _end(self, connection: Connection) -> int:
        """How many records there are to check; compares where the tables end."""
        ends = connection.execute(
            select(
                select(func.max(entries.c.sequence)).scalar_subquery().label("entries"),
                select(func.max(inspections.c.sequence)).scalar_subquery().label("inspections"),
                select(func.max(reviews.c.sequence)).scalar_subquery().label("reviews"),
                select(func.max(tree_heads.c.size)).scalar_subquery().label("heads"),
            )
        ).one()
        end = int(ends.entries or 0)
        for name, found in (("inspections", ends.inspections), ("reviews", ends.reviews)):
            if (found or 0) > end:
                self._problem(f"index {name} has a row {found}, but records end at {end}")
        if (ends.heads or 0) != end:
            self._problem(f"the last tree head covers {ends.heads or 0} records, there are {end}")
        return end

    def _record(self, row: Row[Any], index: dict[str, dict[int, Row[Any]]]) -> None:  # 3
        number = row.sequence
        if number != self._next:
            self._problem(f"record {self._next} is missing: the next one is {number}")
        self._next = number + 1
        body = row.body if isinstance(row.body, bytes) else str(row.body).encode("utf-8", "replace")
        leaf = leaf_hash(body)
        self._tree.add(leaf)
        if row.leaf_hash != leaf:
            self._problem(f"record {number}: its body does not have its leaf hash")
        entry = _parse(row.kind, body)
        if entry is None:
            self._problem(f"record {number}: its body is not canonical JSON of its kind")
            for rows in index.values():
                rows.pop(number, None)
            return
        self._counts[row.kind] += 1
        if row.id != entry.id:
            self._problem(f"record {number}: its id column does not agree with its body")
        self._index_row(number, entry, index[row.kind].pop(number, None))
        if isinstance(entry, InspectionRecord):
            self._file(number, "image", entry.image_sha256)
            if entry.evidence is not None:
                self._file(number, "evidence map", entry.evidence.sha256)

    def _index_row(self, number: int, entry: Entry, row: Row[Any] | None) -> None:
        if row is None:
            self._problem(f"record {number}: its index row is missing")
            return
        wanted = index_row(number, entry)
        have = row._mapping
        wrong = [n for n, v in wanted.items() if have[n] != v or type(have[n]) is not type(v)]
        if wrong:
            self._problem(
                f"record {number}: index columns do not agree with its body: {', '.join(wrong)}"
            )

    def _file(self, number: int, what: str, digest: str) -> None:  # 5
        try:
            key = bytes.fromhex(digest)
            if key in self._named:
                return
            self._named.add(key)
            self._images.get(digest)
        except (NotFound, ValueError):
            self._problem(f"record {number}: the file of its {what} is missing: {digest}")
        except RecordsDamaged:
            self._problem(f"record {number}: the file of its {what} holds something else: {digest}")
        except RecordError as error:
            self._problem(f"record {number}: {error}")

    def _head(self, row: Row[Any]) -> None:  # 4
        self._heads += 1
        if row.root == self._tree.root() and row.peaks == b"".join(self._tree.peaks):
            if not self._bad_heads:
                self._good_head = row.size
        else:
            self._bad_heads.append(row.size)

    def _sum_up_heads(self) -> None:
        # One changed record spoils every head after it: say where it begins, not each of them.
        if self._bad_heads:
            first = self._bad_heads[0]
            self._problem(
                f"{len(self._bad_heads):,} of {self._heads:,} tree heads do not hold, the "
                f"first over {first} records: one of the records {self._good_head + 1} to {first} "
                "was changed, or the head was"
            )

    def _compare_root(self, what: str, size: int, found: bytes, wanted: bytes) -> None:
        self._heads += 1
        if found != wanted:
            self._problem(
                f"{what} does not hold: the first {size} records have the root {found.hex()}, "
                "so this is not the history that was noted"
            )

    def _strays(self, index: dict[str, dict[int, Row[Any]]], heads: dict[int, Row[Any]]) -> None:
        for kind, rows in index.items():
            for number in rows:
                self._problem(f"index of {kind}s: row {number} belongs to no record of that kind")
        for size in heads:
            self._heads += 1
            self._problem(f"the tree head over {size} records ends at no record")

    def _problem(self, text: str) -> None:
        if len(self._problems) < PROBLEMS_LISTED:
            self._problems.append(text)
        else:
            self._unlisted += 1


def _parse(kind: object, body: bytes) -> Entry | None:
    """The record, or None when the body is none of its kind or not in its one written form."""
    if kind not in ("inspection", "review"):
        return None
    try:
        # By the JSON itself, not by writing the record again: a later release may have more
        # fields than the one that hashed this body. All numbers of RFC 8785 are doubles.
        if rfc8785.dumps(json.loads(body, parse_int=float)) != body:
            return None
        return parse_entry("inspection" if kind == "inspection" else "review", body)
    except (ValueError, RecursionError, InspectionError):
        return None


def _range(
    connection: Connection, table: Table, after: int, upto: int, limit: int | None = None
) -> list[Row[Any]]:
    """Rows in the order of their number, as the database has them: no type is taken for granted."""
    number = next(iter(table.primary_key.columns))
    query = (
        select(*(type_coerce(column, NullType()).label(column.name) for column in table.columns))
        .where(number > after, number <= upto)
        .order_by(number)
        .limit(limit)
    )
    return list(connection.execute(query))


def _by_number(rows: list[Row[Any]]) -> dict[int, Row[Any]]:
    return {row[0]: row for row in rows}
