"""`inspection keys`: who may call.

keys  create | rotate | list | revoke
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inspection.commands.options import output_format
from inspection.commands.places import echo_columns, echo_json, with_place
from inspection.stores.keys import SCOPES, AccessKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.commands.places import Place
    from inspection.stores.keys import AccessKey, Scope

_T = TypeVar("_T")


class Span(click.ParamType[timedelta]):
    """A length of time: 90s, 15m, 12h, 365d, 4w."""

    name = "time"
    _units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}  # noqa: RUF012

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The time, or a usage error."""
        found = re.fullmatch(r"([0-9]{1,9})([smhdw])", str(value))
        if found is None:
            self.fail(f"{value!r} is no time; write it as 12h, 7d or 365d", param, ctx)
        return timedelta(seconds=int(found[1]) * self._units[found[2]])


@click.group()
def keys() -> None:
    """Create, rotate, list and revoke access keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    required=True,
    help="station sends images; mes asks; qa asks and reviews; admin does everything.",
)
@click.option(
    "--station", "stations", multiple=True, help="It posts for this station only; may be repeated."
)
@click.option(
    "--product", "products", multiple=True, help="It posts for this product only; may be repeated."
)
@click.option("--expires", type=Span(), help="It opens nothing after this time, such as 365d.")
@click.option("--rate", type=float, help="Requests a second that it may send in the long run.")
@click.option("--burst", type=int, help="Requests at one moment.  [default: those of a second]")
@click.option("--at-once", type=int, help="Requests of it that are being answered at a time.")
@with_place
@output_format
def create(
    name: str,
    scope: Scope,
    stations: tuple[str, ...],
    products: tuple[str, ...],
    expires: timedelta | None,
    rate: float | None,
    burst: int | None,
    at_once: int | None,
    place: Place,
    form: str,
) -> None:
    """Make a key called NAME and show its text, this once."""
    place.require()
    text, key = _with_keys(
        place,
        lambda store: store.create(
            name,
            scope,
            stations=stations,
            products=products,
            lifetime=expires,
            rate_per_s=rate,
            burst=burst,
            at_once=at_once,
        ),
    )
    _show_text(text, key, form)


@keys.command()
@click.argument("which", metavar="NAME")
@click.option(
    "--overlap",
    type=Span(),
    default="7d",
    show_default=True,
    help="How long the text until now opens as well; 0s ends it at once.",
)
@click.option("--expires", type=Span(), help="It expires this much later than now.")
@with_place
@output_format
def rotate(
    which: str, overlap: timedelta, expires: timedelta | None, place: Place, form: str
) -> None:
    """Give the key NAME (or ID) another text, and show it, this once.

    Name, scope and limits stay as they are. A text from before the last one ends at once.
    """
    place.require(records=True)
    text, key = _with_keys(
        place, lambda store: store.rotate(which, overlap=overlap, lifetime=expires)
    )
    _show_text(text, key, form)
    click.echo(f"The one before opens until {key.old_until}.", err=True)


def _show_text(text: str, key: AccessKey, form: str) -> None:
    if form == "json":
        echo_json({**asdict(key), "key": text})
        return
    # Alone on stdout, so that it can be piped to where it is kept.
    click.echo(f"Key {key.id} for {key.name!r} ({key.scope}). It is shown only now:", err=True)
    click.echo(text)
    click.echo(f"Send it as `Authorization: Bearer {text[:11]}_...`.", err=True)


@keys.command("list")
@with_place
@output_format
def list_keys(place: Place, form: str) -> None:
    """Show every key, the revoked ones too."""
    place.require(records=True)
    found = _with_keys(place, lambda store: store.list())
    if form == "json":
        echo_json([asdict(key) for key in found])
    elif found:
        echo_columns([_HEADINGS, *map(_key_columns, found)])
    else:
        click.echo("There are no keys: the server listens on this machine only.", err=True)


@keys.command()
@click.argument("which", metavar="NAME")
@with_place
@output_format
def revoke(which: str, place: Place, form: str) -> None:
    """Revoke the key NAME (or ID) for ever. A running server knows within a second."""
    place.require(records=True)
    key = _with_keys(place, lambda store: store.revoke(which))
    if form == "json":
        echo_json(asdict(key))
    else:
        click.echo(f"Key {key.id} of {key.name!r} is revoked since {key.revoked_at}.")


def _with_keys(place: Place, act: Callable[[AccessKeys], _T]) -> _T:
    store = AccessKeys(place.url)
    try:
        return act(store)
    finally:
        store.close()


_HEADINGS = ["ID", "NAME", "SCOPE", "FOR", "LIMITS", "CREATED", "LAST USED", "STATE"]


def _key_columns(key: AccessKey) -> list[str]:
    places = ", ".join((*key.stations, *key.products)) or "-"
    limits = [
        *([f"{key.rate_per_s:g}/s"] if key.rate_per_s is not None else []),
        *([f"burst {key.burst}"] if key.burst is not None else []),
        *([f"{key.at_once} at once"] if key.at_once is not None else []),
    ]
    return [
        *(key.id, key.name, key.scope, places, ", ".join(limits) or "-"),
        *(key.created_at, key.last_used_at or "-", _state(key)),
    ]


def _state(key: AccessKey) -> str:
    now = datetime.now(UTC)
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at}"
    if key.expires_at is not None:
        over = datetime.fromisoformat(key.expires_at) <= now
        return f"{'expired' if over else 'until'} {key.expires_at}"
    if key.old_until is not None and datetime.fromisoformat(key.old_until) > now:
        return f"open; its old text until {key.old_until}"
    return "open"
