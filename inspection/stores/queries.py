"""Everything that is asked of the tables, one function a question, each on a given connection.

What is read back is proven first: a body whose leaf does not agree with it is never returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError
from sqlalchemy import func, select, union_all

from inspection.entries import Entry, EntryKind, parse_entry
from inspection.errors import (
    CaptureConflict,
    InspectionError,
    KeyReused,
    NotFound,
    RecordsDamaged,
    RequestError,
)
from inspection.merkle import Frontier, leaf_hash
from inspection.record import InspectionRecord, ReviewRecord
from inspection.store import Page
from inspection.stores.schema import entries, inspections, reviews, tree_heads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, Row

    from inspection.store import Filter

_STORED = (entries.c.sequence, entries.c.kind, entries.c.body, entries.c.leaf_hash)


# --- one record --------------------------------------------------------------------------------


def parse_row(row: Row[*tuple[Any, ...]]) -> Entry:
    """The record in a row of `entries`.

    Raises:
        RecordsDamaged: the body does not belong to its leaf, or is no record.
    """
    body = row.body
    if not isinstance(body, bytes) or leaf_hash(body) != row.leaf_hash:
        raise RecordsDamaged(f"record {row.sequence} does not agree with its leaf in the hash tree")
    kind: EntryKind = row.kind
    try:
        return parse_entry(kind, body)
    except (ValidationError, InspectionError) as error:
        raise RecordsDamaged(f"record {row.sequence} is not {kind}: {error}") from error


def inspection_by_id(connection: Connection, inspection_id: str) -> InspectionRecord:
    """Raises NotFound when there is none."""
    found = _inspection(connection, inspections.c.id == inspection_id)
    if found is None:
        raise NotFound(f"there is no inspection {inspection_id}")
    return found


def inspection_by_trace_id(connection: Connection, trace_id: str) -> InspectionRecord:
    """Raises NotFound when there is none."""
    found = _inspection(connection, inspections.c.trace_id == trace_id)
    if found is None:
        raise NotFound(f"there is no inspection with trace ID {trace_id}")
    return found


def inspection_at(connection: Connection, sequence: int) -> InspectionRecord:
    """The inspection of this number, which is known to exist."""
    found = _inspection(connection, inspections.c.sequence == sequence)
    if found is None:
        raise RecordsDamaged(f"record {sequence} has an index row but no body")
    return found


def _inspection(connection: Connection, which: ColumnElement[bool]) -> InspectionRecord | None:
    row = connection.execute(
        select(*_STORED)
        .join(inspections, inspections.c.sequence == entries.c.sequence)
        .where(which)
    ).one_or_none()
    return None if row is None else cast("InspectionRecord", parse_row(row))


# --- the same request again --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A request that has its record: at `sequence`, or in `record` when it is of this group."""

    request_sha256: str
    sequence: int
    record: InspectionRecord | None = None


def same_request(
    by_key: Known | None, by_capture: Known | None, request_sha256: str, *, key: str, capture: str
) -> Known | None:
    """Which record answers this request; None when it is a new one.

    Raises:
        KeyReused: its key stands for another request.
        CaptureConflict: its capture stands for another request.
    """
    if by_key is not None:
        if by_key.request_sha256 != request_sha256:
            raise KeyReused(f"Idempotency-Key {key!r} was already used for another request")
        return by_key
    if by_capture is not None:
        if by_capture.request_sha256 != request_sha256:
            raise CaptureConflict(
                f"this station already used capture_id {capture!r} for another request"
            )
        return by_capture
    return None


def known_requests(
    connection: Connection,
    column: Literal["idempotency_key", "capture_id"],
    station: str,
    values: Iterable[str],
) -> dict[tuple[str, str], Known]:
    """By (station, value): the requests of a station that have a record.

    One station at a time: for `(station, value) IN (...)` SQLite reads the whole index.
    """
    rows = connection.execute(
        select(
            inspections.c[column].label("value"),
            inspections.c.request_sha256,
            inspections.c.sequence,
        ).where(inspections.c.station == station, inspections.c[column].in_(list(values)))
    )
    return {
        (station, row.value): Known(request_sha256=row.request_sha256, sequence=row.sequence)
        for row in rows
    }


def attempts_so_far(
    connection: Connection, product: str, parts: Iterable[str]
) -> dict[tuple[str, str], int]:
    """By (product, part): how many inspections of a part have counted; absent is none."""
    rows = connection.execute(
        select(inspections.c.part, func.count(inspections.c.attempt).label("counted"))
        .where(inspections.c.product == product, inspections.c.part.in_(list(parts)))
        .group_by(inspections.c.part)
    )
    return {(product, row.part): row.counted for row in rows}


# --- lists -------------------------------------------------------------------------------------


def find(connection: Connection, wanted: Filter) -> Page:
    """Inspections, newest first.

    Raises:
        RequestError: a time has no zone or is none.
    """
    query = select(*_STORED).join(inspections, inspections.c.sequence == entries.c.sequence)
    for name in ("serial", "station", "product", "lot", "machine", "mould", "disposition"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(inspections.c[name] == value)
    if wanted.received_from is not None:
        query = query.where(inspections.c.received_at >= _as_stored(wanted.received_from))
    if wanted.received_before is not None:
        query = query.where(inspections.c.received_at < _as_stored(wanted.received_before))
    if wanted.before_sequence is not None:
        query = query.where(inspections.c.sequence < wanted.before_sequence)
    # One more than wanted tells whether there is more.
    query = query.order_by(inspections.c.sequence.desc()).limit(wanted.limit + 1)
    rows = connection.execute(query).all()
    page = rows[: wanted.limit]
    return Page(
        records=tuple(cast("InspectionRecord", parse_row(row)) for row in page),
        next_before=page[-1].sequence if len(rows) > len(page) else None,
    )


def part_history(connection: Connection, product: str, part: str) -> list[Entry]:
    """Every inspection of a part and every review of these, in the order they were added."""
    of_part = (inspections.c.product == product, inspections.c.part == part)
    sequences = union_all(
        select(inspections.c.sequence).where(*of_part),
        select(reviews.c.sequence)
        .join(inspections, inspections.c.id == reviews.c.inspection_id)
        .where(*of_part),
    ).subquery()
    rows = connection.execute(
        select(*_STORED)
        .join(sequences, sequences.c.sequence == entries.c.sequence)
        .order_by(entries.c.sequence)
    )
    return [parse_row(row) for row in rows]


def reviews_of(connection: Connection, inspection_id: str) -> list[ReviewRecord]:
    """Reviews of an inspection, oldest first."""
    rows = connection.execute(
        select(*_STORED)
        .join(reviews, reviews.c.sequence == entries.c.sequence)
        .where(reviews.c.inspection_id == inspection_id)
        .order_by(entries.c.sequence)
    )
    return [cast("ReviewRecord", parse_row(row)) for row in rows]


def _as_stored(text: str) -> str:
    """An instant as `received_at` has it: UTC, milliseconds, Z; rounded up, as bounds need it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(f"{text!r} is not a time after RFC 3339") from None
    if moment.tzinfo is None:
        raise RequestError(f"{text!r} has no zone", remedy="Add Z, or an offset such as +09:00.")
    try:
        moment = moment.astimezone(UTC) + timedelta(microseconds=999)
    except OverflowError:
        raise RequestError(f"{text!r} is out of range") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the tree ----------------------------------------------------------------------------------


def frontier(connection: Connection) -> Frontier:
    """The hash tree as of the last commit.

    Raises:
        RecordsDamaged: its last head does not hold, or records are missing or were added past it.
    """
    last = connection.execute(
        select(tree_heads).order_by(tree_heads.c.size.desc()).limit(1)
    ).one_or_none()
    newest = connection.execute(select(func.max(entries.c.sequence))).scalar_one() or 0
    size, peaks = (last.size, bytes(last.peaks)) if last is not None else (0, b"")
    if newest != size:
        raise RecordsDamaged(f"the hash tree holds {size} records, the table goes to {newest}")
    try:
        tree = Frontier(size, [peaks[i : i + 32] for i in range(0, len(peaks), 32)])
    except ValueError:
        raise RecordsDamaged(f"the peaks of the hash tree do not fit its size {size}") from None
    if last is not None and tree.root() != last.root:
        raise RecordsDamaged(f"the root of the hash tree at size {size} does not hold")
    return tree


def newest_trace_id(connection: Connection) -> str | None:
    """The trace ID that was given last; None when there is none."""
    found: str | None = connection.execute(
        select(inspections.c.trace_id).order_by(inspections.c.sequence.desc()).limit(1)
    ).scalar()
    return found
