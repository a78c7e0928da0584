"""What is remembered of a part besides inspections: where it has been, its names, holds, process.

    PartEvent       cast, marked, reworked, shipped, returned, scrapped
    Naming          an unread mark bound to a serial, or a part that was marked anew
    Assembly        a component fitted into, or removed from, an assembly
    Hold, Release   a part, lot or mould that must not go on, until somebody lets it go
    ViewSet         several views of one part that make one inspection
    ProcessValues   what machines measured while parts were made
    Erasure         image files that were deleted; their digests and proofs stay

Each is added to the records like an inspection, under the same hash tree, and never changed.
Times are RFC 3339 with a zone; `recorded_at` is the server's, in UTC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Literal, get_args

from pydantic import ConfigDict

from inspection.errors import RequestError
from inspection.record import ATTEMPT_REASONS, UNREAD, AttemptReason

EventKind = Literal["cast", "marked", "reworked", "shipped", "returned", "scrapped"]
NamingWhy = Literal["bound", "re-marked"]
AssemblyAction = Literal["fitted", "removed"]
HoldScope = Literal["part", "lot", "mould"]

MAX_TEXT: int = 200
MAX_REASON: int = 2000
MAX_VALUES: int = 1000
MAX_VIEWS: int = 32

UNITS: frozenset[str] = frozenset(
    {"degC", "K", "bar", "mbar", "kPa", "MPa", "s", "ms", "min", "mm", "um", "m/s", "mm/s", "kg"}
    | {"g", "N", "kN", "kV", "mA", "A", "V", "%", "l/min", "rpm", "1"}
)
"""Units of process values: SI and what casting machines show; "1" for plain numbers."""


class _Checked:
    """Texts are short, printable and not blank; a time says its zone; a choice is one of them."""

    __slots__ = ()

    LONG: ClassVar[frozenset[str]] = frozenset({"reason", "note"})
    TIMES: ClassVar[frozenset[str]] = frozenset({"at", "until", "recorded_at"})

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, str):
                if field.name in self.LONG:
                    _check_text(field.name, value.replace("\n", " "), MAX_REASON)
                else:
                    _check_text(field.name, value, MAX_TEXT)
            if field.name in self.TIMES and value is not None:
                check_time(field.name, value)
        self._check()

    def _check(self) -> None:
        """What else must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEvent(_Checked):
    """Something that happened to a part, other than an inspection.

    Attributes:
        at: when it happened, as whoever reports it says.
        by: the name on the access key that reported it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    product: str
    part: str
    event: EventKind
    at: str
    by: str
    recorded_at: str
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    cavity: str | None = None
    station: str | None = None
    note: str | None = None

    def _check(self) -> None:
        _one_of("event", self.event, get_args(EventKind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming(_Checked):
    """From now on `part` is also `serial`: bound to it when unread, marked anew otherwise."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    product: str
    part: str
    serial: str
    why: NamingWhy
    reason: str
    by: str
    recorded_at: str

    def _check(self) -> None:
        _one_of("why", self.why, get_args(NamingWhy))
        if self.serial.startswith(UNREAD):
            raise RequestError("a part is bound to a serial, not to another unread mark")
        if self.part == self.serial:
            raise RequestError("the part has this serial already")
        if (self.why == "bound") != self.part.startswith(UNREAD):
            raise RequestError(
                "`why` is bound for a part whose mark was unread, re-marked for any other"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly(_Checked):
    """A component that was fitted into a part, or removed from it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    product: str
    part: str
    component_product: str
    component_part: str
    action: AssemblyAction
    at: str
    by: str
    recorded_at: str
    position: str | None = None

    def _check(self) -> None:
        _one_of("action", self.action, get_args(AssemblyAction))
        if (self.product, self.part) == (self.component_product, self.component_part):
            raise RequestError("a part cannot be fitted into itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(_Checked):
    """A part, a lot or a mould of a product that must not go on.

    Attributes:
        value: the part's identity, the lot or the mould.
        legal: images that it covers are not deleted while it stands.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    product: str
    scope: HoldScope
    value: str
    reason: str
    by: str
    recorded_at: str
    legal: bool = False

    def _check(self) -> None:
        _one_of("scope", self.scope, get_args(HoldScope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(_Checked):
    """The end of a hold."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    hold_id: str
    reason: str
    by: str
    recorded_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSet(_Checked):
    """Several views of one part, opened to be inspected together.

    Attributes:
        part: the serial, or the provisional identity made from `trace_id`.
        views: the names of the views that must come, each once.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    trace_id: str
    station: str
    product: str
    part: str
    serial: str | None
    views: tuple[str, ...]
    by: str
    recorded_at: str
    reason: AttemptReason | None = None
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    cavity: str | None = None

    def _check(self) -> None:
        if self.reason is not None:
            _one_of("reason", self.reason, ATTEMPT_REASONS)
        if not 1 <= len(self.views) <= MAX_VIEWS or len(set(self.views)) != len(self.views):
            raise RequestError(f"`views` names 1 to {MAX_VIEWS} views, each once")
        for view in self.views:
            _check_text("views", view, MAX_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessValue(_Checked):
    """One measured value: of a part, or of a machine over a time.

    Attributes:
        at: when it was measured, or when the window begins.
        until: the end of the window, which is not part of it; None for a moment.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    value: float
    unit: str
    at: str
    until: str | None = None
    product: str | None = None
    part: str | None = None
    machine: str | None = None

    def _check(self) -> None:
        if not math.isfinite(self.value):
            raise RequestError("`value` is a finite number")
        if self.unit not in UNITS:
            raise RequestError(
                f"`unit` {self.unit!r} is not known",
                remedy=f"Use one of {', '.join(sorted(UNITS))}.",
            )
        if (self.part is None) != (self.product is None):
            raise RequestError("`product` and `serial` come together")
        if (self.part is None) == (self.machine is None):
            raise RequestError("a value is of a part or of a machine: send `serial` or `machine`")
        if self.until is not None and instant(self.until) <= instant(self.at):
            raise RequestError("`until` lies after `at`")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessValues(_Checked):
    """Process values that came together."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    values: tuple[ProcessValue, ...]
    by: str
    recorded_at: str

    def _check(self) -> None:
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise RequestError(f"1 to {MAX_VALUES} values come together")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure(_Checked):
    """Image files that were deleted under a rule of retention; what they were stays proven.

    Attributes:
        files: SHA-256 of each, in hex.
        rule: the rule in words.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    files: tuple[str, ...]
    rule: str
    by: str
    recorded_at: str

    def _check(self) -> None:
        for digest in self.files:
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise RequestError("`files` holds SHA-256 digests in hex")


Statement = PartEvent | Naming | Assembly | Hold | Release | ViewSet | ProcessValues | Erasure
"""What is added besides inspections and reviews."""


def check_time(name: str, text: str) -> None:
    """Refuse what is not a time with a zone.

    Raises:
        RequestError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(f"`{name}`: {text!r} is not a time after RFC 3339") from None
    if moment.tzinfo is None:
        raise RequestError(
            f"`{name}`: {text!r} has no zone", remedy="Add Z, or an offset such as +09:00."
        )


def instant(text: str) -> datetime:
    """The moment of a checked time."""
    return datetime.fromisoformat(text)


def _check_text(name: str, value: str, longest: int) -> None:
    if not value.strip() or len(value) > longest or not value.isprintable():
        raise RequestError(f"`{name}` holds 1 to {longest} printable characters")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"`{name}` is one of {', '.join(choices)}")
