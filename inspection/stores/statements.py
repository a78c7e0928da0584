"""What the records must allow before a statement is added, a rule a kind.

    Naming          the part is on record; a new mark has no history; an unread mark is bound once
    Release         the hold stands
    ReviewRecord    the inspection is there, is no single view, and is as its reviewer saw it
    Erasure         no legal hold came since its files were chosen
    any             its ID is new; its submission is new, or the same as before

A rule reads the tables inside the writing transaction, where everything that came before is
written, and raises; it changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import exists, func, select

from inspection.errors import (
    ChangedMeanwhile,
    KeyReused,
    NotFound,
    RecordError,
    RequestError,
    StateConflict,
)
from inspection.events import Naming, Release, ViewSet
from inspection.stores.known import id_taken
from inspection.stores.reading import entries_at
from inspection.stores.schema import (
    holds,
    inspections,
    mentions,
    part_names,
    process_values,
    reviews,
    submissions,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from inspection.entries import Entry
    from inspection.events import Statement
    from inspection.record import ReviewRecord
    from inspection.store import Submission

_SPEAKING_OF_PARTS: Final = (inspections, mentions, process_values)


def sent_before(connection: Connection, submission: Submission) -> Entry | None:
    """The statement that this very submission added; None when it is new.

    Raises:
        KeyReused: the principal used the key for another request.
    """
    row = connection.execute(
        select(submissions.c.request_sha256, submissions.c.sequence).where(
            submissions.c.principal == submission.principal, submissions.c.key == submission.key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_sha256 != submission.request_sha256:
        raise KeyReused(f"Idempotency-Key {submission.key!r} was already used for another request")
    return entries_at(connection, [row.sequence])[0]


def allow(connection: Connection, statement: Statement) -> None:
    """Raise unless the records allow this statement.

    Raises:
        RecordError: its ID is another entry's.
        NotFound: what it speaks of is not on record.
        StateConflict: what is on record stands against it.
    """
    allow_id(connection, statement.id)
    match statement:
        case Naming(why="bound"):
            _allow_binding(connection, statement)
        case Naming():
            _allow_new_mark(connection, statement)
        case Release():
            _allow_release(connection, statement)
        case ViewSet():
            raise RequestError(
                "a set of views is opened, not added", remedy="Call open_views instead of add."
            )
        case _:
            return


def allow_review(connection: Connection, review: ReviewRecord, seen: int | None) -> None:
    """Raise unless the records allow this review.

    Args:
        connection: of the writing transaction.
        review: the decision.
        seen: how many reviews of the inspection its reviewer knows; None when that is not known.

    Raises:
        NotFound: there is no such inspection.
        StateConflict: it is one view of several.
        ChangedMeanwhile: it has another number of reviews by now.
        RecordError: the review's ID is another entry's.
    """
    row = connection.execute(
        select(inspections.c.view, inspections.c.view_set).where(
            inspections.c.id == review.inspection_id
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no inspection {review.inspection_id}")
    if row.view is not None:
        raise StateConflict(
            f"inspection {review.inspection_id} is one view of several: it settles nothing alone",
            remedy=f"Decide on the inspection that closes the set of views {row.view_set}.",
        )
    allow_id(connection, review.id)
    if seen is None:
        return
    there: int = connection.execute(
        select(func.count())
        .select_from(reviews)
        .where(reviews.c.inspection_id == review.inspection_id)
    ).scalar_one()
    if there != seen:
        raise ChangedMeanwhile(
            f"inspection {review.inspection_id} has {there} reviews by now, not {seen}"
        )


def newest_hold(connection: Connection) -> int:
    """The sequence of the newest legal hold, or of the newest naming, which may widen one."""
    asked = (
        select(func.max(holds.c.sequence)).where(holds.c.legal == 1),
        select(func.max(part_names.c.sequence)),
    )
    return max(connection.execute(query).scalar() or 0 for query in asked)


def allow_erasure(connection: Connection, holds_seen: int) -> None:
    """Raise ChangedMeanwhile when a legal hold came since the files to erase were chosen."""
    if newest_hold(connection) > holds_seen:
        raise ChangedMeanwhile(
            "a legal hold came while images were being chosen for deletion",
            remedy="Run `inspection retention apply` again: it chooses anew.",
        )


def allow_id(connection: Connection, entry_id: str) -> None:
    """Raise RecordError when an entry has this ID already."""
    if id_taken(connection, entry_id):
        raise RecordError(f"{entry_id} is already there", remedy="Give it a new ID.")


def on_record(connection: Connection, product: str, part: str) -> bool:
    """Whether any entry speaks of a part under exactly this name."""
    return any(
        connection.execute(
            select(exists().where(table.c.product == product, table.c.part == part))
        ).scalar_one()
        for table in _SPEAKING_OF_PARTS
    )


def _allow_new_mark(connection: Connection, naming: Naming) -> None:
    _require_on_record(connection, naming)
    if on_record(connection, naming.product, naming.serial):
        raise StateConflict(
            f"{naming.serial} of {naming.product} has a history of its own: it is another part's",
            remedy="Check both marks; a part that is marked anew gets a serial never used before.",
        )


def _allow_binding(connection: Connection, naming: Naming) -> None:
    _require_on_record(connection, naming)
    bound = connection.execute(
        select(part_names.c.root).where(
            part_names.c.product == naming.product, part_names.c.name == naming.part
        )
    ).scalar()
    if bound is not None:
        raise StateConflict(f"{naming.part} is already bound, to {bound} of {naming.product}")


def _require_on_record(connection: Connection, naming: Naming) -> None:
    if not on_record(connection, naming.product, naming.part):
        raise NotFound(
            f"there is no part {naming.part} of {naming.product} on record",
            remedy="Check product and serial; an unread mark is `unread:` and its trace ID.",
        )


def _allow_release(connection: Connection, release: Release) -> None:
    row = connection.execute(
        select(holds.c.released).where(holds.c.id == release.hold_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no hold {release.hold_id}")
    if row.released is not None:
        raise StateConflict(f"hold {release.hold_id} was released already")
