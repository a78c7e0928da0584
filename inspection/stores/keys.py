"""Access keys: who may call, as what, from where, until when and how often.

    create -> `ik_<id>_<secret>`, shown once        credentials() -> Credential.state(secret)
    rotate -> another secret under the same id and name; the one before opens for a while longer
    revoke -> neither opens, for ever

What is kept of the secret is its SHA-256. A slow hash (scrypt, argon2) protects secrets that people
think up, which can be guessed; this one is 160 random bits, which cannot, and the check is made on
every request. Every act is in the audit log, in the same transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import orjson
from sqlalchemy import insert, or_, select, update

from inspection.errors import NotFound, RecordsDamaged, RequestError
from inspection.promotions import whoever
from inspection.serials import ALPHABET_32
from inspection.stores.audit import AuditEvent, append
from inspection.stores.database import LOCK_WAIT_S, open_engine, translated
from inspection.stores.migrate import ensure_schema
from inspection.stores.schema_access import access_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Row

Scope = Literal["station", "mes", "qa", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
State = Literal["valid", "unknown", "replaced", "expired", "revoked"]

PREFIX: Final = "ik"
LONGEST_LIFE: Final = timedelta(days=3660)
_SYMBOLS: Final = ALPHABET_32.lower()
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 32  # of 5 bits each
_NAME_LENGTH: Final = 80
_PLACE_LENGTH: Final = 200
_MOST_PLACES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key without its secrets. Times are RFC 3339 in UTC.

    Attributes:
        stations, products: what a station's key may post for; empty when it is bound to none.
        expires_at: from when on it opens nothing.
        old_until: until when the secret before the last rotation opens as well.
        rate_per_s, burst: requests a second in the long run, and at one moment.
        at_once: requests being answered at a time.
        last_used_at: to about a minute.
    """

    id: str
    name: str
    scope: Scope
    created_at: str
    revoked_at: str | None = None
    stations: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    expires_at: str | None = None
    old_until: str | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    at_once: int | None = None
    last_used_at: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > _NAME_LENGTH or not self.name.isprintable():
            raise ValueError(f"the name of a key holds 1 to {_NAME_LENGTH} printable characters")
        if self.scope not in SCOPES:
            raise ValueError(f"the scope of a key is one of {', '.join(SCOPES)}")
        if (self.stations or self.products) and self.scope != "station":
            raise ValueError("only a key of scope station is bound to stations and products")
        for place in (*self.stations, *self.products):
            if not place.strip() or len(place) > _PLACE_LENGTH or not place.isprintable():
                raise ValueError("a station or product has 1 to 200 printable characters")
        if max(len(self.stations), len(self.products)) > _MOST_PLACES:
            raise ValueError(f"a key is bound to {_MOST_PLACES} names at most")
        if self.rate_per_s is not None and not (
            isfinite(self.rate_per_s) and 0.001 <= self.rate_per_s <= 100_000
        ):
            raise ValueError("a rate is from 0.001 to 100,000 requests a second")
        if self.burst is not None and (self.rate_per_s is None or not 1 <= self.burst <= 100_000):
            raise ValueError("a burst is at least 1 request, and needs a rate")
        if self.at_once is not None and not 1 <= self.at_once <= 100_000:
            raise ValueError("at least one request must be allowed at a time")

    @property
    def active(self) -> bool:
        """Whether it was not revoked."""
        return self.revoked_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key with the digests of its secrets; times as seconds since 1970."""

    key: AccessKey
    secret_sha256: bytes
    old_sha256: bytes
    expires_s: float
    old_until_s: float

    def state(self, secret: str, now_s: float) -> State:
        """What this secret opens. Whoever has no secret of the key learns only "unknown"."""
        given = _digest(secret)
        is_new = hmac.compare_digest(given, self.secret_sha256)
        is_old = hmac.compare_digest(given, self.old_sha256)
        if not (is_new or is_old):
            return "unknown"
        if self.key.revoked_at is not None:
            return "revoked"
        if is_old and now_s >= self.old_until_s:
            return "replaced"
        return "expired" if now_s >= self.expires_s else "valid"


class AccessKeys:
    """The keys of a record store. Safe to use from several threads and processes."""

    def __init__(
        self, url: str, *, by: str | None = None, lock_wait_s: float = LOCK_WAIT_S
    ) -> None:
        """Open the keys at this address; makes the tables when there are none.

        Args:
            url: of the record store.
            by: who acts, for the audit log; the account's name when absent.
            lock_wait_s: how long a write waits for another.

        Raises:
            ConfigurationError: the tables are of an older or newer release.
            RecordError: the database cannot be read or written.
        """
        ensure_schema(url, lock_wait_s=lock_wait_s)
        self._by = by or whoever()
        self._reading = open_engine(url, lock_wait_s=lock_wait_s)
        self._writing = open_engine(url, writing=True, lock_wait_s=lock_wait_s)

    def close(self) -> None:
        """Give the connections back."""
        self._reading.dispose()
        self._writing.dispose()

    def create(
        self,
        name: str,
        scope: Scope,
        *,
        stations: tuple[str, ...] = (),
        products: tuple[str, ...] = (),
        lifetime: timedelta | None = None,
        rate_per_s: float | None = None,
        burst: int | None = None,
        at_once: int | None = None,
    ) -> tuple[str, AccessKey]:
        """A new key and its text, which is never to be had again.

        Raises:
            RequestError: the name is empty, too long or in use, or the rest has no meaning.
            RecordError: it could not be made durable.
        """
        secret, moment = _random(_SECRET_LENGTH), datetime.now(UTC)
        doing = translated("the key could not be written")
        with doing, self._writing.begin() as connection:
            taken = set(connection.execute(select(access_keys.c.id)).scalars())
            key_id = _random(_ID_LENGTH)
            while key_id in taken:
                key_id = _random(_ID_LENGTH)
            try:
                key = AccessKey(
                    id=key_id,
                    name=name,
                    scope=scope,
                    created_at=_written(moment),
                    stations=stations,
                    products=products,
                    expires_at=_later(moment, lifetime, "expires"),
                    rate_per_s=rate_per_s,
                    burst=burst,
                    at_once=at_once,
                )
            except ValueError as error:
                raise RequestError(str(error)) from error
            if connection.execute(
                select(access_keys.c.id).where(
                    access_keys.c.name == name, access_keys.c.revoked_at.is_(None)
                )
            ).first():
                raise RequestError(
                    f"there is an active key named {name!r}",
                    remedy="Choose another name, or rotate or revoke that key.",
                )
            connection.execute(insert(access_keys), _row(key, _digest(secret)))
            self._note(connection, "key-created", _described(key))
        return f"{PREFIX}_{key.id}_{secret}", key

    def rotate(
        self, which: str, *, overlap: timedelta, lifetime: timedelta | None = None
    ) -> tuple[str, AccessKey]:
        """Another secret for the key of this name or ID; its text, never to be had again.

        The secret until now opens for `overlap` longer; one from before that, no more. With a
        `lifetime` the key expires that much later than now; without, when it would have.

        Raises:
            NotFound: no key that was not revoked has this name or ID.
            RequestError: the overlap is negative or longer than ten years.
            RecordError: it could not be made durable.
        """
        secret, moment = _random(_SECRET_LENGTH), datetime.now(UTC)
        until = _later(moment, overlap, "overlap")
        doing = translated("the key could not be rotated")
        with doing, self._writing.begin() as connection:
            row = _find(connection, which)
            if row is None or row.revoked_at is not None:
                raise NotFound(f"there is no key {which!r}", remedy="See `inspection keys list`.")
            expires = _later(moment, lifetime, "expires") or row.expires_at
            key = replace(_key(row), old_until=until, expires_at=expires)
            values = {"secret_sha256": _digest(secret), "old_sha256": row.secret_sha256}
            values |= {"old_until": until, "expires_at": expires}
            own = access_keys.c.id == row.id
            connection.execute(update(access_keys).where(own).values(values))
            self._note(connection, "key-rotated", f"{_described(key)}; the old one until {until}")
        return f"{PREFIX}_{key.id}_{secret}", key

    def list(self) -> tuple[AccessKey, ...]:
        """Every key, the revoked ones too, oldest first."""
        return tuple(each.key for each in self.credentials())

    def credentials(self) -> tuple[Credential, ...]:
        """Every key with what its secrets are known by, oldest first.

        Raises:
            RecordError: the database cannot be read, or holds a key that cannot be.
        """
        with translated("the keys cannot be read"), self._reading.begin() as connection:
            order = (access_keys.c.created_at, access_keys.c.id)
            return tuple(
                _credential(row) for row in connection.execute(select(access_keys).order_by(*order))
            )

    def revoke(self, which: str) -> AccessKey:
        """Revoke the key of this name or ID, for ever; one that is revoked stays as it is.

        Raises:
            NotFound: there is no such key.
            RecordError: it could not be made durable.
        """
        with translated("the key could not be revoked"), self._writing.begin() as connection:
            row = _find(connection, which)
            if row is None:
                raise NotFound(f"there is no key {which!r}", remedy="See `inspection keys list`.")
            key = _key(row)
            if key.active:
                key = replace(key, revoked_at=_written(datetime.now(UTC)))
                connection.execute(
                    update(access_keys)
                    .where(access_keys.c.id == key.id)
                    .values(revoked_at=key.revoked_at)
                )
                self._note(connection, "key-revoked", _described(key))
        return key

    def used(self, last: Mapping[str, str]) -> None:
        """Write down when keys were last used, by ID; a time that is known to be later stays.

        Raises:
            RecordError: it could not be written.
        """
        known = access_keys.c.last_used_at
        with translated("the use of keys was not noted"), self._writing.begin() as connection:
            for key_id, at in last.items():
                later = or_(known.is_(None), known < at)
                connection.execute(
                    update(access_keys)
                    .where(access_keys.c.id == key_id, later)
                    .values(last_used_at=at)
                )

    def authenticate(self, text: str) -> AccessKey | None:
        """The key that this text opens now, or None. Asks the database every time.

        Raises:
            RecordError: the database cannot be read; that is not a wrong key.
        """
        key_id, secret = taken_apart(text)
        found = {each.key.id: each for each in self.credentials()}.get(key_id)
        if found is None or found.state(secret, datetime.now(UTC).timestamp()) != "valid":
            return None
        return found.key

    def any_active(self) -> bool:
        """Whether there is a key that was not revoked. One that has expired keeps the door shut."""
        return any(key.active for key in self.list())

    def _note(self, connection: Connection, act: str, detail: str) -> None:
        at = _written(datetime.now(UTC))
        append(connection, [AuditEvent(at=at, act=act, by=self._by, detail=detail[:500])])


def taken_apart(text: str) -> tuple[str, str]:
    """(ID, secret) of a key's text; an ID that no key has when it is not one."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id if prefix == PREFIX else ""), secret


def _find(connection: Connection, which: str) -> Row[Any] | None:
    """The key with this ID, else the active one with this name."""
    if not which.isprintable():
        return None  # not every database can be asked for every text
    by_id = connection.execute(select(access_keys).where(access_keys.c.id == which)).one_or_none()
    if by_id is not None:
        return by_id
    named = select(access_keys).where(
        access_keys.c.name == which, access_keys.c.revoked_at.is_(None)
    )
    return connection.execute(named).one_or_none()


def _credential(row: Row[Any]) -> Credential:
    key = _key(row)
    old = row.old_sha256
    return Credential(
        key=key,
        secret_sha256=bytes(row.secret_sha256),
        # Compared even when there is none, with what no secret has: time tells nothing.
        old_sha256=bytes(32) if old is None else bytes(old),
        expires_s=inf if key.expires_at is None else _seconds(key.expires_at),
        old_until_s=-inf if key.old_until is None else _seconds(key.old_until),
    )


def _key(row: Row[Any]) -> AccessKey:
    values = {name: getattr(row, name) for name in AccessKey.__dataclass_fields__}
    try:
        for name in ("stations", "products"):
            values[name] = tuple(orjson.loads(values[name] or "[]"))
        for name in ("expires_at", "old_until"):
            if values[name] is not None:
                _seconds(values[name])
        return AccessKey(**values)
    except (ValueError, TypeError, AttributeError) as error:
        # A key that cannot be read opens nothing, and hides that from nobody.
        raise RecordsDamaged(f"the access key {row.id} on record is none: {error}") from error


def _row(key: AccessKey, digest: bytes) -> dict[str, Any]:
    values = {name: getattr(key, name) for name in AccessKey.__dataclass_fields__}
    for name in ("stations", "products"):
        values[name] = orjson.dumps(values[name]).decode() if values[name] else None
    return {**values, "secret_sha256": digest, "old_sha256": None}


def _described(key: AccessKey) -> str:
    places = ", ".join((*key.stations, *key.products))
    return f"{key.id} {key.name} ({key.scope}{f': {places}' if places else ''})"


def _later(moment: datetime, span: timedelta | None, what: str) -> str | None:
    if span is None:
        return None
    if not timedelta(0) <= span <= LONGEST_LIFE:
        raise RequestError(f"`{what}` is a time from 0 to ten years, such as 365d")
    return _written(moment + span)


def _random(length: int) -> str:
    return "".join(secrets.choice(_SYMBOLS) for _ in range(length))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
