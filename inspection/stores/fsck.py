"""Looking for what is missing, extra or damaged, and making again what can be made again.

    verify_store    entries, tree, every other table, every named file
    + extra         files that no record names, and what interrupted writes left, one by one
    repair          entries and tree hold?  ->  derived tables made anew from the entries
                                            ->  stale leftovers cleared  ->  verify_store again

Entries, tree heads, checkpoints and images are never repaired: what they say can only come from a
backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import select

from inspection.entries import parse_entry
from inspection.errors import InspectionError, RecordsDamaged
from inspection.proofs.merkle import Frontier
from inspection.record import InspectionRecord
from inspection.stores.database import open_engine, translated
from inspection.stores.derived import rebuild_derived
from inspection.stores.files import FileImageStore
from inspection.stores.schema import entries, tree_heads
from inspection.stores.verify import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from inspection.entries import EntryKind
    from inspection.stores.verify import VerifyReport

CHUNK: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFile:
    """A file that no record names.

    Attributes:
        why: "unnamed", a whole file under its digest, left by a request that came to no record or
            has not come to one yet; "leftover", one that no digest names.
    """

    path: Path
    size_bytes: int
    why: Literal["unnamed", "leftover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was found.

    Attributes:
        report: of the records as they are now.
        extra: files that no record names; they do no harm.
        repaired: what was wrong before derived tables were made anew and is not wrong now.
        cleared: leftovers that were removed.
    """

    report: VerifyReport
    extra: tuple[ExtraFile, ...]
    repaired: tuple[str, ...] = ()
    cleared: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything holds now."""
        return self.report.ok


def check_store(
    url: str,
    root: Path,
    *,
    repair: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FsckReport:
    """Check records and files.

    Args:
        url: of the database.
        root: the folder of images.
        repair: make derived tables anew when something does not hold, and clear leftovers older
            than an hour.
        progress: called with records done and records in all.

    Raises:
        InputError: there is no such database.
        ConfigurationError: it is of another release.
        RecordsDamaged: repair was asked for, but entries or tree do not hold: nothing was changed.
        RecordError: it cannot be read at all.
    """
    images = FileImageStore(root, read_only=True)
    report = verify_store(url, images, progress=progress)
    repaired: tuple[str, ...] = ()
    cleared = 0
    if repair:
        before = sum(1 for _ in images.leftovers())
        FileImageStore(root)  # whoever opens it to write clears what is stale
        cleared = before - sum(1 for _ in images.leftovers())
        if not report.ok:
            _make_derived_anew(url)
            found = report.problems
            report = verify_store(url, images, progress=progress)
            repaired = tuple(each for each in found if each not in report.problems)
    extra = tuple(_extra(url, images)) if report.extra_files else ()
    return FsckReport(report=report, extra=extra, repaired=repaired, cleared=cleared)


def _make_derived_anew(url: str) -> None:
    engine = open_engine(url, writing=True)
    try:
        with translated("the derived tables could not be made anew"), engine.begin() as connection:
            _require_sound_entries(connection)
            rebuild_derived(connection)
    finally:
        engine.dispose()


def _require_sound_entries(connection: Connection) -> None:
    """Raise RecordsDamaged unless the leaves agree with the last tree head."""
    tree, after = Frontier(), 0
    while rows := connection.execute(
        select(entries.c.sequence, entries.c.leaf_hash)
        .where(entries.c.sequence > after)
        .order_by(entries.c.sequence)
        .limit(CHUNK)
    ).all():
        for row in rows:
            tree.add(row.leaf_hash)
        after = rows[-1].sequence
    head = connection.execute(
        select(tree_heads.c.size, tree_heads.c.root).order_by(tree_heads.c.size.desc()).limit(1)
    ).one_or_none()
    if (tree.size, tree.root()) != ((0, tree.root()) if head is None else tuple(head)):
        raise RecordsDamaged("the records do not have the root of their last tree head")


def _extra(url: str, images: FileImageStore) -> Iterator[ExtraFile]:
    named = _named_files(url)
    for digest in images.digests():
        if digest not in named:
            path = images.path(digest)
            yield ExtraFile(path=path, size_bytes=path.lstat().st_size, why="unnamed")
    for leftover in images.leftovers():
        yield ExtraFile(path=leftover.path, size_bytes=leftover.size_bytes, why="leftover")


def _named_files(url: str) -> set[str]:
    """Every file that an inspection names, erased or not."""
    named, after = set[str](), 0
    engine = open_engine(url, read_only=True)
    try:
        with translated("the records cannot be read"), engine.begin() as connection:
            while rows := connection.execute(
                select(entries.c.sequence, entries.c.kind, entries.c.body)
                .where(entries.c.sequence > after)
                .order_by(entries.c.sequence)
                .limit(CHUNK)
            ).all():
                for row in rows:
                    named.update(_files_of(row.kind, row.body))
                after = rows[-1].sequence
    finally:
        engine.dispose()
    return named


def _files_of(kind: EntryKind, body: bytes) -> Iterator[str]:
    if kind != "inspection":
        return
    try:
        entry = parse_entry(kind, body)
    except (ValueError, InspectionError):
        return  # what is wrong with it is in the report
    if isinstance(entry, InspectionRecord):
        yield entry.image_sha256
        if entry.evidence is not None:
            yield entry.evidence.sha256
