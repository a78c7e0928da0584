"""Marks that fit are accepted, and what does not fit is named."""

from __future__ import annotations

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
