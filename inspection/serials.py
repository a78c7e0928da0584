"""What a laser mark may say.

    mark text -> form (`mark_forms.py`) -> SerialFormat.parse -> Serial (fields, check proven)

Check characters are those of ISO/IEC 7064 (computed by python-stdnum):

    iso7064         hybrid, MOD n+1,n over the format's own alphabet of n symbols; one character.
                    MOD 37,36 for digits and letters, MOD 33,32 for the 32 symbols below
    iso7064-37-2    pure, MOD 37-2: digits and letters, one character, which may be an asterisk
    iso7064-97-10   pure, MOD 97-10: digits and letters, two digits
    none

The hybrid finds every single substitution and every adjacent transposition but one pair; it finds a
lost character in all but about one case in 32, which is why the length is part of the format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from stdnum.iso7064 import mod_37_2, mod_37_36, mod_97_10

from inspection.errors import RecipeError, SerialCheckError, SerialFormatError
from inspection.mark_forms import MarkForm, carried, gtin_holds

if TYPE_CHECKING:
    from collections.abc import Mapping

Check = Literal["iso7064", "iso7064-37-2", "iso7064-97-10", "none"]

ALPHABET_32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits and capitals without I, L, O and U, which are taken for 1, 1, 0 and V."""

ALPHABET_36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What MOD 37-2 and MOD 97-10 are defined over; a mark may use fewer of them."""

_CHECK_LENGTH: dict[Check, int] = {
    "iso7064": 1,
    "iso7064-37-2": 1,
    "iso7064-97-10": 2,
    "none": 0,
}
_DATE_PARTS = frozenset({"%y", "%Y", "%m", "%d", "%j"})


def check_character(text: str, alphabet: str = ALPHABET_32) -> str:
    """The ISO/IEC 7064 hybrid check character (MOD n+1,n with n = len(alphabet)) of `text`."""
    return str(mod_37_36.calc_check_digit(text, alphabet=alphabet))


def check_holds(text: str, alphabet: str = ALPHABET_32) -> bool:
    """Whether the last character of `text` is its check character."""
    return len(text) > 1 and check_character(text[:-1], alphabet) == text[-1]


def check_of(payload: str, check: Check, alphabet: str) -> str:
    """The check characters that belong to `payload`; empty where there are none."""
    if check == "iso7064":
        return check_character(payload, alphabet)
    if check == "iso7064-37-2":
        return str(mod_37_2.calc_check_digit(payload))
    if check == "iso7064-97-10":
        return str(mod_97_10.calc_check_digits(payload))
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialField:
    """A named run of characters inside the serial; `start` counts from 0.

    Attributes:
        equals: what must stand there, such as the plant's code.
        date: how a date stands there, of %y %Y %m %d %j, such as "%y%j" for year and day.
    """

    name: str
    start: int
    length: int
    equals: str | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        if self.equals is not None and len(self.equals) != self.length:
            raise RecipeError(f"serial field {self.name!r}: `equals` has not the field's length")
        if self.date is not None:
            parts = {self.date[n : n + 2] for n in range(0, len(self.date), 2)}
            if not parts or not parts <= _DATE_PARTS:
                raise RecipeError(
                    f"serial field {self.name!r}: `date` is made of "
                    f"{', '.join(sorted(_DATE_PARTS))}"
                )

    def complaint(self, value: str) -> str | None:
        """What is wrong with these characters here; None when nothing is."""
        if self.equals is not None and value != self.equals:
            return f"{self.name} is {value!r} instead of {self.equals!r}"
        if self.date is not None:
            try:
                moment = datetime.strptime(value, self.date)  # noqa: DTZ007  a date has no zone
            except ValueError:
                return f"{self.name} {value!r} is no date"
            if moment.strftime(self.date) != value:  # the 366th day of a common year
                return f"{self.name} {value!r} is no date"
        return None


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
        length: number of characters, the check characters included.
        alphabet: symbols in the order of their values.
        check: which check characters stand at the end.
        fields: named runs of characters: plant, product, machine, mould, date, running number.
        forms: what a scanner may hand over; the plain serial alone when absent.
        gtin: the product's GTIN, which a GS1 Digital Link must name.
        issuer: issuing agency code and company number before the serial in a 25S field.
    """

    length: int
    alphabet: str = ALPHABET_32
    check: Check = "iso7064"
    fields: tuple[SerialField, ...] = ()
    forms: tuple[MarkForm, ...] | None = None
    gtin: str | None = None
    issuer: str | None = None

    def __post_init__(self) -> None:
        if self.length < 2:
            raise RecipeError("serial.length must be at least 2")
        if len(set(self.alphabet)) != len(self.alphabet) or len(self.alphabet) < 2:
            raise RecipeError("serial.alphabet must hold at least two symbols, each once")
        if self.check.startswith("iso7064-") and set(self.alphabet) - set(ALPHABET_36):
            raise RecipeError(f"serial.check {self.check} is for digits and capital letters only")
        if self.payload_length < 1:
            raise RecipeError("serial.length leaves no room beside the check characters")
        for part in self.fields:
            if part.start < 0 or part.length < 1 or part.start + part.length > self.payload_length:
                raise RecipeError(f"serial field {part.name!r} lies outside the mark")
        if len({part.name for part in self.fields}) != len(self.fields):
            raise RecipeError("serial.fields must name each field once")
        if self.forms is not None and (not self.forms or len(set(self.forms)) != len(self.forms)):
            raise RecipeError("serial.forms must name at least one form, each once")
        if self.gtin is not None and not gtin_holds(self.gtin):
            raise RecipeError(
                f"serial.gtin {self.gtin!r} is no GTIN: its check digit does not hold"
            )

    @property
    def payload_length(self) -> int:
        """Number of characters before the check characters."""
        return self.length - _CHECK_LENGTH[self.check]

    def parse(self, text: str) -> Serial:
        """The serial in `text`; surrounding blanks go, lower case becomes upper case.

        Raises:
            SerialFormatError: the form is another product's, the length is wrong, a character is
                not in the alphabet, or a field does not hold what it must.
            SerialCheckError: the check characters do not hold.
        """
        found = carried(text.strip(" \t\r\n"), self.forms or ("plain",), issuer=self.issuer)
        if found.gtin is not None and self.gtin is not None and found.gtin != self.gtin.zfill(14):
            raise SerialFormatError(
                f"the mark names GTIN {found.gtin}; this product's is {self.gtin.zfill(14)}"
            )
        mark = found.serial.strip()
        if self.alphabet.upper() == self.alphabet:
            mark = mark.upper()
        self._check_symbols(mark)
        payload = mark[: self.payload_length]
        if (
            self.check != "none"
            and check_of(payload, self.check, self.alphabet) != (mark[self.payload_length :])
        ):
            raise SerialCheckError(
                f"serial {mark!r}: its check character {mark[self.payload_length :]!r} does not "
                "hold, so at least one character was misread"
            )
        fields = {part.name: mark[part.start : part.start + part.length] for part in self.fields}
        for part in self.fields:
            if (complaint := part.complaint(fields[part.name])) is not None:
                raise SerialFormatError(f"serial {mark!r}: {complaint}")
        return Serial(text=mark, fields=fields)

    def complete(self, payload: str) -> Serial:
        """`payload` with its check characters added, as a marking station would engrave it."""
        mark = payload.upper()
        outside = sorted(set(mark) - set(self.alphabet))
        if outside and self.check != "none":
            raise SerialFormatError(f"{payload!r} holds {outside[0]!r}, not in the alphabet")
        return self.parse(mark + check_of(mark, self.check, self.alphabet))

    def _check_symbols(self, mark: str) -> None:
        of_check = {"iso7064-37-2": ALPHABET_36 + "*", "iso7064-97-10": "0123456789"}
        for position, symbol in enumerate(mark, start=1):
            last = self.payload_length < position <= self.length
            if symbol not in (of_check.get(self.check, self.alphabet) if last else self.alphabet):
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
