"""Drafts of inspections, and statements, for tests and benchmarks of record stores: whole, and all
different.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValue,
    ProcessValues,
    Release,
)
from inspection.names import new_inspection_id
from inspection.recipe import Region
from inspection.record import (
    EvidenceReference,
    InspectionDraft,
    InspectionRequest,
    ModelReference,
    RecipeReference,
    ReviewRecord,
)
from inspection.store import ViewSetDraft
from inspection.verdict import Finding, Reason, Verdict

if TYPE_CHECKING:
    from inspection.verdict import Disposition

S = TypeVar("S")

_numbers = itertools.count(1)


def make_verdict(disposition: Disposition = "fail") -> Verdict:
    """A verdict of this disposition with what belongs to it."""
    if disposition == "pass":
        return Verdict(disposition="pass", probability={"crack": 0.01}, novelty=0.5)
    finding = Finding(
        defect_class="crack",
        probability=0.875,
        region=Region(top=10, left=20, height=30, width=40),
    )
    reason = Reason(code="defect", detail="crack: probability 0.875 is at or above its fail limit")
    return Verdict(
        disposition=disposition,
        probability={"crack": 0.875},
        novelty=1.25,
        findings=(finding,),
        reasons=(reason,),
    )


def make_draft(
    *,
    station: str = "xray-1",
    serial: str | None = "0000000001",
    disposition: Disposition = "fail",
    image_sha256: str | None = None,
    **fields: Any,
) -> InspectionDraft:
    """A draft of its own capture and key, unless these are given."""
    number = next(_numbers)
    image = image_sha256 or hashlib.sha256(f"image {number}".encode()).hexdigest()
    capture_id = fields.pop("capture_id", f"capture-{number}")
    idempotency_key = fields.pop("idempotency_key", f"key-{number}")
    request = InspectionRequest(
        station=station,
        product=fields.get("product", "knuckle"),
        capture_id=capture_id,
        idempotency_key=idempotency_key,
        serial=serial,
        reason=fields.get("reason"),
        lot=fields.get("lot"),
    )
    draft = InspectionDraft(
        station=station,
        product="knuckle",
        capture_id=capture_id,
        idempotency_key=idempotency_key,
        request_sha256=request.digest(image),
        serial=serial,
        lot=None,
        machine=None,
        mould=None,
        cavity=None,
        reason=None,
        verdict=make_verdict(disposition),
        model=ModelReference(name="knuckle-net", version=3, digest="ab" * 32),
        recipe=RecipeReference(product="knuckle", revision=2, digest="cd" * 32),
        image_sha256=image,
        image_media_type="image/tiff",
        image_size_px=(2048, 2048),
        evidence=EvidenceReference(
            sha256=hashlib.sha256(f"evidence {number}".encode()).hexdigest(),
            region_px=(0, 0, 2048, 2048),
            slope=(1.5,),
            intercept=(-0.25,),
        ),
        captured_at="2026-03-01T08:00:00+09:00",
        received_at="2026-02-28T23:00:01.250Z",
        timings_ms={"decode": 1.25, "infer": 2.5},
        principal=None,
    )
    return replace(draft, **fields)


def make_review(inspection_id: str, **fields: Any) -> ReviewRecord:
    """A review that passes the part, unless the fields say otherwise."""
    return ReviewRecord(
        **{
            "id": new_inspection_id(),
            "inspection_id": inspection_id,
            "disposition": "pass",
            "reason": "surface mark, no crack",
            "reviewer": "kim",
            "reviewed_at": "2026-03-01T00:00:00.000Z",
            **fields,
        }
    )


def make_statement(kind: type[S], **fields: Any) -> S:
    """A statement of this kind about part 0000000001 of product knuckle, unless fields say so."""
    of_part = {"product": "knuckle", "part": "0000000001"}
    usual: dict[type[Any], dict[str, Any]] = {
        PartEvent: {**of_part, "event": "reworked", "at": "2026-03-01T08:00:00+09:00"},
        Naming: {**of_part, "serial": "0000000002", "why": "re-marked", "reason": "worn"},
        Assembly: {
            **of_part,
            "component_product": "bush",
            "component_part": "b1",
            "action": "fitted",
            "at": "2026-03-01T08:00:00+09:00",
        },
        Hold: {"product": "knuckle", "scope": "part", "value": "0000000001", "reason": "porous"},
        Release: {"hold_id": "nothing", "reason": "looked at"},
        ProcessValues: {"values": (make_value(part="0000000001"),)},
        Erasure: {"files": ("ab" * 32,), "rule": "90 days"},
    }
    common = {"id": new_inspection_id(), "by": "kim", "recorded_at": "2026-03-01T00:00:00.000Z"}
    return kind(**{**common, **usual[kind], **fields})


def make_value(**fields: Any) -> ProcessValue:
    """Melt temperature; say of which part or machine."""
    if "part" in fields:
        fields = {"product": "knuckle", **fields}
    usual = {"name": "melt", "value": 705.5, "unit": "degC", "at": "2026-03-01T08:00:00+09:00"}
    return ProcessValue(**{**usual, **fields})


def make_view_set(**fields: Any) -> ViewSetDraft:
    """A set of the views front, side and back of part 0000000001."""
    return ViewSetDraft(
        **{
            "id": new_inspection_id(),
            "station": "xray-1",
            "product": "knuckle",
            "serial": "0000000001",
            "views": ("front", "side", "back"),
            "by": "line-1",
            "recorded_at": "2026-03-01T00:00:00.000Z",
            **fields,
        }
    )
