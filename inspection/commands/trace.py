"""`inspection trace SERIAL`: a part's whole life on one page.

the records -> which product -> trace_part -> what it is, how it was made, what was seen, in order
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.entries import canonical_json, kind_of
from inspection.errors import InputError, NotFound
from inspection.events import (
    Assembly,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    ViewSet,
)
from inspection.names import normalise_trace_id
from inspection.record import UNREAD, InspectionRecord, ReviewRecord
from inspection.store import Filter
from inspection.stores.asking import Asking
from inspection.stores.migrate import require_current
from inspection.trace import LONGEST_WINDOW_MIN, WINDOW_MIN, trace_part

if TYPE_CHECKING:
    from inspection.commands.places import Place
    from inspection.entries import Entry
    from inspection.trace import Trace


@click.command()
@click.argument("serial")
@click.option("--product", help="Where the serial stands on parts of several products.")
@click.option(
    "--window-min",
    type=click.IntRange(0, LONGEST_WINDOW_MIN),
    default=WINDOW_MIN,
    show_default=True,
    help="Minutes around casting whose process values are shown.",
)
@with_place
@output_format
def trace(serial: str, product: str | None, window_min: int, place: Place, form: str) -> None:
    """Show everything that is on record of the part marked SERIAL.

    Any name that the part ever had finds it, `unread:TRACE-ID` too.
    """
    place.require(records=True)
    require_current(place.url)
    store = Asking(place.url)
    try:
        name = _written(serial.strip())
        product = product or _product_of(store, name)
        found = trace_part(store, product, name, window_min=window_min)
    finally:
        store.close_asking()
    if form == "json":
        echo_json(_as_json(found))
    else:
        _echo(found)


def _written(serial: str) -> str:
    """A provisional identity in its one written form; any other mark as it is."""
    if not serial.lower().startswith(UNREAD):
        return serial
    return UNREAD + normalise_trace_id(serial[len(UNREAD) :])


def _product_of(store: Asking, serial: str) -> str:
    if serial.startswith(UNREAD):
        return store.by_trace_id(serial.removeprefix(UNREAD)).product
    products = sorted(
        {each.product for each in store.find(Filter(serial=serial, limit=1000)).records}
    )
    if not products:
        raise NotFound(
            f"no inspection of a part marked {serial!r} is on record",
            remedy="Write the serial as it stands on the part; for a part that was never "
            "inspected under this mark, say --product too.",
        )
    if len(products) > 1:
        raise InputError(
            f"{serial!r} stands on parts of {', '.join(products)}",
            remedy="Say which with --product.",
        )
    return products[0]


def _echo(found: Trace) -> None:
    names, force, origin = found.names, found.in_force, found.origin
    rows = [["part", f"{names.root} ({names.product})"]]
    if len(names.names) > 1:
        rows.append(["also", ", ".join(name for name in names.names if name != names.root)])
    rows.append(["in force", f"{force.disposition}: {force.why}" if force else "nothing"])
    for each in found.holds:
        hold = each.hold
        rows.append(["HELD", f"{hold.scope} {hold.value} by {hold.by}: {hold.reason}"])
    if origin is not None:
        told = {
            "lot": origin.lot,
            "machine": origin.machine,
            "mould": origin.mould,
            "cavity": origin.cavity,
        }
        where = ", ".join(f"{name} {value}" for name, value in told.items() if value)
        if origin.castings > 1:
            rows.append(["CAST", f"{origin.castings} times: the serial was used again"])
        rows.append(["made", f"{origin.at} ({origin.known_from}){', ' if where else ''}{where}"])
    if found.siblings is not None:
        near, rate = found.siblings, found.siblings.defect_rate
        share = "none" if rate is None else f"{100 * rate:.1f} % failed"
        rows.append(
            ["siblings", f"mould {near.mould}, hour of {near.hour}: {near.inspections}, {share}"]
        )
    echo_columns(rows)
    if found.values:
        click.echo("")
        echo_columns(
            [
                [each.at, each.name, f"{each.value:g} {each.unit}", each.machine or "this part"]
                for each in found.values
            ]
        )
        if found.values_truncated:
            click.echo("... and more: narrow it with --window-min")
    click.echo("")
    echo_columns([list(_line(each)) for each in found.entries] or [["", "", ""]])


def _line(entry: Entry) -> tuple[str, str, str]:
    """When it was recorded, what it is, and what it says."""
    if isinstance(entry, InspectionRecord):
        what = f"view {entry.view}" if entry.view else f"inspection {entry.attempt or '-'}"
        why = "; ".join(reason.detail for reason in entry.reasons)
        said = f"{entry.disposition} at {entry.station} ({entry.reason}), {entry.trace_id}"
        return entry.received_at, what, f"{said}: {why}" if why else said
    if isinstance(entry, ReviewRecord):
        return (
            entry.reviewed_at,
            "review",
            f"{entry.disposition} by {entry.reviewer}: {entry.reason}",
        )
    at = entry.recorded_at
    if isinstance(entry, PartEvent):
        return (
            at,
            entry.event,
            f"at {entry.at} by {entry.by}{f': {entry.note}' if entry.note else ''}",
        )
    if isinstance(entry, Naming):
        return at, entry.why, f"{entry.part} is {entry.serial} by {entry.by}: {entry.reason}"
    if isinstance(entry, Assembly):
        inner = f"{entry.component_part} ({entry.component_product})"
        return at, entry.action, f"{inner} into {entry.part} ({entry.product}) at {entry.at}"
    if isinstance(entry, Hold):
        return at, "hold", f"{entry.scope} {entry.value} by {entry.by}: {entry.reason}"
    if isinstance(entry, Release):
        return at, "release", f"by {entry.by}: {entry.reason}"
    if isinstance(entry, ViewSet):
        return at, "view set", f"{', '.join(entry.views)} at {entry.station}"
    if isinstance(entry, ProcessValues):
        return at, "process", f"{len(entry.values)} values by {entry.by}"
    return at, kind_of(entry), f"by {entry.by}"


def _as_json(found: Trace) -> dict[str, Any]:
    return {
        "names": asdict(found.names),
        "in_force": None if found.in_force is None else asdict(found.in_force),
        "holds": [asdict(each.hold) for each in found.holds],
        "origin": None if found.origin is None else asdict(found.origin),
        "window_min": found.window_min,
        "values": [asdict(each) for each in found.values],
        "values_truncated": found.values_truncated,
        "siblings": None
        if found.siblings is None
        else {**asdict(found.siblings), "defect_rate": found.siblings.defect_rate},
        "entries": [
            {"kind": kind_of(each), **json.loads(canonical_json(each))} for each in found.entries
        ],
    }
