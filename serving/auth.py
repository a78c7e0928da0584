"""Who may call, and what.

    no key active  ->  loopback only: the server listens there, and the caller is there
    keys active    ->  every call needs one whose scope reaches so far

    scope     may
    station   post inspections, views and events, and read what it posted
    mes       read everything, and report events, components and process values
    qa        read everything, review, hold and release, name parts, promote models
    admin     everything

A station's key may be bound to stations and products: it posts for no others. A key may expire, and
may have limits (`keyring.py`). Whoever is refused here is on record (`refusals.py`).

The key comes as `Authorization: Bearer KEY`. A browser asks its user for a name and a password
instead: `Authorization: Basic` with the key as password is taken for GET, and only for GET, because
a browser sends it along by itself.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import Depends, Request

from inspection.errors import ConfigurationError, NotAllowed
from serving.errors import ForeignPlace, KeyRequired, ScopeMissing
from serving.refusals import Refusal
from serving.state import server_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from inspection.stores.keys import State
    from serving.keyring import KeyRing

Act = Literal["post", "report", "supply", "read", "read-own", "review", "promote"]

SCOPES: Final[dict[Act, frozenset[str]]] = {
    "post": frozenset({"station", "admin"}),
    "report": frozenset({"station", "mes", "admin"}),
    "supply": frozenset({"mes", "admin"}),
    "read-own": frozenset({"station", "mes", "qa", "admin"}),
    "read": frozenset({"mes", "qa", "admin"}),
    "review": frozenset({"qa", "admin"}),
    "promote": frozenset({"qa", "admin"}),
}
LOCAL: Final = "local"
"""The name of whoever calls from this machine while there are no keys."""

_WHY_NOT: Final[dict[State, str]] = {
    "unknown": "nobody has it",
    # These are told only to whoever has the secret.
    "replaced": "it was rotated, and the time of the one before is over",
    "expired": "it has expired",
    "revoked": "it was revoked",
}
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_BASIC: Final = 'Basic realm="inspection", charset="UTF-8"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls. `key` is the name on the access key, None where there are no keys.

    Attributes:
        stations, products: what it may post for; empty when it is bound to none.
    """

    scope: str
    key: str | None
    stations: tuple[str, ...] = ()
    products: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that goes into a review, or into whatever else is added."""
        return self.key or LOCAL

    def may(self, act: Act) -> bool:
        """Whether the scope reaches so far."""
        return self.scope in SCOPES[act]

    def check_place(self, *, product: str, station: str | None) -> None:
        """Refuse what a bound key sends for another station or product than its own.

        Args:
            product: what it is sent for.
            station: likewise; None where the call names none.

        Raises:
            ForeignPlace: it does.
        """
        for what, name, own in (
            ("station", station, self.stations),
            ("product", product, self.products),
        ):
            if own and name is not None and name not in own:
                raise ForeignPlace(
                    f"the key {self.name!r} is bound to {what} {', '.join(own)}, not {name}"
                )

    def check_own(self, principal: str | None) -> None:
        """Refuse a station the inspection that another one posted.

        Raises:
            ScopeMissing: it is not this caller's, and the scope does not reach others'.
        """
        if not self.may("read") and principal != self.key:
            raise ScopeMissing(
                f"the key {self.name!r} has scope {self.scope}: it reads and fills what it posted "
                "or opened, and this is another's"
            )


def allow(act: Act) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets through whoever may do `act`, and says who it is."""

    async def check(request: Request) -> Principal:
        try:
            principal = authenticate(request)
        except KeyRequired as error:
            if not error.unknown:
                raise
            await server_of(request).keys.look_again()  # it may have been made a moment ago
            principal = authenticate(request)
        _count_in(request)
        if not principal.may(act):
            wanted = ", ".join(sorted(SCOPES[act]))
            raise ScopeMissing(
                f"the key {principal.name!r} has scope {principal.scope}; this call takes {wanted}"
            )
        return principal

    return check


Poster = Annotated[Principal, Depends(allow("post"))]
Reporter = Annotated[Principal, Depends(allow("report"))]
Supplier = Annotated[Principal, Depends(allow("supply"))]
Reader = Annotated[Principal, Depends(allow("read"))]
OwnReader = Annotated[Principal, Depends(allow("read-own"))]
Reviewer = Annotated[Principal, Depends(allow("review"))]
Promoter = Annotated[Principal, Depends(allow("promote"))]


def authenticate(request: Request) -> Principal:
    """Who sent this request, by the keys in memory; blocks on nothing.

    Raises:
        KeyRequired: there are keys, and none that is valid came.
        NotAllowed: there are no keys, and the call does not come from this machine.
        ConfigurationError: there are no keys, and the server can be reached from elsewhere.
        RecordError: the keys could not be read for too long.
    """
    server = server_of(request)
    if not server.keys.any_active():
        check_exposure(server.settings.server.host, server.keys)
        _check_local(request)
        return Principal(scope="admin", key=None)
    secret = _secret(request)
    if secret is None:
        raise KeyRequired("this call needs an access key", challenge=_challenge(request))
    key, state = server.keys.opened(secret)
    if key is None or state != "valid":
        raise KeyRequired(
            f"the access key is not valid: {_WHY_NOT[state]}",
            challenge=_challenge(request),
            unknown=key is None,
        )
    request.state.access_key = key
    return Principal(scope=key.scope, key=key.name, stations=key.stations, products=key.products)


def refusal_of(request: Request, code: str) -> Refusal:
    """What goes on record of a call that is refused: nothing that the caller can write freely."""
    key = getattr(request.state, "access_key", None)
    secret = _secret(request)
    route = getattr(request.scope.get("route"), "path_format", "no such call")
    name = key.name if key is not None else server_of(request).keys.named(secret or "")
    address = None if request.client is None else request.client.host
    return Refusal(code=code, call=f"{request.method} {route}"[:200], key=name, address=address)


def leave(scope: MutableMapping[str, Any]) -> None:
    """What is around every answer calls this when the answer is out, or will not come."""
    allowance = scope.get("state", {}).pop("allowance", None)
    if allowance is not None:
        allowance.give_back()


def _count_in(request: Request) -> None:
    key = getattr(request.state, "access_key", None)
    allowance = None if key is None else server_of(request).keys.allowance(key)
    if allowance is not None and not hasattr(request.state, "allowance"):
        allowance.take(time.monotonic())
        request.state.allowance = allowance


def check_exposure(host: str, keys: KeyRing) -> None:
    """Refuse to listen where others can reach while there is no access key.

    Raises:
        ConfigurationError: they could.
    """
    if not is_loopback(host) and not keys.any_active():
        raise ConfigurationError(
            f"without any access key the server listens on loopback only, not on {host}",
            remedy="Create a key first: inspection keys create NAME --scope admin",
        )


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, is this machine's own."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _check_local(request: Request) -> None:
    remedy = "Call from the machine itself, or create access keys: inspection keys create"
    if request.client is None or not is_loopback(request.client.host):
        raise NotAllowed("without access keys only this machine may call", remedy=remedy)
    if any(name in request.headers for name in _FORWARDED):
        # A proxy on this machine makes everybody look local.
        raise NotAllowed("without access keys nobody may call through a proxy", remedy=remedy)
    if not is_loopback(_host_name(request.headers.get("host", ""))):
        # A web page elsewhere can point a name of its own at 127.0.0.1 and let a browser here ask.
        raise NotAllowed(
            "without access keys the Host must be 127.0.0.1 or localhost", remedy=remedy
        )


def _host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _secret(request: Request) -> str | None:
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return rest.strip() or None
    if kind.lower() == "basic" and request.method == "GET":
        try:
            _, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return password or None
    return None


def _challenge(request: Request) -> str:
    """A browser gets asked for name and password, everybody else for a key.

    Browsers tell what they fetch something for (Sec-Fetch-Dest); one that is told Bearer for a
    picture does not send the password that it has for the page.
    """
    accepts_pages = "text/html" in request.headers.get("accept", "")
    browser = accepts_pages or "sec-fetch-dest" in request.headers
    return _BASIC if request.method == "GET" and browser else 'Bearer realm="inspection"'
