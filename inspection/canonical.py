"""Canonical JSON (RFC 8785), written by orjson wherever it provably writes the same bytes.

    dataclasses, dicts, lists  ->  plain values, keys sorted  ->  orjson  ->  UTF-8

What orjson does differently is settled before it sees the value: keys are sorted here by UTF-16
code units (section 3.2.3), numbers that ECMAScript writes in another way (section 3.2.2.3) are
written out here, and what the RFC forbids is refused: NaN, infinities, lone surrogates, integers
that no double holds. `rfc8785` is the reference; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import orjson
import rfc8785

if TYPE_CHECKING:
    from collections.abc import Sequence

SAFE: Final = 2**53
"""From here on not every integer is a double; below, ECMAScript and orjson write all alike."""

SMALLEST_PLAIN: Final = 1e-5
"""From here on, below SAFE, both write what is no integer with the same digits and no exponent."""

_AS_IT_IS: Final = frozenset({str, type(None), bool})


def canonical_bytes(value: Any) -> bytes:
    """The one written form of a value: a dataclass, mapping, list, tuple, str, number or None.

    Raises:
        ValueError: it has none: NaN, an infinity, an integer beyond 2**53 - 1, a lone surrogate,
            a key that is no text, or an object that is not JSON.
    """
    try:
        return orjson.dumps(_plain(value))
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no canonical JSON: {error}") from error


def is_canonical(body: bytes) -> bool:
    """Whether this is JSON in its one written form."""
    try:
        return canonical_bytes(_as_doubles(orjson.loads(body))) == body
    except (ValueError, RecursionError):
        return False


def _plain(value: Any) -> Any:
    kind = type(value)
    return value if kind in _AS_IT_IS else (_HOW.get(kind) or _how(kind))(value)


def _how(kind: type[Any]) -> Callable[[Any], Any]:
    """How values of a type that is met for the first time are made plain."""
    if is_dataclass(kind):
        return _HOW.setdefault(kind, _members_of(kind))
    if issubclass(kind, Mapping):
        return _mapping
    raise ValueError(f"{kind.__name__} is not JSON")


def _members_of(kind: type[Any]) -> Callable[[Any], dict[str, Any]]:
    names = sorted((field.name for field in fields(kind)), key=_utf_16)
    if len(names) == 1:  # an attrgetter of one name gives no tuple
        return lambda value: {names[0]: _plain(getattr(value, names[0]))}
    values = attrgetter(*names)

    def members(value: Any) -> dict[str, Any]:
        # As _plain, written out: this runs for every field of every entry.
        return {
            name: item
            if (kind := type(item)) in _AS_IT_IS
            else (_HOW.get(kind) or _how(kind))(item)
            for name, item in zip(names, values(value), strict=True)
        }

    return members


def _mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    keys = list(value)
    if all(map(str.isascii, keys)):
        keys.sort()
    else:
        keys.sort(key=_utf_16)
    return {key: _plain(value[key]) for key in keys}


def _utf_16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _list(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def _integer(value: int) -> int:
    if not -SAFE < value < SAFE:
        raise ValueError(f"the integer {value} is beyond what a double holds")
    return value


def _number(value: float) -> Any:
    if value.is_integer():
        # 1.0 is written 1, and -0.0 is 0.
        return int(value) if -SAFE < value < SAFE else orjson.Fragment(rfc8785.dumps(value))
    if not isfinite(value):
        raise ValueError(f"{value} is not JSON")
    if value >= SMALLEST_PLAIN or value <= -SMALLEST_PLAIN:
        return value
    return orjson.Fragment(rfc8785.dumps(value))


_HOW: Final[dict[type[Any], Callable[[Any], Any]]] = {
    float: _number,
    int: _integer,
    tuple: _list,
    list: _list,
    dict: _mapping,
}
"""How values of each type are made plain; dataclasses come in when they are first met."""


def _as_doubles(value: Any) -> Any:
    """Integers past the safe ones as the doubles that they are, so that they are written anew."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    if type(value) is int and not -SAFE < value < SAFE:
        return float(value)
    return value
