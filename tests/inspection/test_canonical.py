"""Canonical JSON is RFC 8785 to the byte, however it is made; `rfc8785` is the reference."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from inspection.canonical import canonical_bytes, is_canonical
from inspection.entries import TYPES, canonical_json, kind_of, parse_entry
from inspection.events import Assembly, Erasure, Hold, Naming, PartEvent, ProcessValues, Release
from inspection.recipe import Region
from inspection.record import ViewReference, complete
from inspection.stores.views import opened
from inspection.verdict import Finding, Reason, Verdict
from tests.contracts.drafts import (
    make_draft,
    make_review,
    make_statement,
    make_value,
    make_view_set,
)

TRACE = "0CX7-J2KQ-M4TZ9"
SAFE = 2**53 - 1
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(-SAFE, SAFE),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1, 1).map(lambda value: round(value, 6)),
    st.floats(-1e17, 1e17).map(round).map(float),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)


@given(values)
@example({"\ue000": 1, "\U00010000": 2, "z": 3})  # by code points these come the other way round
@example([0.0, -0.0, 1.0, 1e-6, 9.99e-7, 1e-5, 1e-7, 1e15, 1e16, 1e20, 1e21, 1e22, 5e-324])
@example([2.0**53, 2.0**53 - 1, -(2.0**53), 2.0**63, 2.0**64, 123456789012345680.0])
@example('\x00\x1f\x7f\u0080\u2028\u2029\ufffe\U0010ffff"\\/\b\t\n\f\r')
def test_any_json_is_written_as_the_reference_writes_it(value: Any) -> None:
    body = canonical_bytes(value)
    assert body == rfc8785.dumps(value)
    assert is_canonical(body)


@given(st.binary(min_size=8, max_size=8))
def test_every_double_is_written_as_the_reference_writes_it(bits: bytes) -> None:
    (value,) = struct.unpack("<d", bits)
    if math.isfinite(value):
        assert canonical_bytes(value) == rfc8785.dumps(value)
        assert float(canonical_bytes(value)) == value


# ECMA-262's own examples, as section 3.2.2.3 and appendix B of RFC 8785 give them.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555555", "333333333.3333333"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_examples_of_the_rfc(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_bytes(value) == text.encode()


@pytest.mark.parametrize(
    "value",
    [
        *(math.nan, math.inf, -math.inf, [math.nan], 2**53, -(2**53), 2**70),
        *("\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, b"bytes", {1, 2}, object(), 1j),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_bytes(value)


def test_endless_nesting_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="recursion"):
        canonical_bytes(endless)


def test_mappings_and_dataclasses_are_objects() -> None:
    @dataclass(frozen=True)
    class One:
        only: float

    proxied: Mapping[str, Any] = MappingProxyType({"b": One(2.0), "a": (1, None)})
    assert canonical_bytes(proxied) == b'{"a":[1,null],"b":{"only":2}}'


@given(values)
def test_only_the_one_form_is_canonical(value: Any) -> None:
    body = json.dumps(value, indent=1).encode()
    assert is_canonical(body) == (rfc8785.dumps(value) == body)
    assert not is_canonical(canonical_bytes(value) + b" ")


@pytest.mark.parametrize("body", [b"", b"{", b"nul", b'{"a":1,"a":1}', b"1.0", b"1e2", b"\xff"])
def test_what_is_no_json_or_another_form_is_not_canonical(body: bytes) -> None:
    assert not is_canonical(body)


# --- entries -------------------------------------------------------------------------------------

short = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
shares = st.floats(0, 1)


@st.composite
def records(draw: st.DrawFn) -> Any:
    verdict = Verdict(
        disposition=draw(st.sampled_from(["fail", "review"])),
        probability=draw(st.dictionaries(short, shares, min_size=1, max_size=4)),
        novelty=draw(st.none() | st.floats(0, 1e9)),
        findings=tuple(
            Finding(
                defect_class=name,
                probability=draw(shares),
                region=Region(top=0, left=draw(st.integers(0, 9999)), height=1, width=2),
            )
            for name in draw(st.lists(short, max_size=3))
        ),
        reasons=(Reason(code="defect", detail=draw(texts)),),
    )
    draft = make_draft(verdict=verdict, lot=draw(st.none() | short), station=draw(short))
    assert draft.evidence is not None
    slope = tuple(draw(st.lists(st.floats(-1e30, 1e30), max_size=3)))
    draft = replace(
        draft,
        evidence=draw(st.sampled_from([None, replace(draft.evidence, slope=slope)])),
        timings_ms=draw(st.dictionaries(short, st.floats(0, 1e6), max_size=3)),
    )
    views = (ViewReference(view=draw(short), inspection_id=None, disposition=None),)
    return complete(
        draft, trace_id=TRACE, attempt=draw(st.none() | st.integers(1, 99)), views=views
    )


def statements() -> list[Any]:
    value = make_value(machine="m", value=1e-9, until="2026-03-01T09:00:00+09:00")
    return [
        make_review("x", reason="금\U00010000\n"),
        make_statement(PartEvent, note="é"),
        make_statement(Naming),
        make_statement(Assembly, position="left"),
        make_statement(Hold, legal=True),
        make_statement(Release),
        opened(make_view_set(reason="audit"), TRACE),
        make_statement(ProcessValues, values=(value, make_value(part="p", value=3.0))),
        make_statement(Erasure),
    ]


def check(entry: Any) -> None:
    body = canonical_json(entry)
    kind = kind_of(entry)
    written = TypeAdapter(TYPES[kind]).dump_python(entry, mode="json")
    assert body == rfc8785.dumps(written)
    assert parse_entry(kind, body) == entry
    assert is_canonical(body)


@given(records())
def test_record_is_written_as_the_reference_writes_it(record: Any) -> None:
    check(record)


def test_every_kind_of_statement_is_written_as_the_reference_writes_it() -> None:
    made = statements()
    assert {kind_of(entry) for entry in made} | {"inspection"} == set(TYPES)
    for entry in made:
        check(entry)
