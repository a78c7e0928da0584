"""What goes over the wire: requests and answers, with the examples that the document shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from inspection.record import AttemptReason, InForce, InspectionRecord, ReviewRecord
from inspection.verdict import Disposition
from serving import examples

_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(Z|z|[+\- ]\d{2}:\d{2})", re.ASCII
)


def normalised_instant(text: str) -> str:
    """An RFC 3339 time with its zone, as UTC with milliseconds and a `Z`.

    Raises:
        ValueError: it is none, or has no zone.
    """
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        raise ValueError("a time is written 2026-11-21T10:00:00.000+09:00 or ...Z, with its zone")
    day, clock, zone = found.groups()
    # A `+` that nobody escaped arrives as a blank; in this place it can mean nothing else.
    moment = datetime.fromisoformat(f"{day}T{clock[:15]}{zone.upper().replace(' ', '+')}")
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC that is before the year 1 or after the year 9999") from error
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _empty_is_absent(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


Instant = Annotated[
    str, AfterValidator(normalised_instant), Field(json_schema_extra={"format": "date-time"})
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Optional = Annotated[Name | None, BeforeValidator(_empty_is_absent)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


# --- requests --------------------------------------------------------------------------------


class InspectionFields(_Wire):
    """What a station says about the image it sends."""

    station: Name = Field(description="who sends it", examples=["xray-1"])
    product: Name = Field(description="one of GET /v1/models", examples=["KN-42"])
    capture_id: Name = Field(
        description="the station's own name of this capture; unique for ever", examples=["c-000017"]
    )
    serial: Optional = Field(
        None,
        description="the mark as read; leave it out when it could not be read: the part is judged "
        "under a provisional identity and is never a pass",
        examples=[examples.SERIAL],
    )
    captured_at: Annotated[Instant | None, BeforeValidator(_empty_is_absent)] = Field(
        None, description="by the station's clock, with a zone", examples=["2026-11-21T10:00:00Z"]
    )
    lot: Optional = Field(None, examples=["L-2026-47"])
    machine: Optional = Field(None, examples=["LP-3"])
    mould: Optional = Field(None, examples=["M-12"])
    cavity: Optional = Field(None, examples=["2"])
    reason: Annotated[AttemptReason | None, BeforeValidator(_empty_is_absent)] = Field(
        None,
        description="why this capture was made; when absent `first`, or `recheck` of a known part",
    )


class ReviewFields(_Wire):
    """A person's decision."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.REVIEW_REQUEST]})

    disposition: Literal["pass", "fail"]
    reason: str = Field(min_length=1, max_length=2000, description="in the person's words")


class ListQuery(_Wire):
    """Which inspections to list, newest first."""

    serial: Name | None = None
    station: Name | None = None
    product: Name | None = None
    lot: Name | None = None
    machine: Name | None = None
    mould: Name | None = None
    disposition: Disposition | None = None
    from_: Instant | None = Field(None, alias="from", description="received at or after")
    to: Instant | None = Field(None, description="received before")
    limit: int = Field(50, ge=1, le=1000)
    cursor: str | None = Field(
        None, max_length=200, description="`next_cursor` of the page before, with the same filters"
    )


# --- answers ---------------------------------------------------------------------------------


class Box(_Wire):
    """A rectangle in image pixels; `left` and `top` count from 0."""

    left: int
    top: int
    width: int
    height: int


class Finding(_Wire):
    """A defect class that stands in the way of a pass, and where."""

    class_: str = Field(alias="class")
    probability: float
    box: Box


class Reason(_Wire):
    """Why the disposition is what it is: a stable code, and a sentence."""

    code: str
    detail: str


class Model(_Wire):
    """A model package: its name, version, and the SHA-256 of its document."""

    name: str
    version: int
    digest: str


class Recipe(_Wire):
    """The recipe that it was judged by."""

    product: str
    revision: int
    digest: str


class Links(_Wire):
    """Where to go on."""

    self: str
    image: str
    heatmap: str | None
    part: str
    trace: str


class Review(_Wire):
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


class Inspection(_Wire):
    """One inspection as it stands in the records."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION]})

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
    links: Links

    @classmethod
    def of(cls, record: InspectionRecord, **more: Any) -> Inspection:
        """The wire form of a record; of a subclass with `more`."""
        return cls(
            **{name: getattr(record, name) for name in _COPIED},
            # In the order in which the record keeps them, so that a replay is the same text.
            probability=dict(sorted(record.probability.items())),
            timings_ms=dict(sorted(record.timings_ms.items())),
            findings=[
                Finding(
                    class_=each.defect_class,
                    probability=each.probability,
                    box=Box(**asdict(each.region)),
                )
                for each in record.findings
            ],
            reasons=[Reason(code=each.code, detail=each.detail) for each in record.reasons],
            model=Model(**asdict(record.model)),
            recipe=Recipe(**asdict(record.recipe)),
            links=links_of(record),
            **more,
        )


_COPIED = tuple(
    name
    for name in Inspection.model_fields
    if name not in ("probability", "timings_ms", "findings", "reasons", "model", "recipe", "links")
)


class InspectionDetail(Inspection):
    """One inspection with every review of it, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION_DETAIL]})

    reviews: list[Review]

    @classmethod
    def with_reviews(
        cls, record: InspectionRecord, reviews: Iterable[ReviewRecord]
    ) -> InspectionDetail:
        """The wire form of a record and its reviews."""
        done = cls.of(record, reviews=[Review.of(each) for each in reviews])
        assert isinstance(done, InspectionDetail)  # noqa: S101  `of` builds its own class
        return done


class InspectionList(_Wire):
    """One page, newest first. `next_cursor` is null on the last one."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.INSPECTION_LIST]})

    items: list[Inspection]
    next_cursor: str | None


class Standing(_Wire):
    """The disposition in force for a part, and what it rests on."""

    disposition: Disposition
    inspection_id: str
    review_id: str | None
    why: str


class Part(_Wire):
    """A part's whole history, oldest first, and what is in force."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PART]})

    product: str
    part: str
    serial: str | None
    in_force: Standing | None = Field(description="null while nothing that counts was recorded")
    inspections: list[InspectionDetail]

    @classmethod
    def of(
        cls,
        product: str,
        part: str,
        entries: Sequence[InspectionRecord | ReviewRecord],
        in_force: InForce | None,
    ) -> Part:
        """The wire form of a part's records."""
        reviews = [each for each in entries if isinstance(each, ReviewRecord)]
        inspections = [each for each in entries if isinstance(each, InspectionRecord)]
        return cls(
            product=product,
            part=part,
            serial=next((each.serial for each in inspections), None),
            in_force=Standing(**asdict(in_force)) if in_force else None,
            inspections=[
                InspectionDetail.with_reviews(
                    each, (review for review in reviews if review.inspection_id == each.id)
                )
                for each in inspections
            ],
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


class Problem(_Wire):
    """A refusal, after RFC 9457."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PROBLEM]})

    type: str = Field(description="`urn:inspection:problem:` and the code; stable")
    title: str
    status: int
    detail: str = Field(description="what is wrong with this very request")
    instance: str = Field(description="names this very refusal; the server's log has it too")
    code: str
    remedy: str = Field(description="what to do")
