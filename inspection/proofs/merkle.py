"""The hash tree of RFC 9162, section 2.1: SHA-256 over leaves in the order they were added.

    leaves -> Frontier -> root                        what the writer keeps
    subtree(lo, hi) -> inclusion_proof                this leaf is in that tree
                    -> consistency_proof              that tree is the beginning of this one
    proof, root     -> verify_inclusion, verify_consistency

Nothing here reads or keeps anything: whoever proves gives a function that knows the hashes of
subtrees, and whoever verifies needs the proof alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

NODE_HEIGHT: Final = 8
"""Roots of complete subtrees of 2^8, 2^16 ... leaves are kept, so that proofs read little."""

Subtree = Callable[[int, int], bytes]
"""The tree head over leaves lo to hi - 1 alone: MTH(D[lo:hi]) of RFC 9162, section 2.1.1."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees of a growing tree: O(log n) to keep, to add, to sum up.

    `peaks` are those roots, the largest first; their sizes are the set bits of `size`.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size < 0 or len(peaks) != size.bit_count() or any(len(p) != 32 for p in peaks):
            raise ValueError("the peaks do not fit the size")
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        node, below = leaf, self.size
        while below & 1:
            node = node_hash(self.peaks.pop(), node)
            below >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The tree head of the leaves so far (RFC 9162, section 2.1.1)."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def copy(self) -> Frontier:
        """Another frontier with the same leaves."""
        return Frontier(self.size, self.peaks)


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """The tree head over these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


# --- proving -----------------------------------------------------------------------------------


def inclusion_proof(index: int, size: int, subtree: Subtree) -> tuple[bytes, ...]:
    """What shows that leaf `index` is in the tree of `size` leaves: PATH of section 2.1.3.1.

    Args:
        index: of the leaf, from 0.
        size: of the tree.
        subtree: asked for whole subtrees only, and for what is right of the last of them.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    lo, hi = 0, size
    path: list[bytes] = []
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            path.append(subtree(middle, hi))
            hi = middle
        else:
            path.append(subtree(lo, middle))
            lo = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, subtree: Subtree) -> tuple[bytes, ...]:
    """What shows that the first `old` leaves are the tree that was: PROOF of section 2.1.4.1.

    Empty when `old` is 0 or `new`: there is nothing to show.

    Raises:
        ValueError: `old` is larger than `new`, or negative.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not begin with one of {old}")
    if old in (0, new):
        return ()
    lo, hi = 0, new
    whole = True  # whether what is left of `old` is a complete tree that the verifier has
    path: list[bytes] = []
    while old - lo != hi - lo:
        middle = lo + _split(hi - lo)
        if old <= middle:
            path.append(subtree(middle, hi))
            hi = middle
        else:
            path.append(subtree(lo, middle))
            lo, whole = middle, False
    if not whole:
        path.append(subtree(lo, hi))
    return tuple(reversed(path))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


# --- verifying ---------------------------------------------------------------------------------


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether `leaf` is leaf `index`, from 0, of the tree of `size` leaves with this root.

    The numbers are the steps of RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size or any(len(each) != 32 for each in (leaf, root, *proof)):  # 1
        return False
    fn, sn, r = index, size - 1, leaf  # 2, 3
    for p in proof:  # 4
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root  # 5


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `old` leaves is the beginning of that of `new` leaves.

    The numbers are the steps of RFC 9162, section 2.1.4.2, which begins at 0 < old < new; the
    empty tree is the beginning of every tree, and a tree is its own, without a proof.
    """
    if not 0 <= old <= new or any(len(each) != 32 for each in (old_root, new_root, *proof)):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if not proof:  # 1
        return False
    path = list(proof)
    if old & (old - 1) == 0:  # 2
        path.insert(0, old_root)
    fn, sn = old - 1, new - 1  # 3
    while fn & 1:  # 4
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # 5
    for c in path[1:]:  # 6
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root  # 7
