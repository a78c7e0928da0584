"""What every schema is made of: strict objects, names, times with their zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from inspection.events import UNITS
from inspection.mark_forms import SEPARATORS

_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(Z|z|[+\- ]\d{2}:\d{2})", re.ASCII
)


def normalised_instant(text: str) -> str:
    """An RFC 3339 time with its zone, as UTC with milliseconds and a `Z`.

    Raises:
        ValueError: it is none, or has no zone.
    """
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        raise ValueError("a time is written 2026-11-21T10:00:00.000+09:00 or ...Z, with its zone")
    day, clock, zone = found.groups()
    # A `+` that nobody escaped arrives as a blank; in this place it can mean nothing else.
    moment = datetime.fromisoformat(f"{day}T{clock[:15]}{zone.upper().replace(' ', '+')}")
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC that is before the year 1 or after the year 9999") from error
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The server's time, in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def empty_is_absent(value: object) -> object:
    """None for a text that is empty or blank, as a form or a table sends it."""
    return None if isinstance(value, str) and not value.strip() else value


def _printable(text: str) -> str:
    if not text.isprintable() or "\ufffd" in text:  # which stands for bytes that are no UTF-8
        raise ValueError("it holds control characters, or others that cannot be printed")
    return text


def _scanned(text: str) -> str:
    """A mark as a scanner sends it; an ISO/IEC 15434 envelope has separators inside."""
    _printable("".join(symbol for symbol in text if symbol not in SEPARATORS))
    return text


def _printable_lines(text: str) -> str:
    lines = text.replace("\r\n", "\n")  # as browsers and Windows end them
    _printable(lines.replace("\n", " "))
    if not lines.strip():
        raise ValueError("it is blank")
    return lines


def _known_unit(unit: str) -> str:
    if unit not in UNITS:
        raise ValueError(f"{unit[:20]!r} is not known; use one of {', '.join(sorted(UNITS))}")
    return unit


Instant = Annotated[
    str, AfterValidator(normalised_instant), Field(json_schema_extra={"format": "date-time"})
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Mark = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_scanned)]
Words = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_printable_lines)]
Optional = Annotated[Name | None, BeforeValidator(empty_is_absent)]
OptionalMark = Annotated[Mark | None, BeforeValidator(empty_is_absent)]
OptionalWords = Annotated[Words | None, BeforeValidator(empty_is_absent)]
OptionalInstant = Annotated[Instant | None, BeforeValidator(empty_is_absent)]
Unit = Annotated[
    str,
    AfterValidator(_known_unit),
    Field(description=f"one of {', '.join(f'`{unit}`' for unit in sorted(UNITS))}"),
]


class Wire(BaseModel):
    """An object of the interface: a field that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
