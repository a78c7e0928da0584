"""The audit log: who acted on keys and stores, and what was refused.

    AuditEvent -> canonical JSON -> link: SHA-256 of the link before and the body -> one row

What is done to parts is not here: reviews, holds, releases, names and erasures are records, with
the name of the key, under the records' own hash tree; promotions have their log in the weights
folder. Rows are only added. A row that is altered, or taken out from among others, breaks the chain
behind it; that the last rows were cut off is seen only beside an older copy, such as a backup.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError
from sqlalchemy import insert, select

from inspection.canonical import canonical_bytes
from inspection.errors import RecordsDamaged
from inspection.promotions import whoever
from inspection.stores.database import LOCK_WAIT_S, open_engine, translated
from inspection.stores.schema_access import audit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

FIRST_LINK: Final = bytes(32)
LONGEST: Final = 500
"""Characters of one text."""

ACTS: Final = frozenset(
    {"key-created", "key-rotated", "key-revoked", "refused", "restored", "upgraded"}
)
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One line of the log. Texts are cut at 500 characters.

    Attributes:
        at: RFC 3339 in UTC; of the first, where several are counted together.
        act: one of ACTS.
        by: the name on the access key, or the account at the command line; None when unknown.
        address: where it came from; None at the command line, or where many are summed.
        detail: what it was, in a line.
        count: how many were the same.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    at: str
    act: str
    by: str | None
    detail: str
    address: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.act not in ACTS or self.count < 1:
            raise ValueError(f"{self.count} x {self.act!r} is no act")
        for text in (self.by, self.detail, self.address):
            if text is not None and (len(text) > LONGEST or not text.isprintable()):
                raise ValueError("a text of the audit log is short and printable")


def printable(text: str) -> str:
    """A text from outside, so that it stays on one line and says what it holds."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:LONGEST])
    return shown[:LONGEST]


def append(connection: Connection, events: Iterable[AuditEvent]) -> None:
    """Add events to the chain, inside a writing transaction."""
    newest = select(audit.c.number, audit.c.link).order_by(audit.c.number.desc()).limit(1)
    last = connection.execute(newest).one_or_none()
    number, link = (0, FIRST_LINK) if last is None else (last.number, bytes(last.link))
    rows = []
    for event in events:
        body = canonical_bytes(event)
        number, link = number + 1, hashlib.sha256(link + body).digest()
        rows.append({"number": number, "body": body, "link": link})
    if rows:
        connection.execute(insert(audit), rows)


def walk(connection: Connection) -> Iterator[AuditEvent]:
    """Every event, oldest first, each checked against the chain.

    Raises:
        RecordsDamaged: a row does not hold; names it.
    """
    number, link = 0, FIRST_LINK
    while True:
        query = select(audit).where(audit.c.number > number).order_by(audit.c.number).limit(_BATCH)
        rows = connection.execute(query).all()
        if not rows:
            return
        for row in rows:
            body = row.body if isinstance(row.body, bytes) else b""
            number, link = number + 1, hashlib.sha256(link + body).digest()
            if row.number != number or row.link != link:
                raise RecordsDamaged(f"line {number} of the audit log was altered or taken out")
            try:
                yield _FORM.validate_json(body)
            except ValidationError as error:
                raise RecordsDamaged(f"line {number} of the audit log is none") from error


def audit_problems(connection: Connection) -> list[str]:
    """What does not hold in the audit log."""
    try:
        for _ in walk(connection):
            pass
    except RecordsDamaged as error:
        return [str(error)]
    return []


class AuditLog:
    """The audit log of a record store whose tables are there. For any thread and process."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self._reading = open_engine(url, lock_wait_s=lock_wait_s)
        self._writing = open_engine(url, writing=True, lock_wait_s=lock_wait_s)

    def close(self) -> None:
        """Give the connections back."""
        self._reading.dispose()
        self._writing.dispose()

    def add(self, events: Iterable[AuditEvent]) -> None:
        """Add events, all or none; they are durable when this returns.

        Raises:
            RecordError: they could not be written.
        """
        doing = translated("the audit log could not be written")
        with doing, self._writing.begin() as connection:
            append(connection, events)

    def read(self, since: str = "") -> list[AuditEvent]:
        """The events at or after `since` (RFC 3339 in UTC), oldest first; the chain is checked.

        Raises:
            RecordsDamaged: the chain does not hold. RecordError: it cannot be read.
        """
        with translated("the audit log cannot be read"), self._reading.begin() as connection:
            return [event for event in walk(connection) if event.at >= since]


def note_act(url: str, *, act: str, detail: str) -> None:
    """Write down what somebody did at the command line of this machine.

    Raises:
        RecordError: it could not be written.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = AuditEvent(at=at, act=act, by=whoever(), detail=printable(detail))
    with closing(AuditLog(url)) as log:
        log.add([event])


_FORM: Final = TypeAdapter(AuditEvent)
