"""Roots and proofs of the hash tree at any size it ever had, from what the tables keep of it.

    leaf hashes (entries)  256 at a time ─┐
    tree_nodes level 1     256 at a time ─┼─> subtree(lo, hi) -> root, inclusion, consistency
    tree_nodes level 2     ...           ─┘

A proof needs one block of 256 hashes on each level, on the way down to its leaf and at the end of
the tree: ten million leaves are three levels, so some six short reads. Every block that is read is
summed up and compared with the node above it, and every proof is verified before it is given:
what does not agree is damage, and nothing is proven with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from inspection.errors import InputError, NotFound, RecordsDamaged
from inspection.proofs.merkle import (
    EMPTY_ROOT,
    NODE_HEIGHT,
    consistency_proof,
    inclusion_proof,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from inspection.stores.schema import entries, tree_heads, tree_nodes

if TYPE_CHECKING:
    from sqlalchemy import Connection

BLOCK: Final = 1 << NODE_HEIGHT


class HashTree:
    """The tree as one transaction sees it. Whoever makes it owns the connection.

    What was read is kept: make a new one for another transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._blocks: dict[tuple[int, int], list[bytes]] = {}
        self._size: int | None = None

    def size(self) -> int:
        """How many entries the tree holds."""
        if self._size is None:
            found = self._connection.execute(
                select(tree_heads.c.size).order_by(tree_heads.c.size.desc()).limit(1)
            ).scalar()
            self._size = int(found or 0)
        return self._size

    def root(self, size: int) -> bytes:
        """The root of the tree when it held `size` entries.

        Raises:
            InputError: it never held as many.
            RecordsDamaged: what is kept of the tree does not agree with itself.
        """
        self._check_size(size)
        if size == 0:
            return EMPTY_ROOT
        root = self._subtree(0, size)
        kept = self._connection.execute(
            select(tree_heads.c.root).where(tree_heads.c.size == size)
        ).scalar()
        if kept is not None and kept != root:
            raise RecordsDamaged(f"the root of the hash tree at size {size} does not hold")
        return root

    def leaf(self, sequence: int) -> bytes:
        """The leaf hash of an entry. Raises NotFound when there is none."""
        if not 1 <= sequence <= self.size():
            raise NotFound(f"there is no entry {sequence}")
        return self._node(0, sequence - 1)

    def inclusion(self, sequence: int, size: int) -> tuple[bytes, ...]:
        """What shows that entry `sequence`, from 1, is in the tree of the first `size` entries.

        Raises:
            NotFound: the tree of this size has no such entry.
            InputError: it never held as many.
            RecordsDamaged: what is kept of the tree does not agree with itself.
        """
        self._check_size(size)
        if not 1 <= sequence <= size:
            raise NotFound(f"the first {size} entries hold no entry {sequence}")
        proof = inclusion_proof(sequence - 1, size, self._subtree)
        leaf, root = self._node(0, sequence - 1), self.root(size)
        if not verify_inclusion(sequence - 1, size, leaf, proof, root):
            raise RecordsDamaged(f"the proof of entry {sequence} at size {size} does not hold")
        return proof

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """What shows that the first `old` entries are still those of the tree of that size.

        Raises:
            InputError: it never held as many, or `old` is larger than `new`.
            RecordsDamaged: what is kept of the tree does not agree with itself.
        """
        self._check_size(new)
        if not 0 <= old <= new:
            raise InputError(f"a tree of {new} entries does not begin with one of {old}")
        proof = consistency_proof(old, new, self._subtree)
        if not verify_consistency(old, new, self.root(old), self.root(new), proof):
            raise RecordsDamaged(f"the proof from size {old} to {new} does not hold")
        return proof

    # --- subtrees ------------------------------------------------------------------------------

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size():
            raise InputError(
                f"the tree never held {size} entries; it holds {self.size()}",
                remedy="Ask for a size up to that.",
            )

    def _subtree(self, lo: int, hi: int) -> bytes:
        """The root over leaves lo to hi - 1: its complete subtrees, summed up from the right."""
        roots: list[bytes] = []
        while lo < hi:
            height = (hi - lo).bit_length() - 1
            roots.append(self._node(height, lo >> height))
            lo += 1 << height
        root = roots.pop()
        while roots:
            root = node_hash(roots.pop(), root)
        return root

    def _node(self, height: int, position: int) -> bytes:
        """The root of a complete subtree of 2^height leaves."""
        level, above = divmod(height, NODE_HEIGHT)
        first = position << above
        block = self._block(level, first // BLOCK)
        start = first % BLOCK
        hashes = block[start : start + (1 << above)]
        if len(hashes) < 1 << above:
            raise RecordsDamaged(
                f"the hash tree lacks nodes of level {level} from {first + len(hashes)} on"
            )
        return tree_root(hashes)

    def _block(self, level: int, number: int) -> list[bytes]:
        """Up to 256 hashes of a level in order, compared with the node that sums them up."""
        if (level, number) not in self._blocks:
            lo, hi = number * BLOCK, (number + 1) * BLOCK
            found = self._leaves(lo, hi) if level == 0 else self._nodes(level, lo, hi)
            hashes: list[bytes] = []
            for position, value in found:
                if position != lo + len(hashes) or len(value) != 32:
                    raise RecordsDamaged(
                        f"the hash tree lacks node {lo + len(hashes)} of level {level}"
                    )
                hashes.append(value)
            complete = (self.size() >> (NODE_HEIGHT * (level + 1))) > number
            if complete and (
                len(hashes) < BLOCK or tree_root(hashes) != self._parent(level + 1, number)
            ):
                raise RecordsDamaged(
                    f"node {number} of level {level + 1} of the hash tree does not agree with "
                    "what it sums up"
                )
            self._blocks[level, number] = hashes
        return self._blocks[level, number]

    def _parent(self, level: int, position: int) -> bytes:
        block = self._block(level, position // BLOCK)
        if position % BLOCK >= len(block):
            raise RecordsDamaged(f"the hash tree lacks node {position} of level {level}")
        return block[position % BLOCK]

    def _leaves(self, lo: int, hi: int) -> list[tuple[int, bytes]]:
        rows = self._connection.execute(
            select(entries.c.sequence, entries.c.leaf_hash)
            .where(entries.c.sequence > lo, entries.c.sequence <= min(hi, self.size()))
            .order_by(entries.c.sequence)
        )
        return [(row.sequence - 1, row.leaf_hash) for row in rows]

    def _nodes(self, level: int, lo: int, hi: int) -> list[tuple[int, bytes]]:
        end = min(hi, self.size() >> (NODE_HEIGHT * level))
        rows = self._connection.execute(
            select(tree_nodes.c.position, tree_nodes.c.hash)
            .where(
                tree_nodes.c.level == level,
                tree_nodes.c.position >= lo,
                tree_nodes.c.position < end,
            )
            .order_by(tree_nodes.c.position)
        )
        return [(row.position, row.hash) for row in rows]
