"""`inspection keys`: who may call.

keys  create | list | revoke
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from inspection.commands.places import echo_columns, echo_json, output_format, with_place
from inspection.stores.keys import SCOPES, AccessKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.commands.places import Place
    from inspection.stores.keys import AccessKey, Scope

_T = TypeVar("_T")


# --- keys --------------------------------------------------------------------------------------


@click.group()
def keys() -> None:
    """Create, list and revoke access keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    required=True,
    help="station sends images; mes asks; qa asks and reviews; admin does everything.",
)
@with_place
@output_format
def create(name: str, scope: Scope, place: Place, form: str) -> None:
    """Make a key called NAME and show its text, this once."""
    place.require()
    text, key = _with_keys(place, lambda store: store.create(name, scope))
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
        echo_columns([["ID", "NAME", "SCOPE", "CREATED", "REVOKED"], *map(_key_columns, found)])
    else:
        click.echo("There are no keys: the server listens on this machine only.", err=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@with_place
@output_format
def revoke(key_id: str, place: Place, form: str) -> None:
    """Revoke the key ID, at once and for ever."""
    place.require(records=True)
    key = _with_keys(place, lambda store: store.revoke(key_id))
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


def _key_columns(key: AccessKey) -> list[str]:
    return [key.id, key.name, key.scope, key.created_at, key.revoked_at or "-"]
