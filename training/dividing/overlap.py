"""What of a set a package was made from: the same images, parts or groups by name, nearly the same.

    a package's split.csv (fit and calibrate) x the set's rows -> the parts to leave out, and why

Without the images that a package was made from, a near-duplicate is told by its perceptual hash
alone, and only as far as hashes tell parts of this kind from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.rows import counted
from training.dividing.duplicates import HASH_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from training.dividing.split_file import SplitRow
    from training.manifest import Manifest

NEAR_BITS = 8  # of 256: what re-encoding changes
ALIKE = 0.01  # share of a package's own images that may look so near another part's
SAMPLE = 4000  # of them are compared with each other
WORDS = HASH_BITS // 64
BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Parts of a set that a package was made from.

    Attributes:
        same_image, same_part, same_group, near: names of the parts, each under the first reason
            that holds.
        compared: whether near-duplicates could be told from parts that only look alike.
    """

    same_image: frozenset[str]
    same_part: frozenset[str]
    same_group: frozenset[str]
    near: frozenset[str]
    compared: bool = True

    @property
    def parts(self) -> frozenset[str]:
        """All of them."""
        return self.same_image | self.same_part | self.same_group | self.near

    @property
    def in_words(self) -> str:
        """Such as "12 parts left out that the model was made from (9 by image, 3 by name)"."""
        if not self.parts:
            said = "no part of it was in training"
        else:
            reasons = [
                f"{len(parts)} {how}"
                for parts, how in (
                    (self.same_image, "by image"),
                    (self.same_part, "by name"),
                    (self.same_group, "by a group that was in training"),
                    (self.near, "by a near-duplicate"),
                )
                if parts
            ]
            said = (
                f"{counted(len(self.parts), 'part')} left out that the model was made from "
                f"({', '.join(reasons)})"
            )
        if not self.compared:
            said += "; parts look too much alike to find near-duplicates by their hashes"
        return said


def overlap(
    made_from: Iterable[SplitRow],
    manifest: Manifest,
    hashes: Sequence[int],
    *,
    same_product: bool,
    groups: Sequence[str] | None = None,
) -> Overlap:
    """Which parts of the set the package was fitted or calibrated on, or share a group with.

    Args:
        made_from: the rows of its split.csv.
        manifest: the set.
        hashes: (N,) of its rows; none to leave near-duplicates out.
        same_product: whether equal names of parts and groups mean the same.
        groups: (N,) what each row shares its history with; `Row.group` when absent.
    """
    used = [row for row in made_from if row.side != "test"]
    digests = {row.sha256 for row in used}
    names = {row.part for row in used} if same_product else set()
    same_image = {row.part for row in manifest.rows if row.sha256 in digests}
    same_part = {row.part for row in manifest.rows if row.part in names} - same_image
    shared = {row.group for row in used} if same_product else set()
    pairs = zip(manifest.rows, groups or manifest.groups, strict=True)
    same_group = {row.part for row, group in pairs if group in shared} - same_image - same_part
    near: set[str] = set()
    known = [row.perceptual_hash for row in used]
    limit = near_limit(known, [row.part for row in used]) if used else None
    if limit is not None and len(hashes):
        close = _close(hashes, known, limit)
        near = {manifest.rows[i].part for i in np.flatnonzero(close).tolist()}
    near -= same_image | same_part | same_group
    return Overlap(
        same_image=frozenset(same_image),
        same_part=frozenset(same_part),
        same_group=frozenset(same_group),
        near=frozenset(near),
        compared=limit is not None,
    )


def near_limit(known: Sequence[int], parts: Sequence[str]) -> int | None:
    """Within how many bits two images are taken for one exposure; None when hashes cannot tell.

    Castings from one mould are alike before they are the same. So the package's own images set the
    limit: within it, hardly any of them (`ALIKE`) has one of another part.

    Args:
        known: (M,) hashes of the package's images.
        parts: (M,) whose they are.
    """
    step = max(1, len(known) // SAMPLE)
    words, names = _words(known[::step]), np.array(parts[::step])
    nearest = np.full(len(words), HASH_BITS, dtype=np.int64)
    for start in range(0, len(words), BLOCK):
        bits = _distances(words[start : start + BLOCK], words).astype(np.int64)
        bits[names[start : start + BLOCK, np.newaxis] == names] = HASH_BITS
        nearest[start : start + BLOCK] = bits.min(axis=1)
    for limit in range(NEAR_BITS, -1, -1):
        if (nearest <= limit).mean() <= ALIKE:
            return limit
    return None


def _close(hashes: Sequence[int], known: Sequence[int], limit: int) -> NDArray[np.bool_]:
    """(N,) whether a known hash lies within `limit` bits."""
    ours, theirs = _words(hashes), _words(known)
    close = np.zeros(len(ours), dtype=np.bool_)
    for start in range(0, len(ours), BLOCK):
        bits = _distances(ours[start : start + BLOCK], theirs)
        close[start : start + BLOCK] = (bits <= limit).any(axis=1)
    return close


def _distances(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """(n, m) bits in which hashes of (n, 4) and (m, 4) words differ."""
    bits = np.zeros((len(ours), len(theirs)), dtype=np.uint16)
    for word in range(WORDS):
        bits += np.bitwise_count(ours[:, word, np.newaxis] ^ theirs[:, word])
    return bits


def _words(hashes: Sequence[int]) -> NDArray[np.uint64]:
    """(n, 4) uint64."""
    data = b"".join(bits.to_bytes(HASH_BITS // 8, "big") for bits in hashes)
    return np.frombuffer(data, dtype=">u8").reshape(-1, WORDS).astype(np.uint64)
