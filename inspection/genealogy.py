"""What a part is made of, and what it went into.

part -> components it holds -> their components ...   (down)
     -> assemblies it is in -> what they are in ...   (up)

Level by level, each part followed once: so a cycle is cut where it closes. A component that was
removed again is named with the time, and not followed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from inspection.errors import NotFound, RequestError
from inspection.events import Assembly
from inspection.lives import Life, lives_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inspection.store import RecordStore

DEPTH: Final = 5
DEEPEST: Final = 20
MOST_LINKS: Final = 1000

Direction = Literal["down", "up"]
Key = tuple[str, str]
"""(product, identity) of a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """One component in one assembly.

    Attributes:
        depth: 1 beside the part that was asked for, and so on outwards.
        removed_at: None while it is in there.
        repeated: the part at the outer end was met before, and is not followed again.
        far: the part at the outer end; None where nothing else is recorded of it.
    """

    depth: int
    assembly: Key
    component: Key
    position: str | None
    fitted_at: str | None
    removed_at: str | None
    repeated: bool
    far: Life | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Genealogy:
    """Everything that a part is connected with.

    Attributes:
        truncated: there is more beyond the depth or the number of links that were allowed.
    """

    life: Life
    components: tuple[Fitting, ...]
    assemblies: tuple[Fitting, ...]
    truncated: bool


def genealogy_of(store: RecordStore, product: str, part: str, *, depth: int = DEPTH) -> Genealogy:
    """The components below a part and the assemblies above it.

    Args:
        store: where they are kept.
        product: the part's product.
        part: any of its names.
        depth: how many levels each way, 1 to DEEPEST.

    Raises:
        NotFound: nothing is recorded of it.
        RequestError: the depth is out of range.
    """
    if not 1 <= depth <= DEEPEST:
        raise RequestError(f"`depth` lies between 1 and {DEEPEST}")
    life = lives_of(store, product, [part]).get(part)
    if life is None:
        raise NotFound(f"nothing is recorded of a part {part!r} of product {product!r}")
    components, more_below = _walk(store, life, "down", depth)
    assemblies, more_above = _walk(store, life, "up", depth)
    return Genealogy(
        life=life,
        components=components,
        assemblies=assemblies,
        truncated=more_below or more_above,
    )


def _walk(
    store: RecordStore, start: Life, direction: Direction, depth: int
) -> tuple[tuple[Fitting, ...], bool]:
    """The links of one direction, level by level, and whether there are more."""
    met = {_root(start)}
    found: list[Fitting] = []
    level: list[Life] = [start]
    for number in range(1, depth + 1):
        near = [(life, link) for life in level for link in _links(life, direction)]
        if not near:
            return tuple(found), False
        far = _lives(store, (link.far for _, link in near))
        level = []
        for life, link in near:
            if len(found) == MOST_LINKS:
                return tuple(found), True
            other = far.get(link.far)
            root = _root(other) if other else link.far
            here = _root(life)
            repeated = root in met
            found.append(
                Fitting(
                    depth=number,
                    assembly=here if direction == "down" else root,
                    component=root if direction == "down" else here,
                    position=link.position,
                    fitted_at=link.fitted_at,
                    removed_at=link.removed_at,
                    repeated=repeated,
                    far=other,
                )
            )
            if other is not None and not repeated and link.removed_at is None:
                met.add(root)
                level.append(other)
    return tuple(found), any(True for life in level for _ in _links(life, direction))


@dataclass(slots=True, kw_only=True)
class _Link:
    far: Key
    position: str | None = None
    fitted_at: str | None = None
    removed_at: str | None = None


def _links(life: Life, direction: Direction) -> Iterator[_Link]:
    """Who is fitted at the other end, after every fitting and removing in order."""
    names = life.names.names
    links: dict[Key, _Link] = {}
    for entry in life.entries:
        if not isinstance(entry, Assembly):
            continue
        above = (entry.product, entry.part)
        below = (entry.component_product, entry.component_part)
        near, far = (above, below) if direction == "down" else (below, above)
        if near[0] != life.names.product or near[1] not in names:
            continue
        link = links.setdefault(far, _Link(far=far))
        if entry.action == "fitted":
            link.position, link.fitted_at, link.removed_at = entry.position, entry.at, None
        else:
            link.removed_at = entry.at
    yield from links.values()


def _lives(store: RecordStore, keys: Iterable[Key]) -> dict[Key, Life]:
    by_product: dict[str, set[str]] = defaultdict(set)
    for product, part in keys:
        by_product[product].add(part)
    return {
        (product, part): life
        for product, parts in by_product.items()
        for part, life in lives_of(store, product, sorted(parts)).items()
    }


def _root(life: Life) -> Key:
    return life.names.product, life.names.root
