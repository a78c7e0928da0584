"""Signed heads of the tree, in the table and in witnesses' files, against the recomputed tree.

    table checkpoints, witnesses' files, heads that people noted -> size, root -> the tree's root
    signature lines -> of the log's key? of a witness's? -> hold?

A checkpoint in the records' own table is signed with a key of the same machine: only what a witness
signed or keeps elsewhere binds whoever owns that machine.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection.errors import InputError
from inspection.proofs.merkle import EMPTY_ROOT
from inspection.proofs.notes import LOG, Checkpoint, Note, VerifierKey, holds
from inspection.proofs.witness import read_witness_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A root that was noted somewhere, to be found again."""

    what: str
    root: bytes


class CheckpointCheck:
    """Every root that somebody noted, and every signature under one.

    Args:
        keys: of the log and of witnesses; signatures of others count as unchecked, unless a
            witness's key is among them: then every line has to be of a known key.
        problem: told of each thing that does not hold.

    Attributes:
        checkpoints: of the table; `signatures` that hold, `unchecked` ones of unknown keys.
        outside: roots from elsewhere that were compared; `covered` is the largest of their sizes.
    """

    def __init__(self, keys: Sequence[VerifierKey], problem: Callable[[str], None]) -> None:
        self._logs = tuple(key for key in keys if key.type == LOG)
        self._witnesses = tuple(key for key in keys if key.type != LOG)
        self._problem = problem
        self._wanted: dict[int, list[_Wanted]] = defaultdict(list)
        self.checkpoints = self.signatures = self.unchecked = 0
        self.outside = self.covered = 0

    def expect(self, what: str, size: int, root: bytes) -> None:
        """A root that was noted elsewhere."""
        if size == 0:
            self._compare(_Wanted(what=what, root=root), 0, EMPTY_ROOT)
        else:
            self._wanted[size].append(_Wanted(what=what, root=root))

    def expect_file(self, path: Path) -> bool:
        """Every checkpoint in a witness's file; tells whether the file's end is torn.

        Raises:
            InputError: it cannot be read, or holds no checkpoint.
        """
        kept = read_witness_file(path)
        if not kept.notes:
            raise InputError(f"{path} holds no checkpoint", remedy="Name a witness's file.")
        for note in kept.notes:
            head = Checkpoint.parse(note.text)
            what = f"the checkpoint over {head.size} records in {path}"
            self._signed(what, head, note)
            self.expect(what, head.size, head.root)
        return kept.torn

    def row(self, size: object, text: object, tree_size: int, root: bytes) -> None:
        """A row of the table, and the tree as recomputed at its size."""
        self.checkpoints += 1
        what = f"the checkpoint over {size} records"
        try:
            note = Note.parse(text if isinstance(text, str) else "")
            head = Checkpoint.parse(note.text)
        except InputError as error:
            self._problem(f"{what} cannot be read: {error}")
            return
        if str(note) != text or head.size != size:
            self._problem(f"{what} is over {head.size} records")
        if tree_size == head.size:
            self._compare(_Wanted(what=what, root=head.root), head.size, root, outside=False)
        self._signed(what, head, note)

    def reached(self, size: int, root: bytes) -> None:
        """The tree as recomputed when it held so many entries."""
        for wanted in self._wanted.pop(size, ()):
            self._compare(wanted, size, root)

    def finish(self, end: int) -> None:
        """When all entries were seen."""
        for size, several in sorted(self._wanted.items()):
            for wanted in several:
                self._problem(
                    f"{wanted.what} is over {size} records, the store has {end}: records were "
                    "removed, or this is another store"
                )

    def _compare(self, wanted: _Wanted, size: int, root: bytes, *, outside: bool = True) -> None:
        if outside:
            self.outside += 1
        if root != wanted.root:
            self._problem(
                f"{wanted.what} does not hold: the first {size} records have the root "
                f"{root.hex()}, so this is not the history that was noted"
            )
        elif outside:
            self.covered = max(self.covered, size)

    def _signed(self, what: str, head: Checkpoint, note: Note) -> None:
        by_log = False
        for line in note.signatures:
            known = [key for key in (*self._logs, *self._witnesses) if line.is_by(key)]
            if any(holds(note, line, key) for key in known):
                self.signatures += 1
                by_log |= any(key in self._logs and key.name == head.origin for key in known)
            elif known:
                self._problem(f"{what}: the signature of {line.name} does not hold")
            elif self._witnesses and self._logs:
                self._problem(f"{what} has a signature of {line.name}, whose key was not given")
            else:
                self.unchecked += 1
        if self._logs and not by_log:
            self._problem(f"{what} is not signed by {', '.join(map(str, self._logs))}")
