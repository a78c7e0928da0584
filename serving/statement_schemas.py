"""What is said of a part besides inspections: requests that add it, and answers that show it.

EventFields, NameFields, ComponentFields, HoldFields, ...   what a caller sends
PartEvent, Naming, Assembly, Hold, ...                      what stands in the records
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field

from inspection import events
from inspection.errors import InspectionError
from inspection.events import AssemblyAction, EventKind, HoldScope, NamingWhy
from inspection.record import AttemptReason
from inspection.store import StandingHold
from serving import statement_examples as examples
from serving.wire import (
    Instant,
    Mark,
    Name,
    Optional,
    OptionalInstant,
    OptionalMark,
    OptionalWords,
    Unit,
    Wire,
    Words,
    empty_is_absent,
)


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


# --- requests --------------------------------------------------------------------------------


class EventFields(Wire):
    """Something that happened to a part, other than an inspection."""

    model_config = _shown(examples.EVENT_REQUEST)

    event: EventKind
    at: Instant = Field(description="when it happened, with a zone")
    lot: Optional = None
    machine: Optional = None
    mould: Optional = None
    cavity: Optional = None
    station: Optional = None
    note: OptionalWords = None


class NameFields(Wire):
    """The serial that a part has from now on."""

    model_config = _shown(examples.NAME_REQUEST)

    serial: Mark = Field(description="what is marked on it now")
    reason: Words = Field(description="how that is known, in words")


class ComponentFields(Wire):
    """A component that goes into the part, or comes out of it."""

    model_config = _shown(examples.COMPONENT_REQUEST)

    product: Name = Field(description="the component's product")
    serial: Mark = Field(description="the component's serial")
    action: AssemblyAction = "fitted"
    at: Instant = Field(description="when, with a zone")
    position: Optional = Field(None, description="where in the part")


class HoldFields(Wire):
    """A part, a lot or a mould that must not go on."""

    model_config = _shown(examples.HOLD_REQUEST)

    product: Name
    scope: HoldScope
    value: Mark = Field(description="the part's serial, the lot, or the mould")
    reason: Words
    legal: bool = Field(False, description="its images are not deleted while it stands")


class ReleaseFields(Wire):
    """Why a hold ends."""

    model_config = _shown(examples.RELEASE_REQUEST)

    reason: Words


class ViewSetFields(Wire):
    """Several views of one part that make one inspection."""

    model_config = _shown(examples.VIEW_SET_REQUEST)

    station: Name
    product: Name
    serial: OptionalMark = Field(None, description="left out when the mark could not be read")
    views: Annotated[list[Name], Field(max_length=events.MAX_VIEWS)] | None = Field(
        None, description="the views that must come, each once; those of the recipe when absent"
    )
    reason: Annotated[AttemptReason | None, BeforeValidator(empty_is_absent)] = None
    lot: Optional = None
    machine: Optional = None
    mould: Optional = None
    cavity: Optional = None


class ProcessValueFields(Wire):
    """One measured value: of a part (`product`, `serial`), or of a machine."""

    name: Name = Field(examples=["melt-temperature"])
    value: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    unit: Unit
    at: Instant = Field(description="when it was measured, or when the window begins")
    until: OptionalInstant = Field(None, description="the end of the window, not part of it")
    product: Optional = None
    serial: OptionalMark = None
    machine: Optional = None


class ProcessValuesFields(Wire):
    """Values that were measured while parts were made, up to 1,000 at a time."""

    model_config = _shown(examples.PROCESS_VALUES_REQUEST)

    values: list[ProcessValueFields] = Field(min_length=1, max_length=events.MAX_VALUES)


# --- answers ---------------------------------------------------------------------------------


class _Statement(Wire):
    """One statement as it stands in the records: the same fields as there."""

    @classmethod
    def of(cls, statement: Any) -> Any:
        """The wire form of a statement."""
        return cls(**asdict(statement))


class PartEvent(_Statement):
    """Something that happened to a part; `by` is the name on the access key that reported it."""

    model_config = _shown(examples.EVENT)

    id: str
    product: str
    part: str
    event: EventKind
    at: str
    by: str
    recorded_at: str
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    station: str | None
    note: str | None


class Naming(_Statement):
    """From `recorded_at` on `part` is also `serial`: bound when unread, or marked anew."""

    model_config = _shown(examples.NAMING)

    id: str
    product: str
    part: str
    serial: str
    why: NamingWhy
    reason: str
    by: str
    recorded_at: str


class Assembly(_Statement):
    """A component that was fitted into a part, or removed from it."""

    model_config = _shown(examples.ASSEMBLY)

    id: str
    product: str
    part: str
    component_product: str
    component_part: str
    action: AssemblyAction
    at: str
    by: str
    recorded_at: str
    position: str | None


class Hold(_Statement):
    """A part, a lot or a mould of a product that must not go on."""

    model_config = _shown(examples.HOLD)

    id: str
    product: str
    scope: HoldScope
    value: str
    reason: str
    by: str
    recorded_at: str
    legal: bool


class HoldState(Hold):
    """A hold, and what released it: null while it stands."""

    model_config = _shown(examples.HOLD_STATE)

    released_by: str | None

    @classmethod
    def of(cls, statement: StandingHold) -> HoldState:
        """The wire form of a hold and its end."""
        return cls(**asdict(statement.hold), released_by=statement.released_by)


class HoldList(Wire):
    """Holds, newest first. `truncated`: there are more than these."""

    model_config = _shown(examples.HOLD_LIST)

    items: list[HoldState]
    truncated: bool


class Release(_Statement):
    """The end of a hold."""

    model_config = _shown(examples.RELEASE)

    id: str
    hold_id: str
    reason: str
    by: str
    recorded_at: str


class ViewSet(_Statement):
    """Several views of one part, opened to be inspected together."""

    model_config = _shown(examples.VIEW_SET)

    id: str
    trace_id: str
    station: str
    product: str
    part: str
    serial: str | None
    views: list[str]
    by: str
    recorded_at: str
    reason: AttemptReason | None
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None


class ProcessValue(_Statement):
    """One measured value of a part or of a machine."""

    name: str
    value: float
    unit: str
    at: str
    until: str | None
    product: str | None
    part: str | None
    machine: str | None


class ProcessValues(_Statement):
    """Values that came together."""

    id: str
    values: list[ProcessValue]
    by: str
    recorded_at: str


class Erasure(_Statement):
    """Image files that were deleted under a rule; their digests and proofs stay."""

    id: str
    files: list[str]
    rule: str
    by: str
    recorded_at: str


class ItemProblem(Wire):
    """Why one item of many was refused: code, detail and remedy of its problem."""

    code: str
    detail: str
    remedy: str

    @classmethod
    def of(cls, error: InspectionError) -> Self:
        """The wire form of an error."""
        return cls(code=error.code, detail=str(error), remedy=error.remedy)


class ProcessValueReport(Wire):
    """What became of one value; `item` counts from 0 in the order in which they were sent."""

    item: int
    status: Literal["accepted", "refused"]
    problem: ItemProblem | None


class ProcessValuesReport(Wire):
    """What became of each value. `id` names what was recorded; null when nothing was accepted."""

    model_config = _shown(examples.PROCESS_VALUES_REPORT)

    id: str | None
    accepted: int
    refused: int
    items: list[ProcessValueReport]
