"""A part's life as the records tell it, and the holds that stand on what is shown.

product, part  ->  names, entries in order  ->  what is in force, holds on it, its lots, its moulds
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inspection.record import UNREAD, InspectionRecord
from inspection.standing import disposition_in_force
from inspection.trace import hold_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from inspection.entries import Entry
    from inspection.events import Hold, HoldScope
    from inspection.standing import InForce, PartNames
    from inspection.store import RecordStore

TOGETHER: Final = 500
"""Parts that the store is asked for at a time."""

LOOKED_AT: Final = 20
"""Holds among which those on lots and moulds are looked for; past these, they may be on any."""

HoldKey = tuple[str, "HoldScope", str]
"""(product, scope, value) of what a hold can be on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Everything on record about one part, in the order of commits.

    Attributes:
        holds: those that stand on the part, on a lot or on a mould that it came from.
    """

    names: PartNames
    entries: tuple[Entry, ...]
    in_force: InForce | None
    holds: tuple[Hold, ...]

    @property
    def serial(self) -> str | None:
        """The newest mark; None while it was never read."""
        marks = [name for name in self.names.names if not name.startswith(UNREAD)]
        return marks[-1] if marks else None

    @property
    def inspections(self) -> tuple[InspectionRecord, ...]:
        """What was judged, oldest first; of several views their sum."""
        return tuple(
            each for each in self.entries if isinstance(each, InspectionRecord) and not each.view
        )


def lives_of(store: RecordStore, product: str, parts: Sequence[str]) -> dict[str, Life]:
    """The lives of many parts of a product, by the name that was asked for; unknown ones lack.

    Raises:
        RecordError: the records cannot be read.
    """
    found = {
        part: (names, tuple(entries))
        for start in range(0, len(parts), TOGETHER)
        for part, (names, entries) in store.histories(
            product, parts[start : start + TOGETHER]
        ).items()
        if entries
    }
    keys = {
        part: hold_keys(product, names.names, entries) for part, (names, entries) in found.items()
    }
    standing = standing_holds(store, {key for each in keys.values() for key in each})
    return {
        part: Life(
            names=names,
            entries=entries,
            in_force=disposition_in_force(entries),
            holds=_in_order(hold for key in keys[part] for hold in standing.get(key, ())),
        )
        for part, (names, entries) in found.items()
    }


def holds_of(
    store: RecordStore, records: Iterable[InspectionRecord]
) -> dict[str, tuple[Hold, ...]]:
    """The holds that stand on the part of each inspection, its lots or moulds, by inspection ID.

    A lot or mould may be told by another entry of the part, such as its casting. So its history is
    read too, but only where any lot or mould is held: then it costs more.
    """
    shown = tuple(records)
    if not store.anything_held():  # nearly always, and asked for every inspection
        return {record.id: () for record in shown}
    keys = {record.id: hold_keys(record.product, [record.part], [record]) for record in shown}
    parts: dict[str, set[str]] = defaultdict(set)
    for record in shown:
        parts[record.product].add(record.part)
    told: dict[tuple[str, str], list[HoldKey]] = {}
    for product in parts.keys() & _with_origins_held(store, parts.keys()):
        told |= _told_of(store, product, sorted(parts[product]))
    for record in shown:
        keys[record.id] += told.get((record.product, record.part), [])
    standing = standing_holds(store, {key for each in keys.values() for key in each})
    return {
        name: _in_order(hold for key in each for hold in standing.get(key, ()))
        for name, each in keys.items()
    }


def _with_origins_held(store: RecordStore, products: Iterable[str]) -> set[str]:
    """Products of which a lot or a mould is held; all of these when there are many holds."""
    found = store.holds(standing=True, limit=LOOKED_AT)
    if len(found) == LOOKED_AT:
        return set(products)
    return {each.hold.product for each in found if each.hold.scope != "part"}


def _told_of(
    store: RecordStore, product: str, parts: Sequence[str]
) -> dict[tuple[str, str], list[HoldKey]]:
    """What a hold may name that covers each part, by all that is on record of it."""
    return {
        (product, part): hold_keys(product, names.names, entries)
        for start in range(0, len(parts), TOGETHER)
        for part, (names, entries) in store.histories(
            product, parts[start : start + TOGETHER]
        ).items()
    }


def standing_holds(store: RecordStore, keys: set[HoldKey]) -> Mapping[HoldKey, list[Hold]]:
    """The holds that stand on each of these; a part's under every name that it has had."""
    standing: dict[HoldKey, list[Hold]] = defaultdict(list)
    if not keys:
        return standing
    for each in store.holds_on(sorted(keys)):
        hold = each.hold
        values: tuple[str, ...] = (hold.value,)
        if hold.scope == "part":
            values = tuple({hold.value, *store.names(hold.product, hold.value).names})
        for value in values:
            standing[hold.product, hold.scope, value].append(hold)
    return standing


def _in_order(holds: Iterable[Hold]) -> tuple[Hold, ...]:
    """Each once, oldest first: IDs rise with the clock."""
    return tuple(sorted({hold.id: hold for hold in holds}.values(), key=lambda hold: hold.id))
