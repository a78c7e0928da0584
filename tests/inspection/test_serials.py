"""Marks that fit are accepted, and what does not fit is named."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RecipeError, SerialCheckError, SerialFormatError
from inspection.serials import ALPHABET_32, SerialField, SerialFormat, check_character

STANDARD_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FORMAT = SerialFormat(
    length=12,
    fields=(
        SerialField(name="machine", start=0, length=2),
        SerialField(name="running_number", start=2, length=9),
    ),
)
payloads = st.text(ALPHABET_32, min_size=11, max_size=11)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("A12425GABC1234002", "M"),
        ("RABD", "A"),
        ("X0H", "X"),
        ("TBR", "1"),
        ("EFWW032G2TI", "U"),
        ("9", "J"),
        ("B3739U6CR", "K"),
        ("OW", "N"),
        ("TRO", "D"),
        ("1M", "Q"),
    ],
)
def test_check_characters_of_the_standard_system(text: str, check: str) -> None:
    assert check_character(text, STANDARD_ALPHABET) == check


def test_the_alphabet_has_no_look_alikes() -> None:
    assert len(ALPHABET_32) == 32
    assert not set("ILOU") & set(ALPHABET_32)


@given(payloads)
def test_a_marked_serial_is_read_back(payload: str) -> None:
    serial = FORMAT.complete(payload)
    assert FORMAT.parse(serial.text) == serial
    assert FORMAT.parse(f" {serial.text.lower()} ") == serial
    assert serial.fields == {"machine": payload[:2], "running_number": payload[2:]}


@given(payloads, st.integers(0, 11), st.sampled_from(ALPHABET_32))
def test_every_single_misread_symbol_is_found(payload: str, place: int, symbol: str) -> None:
    text = FORMAT.complete(payload).text
    misread = text[:place] + symbol + text[place + 1 :]
    if misread != text:
        with pytest.raises(SerialCheckError, match="check character"):
            FORMAT.parse(misread)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AB12", "4 characters instead of 12: character 5 is missing"),
        ("A" * 13, "13 characters instead of 12: character 13 is one too many"),
        ("ABCDEFGHIJKM", "character 9 is 'I'"),
        ("ABC DEFGHJKM", "character 4 is ' '"),
        ("ABCDEFGHJKM한", "character 12 is '한'"),
        ("", "0 characters"),
    ],
)
def test_what_does_not_fit_names_the_position(text: str, said: str) -> None:
    with pytest.raises(SerialFormatError) as caught:
        FORMAT.parse(text)
    assert said in str(caught.value)


def test_a_format_without_check_character_takes_any_mark_of_its_length() -> None:
    assert SerialFormat(length=3, check="none").parse("ABC").text == "ABC"


def test_formats_that_cannot_work_are_refused() -> None:
    with pytest.raises(RecipeError):
        SerialFormat(length=1)
    with pytest.raises(RecipeError):
        SerialFormat(length=5, alphabet="AAB")
    with pytest.raises(RecipeError, match="outside the mark"):
        SerialFormat(length=5, fields=(SerialField(name="x", start=3, length=2),))


# --- the other check characters ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "payload", "marked"),
    [
        # ISO/IEC 7064 as python-stdnum has it; 97-10 is also the check of an IBAN and an LEI.
        ("iso7064-37-2", "G123489654321", "G123489654321Y"),
        ("iso7064-97-10", "794", "79444"),
        ("iso7064-97-10", "086860012565150011217", "08686001256515001121751"),
    ],
)
def test_pure_systems_have_their_own_characters(
    check: Literal["iso7064-37-2", "iso7064-97-10"], payload: str, marked: str
) -> None:
    form = SerialFormat(length=len(marked), alphabet=STANDARD_ALPHABET, check=check)
    assert form.complete(payload).text == marked
    assert form.parse(marked.lower()).text == marked
    with pytest.raises(SerialCheckError):
        form.parse(marked[:-1] + ("0" if marked[-1] != "0" else "1"))


@given(
    st.sampled_from(["iso7064-37-2", "iso7064-97-10"]),
    st.text(STANDARD_ALPHABET, min_size=8, max_size=8),
    st.integers(0, 7),
    st.sampled_from(STANDARD_ALPHABET),
)
def test_pure_systems_find_every_single_substitution(
    check: Literal["iso7064-37-2", "iso7064-97-10"], payload: str, place: int, symbol: str
) -> None:
    length = 9 if check == "iso7064-37-2" else 10
    form = SerialFormat(length=length, alphabet=STANDARD_ALPHABET, check=check)
    mark = form.complete(payload).text
    misread = mark[:place] + symbol + mark[place + 1 :]
    same = int(mark[place], 36) == int(symbol, 36)
    if not same:
        with pytest.raises(SerialCheckError):
            form.parse(misread)


def test_an_asterisk_may_be_the_check_of_37_2_and_nothing_else() -> None:
    form = SerialFormat(length=2, alphabet=STANDARD_ALPHABET, check="iso7064-37-2")
    starred = [symbol for symbol in STANDARD_ALPHABET if form.complete(symbol).text[1] == "*"]
    assert len(starred) == 1
    with pytest.raises(SerialFormatError, match="character 1 is"):
        form.parse("*0")


def test_fields_hold_what_they_must() -> None:
    form = SerialFormat(
        length=9,
        check="none",
        fields=(
            SerialField(name="plant", start=0, length=2, equals="KN"),
            SerialField(name="date", start=2, length=5, date="%y%j"),
            SerialField(name="mould", start=7, length=2),
        ),
    )
    assert form.parse("kn2636507").fields == {"plant": "KN", "date": "26365", "mould": "07"}
    with pytest.raises(SerialFormatError, match="plant is 'KX' instead of 'KN'"):
        form.parse("KX2636507")
    with pytest.raises(SerialFormatError, match="date '26366' is no date"):
        form.parse("KN2636607")


# --- the forms in which a scanner hands a mark over ----------------------------------------------

GTIN = "09506000134352"


def carrier(**options: Any) -> SerialFormat:
    return SerialFormat(length=6, check="none", **options)


@pytest.mark.parametrize(
    "text",
    [
        f"https://id.gs1.org/01/{GTIN}/21/AB1234",
        f"http://example.com/parts/01/{GTIN}/10/LOT-7/21/ab1234?17=261231",
        f"HTTPS://example.com/01/x/01/{GTIN}/22/V/10/L/21/%41B1234",
        f"https://id.gs1.org/01/{GTIN[1:]}/21/AB1234",
    ],
)
def test_a_gs1_digital_link_carries_its_serial(text: str) -> None:
    form = carrier(forms=("plain", "gs1-digital-link"), gtin=GTIN)
    assert form.parse(text).text == "AB1234"
    assert form.parse("AB1234").text == "AB1234"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"https://id.gs1.org/01/{GTIN}", "no serial"),
        (f"https://id.gs1.org/01/{GTIN[:-1]}3/21/AB1234", "GTIN that holds"),
        ("https://id.gs1.org/01/00000000000017/21/AB1234", "names GTIN 00000000000017"),
        (f"https://id.gs1.org/01/{GTIN}/21/AB1234/10/L", "GTIN that holds"),
        (f"https://id.gs1.org/01/{GTIN}/99/Q/21/AB1234", "GTIN that holds"),
        ("https://[bad", "not an address"),
    ],
)
def test_a_link_that_breaks_the_rules_is_refused(text: str, said: str) -> None:
    with pytest.raises(SerialFormatError, match=said):
        carrier(forms=("gs1-digital-link",), gtin=GTIN).parse(text)


def test_an_identifier_of_mh10_carries_its_serial() -> None:
    form = carrier(forms=("mh10.8.2",), issuer="UN123456789")
    assert form.parse("25SUN123456789AB1234").text == "AB1234"
    envelope = "[)>\x1e06\x1d1PKN-42\x1d25SUN123456789AB1234\x1e\x04"
    assert form.parse(envelope).text == "AB1234"
    with pytest.raises(SerialFormatError, match="issued by 'UN987654321'"):
        form.parse("25SUN987654321AB1234")
    with pytest.raises(SerialFormatError, match="0 fields of 25S"):
        form.parse("[)>\x1e06\x1d1PKN-42\x1e\x04")
    with pytest.raises(SerialFormatError, match="format 06"):
        form.parse(envelope[:-1])
    with pytest.raises(SerialFormatError, match="form plain"):
        form.parse("AB1234")


def test_a_mark_of_another_form_than_the_products_is_refused() -> None:
    with pytest.raises(SerialFormatError, match="of form gs1-digital-link"):
        carrier().parse(f"https://id.gs1.org/01/{GTIN}/21/AB1234")
    with pytest.raises(SerialFormatError, match=r"of form mh10\.8\.2"):
        carrier().parse("[)>\x1e06\x1d25SUN1AB1234\x1e\x04")
    # A plain serial may begin with 25S where no such form is carried.
    assert carrier().parse("25S123").text == "25S123"


@pytest.mark.parametrize(
    "options",
    [
        {"forms": ()},
        {"forms": ("plain", "plain")},
        {"gtin": "09506000134353"},
        {
            "fields": (
                SerialField(name="m", start=0, length=1),
                SerialField(name="m", start=1, length=1),
            )
        },
    ],
)
def test_carriers_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        carrier(**options)


def test_fields_that_cannot_work_are_refused() -> None:
    with pytest.raises(RecipeError, match="not the field's length"):
        SerialField(name="plant", start=0, length=2, equals="KNX")
    with pytest.raises(RecipeError, match="date"):
        SerialField(name="date", start=0, length=5, date="%H")
    with pytest.raises(RecipeError, match="digits and capital letters"):
        SerialFormat(length=5, alphabet="AB-", check="iso7064-37-2")
    with pytest.raises(RecipeError, match="no room"):
        SerialFormat(length=2, check="iso7064-97-10")


@given(st.text(max_size=80))
def test_whatever_a_scanner_sends_is_a_serial_or_a_refusal(text: str) -> None:
    form = carrier(forms=("plain", "gs1-digital-link", "mh10.8.2"), issuer="UN1")
    with contextlib.suppress(SerialFormatError):
        assert len(form.parse(text).text) == 6
