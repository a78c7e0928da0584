"""The forms in which a scanner may hand over a mark, and the serial inside.

    plain              the serial itself
    gs1-digital-link   https://HOST[/PATH]/01/GTIN[/22/VARIANT][/10/LOT]/21/SERIAL[?...]
    mh10.8.2           25S, issuing agency and company, serial; alone or in an ISO/IEC 15434
                       envelope

Sources: GS1 Digital Link Standard, URI syntax; ANSI MH10.8.2, data identifier 25S (IAC, CIN,
serial); ISO/IEC 15434, format 06: `[)>` RS `06` GS fields parted by GS, RS EOT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from inspection.errors import SerialFormatError

MarkForm = Literal["plain", "gs1-digital-link", "mh10.8.2"]

RS, GS, EOT = "\x1e", "\x1d", "\x04"
SEPARATORS: frozenset[str] = frozenset({RS, GS, EOT})
"""The control characters that belong to an ISO/IEC 15434 envelope."""

_ENVELOPE = f"[)>{RS}06{GS}"
_IDENTIFIER = "25S"
_QUALIFIERS = ("22", "10", "21")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a mark carries: the serial, and whose it says that it is."""

    serial: str
    gtin: str | None = None
    issuer: str | None = None
    lot: str | None = None


def carried(text: str, forms: tuple[MarkForm, ...], *, issuer: str | None) -> Carried:
    """The serial in a mark, by the first of the forms that the mark shows.

    Args:
        text: as the scanner sent it.
        forms: those that the product carries.
        issuer: issuing agency code and company number that a 25S field begins with.

    Raises:
        SerialFormatError: it shows a form that the product does not carry, or breaks its rules.
    """
    if text[:8].lower().startswith(("http://", "https://")):
        _must_carry("gs1-digital-link", forms)
        return _from_digital_link(text)
    if text.startswith(("[)>", _IDENTIFIER)) and "mh10.8.2" in forms:
        return _from_identifier(text, issuer or "")
    if text.startswith("[)>"):
        _must_carry("mh10.8.2", forms)
    _must_carry("plain", forms)
    return Carried(serial=text)


def gtin_holds(gtin: str) -> bool:
    """Whether a GTIN of 8, 12, 13 or 14 digits ends in its check digit (GS1, modulo 10)."""
    if not (gtin.isascii() and gtin.isdecimal()) or len(gtin) not in (8, 12, 13, 14):
        return False
    weighted = sum(int(d) * (3, 1)[n % 2] for n, d in enumerate(reversed(gtin[:-1])))
    return (weighted + int(gtin[-1])) % 10 == 0


def _must_carry(form: MarkForm, forms: tuple[MarkForm, ...]) -> None:
    if form not in forms:
        raise SerialFormatError(
            f"the mark is of form {form}; this product's marks are {', '.join(forms)}"
        )


def _from_digital_link(text: str) -> Carried:
    try:
        steps = [unquote(step) for step in urlsplit(text).path.split("/") if step]
    except ValueError:
        raise SerialFormatError(f"{text!r} is not an address") from None
    places = [n for n, step in enumerate(steps) if step == "01" and n + 1 < len(steps)]
    for place in reversed(places):  # an address of one's own may hold "01" before the key
        gtin, rest = steps[place + 1], steps[place + 2 :]
        names, values = rest[::2], rest[1::2]
        in_order = sorted(names, key=lambda name: _QUALIFIERS.index(name) if _known(name) else -1)
        if not gtin_holds(gtin) or len(names) != len(values) or not all(map(_known, names)):
            continue
        if list(names) != in_order or len(set(names)) != len(names):
            continue
        found = dict(zip(names, values, strict=True))
        if "21" not in found:
            raise SerialFormatError(f"{text!r} names a kind of product, but no serial (/21/)")
        return Carried(serial=found["21"], gtin=gtin.zfill(14), lot=found.get("10"))
    raise SerialFormatError(f"{text!r} is not a GS1 Digital Link with a GTIN that holds")


def _known(name: str) -> bool:
    return name in _QUALIFIERS


def _from_identifier(text: str, issuer: str) -> Carried:
    if text.startswith("[)>"):
        if not text.startswith(_ENVELOPE) or not text.endswith(RS + EOT):
            raise SerialFormatError(f"{text!r} is not an ISO/IEC 15434 envelope of format 06")
        fields = text[len(_ENVELOPE) : -2].split(GS)
        found = [field for field in fields if field.startswith(_IDENTIFIER)]
        if len(found) != 1:
            raise SerialFormatError(f"{text!r} holds {len(found)} fields of 25S instead of one")
        (text,) = found
    value = text[len(_IDENTIFIER) :]
    if not value.startswith(issuer):
        raise SerialFormatError(
            f"the mark was issued by {value[: len(issuer)]!r}; this product's by {issuer!r}"
        )
    return Carried(serial=value[len(issuer) :], issuer=issuer or None)
