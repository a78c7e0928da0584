"""Records that differ in everything that is asked for, and what plain Python says of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from inspection.events import Hold, Naming, PartEvent, ProcessValue, ProcessValues
from inspection.names import new_inspection_id
from inspection.recipe import Region
from inspection.store import CountRow, Filter, ViewSetDraft
from inspection.verdict import Finding, Reason, Verdict
from tests.contracts.drafts import make_draft, make_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.record import InspectionRecord
    from inspection.store import RecordStore
    from inspection.verdict import Disposition

NOW = "2026-03-01T00:00:00.000Z"
BY: dict[str, Any] = {"by": "mes", "recorded_at": NOW}
# Over a month's end, with hours left out and clocks set back: the order of commits is not of times.
TIMES = (
    *("2026-02-27T10:00:00.000Z", "2026-02-27T10:59:59.999Z", "2026-02-27T11:00:00.000Z"),
    *("2026-02-27T10:30:00.000Z", "2026-02-28T23:59:59.999Z", "2026-03-01T00:00:00.000Z"),
    *("2026-03-01T05:15:00.000Z", "2026-02-28T05:00:00.000Z", "2026-03-02T12:00:00.001Z"),
)


def found(disposition: Disposition, *classes: str) -> Verdict:
    """A verdict with a finding of each class."""
    region = Region(top=1, left=2, height=3, width=4)
    return Verdict(
        disposition=disposition,
        probability=dict.fromkeys(classes, 0.75),
        novelty=None,
        findings=tuple(
            Finding(defect_class=name, probability=0.75, region=region) for name in classes
        ),
        reasons=(Reason(code="defect", detail="found"),),
    )


def fill(store: RecordStore) -> list[InspectionRecord]:
    """Inspections that differ in everything that is asked for; listed ones only."""
    verdicts = (
        make_verdict("pass"),
        found("fail", "crack"),
        found("review", "pore", "crack", "pore"),
        make_verdict("pass"),
        found("fail", "blow hole"),
    )
    drafts = [
        make_draft(
            serial=f"s{n % 17}",
            station=f"xray-{n % 3}",
            product=("knuckle", "carrier")[n % 2],
            lot=(None, "L1", "L2", "L3")[n % 4],
            machine=("LPC-1", None, "LPC-2")[n % 3],
            mould=f"M{n % 5}",
            reason=(None, "audit", None, "recheck", None, None, "challenge")[n % 7],
            verdict=verdicts[n % 5],
            received_at=TIMES[n % len(TIMES)],
        )
        for n in range(90)
    ]
    with ThreadPoolExecutor(30) as pool:  # a few commits instead of ninety
        records = sorted(pool.map(store.append, drafts), key=lambda record: record.trace_id)
    views = store.open_views(
        ViewSetDraft(
            id=new_inspection_id(),
            station="xray-1",
            product="knuckle",
            serial="s1",
            views=("top", "side"),
            by="xray-1",
            recorded_at=NOW,
        )
    )
    for view in ("top", "side"):
        store.append(make_draft(serial="s1", view_set=views.id, view=view))
    records.append(store.close_views(views.id, by="xray-1", received_at=NOW))
    return records


def fits(record: InspectionRecord, wanted: Filter) -> bool:
    """Whether plain Python would list it."""
    plain = ("serial", "station", "product", "lot", "machine", "mould", "disposition", "reason")
    return (
        all(getattr(wanted, n) in (None, getattr(record, n)) for n in plain)
        and wanted.defect_class in (None, *(f.defect_class for f in record.findings))
        and (wanted.received_from or "") <= record.received_at
        and record.received_at < (wanted.received_before or "9")
    )


def listed(store: RecordStore, **fields: Any) -> tuple[list[InspectionRecord], int]:
    """Every page, and how many of them were cut short."""
    everything: list[InspectionRecord] = []
    cut, before = 0, None
    for _ in range(1000):
        page = store.find(Filter(**{"limit": 7, **fields, "before_sequence": before}))
        everything += page.records
        cut += page.truncated
        assert page.next_before is not None or not page.truncated
        assert before is None or page.next_before is None or page.next_before < before
        before = page.next_before
        if before is None:
            return everything, cut
    raise AssertionError("the list never ends")


WANTED: dict[str, Sequence[str]] = {
    "serial": ("s3", "nobody"),
    "station": ("xray-2",),
    "product": ("carrier",),
    "lot": ("L2",),
    "machine": ("LPC-1", "LPC-9"),
    "mould": ("M4",),
    "disposition": ("pass", "fail"),
    "defect_class": ("crack", "dent"),
    "reason": ("first", "audit"),
    "received_from": ("2026-02-27T10:30:00.000Z",),
    "received_before": ("2026-03-01T05:15:00.001Z",),
}
PAIRS = [
    {a: value_a, b: value_b}
    for a, b in itertools.combinations(WANTED, 2)
    for value_a in WANTED[a]
    for value_b in WANTED[b][:1]
]
SINGLES = [{name: value} for name, values in WANTED.items() for value in values]
MORE = [
    {"product": "carrier", "machine": "LPC-2", "disposition": "fail", "reason": "first"},
    {"station": "xray-2", "mould": "M4", "defect_class": "blow hole", "received_from": TIMES[3]},
    {"received_from": TIMES[3], "received_before": TIMES[1], "product": "knuckle"},
    {"received_from": TIMES[1], "received_before": TIMES[0]},
    {"received_from": "2031-01-01T00:00:00Z"},
    {"serial": "s3", "reason": "first", "product": "carrier", "lot": "L3"},
    {},
]


BUCKETS = {"hour": 13, "day": 10, "month": 7}


def counted(
    records: Sequence[InspectionRecord],
    by: Sequence[str],
    bucket: str | None,
    defect_class: str | None = None,
) -> list[CountRow]:
    """What plain Python counts; `defect_class` is the one that was filtered by."""
    groups: dict[tuple[str | None, ...], list[InspectionRecord]] = defaultdict(list)
    if not by and bucket is None:
        groups[(None,)] = []
    for record in records:
        start = None
        if bucket is not None:
            kept = record.received_at[: BUCKETS[bucket]]
            start = kept + "0000-01-01T00:00:00Z"[BUCKETS[bucket] :]
        classes = sorted({f.defect_class for f in record.findings})
        if defect_class is not None:
            classes = [defect_class]
        for name in classes if "defect_class" in by else [""]:
            values = (name if field == "defect_class" else getattr(record, field) for field in by)
            groups[start, *values].append(record)
    rows = [
        CountRow(
            start=start,
            group=dict(zip(by, values, strict=True)),
            inspections=len(some),
            passed=sum(r.disposition == "pass" for r in some),
            failed=sum(r.disposition == "fail" for r in some),
            review=sum(r.disposition == "review" for r in some),
            first=sum(r.attempt == 1 for r in some),
            first_passed=sum(r.attempt == 1 and r.disposition == "pass" for r in some),
        )
        for (start, *values), some in groups.items()
    ]
    return sorted(rows, key=lambda r: (r.start or "", *(v or "" for v in r.group.values())))


# --- statements --------------------------------------------------------------------------------


def make_event(part: str) -> PartEvent:
    """A casting."""
    return PartEvent(
        id=new_inspection_id(), product="knuckle", part=part, event="cast", at=NOW, **BY
    )


def make_naming(part: str, serial: str, why: Any) -> Naming:
    """A new name of a part."""
    return Naming(
        id=new_inspection_id(),
        product="knuckle",
        part=part,
        serial=serial,
        why=why,
        reason="as seen",
        **BY,
    )


def make_hold(scope: Any, value: str) -> Hold:
    """A hold."""
    return Hold(
        id=new_inspection_id(), product="knuckle", scope=scope, value=value, reason="doubt", **BY
    )


def make_values(*values: ProcessValue) -> ProcessValues:
    """Process values that came together."""
    return ProcessValues(id=new_inspection_id(), values=values, **BY)
