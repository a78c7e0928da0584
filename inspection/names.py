"""Names that are given once and for ever: trace IDs for people, inspection IDs for machines."""

from __future__ import annotations

import os
import re
import time
from uuid import UUID

from inspection.errors import NotFound, RecordError
from inspection.serials import ALPHABET_32, check_character, check_holds

TRACE_EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
TRACE_SPREAD_BITS = 15
TRACE_LENGTH = 12  # 60 bits: 45 of milliseconds (to the year 3134), 15 to tell one from another


class TraceIds:
    """Makes trace IDs: `0CX7-J2KQ-M4TZ9`, 12 symbols and a check character, sorted by time.

    The alphabet has no I, L, O or U. IDs of one maker rise strictly, even when the clock goes
    back: start it with the newest ID in the store.
    """

    def __init__(self, newest: str | None = None) -> None:
        self._last = _trace_value(normalise_trace_id(newest)) if newest else -1

    def next(self, now_ms: int | None = None) -> str:
        """The next ID; `now_ms` is Unix time in milliseconds, the clock's when absent."""
        moment = (time.time_ns() // 1_000_000 if now_ms is None else now_ms) - TRACE_EPOCH_MS
        spread = int.from_bytes(os.urandom(2)) >> 2  # half the room, so that +1 stays in this ms
        value = max((max(moment, 0) << TRACE_SPREAD_BITS) | spread, self._last + 1)
        if value >= 32**TRACE_LENGTH:
            raise RecordError("the clock is past the year 3134: no trace ID can be made")
        self._last = value
        symbols = [ALPHABET_32[value >> (5 * i) & 31] for i in reversed(range(TRACE_LENGTH))]
        text = "".join(symbols)
        text += check_character(text)
        return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def normalise_trace_id(text: str) -> str:
    """A trace ID as typed or read aloud, in its one written form.

    Lower case, blanks and missing hyphens are forgiven; O is 0, I and L are 1.

    Raises:
        NotFound: it cannot be a trace ID; says whether length, symbol or check character.
    """
    plain = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if len(plain) != TRACE_LENGTH + 1:
        raise NotFound(f"a trace ID has {TRACE_LENGTH + 1} symbols; {text!r} has {len(plain)}")
    outside = [symbol for symbol in plain if symbol not in ALPHABET_32]
    if outside:
        raise NotFound(f"{outside[0]!r} does not occur in trace IDs")
    if not check_holds(plain):
        raise NotFound(
            f"the check character of trace ID {text!r} does not hold: a symbol is wrong",
            remedy="Read the trace ID again.",
        )
    return f"{plain[:4]}-{plain[4:8]}-{plain[8:]}"


def _trace_value(trace_id: str) -> int:
    value = 0
    for symbol in trace_id.replace("-", "")[:TRACE_LENGTH]:
        value = value << 5 | ALPHABET_32.index(symbol)
    return value


def new_inspection_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7) as text: unique, rising with the clock."""
    stamp = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = stamp << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 2 << 62 | random & (2**62 - 1)
    return str(UUID(int=value))
