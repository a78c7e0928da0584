"""When too much is asked: three times the peak with deadlines, and files meant to do harm.

    peak       a closed loop that keeps the server busy; what it answers a second
    overload   an open loop at three times that, each request with its deadline
    hostile    honest requests at half of the peak, alone and with one hostile file for ten of them

The open loop sends at fixed times whatever comes back, so a slow server is not spared; a time
counts from when its request was due. Goodput is answers within the deadline; an accepted request
that is answered late is counted by itself, from when it was sent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from _figures import Answers, Row, median, percentile, spread
from _load import hostile_messages, load, posted, station_messages
from _place import PNG, TIFF, served

if TYPE_CHECKING:
    from _place import Kind, Place, Server

TIMES: Final = 3.0
REFUSED: Final = (429, 503, 504)
SETTLE_S: Final = 1.0
COMMAND: Final = "python benchmarks/serving/bench.py"


def overload(place: Place, *, short: bool) -> list[Row]:
    """Three times the peak, for both kinds of image."""
    rounds, seconds = (2, 3.0) if short else (5, 15.0)
    return [row for kind in (PNG, TIFF) for row in _overload(place, kind, rounds, seconds)]


def _peak(place: Place, server: Server, kind: Kind, seconds: float) -> float:
    messages = station_messages(place.images(kind), kind)
    answers = posted(
        place, server, messages, connections=kind.saturating, seconds=seconds + SETTLE_S
    )
    return answers.rate(settle_s=SETTLE_S)


def _overload(place: Place, kind: Kind, rounds: int, seconds: float) -> list[Row]:
    ratios, peaks, goodputs = [], [], []
    late, lost, lags, refusals = 0, 0, [], []
    statuses: dict[int, int] = {}
    with served(place, kind) as server:
        before = _peak(place, server, kind, seconds)
        for _ in range(rounds):
            answers = _pushed(place, server, kind, TIMES * before, seconds)
            # The peak may drift while others use the machine: it is taken before and after.
            after = _peak(place, server, kind, seconds)
            peaks.append((before + after) / 2)
            before = after
            goodputs.append(answers.goodput(kind.deadline_s, settle_s=SETTLE_S))
            ratios.append(goodputs[-1] / peaks[-1])
            late += answers.late(kind.deadline_s)
            lost += answers.statuses().get(0, 0)
            lags.append(answers.lag_ms())
            refused = answers.of(*REFUSED)
            refusals.append(1000 * percentile(refused["answered"] - refused["sent"], 99))
            for status, count in answers.statuses().items():
                statuses[status] = statuses.get(status, 0) + count
    name = "PNG" if kind is PNG else "TIFF16"
    counts = ", ".join(f"{count} x {status or 'none'}" for status, count in statuses.items())
    shared = f"deadline {1000 * kind.deadline_s:.0f} ms; {counts}"
    raw = {"kind": kind.name, "peaks": peaks, "goodputs": goodputs, "late": late, "lost": lost}
    return [
        Row(
            figure=f"goodput at 3x overload / peak, {name}",
            value=spread(ratios),
            target=">= 0.95",
            met=median(ratios) >= 0.95,
            how=f"peak {median(peaks):.0f}, goodput {median(goodputs):.0f} a second; {shared}; "
            f"the client's own lateness {max(lags):.1f} ms p99",
            command=f"{COMMAND} overload",
            raw=raw,
        ),
        Row(
            figure=f"accepted and answered after the deadline, {name}",
            value=f"{late} (and {lost} without an answer)",
            target="0",
            met=late == 0 and lost == 0,
            how=shared,
            command=f"{COMMAND} overload",
        ),
        Row(
            figure=f"rejections, {name}",
            value=f"{spread(refusals)} ms p99",
            target="< 5 ms p99",
            met=median(refusals) < 5,
            how="429, 503 and 504, from the first byte sent to the answer",
            command=f"{COMMAND} overload",
            raw={"refusals_p99_ms": refusals},
        ),
    ]


def _pushed(place: Place, server: Server, kind: Kind, rate: float, seconds: float) -> Answers:
    messages = station_messages(place.images(kind), kind, deadline_s=kind.deadline_s)
    return posted(
        place,
        server,
        messages,
        connections=512 if kind is PNG else 96,
        seconds=seconds + SETTLE_S,
        rate=max(1.0, rate),
        only=(200, 201, *REFUSED),
    )


def hostile(place: Place, *, short: bool) -> list[Row]:
    """Honest requests alone, and among hostile ones."""
    rounds, seconds = (2, 5.0) if short else (7, 15.0)
    ratios, alone, among = [], [], []
    refused: dict[int, int] = {}
    with served(place, PNG) as server:
        rate = max(2.0, _peak(place, server, PNG, 3.0) / 2)
        bad = hostile_messages(hostile_files(), PNG.product)
        each = math.ceil(rate / 10 * seconds)
        for turn in range(rounds):
            alone.append(_honest(place, server, rate, seconds))
            with load(
                place,
                server,
                bad,
                connections=4,
                seconds=seconds,
                rate=rate / 10,
                first=turn * each,
            ) as others:
                among.append(_honest(place, server, rate, seconds))
                for status, count in others.answers().statuses().items():
                    refused[status] = refused.get(status, 0) + count
            ratios.append(among[-1] / alone[-1])
    counts = ", ".join(f"{count} x {status or 'none'}" for status, count in refused.items())
    return [
        Row(
            figure="honest p99 among hostile files / alone",
            value=spread(ratios),
            target="<= 1.2",
            met=median(ratios) <= 1.2,
            how=f"honest at {rate:.0f} a second, half of the peak: p99 {median(alone):.1f} and "
            f"{median(among):.1f} ms; one hostile file for ten honest ones, {len(bad)} of them "
            f"in turn, answered {counts}",
            command=f"{COMMAND} hostile",
            raw={"alone_p99_ms": alone, "among_p99_ms": among, "hostile": refused},
        )
    ]


def _honest(place: Place, server: Server, rate: float, seconds: float) -> float:
    messages = station_messages(place.images(PNG), PNG)
    answers = posted(place, server, messages, connections=64, seconds=seconds, rate=rate)
    return percentile(answers.times_ms(201), 99)


def hostile_files() -> list[tuple[str, bytes]]:
    """(media type, bytes) of the corpus that the tests are made of."""
    from tests.hostile_images import hostile_images

    return [(each.media_type, each.data) for each in hostile_images().values()]
