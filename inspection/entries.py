"""How everything that is remembered is written down: one entry, one canonical text, one leaf.

inspection, review, event, ... -> `canonical.py` (RFC 8785) -> leaf hash (`merkle.py`)
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from inspection.canonical import canonical_bytes
from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    Statement,
    ViewSet,
)
from inspection.record import InspectionRecord, ReviewRecord

Entry = InspectionRecord | ReviewRecord | Statement
EntryKind = Literal[
    "inspection",
    "review",
    "event",
    "naming",
    "assembly",
    "hold",
    "release",
    "view-set",
    "process-values",
    "erasure",
]

TYPES: Final[dict[EntryKind, type[Any]]] = {
    "inspection": InspectionRecord,
    "review": ReviewRecord,
    "event": PartEvent,
    "naming": Naming,
    "assembly": Assembly,
    "hold": Hold,
    "release": Release,
    "view-set": ViewSet,
    "process-values": ProcessValues,
    "erasure": Erasure,
}
"""The kinds under which entries are stored; a name once given is never given to another type."""

_KINDS: Final[dict[type[Any], EntryKind]] = {kind: name for name, kind in TYPES.items()}


def kind_of(entry: Entry) -> EntryKind:
    """The kind under which an entry is stored."""
    return _KINDS[type(entry)]


def canonical_json(entry: Entry) -> bytes:
    """The entry's RFC 8785 form: what its leaf is the hash of.

    Raises:
        ValueError: it has none; a number in it is not finite, say.
    """
    return canonical_bytes(entry)


def parse_entry(kind: EntryKind, body: bytes) -> Entry:
    """The entry in a stored body; the inverse of `canonical_json`.

    Raises:
        ValueError: there is no such kind, or the body is not one.
    """
    if kind not in TYPES:
        raise ValueError(f"{kind!r} is not a kind of entry that this release knows")
    entry: Entry = _adapter(kind).validate_json(body)
    return entry


@cache
def _adapter(kind: EntryKind) -> TypeAdapter[Any]:
    return TypeAdapter(TYPES[kind])
