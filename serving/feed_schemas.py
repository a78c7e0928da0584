"""Changes in their order, and counts: what others keep themselves up to date with."""

from __future__ import annotations

from typing import Any, Self, get_args

from pydantic import ConfigDict, Field, field_validator

from inspection.entries import Entry, EntryKind, kind_of
from inspection.store import Bucket, CountBy
from inspection.store import CountRow as CountFound
from serving import part_examples as examples
from serving import statement_schemas as statements
from serving.schemas import FilterQuery, Recorded, Review
from serving.wire import Wire

FORMS: dict[EntryKind, type[Any]] = {
    "inspection": Recorded,
    "review": Review,
    "event": statements.PartEvent,
    "naming": statements.Naming,
    "assembly": statements.Assembly,
    "hold": statements.Hold,
    "release": statements.Release,
    "view-set": statements.ViewSet,
    "process-values": statements.ProcessValues,
    "erasure": statements.Erasure,
}
"""In which form each kind of entry goes over the wire."""

DIMENSIONS: dict[str, CountBy] = {
    name.replace("defect_class", "class"): name for name in get_args(CountBy)
}
"""What inspections can be counted by: as it is written here -> as it is in the records."""

LONGEST_WAIT_S = 60


class ChangesQuery(Wire):
    """From where on, how many, and how long to wait for the first."""

    after: str | None = Field(
        None,
        max_length=200,
        description="`next` of the answer before, or the `cursor` of an item; everything from the "
        "beginning when absent, only what is to come with `now`",
    )
    limit: int = Field(100, ge=1, le=1000)
    wait: int = Field(
        0, ge=0, le=LONGEST_WAIT_S, description="seconds to wait while there is nothing new"
    )


class Change(Wire):
    """One entry in the order of commits.

    `sequence` counts from 1 without gaps. `entry` has the form of what its kind is answered with
    elsewhere: an inspection as in a set of views, a review, an event and so on.
    """

    sequence: int
    cursor: str
    kind: EntryKind
    entry: dict[str, Any]


class Changes(Wire):
    """Entries in the order of commits; `next` continues after them, and is never null."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CHANGES]})

    items: list[Change]
    next: str


class CountQuery(FilterQuery):
    """What to count inspections by, and which."""

    by: str = Field(
        "",
        max_length=100,
        description=f"fields to group by, with commas between: {', '.join(DIMENSIONS)}",
        examples=["product,mould"],
    )
    bucket: Bucket | None = Field(None, description="a row for each hour, day or month, in UTC")

    @field_validator("by")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names if name not in DIMENSIONS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(DIMENSIONS)}")
        if len(set(names)) != len(names):
            raise ValueError("name each field once")
        return ",".join(names)

    @property
    def groups(self) -> tuple[CountBy, ...]:
        """The fields to group by."""
        return tuple(DIMENSIONS[name] for name in self.by.split(",") if name)


class CountRow(Wire):
    """Inspections in one group; single views of a set are not counted, their sum is."""

    start: str | None = Field(description="of the time bucket, in UTC; null without buckets")
    group: dict[str, str | None]
    inspections: int
    passed: int
    failed: int
    review: int
    first: int = Field(description="attempt 1 of their part")
    first_passed: int
    first_pass_yield: float | None = Field(
        description="share of first attempts that passed; null where there are none"
    )

    @classmethod
    def of(cls, row: CountFound) -> Self:
        """The wire form of a row."""
        return cls(
            start=row.start,
            group={name: row.group[kept] for name, kept in DIMENSIONS.items() if kept in row.group},
            inspections=row.inspections,
            passed=row.passed,
            failed=row.failed,
            review=row.review,
            first=row.first,
            first_passed=row.first_passed,
            first_pass_yield=row.first_pass_yield,
        )


class Counts(Wire):
    """Rows, the oldest bucket first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.COUNTS]})

    items: list[CountRow]


def form_of(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values, in its wire form."""
    form = FORMS[kind_of(entry)]
    made = form.of(entry)
    done: dict[str, Any] = made.model_dump(mode="json", by_alias=True)
    return done
