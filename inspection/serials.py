"""What a laser mark may say.

    mark text -> SerialFormat.parse -> Serial (fields, check character proven)

The check character is the hybrid system of ISO/IEC 7064 over the format's own alphabet: with the
32 symbols below it is MOD 33,32 (the standard's MOD 37,36 with M = 32). It finds every single
substitution and every adjacent transposition but one pair; it finds a lost character in all but
about one case in 32, which is why the length is part of the format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from stdnum.iso7064 import mod_37_36

from inspection.errors import RecipeError, SerialCheckError, SerialFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALPHABET_32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits and capitals without I, L, O and U, which are taken for 1, 1, 0 and V."""


def check_character(text: str, alphabet: str = ALPHABET_32) -> str:
    """The ISO/IEC 7064 hybrid check character (MOD n+1,n with n = len(alphabet)) of `text`."""
    return str(mod_37_36.calc_check_digit(text, alphabet=alphabet))


def check_holds(text: str, alphabet: str = ALPHABET_32) -> bool:
    """Whether the last character of `text` is its check character."""
    return len(text) > 1 and check_character(text[:-1], alphabet) == text[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialField:
    """A named run of characters inside the serial; `start` counts from 0."""

    name: str
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Serial:
    """A mark that fits its product's format. Build it with `SerialFormat.parse`."""

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text:
            raise SerialFormatError("a serial cannot be empty")
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialFormat:
    """The marks that a product may carry.

    Attributes:
        length: number of characters, the check character included.
        alphabet: symbols in the order of their values.
        check: "iso7064" for a hybrid check character in the last place, or "none".
        fields: named runs of characters, such as machine or running number.
    """

    length: int
    alphabet: str = ALPHABET_32
    check: Literal["iso7064", "none"] = "iso7064"
    fields: tuple[SerialField, ...] = ()

    def __post_init__(self) -> None:
        if self.length < 2:
            raise RecipeError("serial.length must be at least 2")
        if len(set(self.alphabet)) != len(self.alphabet) or len(self.alphabet) < 2:
            raise RecipeError("serial.alphabet must hold at least two symbols, each once")
        payload = self.length - (self.check == "iso7064")
        for part in self.fields:
            if part.start < 0 or part.length < 1 or part.start + part.length > payload:
                raise RecipeError(f"serial field {part.name!r} lies outside the mark")

    def parse(self, text: str) -> Serial:
        """The serial in `text`; surrounding blanks go, lower case becomes upper case.

        Raises:
            SerialFormatError: the length is wrong, or a character is not in the alphabet.
            SerialCheckError: the check character does not hold.
        """
        mark = text.strip()
        if self.alphabet.upper() == self.alphabet:
            mark = mark.upper()
        for position, symbol in enumerate(mark, start=1):
            if symbol not in self.alphabet:
                raise SerialFormatError(
                    f"serial {mark!r}: character {position} is {symbol!r}, "
                    f"which is not in the alphabet {self.alphabet}"
                )
        if len(mark) != self.length:
            place = min(len(mark), self.length) + 1
            what = "is missing" if len(mark) < self.length else "is one too many"
            raise SerialFormatError(
                f"serial {mark!r} has {len(mark)} characters instead of {self.length}: "
                f"character {place} {what}"
            )
        if self.check == "iso7064" and not check_holds(mark, self.alphabet):
            raise SerialCheckError(
                f"serial {mark!r}: its check character {mark[-1]!r} does not hold, "
                "so at least one character was misread"
            )
        return Serial(
            text=mark,
            fields={f.name: mark[f.start : f.start + f.length] for f in self.fields},
        )

    def complete(self, payload: str) -> Serial:
        """`payload` with its check character added, as a marking station would engrave it."""
        mark = payload.upper()
        if self.check == "iso7064":
            outside = sorted(set(mark) - set(self.alphabet))
            if outside:
                raise SerialFormatError(f"{payload!r} holds {outside[0]!r}, not in the alphabet")
            mark += check_character(mark, self.alphabet)
        return self.parse(mark)
