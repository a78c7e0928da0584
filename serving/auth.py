"""Who may call, and what.

    no key active  ->  loopback only: the server listens there, and the caller is there
    keys active    ->  every call needs one whose scope reaches so far

    scope     may
    station   post inspections, views and events, and read what it posted
    mes       read everything, and report events, components and process values
    qa        read everything, review, hold and release, name parts
    admin     everything

The key comes as `Authorization: Bearer KEY`. A browser asks its user for a name and a password
instead: `Authorization: Basic` with the key as password is taken for GET, and only for GET, because
a browser sends it along by itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import Depends, Request

from inspection.errors import ConfigurationError, NotAllowed
from serving.errors import KeyRequired, ScopeMissing
from serving.state import server_of

if TYPE_CHECKING:
    from serving.state import KeyStore

Act = Literal["post", "report", "supply", "read", "read-own", "review"]

SCOPES: Final[dict[Act, frozenset[str]]] = {
    "post": frozenset({"station", "admin"}),
    "report": frozenset({"station", "mes", "admin"}),
    "supply": frozenset({"mes", "admin"}),
    "read-own": frozenset({"station", "mes", "qa", "admin"}),
    "read": frozenset({"mes", "qa", "admin"}),
    "review": frozenset({"qa", "admin"}),
}
LOCAL: Final = "local"
"""The name of whoever calls from this machine while there are no keys."""

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_BASIC: Final = 'Basic realm="inspection", charset="UTF-8"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls. `key` is the name on the access key, None where there are no keys."""

    scope: str
    key: str | None

    @property
    def name(self) -> str:
        """The name that goes into a review, or into whatever else is added."""
        return self.key or LOCAL

    def may(self, act: Act) -> bool:
        """Whether the scope reaches so far."""
        return self.scope in SCOPES[act]

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


def allow(act: Act) -> Callable[[Request], Principal]:
    """A dependency that lets through whoever may do `act`, and says who it is."""

    def check(request: Request) -> Principal:
        principal = authenticate(request)
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


def authenticate(request: Request) -> Principal:
    """Who sent this request. Blocks on the store of keys: call it on a worker thread.

    Raises:
        KeyRequired: there are keys, and none that is valid came.
        NotAllowed: there are no keys, and the call does not come from this machine.
    """
    server = server_of(request)
    if not server.keys.any_active():
        check_exposure(server.settings.server.host, server.keys)
        _check_local(request)
        return Principal(scope="admin", key=None)
    secret = _secret(request)
    if secret is None:
        raise KeyRequired("this call needs an access key", challenge=_challenge(request))
    key = server.keys.authenticate(secret)
    if key is None:
        raise KeyRequired(
            "the access key is not valid: unknown or revoked", challenge=_challenge(request)
        )
    return Principal(scope=key.scope, key=key.name)


def check_exposure(host: str, keys: KeyStore) -> None:
    """Refuse to listen where others can reach while there is no access key.

    Raises:
        ConfigurationError: they could.
    """
    if not is_loopback(host) and not keys.any_active():
        raise ConfigurationError(
            f"without any access key the server listens on loopback only, not on {host}",
            remedy="Create a key first: inspection keys create NAME --scope admin",
        )


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
