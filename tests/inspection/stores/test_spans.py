"""A time range is cut into hours, days and months without a gap or an overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RequestError
from inspection.store import Filter
from inspection.stores.spans import Exact, Piece, Whole, as_stored, hour_text, pieces_of
from inspection.stores.tallies import GRAINS, Grain, fold, start_of

INSTANTS = st.datetimes(datetime(2025, 11, 20), datetime(2028, 3, 5), timezones=st.just(UTC))  # noqa: DTZ001
# Whole hours, days and months are what the cutting is about, so they come often.
ROUND = INSTANTS.map(lambda at: at.replace(minute=0, second=0, microsecond=0))
DAYS = ROUND.map(lambda at: at.replace(hour=0))
TIMES = st.one_of(INSTANTS, ROUND, DAYS, DAYS.map(lambda at: at.replace(day=1)))


def ends(piece: Piece) -> tuple[str, str]:
    """As `received_at` is written."""
    if isinstance(piece, Exact):
        return piece.start, piece.before
    return as_stored(hour_text(piece.start)), as_stored(hour_text(piece.before))


@given(TIMES, TIMES, st.sampled_from(GRAINS))
def test_pieces_lie_end_to_end_and_are_whole(
    start: datetime, before: datetime, coarsest: Grain
) -> None:
    wanted = Filter(received_from=start.isoformat(), received_before=before.isoformat())
    pieces = pieces_of(wanted, coarsest=coarsest)
    first, last = as_stored(start.isoformat()), as_stored(before.isoformat())
    if first >= last:
        assert pieces == []
        return
    assert [ends(piece)[0] for piece in pieces] == [
        first,
        *(ends(piece)[1] for piece in pieces[:-1]),
    ]
    assert ends(pieces[-1])[1] == last
    assert len(pieces) <= 7
    for piece in pieces:
        if isinstance(piece, Whole):
            assert GRAINS.index(piece.grain) <= GRAINS.index(coarsest)
            assert start_of(piece.grain, piece.start) == piece.start
            assert start_of(piece.grain, piece.before) == piece.before
        else:
            assert hour_text(piece.hour)[:13] == piece.start[:13]
            assert piece.before <= as_stored(hour_text(piece.hour + 1))


def test_a_range_without_ends_is_one_piece_of_everything() -> None:
    (piece,) = pieces_of(Filter())
    assert isinstance(piece, Whole)
    assert piece.grain == "month"
    assert [type(each) for each in pieces_of(Filter(received_from="2026-01-31T23:30:00Z"))] == [
        Exact,
        Whole,
    ]
    grains = [
        each.grain
        for each in pieces_of(Filter(received_before="2026-03-02T05:00:00+01:00"))
        if isinstance(each, Whole)
    ]
    assert grains == ["month", "day", "hour"]


def test_times_are_rounded_up_and_need_a_zone() -> None:
    assert as_stored("2026-03-01T09:00:00.0001+09:00") == "2026-03-01T00:00:00.001Z"
    assert as_stored("0001-01-01T00:00:00Z", hours=-24) == "0001-01-01T00:00:00.000Z"
    for wrong in ("2026-03-01", "", "9999-12-31T23:59:59.9999Z", "now"):
        with pytest.raises(RequestError):
            as_stored(wrong)


@given(st.lists(st.tuples(TIMES, st.sampled_from(["pass", "fail", "review"]), st.booleans())))
def test_folding_keeps_every_inspection_once_in_each_grain(
    received: list[tuple[datetime, str, bool]],
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    hours = [(at - epoch) // timedelta(hours=1) for at, _, _ in received]
    rows = [
        (hour, "p", "s", "", "m", "", disposition, "first", "", 1, int(first), number, number)
        for number, (hour, (_, disposition, first)) in enumerate(
            zip(hours, received, strict=True), start=1
        )
    ]
    folded = fold(rows)
    assert len({row[:8] for row in folded}) == len(folded)
    for grain in GRAINS:
        its = [row for row in folded if row[0] == grain]
        sums = [sum(row[place] for row in its) for place in range(8, 14)]
        kinds = [(name, first) for _, name, first in received]
        assert sums[:3] == [sum(n == d for n, _ in kinds) for d in ("pass", "fail", "review")]
        assert sums[3:] == [sum(n == d and f for n, f in kinds) for d in ("pass", "fail", "review")]
        assert min((row[14] for row in its), default=1) == 1
        assert max((row[15] for row in its), default=0) == len(received)
