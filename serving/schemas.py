"""Inspections and reviews over the wire: requests and answers, with the document's examples.

    InspectionFields, ReviewFields, ListQuery     what a caller sends
    Recorded < Inspection < InspectionDetail      as recorded; with holds; with reviews
    Problem                                       a refusal

`part_schemas.py` has parts, `statement_schemas.py` what else is said of them, `feed_schemas.py`
changes and counts, `model_schemas.py` what judges. None of them needs the web framework.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BeforeValidator, ConfigDict, Field

from inspection.decoding.acquisition import Acquisition as AcquisitionRecord
from inspection.events import Hold as HoldRecord
from inspection.record import AttemptReason, InspectionRecord, ReviewRecord
from inspection.store import ViewSetState as ViewSetRecord
from inspection.verdict import Disposition
from inspection.verdict import Finding as FindingRecord
from serving import examples
from serving.statement_examples import SERIAL
from serving.statement_schemas import Hold, ViewSet
from serving.wire import (
    Instant,
    Mark,
    Name,
    Optional,
    OptionalInstant,
    OptionalMark,
    Wire,
    Words,
    empty_is_absent,
)

# --- requests --------------------------------------------------------------------------------


class InspectionFields(Wire):
    """What a station says about the image it sends."""

    station: Name = Field(description="who sends it", examples=["xray-1"])
    product: Name = Field(description="one of GET /v1/models", examples=["KN-42"])
    capture_id: Name = Field(
        description="the station's own name of this capture; unique for ever", examples=["c-000017"]
    )
    serial: OptionalMark = Field(
        None,
        description="the mark as read; leave it out when it could not be read: the part is judged "
        "under a provisional identity and is never a pass",
        examples=[SERIAL],
    )
    captured_at: OptionalInstant = Field(
        None, description="by the station's clock, with a zone", examples=["2026-11-21T10:00:00Z"]
    )
    lot: Optional = Field(None, examples=["L-2026-47"])
    machine: Optional = Field(None, examples=["LP-3"])
    mould: Optional = Field(None, examples=["M-12"])
    cavity: Optional = Field(None, examples=["2"])
    reason: Annotated[AttemptReason | None, BeforeValidator(empty_is_absent)] = Field(
        None,
        description="why this capture was made; when absent `first`, or `recheck` of a known part",
    )
    view_set: Optional = Field(
        None, description="`id` of the open set of views that this image belongs to"
    )
    view: Optional = Field(
        None, description="which of the set's views it shows; comes with `view_set`"
    )


class ReviewFields(Wire):
    """A person's decision."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.REVIEW_REQUEST]})

    disposition: Literal["pass", "fail"]
    reason: Words = Field(description="in the person's words")


class FilterQuery(Wire):
    """Which inspections; what is left out does not restrict."""

    serial: Mark | None = None
    station: Name | None = None
    product: Name | None = None
    lot: Name | None = None
    machine: Name | None = None
    mould: Name | None = None
    disposition: Disposition | None = None
    class_: Name | None = Field(None, alias="class", description="with a finding of this class")
    reason: AttemptReason | None = Field(None, description="why the capture was made")
    from_: Instant | None = Field(None, alias="from", description="received at or after")
    to: Instant | None = Field(None, description="received before")


class ListQuery(FilterQuery):
    """Which inspections to list, newest first."""

    limit: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(
        None, max_length=200, description="`next_cursor` of the page before, with the same filters"
    )


class ExportQuery(FilterQuery):
    """Which inspections to write out, newest first."""

    format: Literal["csv", "ndjson"] = "ndjson"


# --- answers ---------------------------------------------------------------------------------


class Box(Wire):
    """A rectangle in image pixels; `left` and `top` count from 0."""

    left: int
    top: int
    width: int
    height: int


class Finding(Wire):
    """A defect class that was found, and where; `zone`, `size_mm` and `rule` if zones are drawn."""

    class_: str = Field(alias="class")
    probability: float
    box: Box
    zone: str | None = Field(description="of the recipe, in which it lies")
    size_mm: float | None = Field(description="largest extent on the part")
    rule: str | None = Field(description="the acceptance rule that it breaks or that allows it")

    @classmethod
    def of(cls, finding: FindingRecord) -> Self:
        """The wire form of a finding."""
        return cls(
            class_=finding.defect_class,
            probability=finding.probability,
            box=Box(**asdict(finding.region)),
            zone=finding.zone,
            size_mm=finding.size_mm,
            rule=finding.rule,
        )


class Acquisition(Wire):
    """What the image file says of the exposure and of the part; nulls where it says nothing."""

    kv: float | None = Field(description="tube voltage in kilovolts")
    ma: float | None = Field(description="tube current in milliamperes")
    exposure_ms: float | None
    frames_averaged: int | None
    detector: str | None
    serial: str | None = Field(description="the part's mark as the file has it")
    tags: dict[str, str] = Field(description="other tags of the part and the exposure, by keyword")

    @classmethod
    def of(cls, acquisition: AcquisitionRecord) -> Self:
        """The wire form of an acquisition."""
        return cls(**{**asdict(acquisition), "tags": dict(acquisition.tags)})


class Detector(Wire):
    """The calibration set that the image was flat-fielded by, and when its detector was checked."""

    digest: str
    made_at: str
    checked_at: str | None


class Reason(Wire):
    """Why the disposition is what it is: a stable code, and a sentence."""

    code: str
    detail: str


class Model(Wire):
    """A model package: its name, version, and the SHA-256 of its document."""

    name: str
    version: int
    digest: str


class Recipe(Wire):
    """The recipe that it was judged by."""

    product: str
    revision: int
    digest: str


class Links(Wire):
    """Where to go on."""

    self: str
    image: str
    heatmap: str | None
    part: str
    trace: str


class Review(Wire):
    """A person's decision on an inspection."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.REVIEW]})

    id: str
    inspection_id: str
    disposition: Literal["pass", "fail"]
    reason: str
    reviewer: str
    reviewed_at: str

    @classmethod
    def of(cls, record: ReviewRecord) -> Review:
        """The wire form of a record."""
        return cls(**asdict(record))


class ViewReference(Wire):
    """One view of a part, in the inspection that sums its views up; nulls where it is missing."""

    view: str
    inspection_id: str | None
    disposition: Disposition | None


class Recorded(Wire):
    """One inspection as it stands in the records."""

    id: str
    trace_id: str
    serial: str | None = Field(description="null when the mark was not read")
    part: str = Field(description="the serial, or a provisional identity `unread:TRACE-ID`")
    station: str
    product: str
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    capture_id: str
    attempt: int | None = Field(description="null for audits, challenges and simulated inspections")
    reason: AttemptReason
    disposition: Disposition
    probability: dict[str, float] = Field(description="for each defect class; empty if unjudged")
    novelty: float | None
    findings: list[Finding]
    reasons: list[Reason]
    model: Model
    recipe: Recipe
    image_sha256: str
    captured_at: str | None
    received_at: str
    timings_ms: dict[str, float]
    view_set: str | None = Field(description="the set of views that it belongs to, or closes")
    view: str | None = Field(description="set when this is one view of several: it settles nothing")
    views: list[ViewReference] = Field(description="of the inspection that closes a set")
    engine: str | None = Field(description="what ran the network")
    acquisition: Acquisition | None = Field(description="null where the file says nothing")
    detector: Detector | None = Field(description="null where no flat field was applied")
    allowed: list[Finding] = Field(description="found, and allowed by the rules of their zone")
    links: Links

    @classmethod
    def of(cls, record: InspectionRecord, **more: Any) -> Self:
        """The wire form of a record; of a subclass with `more`."""
        return cls(
            **{name: getattr(record, name) for name in _COPIED},
            # In the order in which the record keeps them, so that a replay is the same text.
            probability=dict(sorted(record.probability.items())),
            timings_ms=dict(sorted(record.timings_ms.items())),
            findings=[Finding.of(each) for each in record.findings],
            reasons=[Reason(code=each.code, detail=each.detail) for each in record.reasons],
            model=Model(**asdict(record.model)),
            recipe=Recipe(**asdict(record.recipe)),
            views=[ViewReference(**asdict(each)) for each in record.views],
            acquisition=Acquisition.of(record.acquisition) if record.acquisition else None,
            detector=Detector(**asdict(record.detector)) if record.detector else None,
            allowed=[Finding.of(each) for each in record.allowed],
            links=links_of(record),
            **more,
        )


_MADE = frozenset(
    {
        *("probability", "timings_ms", "findings", "reasons", "model", "recipe", "views", "links"),
        *("acquisition", "detector", "allowed"),
    }
)
_COPIED = tuple(name for name in Recorded.model_fields if name not in _MADE)


class Inspection(Recorded):
    """One inspection, and the holds that stand now on its part, lot or mould."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION]})

    holds: list[Hold]

    @classmethod
    def with_holds(cls, record: InspectionRecord, holds: Iterable[HoldRecord], **more: Any) -> Self:
        """The wire form of a record with the holds that stand on it."""
        return cls.of(record, holds=[Hold.of(each) for each in holds], **more)


class InspectionDetail(Inspection):
    """One inspection with every review of it, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION_DETAIL]})

    reviews: list[Review]

    @classmethod
    def with_reviews(
        cls,
        record: InspectionRecord,
        reviews: Iterable[ReviewRecord],
        holds: Iterable[HoldRecord],
    ) -> Self:
        """The wire form of a record, its reviews and the holds on it."""
        return cls.with_holds(record, holds, reviews=[Review.of(each) for each in reviews])


class InspectionList(Wire):
    """One page, newest first. `next_cursor` is null on the last one.

    `truncated`: the search stopped at its budget, so this page may hold fewer than `limit`, even
    none; there may be more, and `next_cursor` goes on from there.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION_LIST]})

    items: list[Inspection]
    next_cursor: str | None
    truncated: bool


class ViewSetState(Wire):
    """A set of views: how it was opened, its views so far, and the inspection that closed it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.VIEW_SET_STATE]})

    opened: ViewSet
    views: list[Recorded]
    missing: list[str] = Field(description="views that have not come")
    closed: Recorded | None = Field(description="null while the set is open")

    @classmethod
    def of(cls, state: ViewSetRecord) -> Self:
        """The wire form of a set's state."""
        there = {each.view for each in state.views}
        return cls(
            opened=ViewSet.of(state.opened),
            views=[Recorded.of(each) for each in state.views],
            missing=[view for view in state.opened.views if view not in there],
            closed=Recorded.of(state.closed) if state.closed else None,
        )


def links_of(record: InspectionRecord) -> Links:
    """Paths on this server that belong to an inspection."""
    place = f"/v1/inspections/{record.id}"
    return Links(
        self=place,
        image=f"{place}/image",
        heatmap=f"{place}/heatmap" if record.evidence else None,
        part=f"/v1/parts/{quote(record.product, safe='')}/{quote(record.part, safe=':')}",
        trace=f"/v1/trace/{record.trace_id}",
    )


class Problem(Wire):
    """A refusal, after RFC 9457."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PROBLEM]})

    type: str = Field(description="`urn:inspection:problem:` and the code; stable")
    title: str
    status: int
    detail: str = Field(description="what is wrong with this very request")
    instance: str = Field(description="names this very refusal; the server's log has it too")
    code: str
    remedy: str = Field(description="what to do")
