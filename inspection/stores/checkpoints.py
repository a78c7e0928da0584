"""The log's own signed heads: made, kept, handed on to witnesses.

the tree now -> goes on from the last checkpoint? -> signed -> table checkpoints
             -> each HTTP witness: its line goes into the note
             -> each file: the note, with those lines, is appended
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select, update

from inspection.errors import ConfigurationError, InputError, InspectionError, RecordsDamaged
from inspection.proofs.notes import Checkpoint, Note, SigningKey, VerifierKey, cosigned_at, sign
from inspection.proofs.witness import FileWitness, check_continues
from inspection.proofs.witnesses import AnyWitness, HttpWitness, name_of
from inspection.stores.database import open_engine, translated
from inspection.stores.schema import checkpoints
from inspection.stores.tree import HashTree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

KEY_FILE: Final = "checkpoint.key"
LOOKED_BACK: Final = 100
"""How many checkpoints back a witness's last line is looked for; it says itself when that fails."""


def key_path(data_dir: Path) -> Path:
    """Where the key of a data folder's checkpoints is when no other place is named."""
    return data_dir / KEY_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Whether a witness has the checkpoint; `error` says why not."""

    witness: str
    error: InspectionError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A checkpoint, and who has it now."""

    note: Note
    checkpoint: Checkpoint
    handed: tuple[Handed, ...]

    @property
    def witnessed(self) -> bool:
        """Whether every witness has it."""
        return all(each.error is None for each in self.handed)


def latest_checkpoint(connection: Connection, *, upto: int | None = None) -> Note | None:
    """The last checkpoint over at most `upto` records; None when there is none.

    Raises:
        RecordsDamaged: the row holds no checkpoint.
    """
    query = select(checkpoints.c.size, checkpoints.c.note).order_by(checkpoints.c.size.desc())
    if upto is not None:
        query = query.where(checkpoints.c.size <= upto)
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _note(row.size, row.note)


class CheckpointMaker:
    """Makes checkpoints of one record store. One thread at a time.

    Args:
        url: of the database.
        key: the log's; its name is the origin.
        witnesses: whom each checkpoint is handed to.
    """

    def __init__(self, url: str, key: SigningKey, witnesses: Sequence[AnyWitness] = ()) -> None:
        self._url = url
        self._key = key
        self._witnesses = tuple(witnesses)
        self._engine = open_engine(url)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def make(self) -> Made:
        """Sign the tree as it is now, keep that, and hand it on.

        A witness that fails does not keep the others from having it.

        Raises:
            InputError: there are no records yet.
            ConfigurationError: the checkpoints so far are another log's.
            RecordsDamaged: the tree does not go on from the last checkpoint, or does not hold.
            RecordError: the database cannot be read or written.
        """
        head, note = self._sign()
        handed: list[Handed] = []
        for witness in self._witnesses:
            if isinstance(witness, HttpWitness):
                try:
                    line = witness.cosign(note, self.prove, old=self._last_cosigned(witness.key))
                    note = note.with_signatures((line,))
                except InspectionError as error:
                    handed.append(Handed(witness=name_of(witness), error=error))
                else:
                    handed.append(Handed(witness=name_of(witness), error=None))
        self._keep(head.size, note)
        for witness in self._witnesses:
            if isinstance(witness, FileWitness):
                failed: InspectionError | None = None
                try:
                    witness.add(note, self.prove)
                except InspectionError as error:
                    failed = error
                handed.append(Handed(witness=name_of(witness), error=failed))
        return Made(note=note, checkpoint=head, handed=tuple(handed))

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        """The consistency proof between two sizes. Raises as `HashTree.consistency` does."""
        with translated("the hash tree cannot be read"), self._engine.begin() as connection:
            return HashTree(connection).consistency(old, new)

    def _sign(self) -> tuple[Checkpoint, Note]:
        with translated("the hash tree cannot be read"), self._engine.begin() as connection:
            tree = HashTree(connection)
            size = tree.size()
            if not size:
                raise InputError(
                    "there are no records yet, so there is nothing to sign",
                    remedy="Come back after the first inspection.",
                )
            head = Checkpoint(origin=self._key.name, size=size, root=tree.root(size))
            last = latest_checkpoint(connection)
            if last is not None:
                self._check_last(Checkpoint.parse(last.text), head, tree)
        note = sign(head.text, self._key)
        if last is not None and last.text == note.text:
            return head, last.with_signatures(note.signatures)
        self._keep(head.size, note)
        return head, note

    def _check_last(self, last: Checkpoint, head: Checkpoint, tree: HashTree) -> None:
        if last.origin != head.origin:
            raise ConfigurationError(
                f"the last checkpoint of these records is of {last.origin}, and this key is of "
                f"{head.origin}",
                remedy=f"Use the key of {last.origin}; make a new one of that name if it is lost.",
            )
        check_continues(last, head, tree.consistency, "the table of checkpoints")

    def _keep(self, size: int, note: Note) -> None:
        engine = open_engine(self._url, writing=True)
        try:
            with translated("the checkpoint could not be kept"), engine.begin() as connection:
                here = checkpoints.c.size == size
                before = connection.execute(select(checkpoints.c.note).where(here)).scalar()
                if before is None:
                    connection.execute(insert(checkpoints), {"size": size, "note": str(note)})
                elif before != str(note):
                    merged = _note(size, before).with_signatures(note.signatures)
                    connection.execute(update(checkpoints).where(here).values(note=str(merged)))
        finally:
            engine.dispose()

    def _last_cosigned(self, key: VerifierKey) -> int:
        with translated("the checkpoints cannot be read"), self._engine.begin() as connection:
            rows = connection.execute(
                select(checkpoints.c.size, checkpoints.c.note)
                .order_by(checkpoints.c.size.desc())
                .limit(LOOKED_BACK)
            )
            for row in rows:
                if any(line.is_by(key) for line in _note(row.size, row.note).signatures):
                    return int(row.size)
        return 0


def cosigners(note: Note, keys: Sequence[VerifierKey]) -> list[tuple[VerifierKey, int]]:
    """Which of these witnesses' lines are under a note, and when they signed (Unix seconds)."""
    return [(key, cosigned_at(line)) for line in note.signatures for key in keys if line.is_by(key)]


def _note(size: int, text: str) -> Note:
    try:
        note = Note.parse(text)
        if Checkpoint.parse(note.text).size == size:
            return note
    except InputError:
        pass
    raise RecordsDamaged(f"the checkpoint over {size} records is none")
