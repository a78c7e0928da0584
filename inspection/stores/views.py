"""Several views of one part that make one inspection: the rules, and how they are summed up.

    open_views -> append, a view each -> close_views -> sum_up -> one inspection, which counts

The worst view decides, fail before review before pass; among equals the first in the order of the
set. A view that is missing has been seen by nobody: it makes the part a review at least.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import select

from inspection.errors import NotFound, RequestError, StateConflict
from inspection.events import ViewSet
from inspection.record import (
    NOT_COUNTED,
    UNREAD,
    InspectionDraft,
    InspectionRecord,
    ViewReference,
)
from inspection.stores.reading import entries_at
from inspection.stores.schema import inspections, view_sets
from inspection.verdict import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection

    from inspection.store import ViewSetDraft
    from inspection.verdict import Disposition

RESERVED: Final = "views:"
"""What capture and key of an inspection that closes a set begin with; no station's may."""

ORIGIN: Final = ("lot", "machine", "mould", "cavity")
"""Where a part comes from: one part has one of each."""

_WORSE: Final[dict[Disposition, int]] = {"pass": 0, "review": 1, "fail": 2}


# --- opening -------------------------------------------------------------------------------------


def opened(draft: ViewSetDraft, trace_id: str) -> ViewSet:
    """The set of views of a draft; its part is provisional when the mark was not read."""
    return ViewSet(
        id=draft.id,
        trace_id=trace_id,
        station=draft.station,
        product=draft.product,
        part=f"{UNREAD}{trace_id}" if draft.serial is None else draft.serial,
        serial=draft.serial,
        views=draft.views,
        by=draft.by,
        recorded_at=draft.recorded_at,
        reason=draft.reason,
        lot=draft.lot,
        machine=draft.machine,
        mould=draft.mould,
        cavity=draft.cavity,
    )


# --- adding a view -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class OpenSet:
    """A set of views as the writer knows it.

    Attributes:
        view_set: how it was opened.
        there: the views that have come.
        closed: the sequence of the inspection that closed it; None while it is open.
    """

    view_set: ViewSet
    there: set[str]
    closed: int | None


def open_sets(connection: Connection, ids: Collection[str]) -> dict[str, OpenSet]:
    """By ID: the sets that there are, of these."""
    if not ids:
        return {}
    rows = connection.execute(
        select(view_sets.c.sequence, view_sets.c.closed).where(view_sets.c.id.in_(list(ids)))
    ).all()
    found = {}
    for row, entry in zip(rows, entries_at(connection, [r.sequence for r in rows]), strict=True):
        view_set = cast("ViewSet", entry)
        found[view_set.id] = OpenSet(view_set=view_set, there=set(), closed=row.closed)
    came = connection.execute(
        select(inspections.c.view_set, inspections.c.view).where(
            inspections.c.view_set.in_(list(found)), inspections.c.view.is_not(None)
        )
    )
    for row in came:
        found[row.view_set].there.add(row.view)
    return found


def allow_view(draft: InspectionDraft, found: OpenSet | None) -> ViewSet:
    """The set that this view belongs to.

    Raises:
        NotFound: there is no such set.
        StateConflict: it is closed, of another station, product, part or origin, does not expect
            this view or has it, or was opened for another reason.
    """
    if found is None:
        raise NotFound(
            f"there is no set of views {draft.view_set}",
            remedy="Open the set first, and send its views with the ID that the answer holds.",
        )
    of, name = found.view_set, f"set of views {draft.view_set}"
    if found.closed is not None:
        raise StateConflict(
            f"the {name} is closed", remedy="Open another set, and send all its views."
        )
    for field in ("station", "product", "serial"):
        sent, wanted = getattr(draft, field), getattr(of, field)
        if sent != wanted:
            raise StateConflict(
                f"the {name} is of {field} {wanted or 'unread'}, this view of {sent or 'unread'}",
                remedy="Send the view with the set of its own part.",
            )
    for field in ORIGIN:
        sent, wanted = getattr(draft, field), getattr(of, field)
        if sent is not None and wanted is not None and sent != wanted:
            raise StateConflict(
                f"the {name} is of {field} {wanted}, this view of {sent}",
                remedy="Send the view with the set of its own part, or open the set anew.",
            )
    if draft.view not in of.views:
        raise StateConflict(
            f"the {name} expects no view {draft.view!r}",
            remedy=f"It expects {', '.join(of.views)}.",
        )
    if draft.view in found.there:
        raise StateConflict(
            f"the {name} has its view {draft.view!r}",
            remedy="To see the part again, open another set.",
        )
    if draft.reason in NOT_COUNTED and draft.reason != of.reason:
        raise StateConflict(
            f"this view is for {draft.reason}, the {name} is not",
            remedy="Give the reason when the set is opened; it is that of all its views.",
        )
    return of


def refuse_reserved(draft: InspectionDraft) -> None:
    """Raise RequestError when a station uses a name that only a closing inspection has."""
    for field in ("capture_id", "idempotency_key"):
        if getattr(draft, field).startswith(RESERVED):
            raise RequestError(
                f"`{field}` cannot begin with {RESERVED!r}: that is for sets of views",
                remedy=f"Choose another `{field}`.",
            )


# --- closing -------------------------------------------------------------------------------------


def views_of(
    connection: Connection, view_set_id: str
) -> tuple[ViewSet, list[InspectionRecord], int | None]:
    """A set, the views that have come, as they came, and the sequence of what closed it.

    Raises:
        NotFound: there is no such set.
    """
    row = connection.execute(
        select(view_sets.c.sequence, view_sets.c.closed).where(view_sets.c.id == view_set_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no set of views {view_set_id}")
    came = connection.execute(
        select(inspections.c.sequence)
        .where(inspections.c.view_set == view_set_id, inspections.c.view.is_not(None))
        .order_by(inspections.c.sequence)
    ).scalars()
    view_set, *views = entries_at(connection, [row.sequence, *came])
    return cast("ViewSet", view_set), cast("list[InspectionRecord]", views), row.closed


def sum_up(
    view_set: ViewSet, views: Collection[InspectionRecord], *, by: str | None, received_at: str
) -> tuple[InspectionDraft, tuple[ViewReference, ...]]:
    """The inspection that closes a set, as a draft, and what it sums up, in the set's order.

    Image, evidence, findings, model, recipe, engine and detector are the worst view's; the
    probability of a class and the novelty are the highest of any view.

    Raises:
        StateConflict: there is no view at all.
    """
    came = {record.view: record for record in views}
    seen = [came[name] for name in view_set.views if name in came]
    missing = [name for name in view_set.views if name not in came]
    if not seen:
        raise StateConflict(
            f"the set of views {view_set.id} has no view at all",
            remedy="Send its views first; a set that nobody needs may stay open.",
        )
    worst = max(seen, key=lambda record: _WORSE[record.disposition])  # the first among equals
    name = f"{RESERVED}{view_set.id}"
    draft = InspectionDraft(
        station=view_set.station,
        product=view_set.product,
        capture_id=name,
        idempotency_key=name,
        request_sha256=hashlib.sha256(name.encode()).hexdigest(),
        serial=view_set.serial,
        lot=_said("lot", view_set, seen),
        machine=_said("machine", view_set, seen),
        mould=_said("mould", view_set, seen),
        cavity=_said("cavity", view_set, seen),
        reason=view_set.reason,
        verdict=_verdict(worst, seen, missing),
        model=worst.model,
        recipe=worst.recipe,
        image_sha256=worst.image_sha256,
        image_media_type=worst.image_media_type,
        image_size_px=worst.image_size_px,
        evidence=worst.evidence,
        captured_at=worst.captured_at,
        received_at=received_at,
        principal=by,
        view_set=view_set.id,
        engine=worst.engine,
        acquisition=worst.acquisition,
        detector=worst.detector,
    )
    return draft, tuple(_reference(name, came) for name in view_set.views)


def _said(field: str, view_set: ViewSet, seen: list[InspectionRecord]) -> str | None:
    """Where the part comes from: as the set says, or as every view that says it agrees."""
    told: str | None = getattr(view_set, field)
    said = {value for record in seen if (value := getattr(record, field)) is not None}
    return told or (said.pop() if len(said) == 1 else None)


def _verdict(worst: InspectionRecord, seen: list[InspectionRecord], missing: list[str]) -> Verdict:
    disposition, reasons = worst.disposition, []
    if disposition != "pass":
        why = "; ".join(reason.detail for reason in worst.reasons)
        reasons.append(Reason(code="views", detail=f"view {worst.view} decided: {why}"))
    for field in ORIGIN:
        said = {value for record in seen if (value := getattr(record, field)) is not None}
        if len(said) > 1:
            disposition = "fail" if disposition == "fail" else "review"
            detail = f"the views say {field} {', '.join(sorted(said))}"
            reasons.append(Reason(code="views-disagree", detail=detail))
    if missing:
        disposition = "fail" if disposition == "fail" else "review"
        what = "view is" if len(missing) == 1 else "views are"
        reasons.append(Reason(code="view-missing", detail=f"{what} missing: {', '.join(missing)}"))
    probability: dict[str, float] = {}
    for record in seen:
        for defect_class, value in record.probability.items():
            probability[defect_class] = max(value, probability.get(defect_class, 0.0))
    return Verdict(
        disposition=disposition,
        probability=probability,
        novelty=max((r.novelty for r in seen if r.novelty is not None), default=None),
        findings=worst.findings,
        reasons=tuple(reasons),
        allowed=worst.allowed,
    )


def _reference(view: str, came: Mapping[Any, InspectionRecord]) -> ViewReference:
    record = came.get(view)
    return ViewReference(
        view=view,
        inspection_id=None if record is None else record.id,
        disposition=None if record is None else record.disposition,
    )
