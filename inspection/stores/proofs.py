"""All that the records say of one part, gathered for a file that proves itself (`proof.py`).

serial -> the part and its names -> every entry that concerns it, as it was hashed
       -> images, evidence maps, pictures; what was erased, with the entry that says so
       -> a signed checkpoint that reaches all of them -> inclusion proofs -> the archive
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, union

from inspection.entries import parse_entry
from inspection.errors import InputError, InspectionError, NotFound, RecordsDamaged
from inspection.proofs.archive import (
    CHECKPOINT,
    FORMAT,
    Index,
    ProvenEntry,
    evidence_name,
    evidence_picture,
    heatmap_name,
    image_name,
    pack,
)
from inspection.proofs.merkle import leaf_hash
from inspection.proofs.notes import Checkpoint, Note
from inspection.record import InspectionRecord
from inspection.stores.database import open_engine, translated
from inspection.stores.migrate import require_current
from inspection.stores.parts import names as names_of
from inspection.stores.schema import (
    checkpoints,
    entries,
    erased_files,
    inspections,
    mentions,
    process_values,
)
from inspection.stores.tree import HashTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from inspection.image_store import ImageStore
    from inspection.standing import PartNames

LOOKED_AT: Final = 200
"""Checkpoints among which the one with most signatures is taken."""

_AT_ONCE: Final = 500


def find_part(url: str, serial: str, product: str | None = None) -> PartNames:
    """The part with this serial or provisional identity.

    Raises:
        NotFound: nothing on record speaks of it.
        InputError: several products have a part of this name.
    """
    require_current(url)
    engine = open_engine(url, read_only=True)
    try:
        with translated("the records cannot be read"), engine.begin() as connection:
            found = _products(connection, serial, product)
            if not found:
                raise NotFound(
                    f"nothing on record speaks of {serial!r}",
                    remedy="Check the serial; an unread mark is called unread:TRACE-ID.",
                )
            if len(found) > 1:
                raise InputError(
                    f"{len(found)} products have a part {serial!r}: {', '.join(found)}",
                    remedy="Name one with --product.",
                )
            return names_of(connection, found[0], serial)
    finally:
        engine.dispose()


def reach(url: str, part: PartNames) -> tuple[int, int]:
    """The number of the part's last entry, and the largest size that a checkpoint was made of."""
    engine = open_engine(url, read_only=True)
    try:
        with translated("the records cannot be read"), engine.begin() as connection:
            signed = connection.execute(select(func.max(checkpoints.c.size))).scalar()
            return max(_sequences(connection, part)), int(signed or 0)
    finally:
        engine.dispose()


def export_part(url: str, images: ImageStore, part: PartNames) -> bytes:
    """The archive of a part.

    Raises:
        InputError: no checkpoint reaches all its entries yet.
        RecordsDamaged: entries, tree or files do not agree with each other.
        RecordError: they cannot be read.
    """
    engine = open_engine(url, read_only=True)
    try:
        with translated("the records cannot be read"), engine.begin() as connection:
            return _Export(connection, images, part).pack()
    finally:
        engine.dispose()


class _Export:
    """One archive in the making, from one state of the records."""

    def __init__(self, connection: Connection, images: ImageStore, part: PartNames) -> None:
        self._connection = connection
        self._images = images
        self._part = part
        self._contents: dict[str, bytes] = {}
        self._erasures: set[int] = set()

    def pack(self) -> bytes:
        sequences = set(_sequences(self._connection, self._part))
        rows = self._rows(sorted(sequences))
        for row in rows:
            entry = parse_entry(row.kind, row.body)
            if isinstance(entry, InspectionRecord):
                self._files(row.sequence, entry)
        rows += self._rows(sorted(self._erasures - sequences))
        rows.sort(key=lambda row: int(row.sequence))
        note = self._note(rows[-1].sequence)
        size = Checkpoint.parse(note.text).size
        self._contents[CHECKPOINT] = str(note).encode()
        tree = HashTree(self._connection)
        if tree.root(size) != Checkpoint.parse(note.text).root:
            raise RecordsDamaged(f"the checkpoint over {size} records is not of this tree")
        proven = []
        for row in rows:
            proof = [value.hex() for value in tree.inclusion(row.sequence, size)]
            each = ProvenEntry(sequence=row.sequence, kind=row.kind, proof=proof)
            self._contents[each.file] = row.body
            proven.append(each)
        index = Index(
            format=FORMAT,
            product=self._part.product,
            part=self._part.root,
            names=list(self._part.names),
            size=size,
            entries=proven,
            files={name: hashlib.sha256(data).hexdigest() for name, data in self._contents.items()},
        )
        return pack(index, self._contents)

    def _rows(self, sequences: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(sequences), _AT_ONCE):
            some = sequences[start : start + _AT_ONCE]
            found += self._connection.execute(
                select(entries.c.sequence, entries.c.kind, entries.c.body, entries.c.leaf_hash)
                .where(entries.c.sequence.in_(some))
                .order_by(entries.c.sequence)
            )
        for row in found:
            if leaf_hash(row.body) != row.leaf_hash:
                raise RecordsDamaged(f"record {row.sequence} does not agree with its leaf")
        if len(found) != len(sequences):
            raise RecordsDamaged("an entry that an index names is missing")
        return found

    def _files(self, sequence: int, record: InspectionRecord) -> None:
        image = self._file(image_name(record), record.image_sha256)
        if record.evidence is None:
            return
        evidence = self._file(evidence_name(record.evidence.sha256), record.evidence.sha256)
        if image is None or evidence is None:
            return
        try:
            picture = evidence_picture(record, image, evidence)
        except InspectionError as error:
            raise RecordsDamaged(f"record {sequence}: its evidence cannot be drawn") from error
        self._contents[heatmap_name(sequence)] = picture

    def _file(self, name: str, digest: str) -> bytes | None:
        try:
            self._contents[name] = self._images.get(digest)
        except NotFound:
            erased = self._connection.execute(
                select(erased_files.c.sequence).where(erased_files.c.sha256 == digest)
            ).scalar()
            if erased is None:
                raise RecordsDamaged(
                    f"{name} is missing, and no entry says that it was erased"
                ) from None
            self._erasures.add(erased)
            return None
        return self._contents[name]

    def _note(self, last: int) -> Note:
        """Of those that reach the last entry: most signatures, and of these the newest."""
        texts = self._connection.execute(
            select(checkpoints.c.note)
            .where(checkpoints.c.size >= last)
            .order_by(checkpoints.c.size.desc())
            .limit(LOOKED_AT)
        ).scalars()
        notes = [Note.parse(text) for text in texts]
        if not notes:
            raise InputError(
                f"no checkpoint reaches entry {last} yet, the last one of this part",
                remedy="Make one: `inspection checkpoint`.",
            )
        return max(notes, key=lambda note: len(note.signatures))


def _products(connection: Connection, name: str, product: str | None) -> list[str]:
    """The products with a part of this name; every product is looked through when none is given."""
    tables = (inspections, mentions, process_values)
    every = [product]
    if product is None:
        distinct = union(*(select(table.c.product) for table in tables))
        every = [each for each in connection.execute(distinct).scalars() if each is not None]
    spoken_of = union(
        *(
            select(table.c.product).where(table.c.product == each, table.c.part == name)
            for each in every
            for table in tables
        )
    )
    return sorted(connection.execute(spoken_of).scalars()) if every else []


def _sequences(connection: Connection, part: PartNames) -> list[int]:
    """Every entry that concerns the part, process values among them."""
    every = union(
        *(
            select(table.c.sequence).where(
                table.c.product == part.product, table.c.part.in_(part.names)
            )
            for table in (inspections, mentions, process_values)
        )
    )
    found = sorted(connection.execute(every).scalars())
    if not found:
        raise NotFound(f"nothing on record speaks of {part.root!r}")
    return found
