"""`inspection audit`: who did what to keys, stores, models and parts, and who was refused.

audit log (keys, restores, upgrades, refusals)   ─┐
the records' reviews, holds, releases, names,     ├─> by time -> a line each
    erasures                                      │
promotions.jsonl (promoted, rolled back, retired) ─┘
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspection.commands.options import output_format, weights_dir_option
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.errors import RequestError
from inspection.registry import Registry
from inspection.stores.acts import Act, acts_on_keys, acts_on_parts
from inspection.stores.migrate import require_current

if TYPE_CHECKING:
    from inspection.commands.places import Place

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@click.command()
@with_place
@click.option(
    "--since",
    metavar="TIME",
    help="From then on: 2026-11-21, or with time and zone.  [default: 30 days ago]",
)
@click.option("--refused", is_flag=True, help="Only what was refused.")
@weights_dir_option
@output_format
def audit(place: Place, since: str | None, refused: bool, weights_dir: Path, form: str) -> None:
    """Show who did what, and who was refused; oldest first.

    Every source is checked as it is read; `inspection verify` proves the records themselves.
    """
    begin = _utc(datetime.now(UTC) - timedelta(days=30)) if since is None else _moment(since)
    place.require(records=True)
    require_current(place.url)
    acts = acts_on_keys(place.url, begin)
    if not refused:
        acts += acts_on_parts(place.url, begin)
        acts += _acts_on_models(weights_dir, begin)
    acts = [each for each in acts if not refused or each.act == "refused"]
    acts.sort(key=lambda each: each.at)
    if form == "json":
        echo_json([asdict(each) for each in acts])
    elif acts:
        echo_columns([["AT", "ACT", "BY", "FROM", "COUNT", "WHAT"], *map(_columns, acts)])
    else:
        click.echo("Nothing is on record.", err=True)


def _acts_on_models(weights_dir: Path, begin: str) -> list[Act]:
    if not weights_dir.is_dir():
        return []
    acts = []
    for line in Registry(weights_dir).history():
        at = _utc(datetime.fromisoformat(line.at))
        why = line.reason or line.accepted_risk
        what = f"{line.reference} for {line.product}{f': {why}' if why else ''}"
        acts.append(Act(at=at, act=f"model-{line.action}", by=line.by, detail=what))
    return [act for act in acts if act.at >= begin]


def _columns(act: Act) -> list[str]:
    return [act.at, act.act, act.by or "-", act.address or "-", str(act.count), act.detail]


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(f"--since {text!r} is no time") from error
    if moment.tzinfo is None and not _DAY.fullmatch(text):
        raise RequestError(f"--since {text!r} has no zone", remedy="Add one, such as Z or +09:00.")
    return _utc(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def _utc(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
