"""Parts over the wire: one part's page, many at once, its trace, its genealogy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import ConfigDict, Field

from inspection import events
from inspection.genealogy import Fitting as FittingFound
from inspection.genealogy import Genealogy as GenealogyFound
from inspection.lives import Life
from inspection.record import InspectionRecord, ReviewRecord
from inspection.trace import Siblings as SiblingsFound
from inspection.trace import Trace
from inspection.verdict import Disposition
from serving import part_examples as examples
from serving.schemas import InspectionDetail, Recorded
from serving.statement_schemas import (
    Assembly,
    Hold,
    ItemProblem,
    Naming,
    PartEvent,
    ProcessValue,
    ViewSet,
)
from serving.wire import Mark, Name, Wire

MOST_LOOKED_UP = 500


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class Standing(Wire):
    """The disposition in force for a part, and what it rests on."""

    disposition: Disposition
    inspection_id: str
    review_id: str | None
    why: str


class Part(Wire):
    """Everything on record about a part, each kind oldest first, and what is in force."""

    model_config = _shown(examples.PART)

    product: str
    part: str = Field(description="the identity under which it is kept")
    serial: str | None = Field(description="its newest mark; null while it was never read")
    names: list[str] = Field(description="every identity that it has had, `part` first")
    namings: list[Naming] = Field(description="how it came to each later one")
    in_force: Standing | None = Field(description="null while nothing that counts was recorded")
    holds: list[Hold] = Field(description="that stand now on it, its lots or its moulds")
    events: list[PartEvent]
    components: list[Assembly] = Field(description="what was fitted into it, or removed from it")
    assemblies: list[Assembly] = Field(description="what it was fitted into, or removed from")
    view_sets: list[ViewSet]
    inspections: list[InspectionDetail]
    views: list[Recorded] = Field(description="single views; the closing inspection sums them up")

    @classmethod
    def of(cls, life: Life) -> Self:
        """The wire form of a part's life."""
        reviews = [each for each in life.entries if isinstance(each, ReviewRecord)]
        names = frozenset(life.names.names)
        fittings = [each for each in life.entries if isinstance(each, events.Assembly)]
        above = [each for each in fittings if each.part in names and each.product == _product(life)]
        below = [
            each
            for each in fittings
            if each.component_part in names and each.component_product == _product(life)
        ]
        return cls(
            product=life.names.product,
            part=life.names.root,
            serial=life.serial,
            names=list(life.names.names),
            namings=[Naming.of(each) for each in life.entries if isinstance(each, events.Naming)],
            in_force=standing_of(life),
            holds=[Hold.of(each) for each in life.holds],
            events=[
                PartEvent.of(each) for each in life.entries if isinstance(each, events.PartEvent)
            ],
            components=[Assembly.of(each) for each in above],
            assemblies=[Assembly.of(each) for each in below],
            view_sets=[
                ViewSet.of(each) for each in life.entries if isinstance(each, events.ViewSet)
            ],
            inspections=[
                InspectionDetail.with_reviews(
                    record,
                    (review for review in reviews if review.inspection_id == record.id),
                    life.holds,
                )
                for record in life.inspections
            ],
            views=[
                Recorded.of(each)
                for each in life.entries
                if isinstance(each, InspectionRecord) and each.view is not None
            ],
        )


class PartSummary(Wire):
    """A part in a few words."""

    product: str
    part: str
    serial: str | None
    names: list[str]
    in_force: Standing | None
    holds: list[Hold]
    inspections: int = Field(description="how many there are, of every reason")
    latest: Recorded | None = Field(description="the newest of them")
    link: str

    @classmethod
    def of(cls, life: Life) -> Self:
        """The wire form of a part's life, in short."""
        done = life.inspections
        place = quote(life.serial or life.names.root, safe=":")
        return cls(
            product=life.names.product,
            part=life.names.root,
            serial=life.serial,
            names=list(life.names.names),
            in_force=standing_of(life),
            holds=[Hold.of(each) for each in life.holds],
            inspections=len(done),
            latest=Recorded.of(done[-1]) if done else None,
            link=f"/v1/parts/{quote(life.names.product, safe='')}/{place}",
        )


class LookupItem(Wire):
    """A part to look up."""

    product: Name
    serial: Mark = Field(description="any of its names")


class LookupFields(Wire):
    """Parts to look up, at most 500."""

    model_config = _shown(examples.LOOKUP_REQUEST)

    items: Annotated[list[LookupItem], Field(min_length=1, max_length=MOST_LOOKED_UP)]


class LookupResult(Wire):
    """What was found for one item, or why nothing was; `item` counts from 0."""

    item: int
    part: PartSummary | None
    problem: ItemProblem | None


class Lookup(Wire):
    """What was found, in the order in which it was asked for."""

    model_config = _shown(examples.LOOKUP)

    items: list[LookupResult]


class Origin(Wire):
    """When and where a part was made, as far as the records tell."""

    at: str
    known_from: Literal["cast", "first inspection"]
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    castings: int = Field(
        description="at how many times it is said to have been cast; past 1 the serial was used "
        "again, and the rest of this is of the first casting"
    )


class Siblings(Wire):
    """First inspections of the same mould in the same hour as the part's first one."""

    mould: str
    hour: str = Field(description="when the hour begins, in UTC")
    inspections: int
    passed: int
    failed: int
    review: int
    defect_rate: float | None = Field(description="share that failed; null where there are none")

    @classmethod
    def of(cls, siblings: SiblingsFound) -> Self:
        """The wire form of the counts."""
        return cls(**asdict(siblings), defect_rate=siblings.defect_rate)


class PartTrace(Wire):
    """A part's whole life with what surrounds it."""

    model_config = _shown(examples.TRACE)

    part: Part
    origin: Origin | None
    window_min: int
    values: list[ProcessValue] = Field(
        description="of the part, and of its machine around its origin; by time"
    )
    values_truncated: bool
    siblings: Siblings | None

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """The wire form of a trace."""
        life = Life(
            names=trace.names,
            entries=tuple(trace.entries),
            in_force=trace.in_force,
            holds=tuple(each.hold for each in trace.holds),
        )
        return cls(
            part=Part.of(life),
            origin=Origin(**asdict(trace.origin)) if trace.origin else None,
            window_min=trace.window_min,
            values=[ProcessValue.of(each) for each in trace.values],
            values_truncated=trace.values_truncated,
            siblings=Siblings.of(trace.siblings) if trace.siblings else None,
        )


class PartKey(Wire):
    """Which part."""

    product: str
    part: str


class Fitting(Wire):
    """One component in one assembly; `in_force` and `holds` are of the outer one.

    `removed_at` is null while it is in there; what was removed is not followed further. `repeated`:
    the outer one was met before and is not followed again, which is where a cycle is cut.
    """

    depth: int = Field(description="1 beside the part that was asked for")
    assembly: PartKey
    component: PartKey
    position: str | None
    fitted_at: str | None
    removed_at: str | None
    repeated: bool
    in_force: Standing | None
    holds: list[Hold]

    @classmethod
    def of(cls, fitting: FittingFound) -> Self:
        """The wire form of a link."""
        return cls(
            depth=fitting.depth,
            assembly=PartKey(product=fitting.assembly[0], part=fitting.assembly[1]),
            component=PartKey(product=fitting.component[0], part=fitting.component[1]),
            position=fitting.position,
            fitted_at=fitting.fitted_at,
            removed_at=fitting.removed_at,
            repeated=fitting.repeated,
            in_force=standing_of(fitting.far) if fitting.far else None,
            holds=[Hold.of(each) for each in fitting.far.holds] if fitting.far else [],
        )


class Genealogy(Wire):
    """What a part is made of, and what it went into, level by level.

    `truncated`: there is more beyond the depth, or past 1,000 links.
    """

    model_config = _shown(examples.GENEALOGY)

    product: str
    part: str
    components: list[Fitting]
    assemblies: list[Fitting]
    truncated: bool

    @classmethod
    def of(cls, found: GenealogyFound) -> Self:
        """The wire form of a genealogy."""
        return cls(
            product=found.life.names.product,
            part=found.life.names.root,
            components=[Fitting.of(each) for each in found.components],
            assemblies=[Fitting.of(each) for each in found.assemblies],
            truncated=found.truncated,
        )


def standing_of(life: Life) -> Standing | None:
    """The wire form of what is in force."""
    return Standing(**asdict(life.in_force)) if life.in_force else None


def _product(life: Life) -> str:
    return life.names.product
