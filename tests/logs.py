"""A small log in memory for tests of witnesses: leaves, signed heads, proofs."""

from __future__ import annotations

from inspection.proofs.merkle import consistency_proof, leaf_hash, tree_root
from inspection.proofs.notes import LOG, Checkpoint, Note, SigningKey, sign


class Log:
    """Leaves that grow; `fork` goes on from the same beginning with other leaves."""

    def __init__(self, name: str = "plant.example/line-1", *, seed: int = 1) -> None:
        self.key = SigningKey(name=name, type=LOG, seed=bytes([seed]) * 32)
        self.leaves: list[bytes] = []

    def grow(self, count: int, word: str = "entry") -> Log:
        for _ in range(count):
            self.leaves.append(leaf_hash(f"{word} {len(self.leaves)}".encode()))
        return self

    def fork(self, size: int) -> Log:
        other = Log(self.key.name)
        other.key = self.key
        other.leaves = self.leaves[:size]
        return other

    def head(self, size: int | None = None) -> Checkpoint:
        count = len(self.leaves) if size is None else size
        return Checkpoint(origin=self.key.name, size=count, root=tree_root(self.leaves[:count]))

    def note(self, size: int | None = None) -> Note:
        return sign(self.head(size).text, self.key)

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        return consistency_proof(old, new, lambda lo, hi: tree_root(self.leaves[lo:hi]))
