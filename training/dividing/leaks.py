"""What stands on two sides of a split, pair by pair; with any of it, no figure is printed.

names of sides -> parts | declared groups | the same bytes | near-duplicates -> Leak ... -> refused
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspection.errors import DataLeak
from training.data.rows import counted
from training.dividing.grouping import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.dividing.duplicates import Pair
    from training.dividing.grouping import Field
    from training.manifest import Manifest
    from training.split import Split

Kind = Literal["part", "group", "exact", "near"]
NAMED = 10  # pairs in the message; the rest are lines of the error


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Two images, on two sides, that belong on one.

    Attributes:
        kind: why they belong together.
        what: such as "part P-7", "lot L3", "the same image".
        first, second: their row numbers.
        paths, sides: of the two.
    """

    kind: Kind
    what: str
    first: int
    second: int
    paths: tuple[str, str]
    sides: tuple[str, str]

    @property
    def line(self) -> str:
        """For a person."""
        (one, other), (here, there) = self.paths, self.sides
        return f"{self.what}: {one} ({here}), {other} ({there})"


def leaks(manifest: Manifest, split: Split, pairs: Iterable[Pair] = ()) -> tuple[Leak, ...]:
    """Everything that crosses a split, in the order of the kinds.

    Args:
        manifest: the set.
        split: of it.
        pairs: images that are one exposure twice, such as `near_duplicates` finds.
    """
    return leaks_between(manifest, split.names(), split.grouped_by, pairs)


def leaks_between(
    manifest: Manifest,
    sides: Sequence[str],
    grouped_by: Iterable[Field],
    pairs: Iterable[Pair] = (),
) -> tuple[Leak, ...]:
    """Everything that crosses, for each shared value and two sides one pair of images.

    Args:
        manifest: the set.
        sides: (N,) the name of each row's side.
        grouped_by: the fields whose values must not stand on two sides.
        pairs: images that are one exposure twice.
    """
    found = list(_crossing(manifest, sides, "part", manifest.parts, "part "))
    for field in grouped_by:
        if field != "part":
            found += _crossing(manifest, sides, "group", keys(manifest, field), f"{field} ")
    digests = [row.sha256 for row in manifest.rows]
    found += _crossing(manifest, sides, "exact", digests, "")
    for pair in pairs:
        if sides[pair.first] != sides[pair.second] and pair.kind == "near":
            what = f"near-duplicates, {pair.distance} bits apart"
            found.append(_leak(manifest, sides, "near", what, pair.first, pair.second))
    return tuple(found)


def refuse_leaks(manifest: Manifest, split: Split, pairs: Iterable[Pair] = ()) -> None:
    """Let a split pass that nothing crosses.

    Raises:
        DataLeak: something does; names the first pairs, and carries a line for each.
    """
    refuse(leaks(manifest, split, pairs))


def refuse(found: Sequence[Leak]) -> None:
    """Refuse when there is any.

    Raises:
        DataLeak: there is.
    """
    if not found:
        return
    words = {"part": "part", "group": "group", "exact": "exact duplicate", "near": "near-duplicate"}
    counts = Counter(leak.kind for leak in found)
    what = ", ".join(counted(count, words[kind]) for kind, count in counts.items())
    lines = tuple(leak.line for leak in found)
    more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    raise DataLeak(
        f"{what} on two sides of the split, so every figure would flatter and none is printed: "
        f"{'; '.join(lines[:NAMED])}{more}",
        lines=lines,
    )


def _crossing(
    manifest: Manifest,
    sides: Sequence[str],
    kind: Kind,
    values: Sequence[str | None],
    word: str,
) -> Iterable[Leak]:
    """One pair for each value and each side beyond the first that it stands on."""
    first: dict[str, dict[str, int]] = {}
    for i, (value, side) in enumerate(zip(values, sides, strict=True)):
        if value is not None:
            first.setdefault(value, {}).setdefault(side, i)
    for value, places in first.items():
        one, *others = places.values()
        for other in others:
            what = f"{word}{value}" if word else "the same image"
            yield _leak(manifest, sides, kind, what, one, other)


def _leak(
    manifest: Manifest, sides: Sequence[str], kind: Kind, what: str, first: int, second: int
) -> Leak:
    rows = manifest.rows
    return Leak(
        kind=kind,
        what=what,
        first=first,
        second=second,
        paths=(rows[first].path, rows[second].path),
        sides=(sides[first], sides[second]),
    )
