"""The questions of `ten_million.py`: what the interface documents, alone, in pairs, at its worst.

Every question draws other values each time. Lists are asked for their first page, one from the
middle of the order of commits and the last one, 50 inspections each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from benchmarks.records._plant import (
    CLASSES,
    FIRST,
    LOT,
    MACHINES,
    MOULDS,
    PRODUCTS,
    made,
    trace_id,
)
from inspection.events import Hold, ProcessValue, ProcessValues
from inspection.names import new_inspection_id
from inspection.store import Filter
from tests.contracts.drafts import make_review

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from inspection.stores.sql import SqlRecordStore

    Call = Callable[[SqlRecordStore], Any]

NOW: Final = "2026-06-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question; `prepare` draws its values before the clock runs."""

    name: str
    prepare: Callable[[Random], Call]
    size: Callable[[Any], int] = len


def add_statements(store: SqlRecordStore, count: int) -> None:
    """What is remembered besides inspections, a little of it, through the store's own writer."""
    if store.newest() > count:
        return
    for number in range(0, min(count, 20_000), 1000):
        (record,) = store.find(Filter(serial=made(number).serial)).records[-1:]
        store.append_review(make_review(record.id))
    for machine in range(MACHINES):
        values = tuple(
            ProcessValue(
                name="melt",
                value=700.0 + minute / 10,
                unit="degC",
                at=(FIRST + timedelta(minutes=minute)).isoformat(),
                machine=f"LPC-{machine}",
            )
            for minute in range(1000)
        )
        store.add(ProcessValues(id=new_inspection_id(), values=values, by="m", recorded_at=NOW))
    for lot in range(20):
        store.add(
            Hold(
                id=new_inspection_id(),
                product=PRODUCTS[0],
                scope="lot",
                value=f"L0-{lot:05}",
                reason="doubt",
                by="qa",
                recorded_at=NOW,
            )
        )


def questions(count: int) -> list[Question]:
    """All of them, for a plant of so many parts."""
    return [*_lists(count), *_counts(count), *_parts(count), *_order(count)]


# --- lists -------------------------------------------------------------------------------------


def _filters(count: int) -> dict[str, Callable[[Random], dict[str, Any]]]:
    def day(rng: Random) -> dict[str, str]:
        start = FIRST + timedelta(seconds=rng.randrange(max(count - 86_400, 1)), minutes=7)
        before = start + timedelta(hours=13, minutes=11)
        return {"received_from": start.isoformat(), "received_before": before.isoformat()}

    def part(rng: Random) -> Any:
        return made(rng.randrange(count))

    def of(*names: str) -> Callable[[Random], dict[str, Any]]:
        def draw(rng: Random) -> dict[str, Any]:
            # One part's own values, so that they occur together; classes those of bad parts.
            one = part(rng)
            while "defect_class" in names and not one.defect_class:
                one = part(rng)
            return {name: getattr(one, name) for name in names}

        return draw

    def also(
        draw: Callable[[Random], dict[str, Any]], **fixed: Any
    ) -> Callable[[Random], dict[str, Any]]:
        return lambda rng: {**draw(rng), **fixed}

    def apart(rng: Random) -> dict[str, Any]:
        machine = rng.randrange(MACHINES)
        used = {(machine + MACHINES * turn) % MOULDS for turn in range(3)}
        mould = rng.choice([m for m in range(MOULDS) if m not in used])
        return {"machine": f"LPC-{machine}", "mould": f"M{mould:02}"}

    def strangers(rng: Random) -> dict[str, Any]:
        mould = rng.randrange(MOULDS)
        return {"product": PRODUCTS[(mould + 1) % 3], "mould": f"M{mould:02}"}

    return {
        "none": lambda _: {},
        "product": of("product"),
        "station": of("station"),
        "machine": of("machine"),
        "mould": of("mould"),
        "disposition pass": lambda _: {"disposition": "pass"},
        "disposition fail": lambda _: {"disposition": "fail"},
        "class": lambda rng: {"defect_class": rng.choice(CLASSES)},
        "reason first": lambda _: {"reason": "first"},
        "reason audit": lambda _: {"reason": "audit"},
        "lot": of("lot"),
        "serial": of("serial"),
        "time": day,
        "product + fail": also(of("product"), disposition="fail"),
        "station + machine": of("station", "machine"),
        "machine + mould + review": also(of("machine", "mould"), disposition="review"),
        "station + class": of("station", "defect_class"),
        "lot + fail": also(of("lot"), disposition="fail"),
        "mould + time": lambda rng: {**day(rng), **of("mould")(rng)},
        "fail + time": lambda rng: {**day(rng), "disposition": "fail"},
        "product + station + machine + mould + first + pass": also(
            of("product", "station", "machine", "mould"), reason="first", disposition="pass"
        ),
        "station + mould + challenge + fail": also(
            of("station", "mould"), reason="challenge", disposition="fail"
        ),
        "nothing: machine + mould of another": apart,
        "nothing: product + mould of another": strangers,
        "nothing: pass + class": lambda rng: {
            "disposition": "pass",
            "defect_class": rng.choice(CLASSES),
        },
        "nothing: lot + machine of another": lambda rng: {
            "lot": f"L0-{rng.randrange(max(count // LOT // MACHINES, 1)):05}",
            "machine": "LPC-3",
        },
    }


def _lists(count: int) -> list[Question]:
    found = []
    for name, draw in _filters(count).items():
        for place, before in (("first", None), ("middle", count // 2), ("last", count // 400 + 60)):
            if place != "first" and name in ("serial", "lot", "time"):
                continue

            def prepare(rng: Random, draw: Any = draw, before: int | None = before) -> Call:
                wanted = replace(Filter(**draw(rng)), before_sequence=before)
                return lambda store: store.find(wanted)

            label = f"list by {name}, {place} page" if name != "none" else f"list, {place} page"
            found.append(Question(name=label, prepare=prepare, size=lambda page: len(page.records)))
    return found


# --- counts ------------------------------------------------------------------------------------


def _counts(count: int) -> list[Question]:
    found = []
    seconds = count

    def ask(name: str, draw: Callable[[Random], dict[str, Any]], **how: Any) -> None:
        def prepare(rng: Random) -> Call:
            wanted = Filter(**draw(rng))
            return lambda store: store.counts(wanted, **how)

        found.append(Question(name=name, prepare=prepare))

    def all_of(_: Random) -> dict[str, Any]:
        return {}

    def span(hours: int) -> Callable[[Random], dict[str, Any]]:
        def draw(rng: Random) -> dict[str, Any]:
            last = max(seconds - hours * 3600, 1)
            start = FIRST + timedelta(seconds=rng.randrange(last))
            before = start + timedelta(hours=hours)
            return {"received_from": start.isoformat(), "received_before": before.isoformat()}

        return draw

    ask("count everything", all_of)
    for by in ("product", "station", "machine", "mould", "disposition", "reason", "defect_class"):
        ask(f"count by {by}", all_of, by=(by,))
    for bucket in ("day", "month"):
        ask(f"count by {bucket}", all_of, bucket=bucket)
        ask(f"count by product and {bucket}", all_of, by=("product",), bucket=bucket)
    ask("count by machine, mould and disposition", all_of, by=("machine", "mould", "disposition"))
    ask("count by class and day", all_of, by=("defect_class",), bucket="day")
    ask("count a week by hour", span(168), bucket="hour")
    ask("count a week by machine and hour", span(168), by=("machine",), bucket="hour")
    ask("count a shift by lot", span(8), by=("lot",))
    filters = _filters(count)
    for name in (
        "product",
        "machine",
        "mould",
        "disposition fail",
        "class",
        "reason audit",
        "time",
    ):
        ask(f"count with {name}", filters[name])
        ask(f"count with {name} by day", filters[name], bucket="day")
    ask("count with station + mould + time", lambda r: {**filters["time"](r), **_two(r, count)})
    ask("count with lot", filters["lot"])
    ask("count with lot by disposition and hour", filters["lot"], by=("disposition",))
    ask("count with serial", filters["serial"])
    return found


def _two(rng: Random, count: int) -> dict[str, str]:
    one = made(rng.randrange(count))
    return {"station": one.station, "mould": one.mould}


# --- parts and the order of commits ------------------------------------------------------------


def _parts(count: int) -> list[Question]:
    def known(rng: Random) -> Any:
        return made(rng.randrange(count))

    def history(rng: Random) -> Call:
        part = known(rng)
        return lambda store: store.part_history(part.product, part.serial)

    def bulk(rng: Random) -> Call:
        serials = [made(rng.randrange(count)).serial for _ in range(100)]
        return lambda store: store.histories(PRODUCTS[0], serials)

    def held(rng: Random) -> Call:
        lot = f"L0-{rng.randrange(40):05}"
        return lambda store: store.holds_on([(PRODUCTS[0], "lot", lot)])

    def measured(rng: Random) -> Call:
        start = FIRST + timedelta(minutes=rng.randrange(900))
        window = (start.isoformat(), (start + timedelta(hours=1)).isoformat())
        machine = f"LPC-{rng.randrange(MACHINES)}"
        return lambda store: store.process_values(machine=machine, start=window[0], end=window[1])

    return [
        Question(name="a part by serial", prepare=history),
        Question(name="100 parts by serial", prepare=bulk),
        Question(name="holds on a lot", prepare=held),
        Question(name="an hour's process values of a machine", prepare=measured),
    ]


def _order(count: int) -> list[Question]:
    def by_trace(rng: Random) -> Call:
        trace = trace_id(rng.randrange(count))
        return lambda store: store.by_trace_id(trace)

    def page(rng: Random) -> Call:
        after = rng.randrange(count)
        return lambda store: store.changes(after, limit=100)

    return [
        Question(name="an inspection by trace ID", prepare=by_trace, size=lambda _: 1),
        Question(name="100 changes", prepare=page),
        Question(
            name="the newest sequence",
            prepare=lambda _: lambda store: store.newest(),
            size=lambda _: 1,
        ),
    ]
