"""Four months of a made-up plant, fast: the rows that a store would have written for its parts.

3 products, 16 moulds, 6 machines that change theirs twice a week, 4 stations, lots of 500 parts, a
part a second; 97 % pass, 2 %
fail, 1 % review; 3 % rechecks and a few audits, challenges and parts after rework. Twice the clock
is set, back by 20 minutes and forth again. Bodies are canonical JSON of whole records, made from
one record of each kind by putting in what differs; the first of every thousand is read back and
written again to prove it. Leaves, tree, heads, nodes and roll-ups are the store's own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from inspection.entries import canonical_json, parse_entry
from inspection.proofs.merkle import leaf_hash
from inspection.record import complete
from inspection.serials import ALPHABET_32, check_character
from inspection.stores.rollups import GrowingTree
from inspection.stores.rows import Row
from inspection.stores.tallies import fold
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTS: Final = ("KN-42", "CA-07", "AX-11")
CLASSES: Final = ("crack", "pore", "shrinkage", "inclusion")
MACHINES: Final = 6
STATIONS: Final = 4
MOULDS: Final = 16
LOT: Final = 500
LOTS_A_MOULD: Final = 100
FIRST: Final = datetime(2026, 1, 5, 6, tzinfo=UTC)
BATCH: Final = 20_000
HEAD_EVERY: Final = 250
"""Records in a commit, which ends with one tree head."""

_DIGITS: Final = [a + b + c for a in ALPHABET_32 for b in ALPHABET_32 for c in ALPHABET_32]
_MINUTES: Final = [f"{second // 60:02}:{second % 60:02}" for second in range(3600)]
_MARK: Final = "@{}@"
_VARIED: Final = (
    *("capture_id", "evidence", "id", "idempotency_key", "image_sha256", "lot", "machine"),
    *("mould", "part", "product", "received_at", "request_sha256", "serial", "station"),
    "trace_id",
)


@dataclass(slots=True)
class Batch:
    """Rows of the tables, in the order of their columns."""

    entries: list[Row]
    inspections: list[Row]
    findings: list[Row]
    tree_heads: list[Row]


class Made(NamedTuple):
    """What one part is, by its number from 0."""

    product: str
    station: str
    lot: str
    machine: str
    mould: str
    serial: str
    disposition: str
    reason: str
    attempt: int | None
    defect_class: str


def made(number: int) -> Made:
    """The part that is inspected as this number."""
    chance = (number * 2_654_435_761 + 12_345) % 4_294_967_296 // 4096 % 100_000
    attempt: int | None = 1
    reason, of = "first", number
    if number >= 600:
        if chance < 3000:
            reason, attempt, of = "recheck", 2, number - 600
        elif chance < 3400:
            reason, attempt, of = "after-rework", 2, number - 600
        elif chance < 3700:
            reason, attempt = "audit", None
        elif chance < 3900:
            reason, attempt = "challenge", None
    machine, turn = of % MACHINES, of // MACHINES
    lot = turn // LOT
    mould = (machine + MACHINES * (lot // LOTS_A_MOULD % 3)) % MOULDS
    drawn = (number * 40_503 + 977) % 65_536
    disposition = "pass" if drawn < 63_570 else "fail" if drawn < 64_880 else "review"
    return Made(
        product=PRODUCTS[mould % 3],
        station=f"xray-{(number * 7 + number // 1000) % STATIONS}",
        lot=f"L{machine}-{lot:05}",
        machine=f"LPC-{machine}",
        mould=f"M{mould:02}",
        serial=f"{of:010}",
        disposition=disposition,
        reason=reason,
        attempt=attempt,
        defect_class="" if disposition == "pass" else CLASSES[chance % 4 if chance % 7 else 0],
    )


def template(disposition: Any, reason: str, attempt: int | None, defect_class: str) -> str:
    """A body with `%(name)s` where records differ."""
    draft = make_draft(
        disposition=disposition,
        captured_at=None,
        lot=_MARK.format("lot"),
        machine=_MARK.format("machine"),
        mould=_MARK.format("mould"),
        serial=_MARK.format("serial"),
        station=_MARK.format("station"),
        product=_MARK.format("product"),
        capture_id=_MARK.format("capture_id"),
        idempotency_key=_MARK.format("idempotency_key"),
        image_sha256=_MARK.format("image_sha256"),
        received_at=_MARK.format("received_at"),
        request_sha256=_MARK.format("request_sha256"),
        reason=reason,
    )
    assert draft.evidence is not None
    draft = replace(draft, evidence=replace(draft.evidence, sha256=_MARK.format("evidence")))
    record = complete(
        draft,
        trace_id=_MARK.format("trace_id"),
        attempt=attempt,
        inspection_id=_MARK.format("id"),
        part=_MARK.format("part"),
    )
    findings = tuple(replace(each, defect_class=defect_class) for each in record.findings)
    text = canonical_json(replace(record, findings=findings)).decode().replace("%", "%%")
    for name in _VARIED:
        text = text.replace(_MARK.format(name), f"%({name})s")
    assert "@" not in text
    return text


class Plant:
    """Makes the rows; afterwards it holds the roll-ups and the tree's end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.tree = GrowingTree()
        self._templates: dict[tuple[Any, ...], str] = {}
        self._counts: dict[tuple[Any, ...], list[int]] = {}
        self.months: set[int] = set()
        self.body_bytes = 0

    def received(self, number: int) -> tuple[datetime, int]:
        """When a part comes, by the server's clock: the hour, and the second in it."""
        seconds = number
        if self.count // 3 <= number < 2 * self.count // 3:
            seconds -= 1200
        hours, second = divmod(seconds, 3600)
        return FIRST + timedelta(hours=hours), second

    def batches(self) -> Iterator[Batch]:
        """All rows but those of the roll-ups, in the order of sequences."""
        for start in range(0, self.count, BATCH):
            yield self._batch(start, min(start + BATCH, self.count))

    def counts(self) -> list[Row]:
        """Rows of `counts`."""
        return [(*key, *values) for key, values in self._counts.items()]

    def tallies(self) -> list[Row]:
        """Rows of `tallies`."""
        return fold(self.counts())

    def _batch(self, start: int, stop: int) -> Batch:
        batch = Batch([], [], [], [])
        sha256, tree = hashlib.sha256, self.tree
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        hours: dict[datetime, tuple[str, int, int, int]] = {}
        for number in range(start, stop):
            part, sequence = made(number), number + 1
            hour, second = self.received(number)
            if hour not in hours:
                stamp = int((hour - epoch).total_seconds())
                hours[hour] = (
                    f"{hour:%Y-%m-%dT%H}",
                    stamp,
                    stamp // 3600,
                    hour.year * 100 + hour.month,
                )
            prefix, stamp, since, month = hours[hour]
            month = max(month, max(self.months, default=0))
            self.months.add(month)
            ms = (stamp + second) * 1000
            values = {
                "capture_id": f"c{number:09}",
                "evidence": sha256(b"e%d" % number).hexdigest(),
                "id": f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{number:012x}",
                "idempotency_key": f"k{number:09}",
                "image_sha256": sha256(b"i%d" % number).hexdigest(),
                "lot": part.lot,
                "machine": part.machine,
                "mould": part.mould,
                "part": part.serial,
                "product": part.product,
                "received_at": f"{prefix}:{_MINUTES[second]}.{number * 7919 % 1000:03}Z",
                "request_sha256": sha256(b"r%d" % number).hexdigest(),
                "serial": part.serial,
                "station": part.station,
                "trace_id": trace_id(number),
            }
            kind = (part.disposition, part.reason, part.attempt, part.defect_class)
            if kind not in self._templates:
                self._templates[kind] = template(*kind)
            body = (self._templates[kind] % values).encode()
            if number % 1000 == 0:
                assert canonical_json(parse_entry("inspection", body)) == body
            self.body_bytes += len(body)
            leaf = leaf_hash(body)
            tree.add(leaf)
            batch.entries.append((sequence, month, "inspection", values["id"], body, leaf))
            batch.inspections.append(
                (
                    *(sequence, values["id"], values["trace_id"], part.product, part.serial),
                    *(part.serial, part.station, values["capture_id"], values["idempotency_key"]),
                    *(values["request_sha256"], part.lot, part.machine, part.mould),
                    *(part.disposition, part.reason, part.attempt, values["received_at"]),
                    *(None, None),
                )
            )
            if part.defect_class:
                batch.findings.append((part.defect_class, sequence))
            for defect_class in ("", part.defect_class) if part.defect_class else ("",):
                key: tuple[int | str, ...] = (
                    since,
                    part.product,
                    part.station,
                    part.lot,
                    part.machine,
                    part.mould,
                )
                key += (part.disposition, part.reason, defect_class)
                found = self._counts.setdefault(key, [0, 0, sequence, sequence])
                found[0] += 1
                found[1] += part.attempt == 1
                found[3] = sequence
            if sequence % HEAD_EVERY == 0 or sequence == self.count:
                batch.tree_heads.append((sequence, tree.root(), b"".join(tree.peaks)))
        return batch


def trace_id(number: int) -> str:
    """A trace ID that rises with the number."""
    value = (190_000_000_000 + number * 1000) << 15
    text = "".join(_DIGITS[value >> shift & 0x7FFF] for shift in (45, 30, 15, 0))
    text += check_character(text)
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def by_value(count: int) -> dict[str, dict[str, int]]:
    """How many of the first parts have each value, to know what a page can hold."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for number in range(count):
        part = made(number)
        for name in ("product", "station", "machine", "mould", "disposition", "reason"):
            found[name][getattr(part, name)] += 1
        if part.defect_class:
            found["defect_class"][part.defect_class] += 1
    return found
