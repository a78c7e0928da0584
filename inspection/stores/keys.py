"""Access keys: who may call, and as what.

    create -> `ik_<id>_<secret>`, shown once    authenticate(text) -> AccessKey | None

What is kept of the secret is its SHA-256. A slow hash (scrypt, argon2) protects secrets that people
think up, which can be guessed; this one is 160 random bits, which cannot, and the check is made on
every request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from sqlalchemy import insert, select, update

from inspection.errors import NotFound, RequestError
from inspection.serials import ALPHABET_32
from inspection.stores.database import LOCK_WAIT_S, open_engine, translated
from inspection.stores.migrate import ensure_schema
from inspection.stores.schema import access_keys

if TYPE_CHECKING:
    from sqlalchemy import Row

Scope = Literal["station", "mes", "qa", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

PREFIX: Final = "ik"
_SYMBOLS: Final = ALPHABET_32.lower()
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 32  # of 5 bits each
_NAME_LENGTH: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key without its secret. Times are RFC 3339 in UTC."""

    id: str
    name: str
    scope: Scope
    created_at: str
    revoked_at: str | None

    @property
    def active(self) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None


class AccessKeys:
    """The keys of a record store. Safe to use from several threads and processes."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Open the keys at this address; makes the tables when there are none.

        Raises:
            ConfigurationError: the tables are of an older or newer release.
            RecordError: the database cannot be read or written.
        """
        ensure_schema(url, lock_wait_s=lock_wait_s)
        self._reading = open_engine(url, lock_wait_s=lock_wait_s)
        self._writing = open_engine(url, writing=True, lock_wait_s=lock_wait_s)

    def close(self) -> None:
        """Give the connections back."""
        self._reading.dispose()
        self._writing.dispose()

    def create(self, name: str, scope: Scope) -> tuple[str, AccessKey]:
        """A new key and its text, which is never to be had again.

        Raises:
            RequestError: the name is empty, too long or in use, or there is no such scope.
            RecordError: it could not be made durable.
        """
        if not name.strip() or len(name) > _NAME_LENGTH or not name.isprintable():
            raise RequestError(f"the name of a key holds 1 to {_NAME_LENGTH} printable characters")
        if scope not in SCOPES:
            raise RequestError(f"the scope of a key is one of {', '.join(SCOPES)}")
        secret = _random(_SECRET_LENGTH)
        with translated("the key could not be written"), self._writing.begin() as connection:
            if connection.execute(
                select(access_keys.c.id).where(
                    access_keys.c.name == name, access_keys.c.revoked_at.is_(None)
                )
            ).first():
                raise RequestError(
                    f"there is an active key named {name!r}",
                    remedy="Choose another name, or revoke that key first.",
                )
            taken = set(connection.execute(select(access_keys.c.id)).scalars())
            key_id = _random(_ID_LENGTH)
            while key_id in taken:
                key_id = _random(_ID_LENGTH)
            key = AccessKey(id=key_id, name=name, scope=scope, created_at=_now(), revoked_at=None)
            connection.execute(
                insert(access_keys),
                {
                    "id": key.id,
                    "name": key.name,
                    "scope": key.scope,
                    "secret_sha256": _digest(secret),
                    "created_at": key.created_at,
                    "revoked_at": None,
                },
            )
        return f"{PREFIX}_{key.id}_{secret}", key

    def list(self) -> tuple[AccessKey, ...]:
        """Every key, the revoked ones too, oldest first."""
        with translated("the keys cannot be read"), self._reading.begin() as connection:
            rows = connection.execute(
                select(access_keys).order_by(access_keys.c.created_at, access_keys.c.id)
            )
            return tuple(_key(row) for row in rows)

    def revoke(self, key_id: str) -> AccessKey:
        """Revoke a key, for ever and at once; a key that is revoked stays as it is.

        Raises:
            NotFound: there is no such key.
            RecordError: it could not be made durable.
        """
        known_id = _askable(key_id)
        with translated("the key could not be revoked"), self._writing.begin() as connection:
            connection.execute(
                update(access_keys)
                .where(access_keys.c.id == known_id, access_keys.c.revoked_at.is_(None))
                .values(revoked_at=_now())
            )
            row = connection.execute(
                select(access_keys).where(access_keys.c.id == known_id)
            ).one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id!r}", remedy="See `inspection keys list`.")
        return _key(row)

    def authenticate(self, text: str) -> AccessKey | None:
        """The active key that this text is, or None. Asks the database every time.

        Raises:
            RecordError: the database cannot be read; that is not a wrong key.
        """
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        with translated("the keys cannot be read"), self._reading.begin() as connection:
            row = connection.execute(
                select(access_keys).where(access_keys.c.id == _askable(key_id))
            ).one_or_none()
        # Compared even when there is nothing to compare with: time tells nothing about IDs.
        kept = bytes(32) if row is None else bytes(row.secret_sha256)
        same = hmac.compare_digest(_digest(secret), kept)
        if row is None or not same or prefix != PREFIX or row.revoked_at is not None:
            return None
        return _key(row)

    def any_active(self) -> bool:
        """Whether there is a key that opens anything."""
        with translated("the keys cannot be read"), self._reading.begin() as connection:
            query = select(access_keys.c.id).where(access_keys.c.revoked_at.is_(None)).limit(1)
            return connection.execute(query).first() is not None


def _key(row: Row[Any]) -> AccessKey:
    return AccessKey(
        id=row.id,
        name=row.name,
        scope=cast("Scope", row.scope),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_SYMBOLS) for _ in range(length))


def _askable(key_id: str) -> str:
    """The ID, or none's when no key can have it: not every database can be asked for every text."""
    return "" if set(key_id) - set(_SYMBOLS) else key_id


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
