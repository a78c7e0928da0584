"""Typed clients of the server: a station posts images, an MES asks and tells.

    with StationClient("http://127.0.0.1:8400") as station:
        inspection = station.inspect(image, station="xray-1", product="KN-42", capture_id="c-17")

    with Client("http://127.0.0.1:8400", key="insp_...") as mes:
        for change in mes.follow(after=remembered):
            ...

Answers are the objects of the interface (`schemas.py` and its neighbours), so a type checker knows
every field. Refusals are raised as the errors that the server raised (`inspection.errors`). What
can be repeated is repeated by itself (`calling.py`): whatever adds carries an Idempotency-Key, and
the server adds one thing for it however often it comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

from inspection.errors import InspectionError
from inspection.frame import sniff
from inspection.genealogy import DEPTH
from serving.calling import Caller, error_of
from serving.feed_schemas import Change, Changes, CountRow, Counts
from serving.model_schemas import ModelList, Readiness
from serving.part_schemas import Genealogy, Lookup, LookupResult, Part, PartTrace
from serving.schemas import (
    Inspection,
    InspectionDetail,
    InspectionList,
    Recorded,
    Review,
    ViewSetState,
)
from serving.statement_schemas import (
    Assembly,
    EventFields,
    Hold,
    HoldFields,
    HoldList,
    Naming,
    PartEvent,
    ProcessValueFields,
    ProcessValuesReport,
    Release,
    ViewSet,
    ViewSetFields,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from inspection.store import Bucket, CountBy

LOOKED_UP_AT_ONCE = 500
SENT_AT_ONCE = 1000
WAIT_S = 30

_Value = TypeVar("_Value", bound="BaseModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Generic[_Value]):
    """Something as it was read, with the ETag that says so."""

    value: _Value
    etag: str


class StationClient(Caller):
    """Posts images to one server. Safe to use from several threads."""

    def inspect(
        self,
        image: bytes,
        *,
        station: str,
        product: str,
        capture_id: str,
        idempotency_key: str | None = None,
        content_type: str | None = None,
        **fields: str | None,
    ) -> dict[str, Any]:
        """Post one image and return its inspection, as the JSON that came.

        Args:
            image: the file as camera or detector wrote it.
            station: the station's name.
            product: the product's name.
            capture_id: the station's own name of this capture, unique for ever.
            idempotency_key: `capture_id` serves when absent: the same capture is the same request.
            content_type: what the bytes are; looked at when absent.
            fields: serial, captured_at, lot, machine, mould, cavity, reason, view_set, view.

        Raises:
            InputError: the server refused it, for the reason that its class says.
            ServerUnreachable: no answer that counts came in all the tries.
        """
        answer = self.call(
            "POST",
            "/v1/inspections",
            params={"station": station, "product": product, "capture_id": capture_id, **fields},
            headers={
                "Idempotency-Key": idempotency_key or capture_id,
                "Content-Type": content_type or sniff(image),
            },
            content=image,
        )
        inspection: dict[str, Any] = answer.json()
        return inspection

    def open_views(self, fields: ViewSetFields, *, key: str | None = None) -> ViewSet:
        """Say which views of a part will come; post each with `view_set` and `view`."""
        return _add(self, "/v1/view-sets", fields, ViewSet, key)

    def close_views(self, view_set_id: str) -> Inspection:
        """The inspection that sums the views up; the same one when it is asked for again."""
        answer = self.call("POST", f"/v1/view-sets/{_step(view_set_id)}/close")
        return Inspection.model_validate_json(answer.content)


class Client(Caller):
    """Asks and tells one server, as an MES or a QA tool does. Safe to use from several threads.

    Whatever adds takes `key`, its Idempotency-Key: a fresh one when absent, which is kept for the
    tries of that one call only. A program that may be restarted half-way gives a name of its own,
    such as the number of the message that it passes on, and so adds nothing twice.
    """

    # --- inspections -------------------------------------------------------------------------

    def inspection(self, inspection_id: str) -> Seen[InspectionDetail]:
        """One inspection with its reviews, and the ETag that a review of it needs."""
        return self._seen(f"/v1/inspections/{_step(inspection_id)}", InspectionDetail)

    def by_trace_id(self, trace_id: str) -> InspectionDetail:
        """The inspection behind a trace ID, as typed or read aloud."""
        return self._get(f"/v1/trace/{_step(trace_id)}", InspectionDetail)

    def find(self, *, page: int = 200, **filters: str | None) -> Iterator[Inspection]:
        """Inspections, newest first, page after page until there are no more.

        Args:
            page: how many are fetched at a time, 1 to 1,000.
            filters: serial, station, product, lot, machine, mould, disposition, defect_class,
                reason, received_from, received_before.
        """
        asked: dict[str, Any] = {**_filters(filters), "limit": page}
        while True:
            found = self._get("/v1/inspections", InspectionList, asked)
            yield from found.items
            if found.next_cursor is None:
                return
            asked["cursor"] = found.next_cursor

    def export(self, **filters: str | None) -> Iterator[dict[str, Any]]:
        """Every inspection that `find` would give, as one stream, each as JSON.

        Raises:
            InspectionError: the stream was cut: not all of them came.
        """
        asked = {**_filters(filters), "format": "ndjson"}
        with self.http.stream("GET", "/v1/inspections:export", params=asked) as answer:
            if not answer.is_success:
                answer.read()
                raise error_of(answer)
            for count, line in enumerate(answer.iter_lines()):
                document = json.loads(line)
                if document.get("complete") is True and document.get("count") == count:
                    return
                yield document
        raise InspectionError("the export was cut", remedy="Ask for it again.")

    def review(
        self, seen: Seen[InspectionDetail], disposition: Literal["pass", "fail"], reason: str
    ) -> Review:
        """Decide, as the person whose key this is, on what was seen.

        Raises:
            ChangedMeanwhile: somebody has decided, or a hold has come or gone, since it was read.
                That may be this very decision, when its answer was lost and it was sent again:
                read the inspection again, and look at its reviews.
        """
        answer = self.call(
            "POST",
            f"/v1/inspections/{_step(seen.value.id)}/reviews",
            headers={"If-Match": seen.etag},
            json={"disposition": disposition, "reason": reason},
        )
        return Review.model_validate_json(answer.content)

    def counts(
        self, *, by: Sequence[CountBy] = (), bucket: Bucket | None = None, **filters: str | None
    ) -> list[CountRow]:
        """Counts by any filter, group and time bucket, first-pass yield among them."""
        names = ["class" if name == "defect_class" else name for name in by]
        asked = {**_filters(filters), "by": ",".join(names) or None, "bucket": bucket}
        return self._get("/v1/counts", Counts, asked).items

    # --- parts -------------------------------------------------------------------------------

    def part(self, product: str, serial: str) -> Part:
        """Everything on record of a part, under any of its names."""
        return self._get(_part(product, serial), Part)

    def trace_part(self, product: str, serial: str, *, window_min: int = 30) -> PartTrace:
        """A part's whole life with process values and siblings."""
        return self._get(f"{_part(product, serial)}/trace", PartTrace, {"window_min": window_min})

    def genealogy(self, product: str, serial: str, *, depth: int = DEPTH) -> Genealogy:
        """What a part is made of and what it went into; `depth` levels each way, 1 to 20."""
        return self._get(f"{_part(product, serial)}/genealogy", Genealogy, {"depth": depth})

    def lookup(self, parts: Iterable[tuple[str, str]]) -> list[LookupResult]:
        """Many parts at once, each (product, serial), in this order; `item` counts over them all.

        However many there are: they are asked for by 500.
        """
        wanted = [{"product": product, "serial": serial} for product, serial in parts]
        found: list[LookupResult] = []
        for start in range(0, len(wanted), LOOKED_UP_AT_ONCE):
            some = wanted[start : start + LOOKED_UP_AT_ONCE]
            answer = self.call("POST", "/v1/parts:lookup", json={"items": some})
            items = Lookup.model_validate_json(answer.content).items
            found += [each.model_copy(update={"item": start + each.item}) for each in items]
        return found

    def report(
        self, product: str, serial: str, event: EventFields, *, key: str | None = None
    ) -> PartEvent:
        """Something that happened to a part: cast, marked, reworked, shipped and so on."""
        return _add(self, f"{_part(product, serial)}/events", event, PartEvent, key)

    def rename(
        self, product: str, serial: str, new: str, reason: str, *, key: str | None = None
    ) -> Naming:
        """Bind an unread part to its serial, or give a part that was marked anew its new one."""
        fields = {"serial": new, "reason": reason}
        return _add(self, f"{_part(product, serial)}/names", fields, Naming, key)

    def fit(
        self,
        product: str,
        serial: str,
        component: tuple[str, str],
        *,
        at: str,
        action: Literal["fitted", "removed"] = "fitted",
        position: str | None = None,
        key: str | None = None,
    ) -> Assembly:
        """A component, (product, serial), that goes into a part or comes out of it."""
        fields = {
            "product": component[0],
            "serial": component[1],
            "action": action,
            "at": at,
            "position": position,
        }
        return _add(self, f"{_part(product, serial)}/components", fields, Assembly, key)

    def view_set(self, view_set_id: str) -> ViewSetState:
        """A set of views as it stands."""
        return self._get(f"/v1/view-sets/{_step(view_set_id)}", ViewSetState)

    # --- holds and process -------------------------------------------------------------------

    def hold(self, fields: HoldFields, *, key: str | None = None) -> Hold:
        """Hold a part, a lot or a mould."""
        return _add(self, "/v1/holds", fields, Hold, key)

    def release(self, hold_id: str, reason: str, *, key: str | None = None) -> Release:
        """Let go what a hold holds."""
        return _add(self, f"/v1/holds/{_step(hold_id)}/release", {"reason": reason}, Release, key)

    def holds(
        self, *, product: str | None = None, standing: bool = True, limit: int = 100
    ) -> HoldList:
        """Holds, newest first; `truncated` says that there are more."""
        asked = {"product": product, "standing": str(standing).lower(), "limit": limit}
        return self._get("/v1/holds", HoldList, asked)

    def send_process_values(
        self, values: Sequence[ProcessValueFields], *, key: str | None = None
    ) -> list[ProcessValuesReport]:
        """What machines measured, by 1,000; a report for each thousand says what was refused."""
        first = key or str(uuid4())
        return [
            _add(
                self,
                "/v1/process-values",
                {
                    "values": [
                        each.model_dump(mode="json", exclude_none=True)
                        for each in values[start : start + SENT_AT_ONCE]
                    ]
                },
                ProcessValuesReport,
                f"{first}-{start}",
            )
            for start in range(0, len(values), SENT_AT_ONCE)
        ]

    # --- what was added, in order ------------------------------------------------------------

    def changes(self, after: str | None = None, *, limit: int = 100, wait_s: int = 0) -> Changes:
        """Entries after a cursor, in the order of commits; waits for the first when asked to."""
        asked = {"after": after, "limit": limit, "wait": wait_s or None}
        answer = self.call("GET", "/v1/changes", params=asked, wait_s=wait_s)
        return Changes.model_validate_json(answer.content)

    def follow(self, after: str | None = None) -> Iterator[Change]:
        """Every entry after a cursor, for ever: each once, in order, none missing.

        Remember the `cursor` of what you have dealt with, and begin there the next time.
        """
        while True:
            found = self.changes(after, limit=1000, wait_s=WAIT_S)
            yield from found.items
            after = found.next

    # --- the server --------------------------------------------------------------------------

    def models(self) -> ModelList:
        """Which model judges which product."""
        return self._get("/v1/models", ModelList)

    def readiness(self) -> Readiness:
        """What the server says of itself, ready or not."""
        return Readiness.model_validate_json(self.http.get("/readyz").content)

    def _get(self, path: str, form: type[_Value], params: dict[str, Any] | None = None) -> _Value:
        return form.model_validate_json(self.call("GET", path, params=params).content)

    def _seen(self, path: str, form: type[_Value]) -> Seen[_Value]:
        answer = self.call("GET", path)
        return Seen(value=form.model_validate_json(answer.content), etag=answer.headers["ETag"])


def inspection_in(change: Change) -> Recorded | None:
    """The inspection that a change is; None when it is something else."""
    return Recorded.model_validate(change.entry) if change.kind == "inspection" else None


def _add(
    caller: Caller,
    path: str,
    fields: BaseModel | dict[str, Any],
    form: type[_Value],
    key: str | None,
) -> _Value:
    body = (
        {name: value for name, value in fields.items() if value is not None}
        if isinstance(fields, dict)
        else fields.model_dump(mode="json", by_alias=True, exclude_none=True)
    )
    answer = caller.call("POST", path, headers={"Idempotency-Key": key or str(uuid4())}, json=body)
    return form.model_validate_json(answer.content)


def _filters(given: dict[str, str | None]) -> dict[str, str]:
    names = {"defect_class": "class", "received_from": "from", "received_before": "to"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}


def _part(product: str, serial: str) -> str:
    return f"/v1/parts/{_step(product)}/{quote(serial, safe='')}"


def _step(text: str) -> str:
    return quote(text, safe="")
