from __future__ import annotations

import re
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import NotFound, RecordError
from inspection.names import (
    TRACE_EPOCH_MS,
    TraceIds,
    new_inspection_id,
    normalise_trace_id,
)
from inspection.serials import ALPHABET_32

NOW_MS = 1_790_000_000_000
LAST_MS = TRACE_EPOCH_MS + 2**45 - 1
moments = st.integers(TRACE_EPOCH_MS, LAST_MS)


@given(st.lists(moments, min_size=2, max_size=50))
def test_trace_ids_rise_whatever_the_clock_does(clock: list[int]) -> None:
    maker = TraceIds()
    # The last millisecond of all has room for 2 ** 14 more.
    ids = [maker.next(now_ms=moment) for moment in clock]
    assert ids == sorted(set(ids))


def test_trace_ids_of_one_millisecond_are_different() -> None:
    maker = TraceIds()
    ids = [maker.next(now_ms=NOW_MS) for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_trace_ids_sort_by_time_across_makers() -> None:
    ids = [TraceIds().next(now_ms=NOW_MS + step) for step in range(200)]
    assert ids == sorted(ids)


def test_maker_goes_on_after_the_newest_though_the_clock_went_back() -> None:
    newest = TraceIds().next(now_ms=NOW_MS)
    later = TraceIds(newest)
    ids = [later.next(now_ms=NOW_MS - 86_400_000) for _ in range(3)]
    assert [newest, *ids] == sorted({newest, *ids})


def test_clock_before_the_epoch_still_gives_ids() -> None:
    assert normalise_trace_id(TraceIds().next(now_ms=0))


def test_trace_ids_end_with_their_time() -> None:
    with pytest.raises(RecordError, match="3134"):
        TraceIds().next(now_ms=LAST_MS + 1)


def test_trace_id_uses_the_clock() -> None:
    before = time.time_ns() // 1_000_000
    newer = TraceIds().next()
    assert TraceIds().next(now_ms=before - 1) < newer
    assert newer < TraceIds().next(now_ms=time.time_ns() // 1_000_000 + 1000)


@given(moments)
def test_trace_id_looks_as_it_is_printed(moment: int) -> None:
    text = TraceIds().next(now_ms=moment)
    assert re.fullmatch(rf"[{ALPHABET_32}]{{4}}-[{ALPHABET_32}]{{4}}-[{ALPHABET_32}]{{5}}", text)
    assert not set(text) & set("ILOU")


@given(
    moments,
    st.lists(st.integers(0, 9), min_size=13, max_size=13),
    st.lists(st.sampled_from(["", " ", "-", "  ", "\t"]), min_size=14, max_size=14),
)
def test_trace_id_as_read_aloud_or_typed_is_understood(
    moment: int, choices: list[int], gaps: list[str]
) -> None:
    written = TraceIds().next(now_ms=moment)
    typed = gaps[0]
    for symbol, choice, gap in zip(written.replace("-", ""), choices, gaps[1:], strict=True):
        heard = {"0": "0Oo", "1": "1IiLl"}.get(symbol, symbol + symbol.lower())
        typed += heard[choice % len(heard)] + gap
    assert normalise_trace_id(typed) == written


@given(moments)
def test_every_single_wrong_symbol_is_found(moment: int) -> None:
    plain = TraceIds().next(now_ms=moment).replace("-", "")
    for at, right in enumerate(plain):
        for wrong in ALPHABET_32.replace(right, ""):
            with pytest.raises(NotFound):
                normalise_trace_id(plain[:at] + wrong + plain[at + 1 :])


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("", "13 symbols"),
        ("0000-0000-0000", "13 symbols"),
        ("0000-0000-000000", "13 symbols"),
        ("UUUU-UUUU-UUUUU", "'U'"),
        ("0000-0000-0000é", "'É'"),
        ("0000-0000-00000", "check character"),
        ("'; DROP TABLE", "13 symbols"),
    ],
)
def test_what_is_no_trace_id_is_not_found_and_says_why(text: str, sign: str) -> None:
    with pytest.raises(NotFound, match=re.escape(sign)):
        normalise_trace_id(text)


@given(st.text(max_size=30))
def test_any_text_is_a_trace_id_or_not_found(text: str) -> None:
    try:
        found = normalise_trace_id(text)
    except NotFound:
        return
    assert normalise_trace_id(found) == found


def test_inspection_ids_are_uuids_of_version_7_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [UUID(new_inspection_id()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    assert {(i.version, i.variant) for i in ids} == {(7, "specified in RFC 4122")}
    assert all(before <= i.int >> 80 <= after for i in ids)
