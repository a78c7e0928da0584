from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from inspection.errors import NotFound, RecordError, RequestError
from inspection.stores.database import open_engine
from inspection.stores.keys import SCOPES, AccessKeys
from inspection.stores.schema import access_keys

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def keys(any_url: str) -> Iterator[AccessKeys]:
    opened = AccessKeys(any_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("scope", SCOPES)
def test_created_key_opens_with_its_scope(keys: AccessKeys, scope: str) -> None:
    text, key = keys.create("line 1", scope)  # type: ignore[arg-type]
    assert text.startswith(f"ik_{key.id}_")
    assert (key.name, key.scope, key.active) == ("line 1", scope, True)
    assert keys.authenticate(text) == key
    assert keys.list() == (key,)


def test_secret_is_long_and_never_stored(keys: AccessKeys, any_url: str) -> None:
    texts = [keys.create(f"key {n}", "mes")[0] for n in range(5)]
    secrets = [text.split("_")[2] for text in texts]
    assert len(set(secrets)) == 5
    assert all(len(secret) * 5 >= 160 for secret in secrets)  # 32 symbols: 5 bits each
    engine = open_engine(any_url, read_only=True)
    with engine.begin() as connection:
        kept = str(connection.execute(select(access_keys)).all())
    engine.dispose()
    assert not any(secret in kept for secret in secrets)
    assert repr(hashlib.sha256(secrets[0].encode()).digest()) in kept


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_other_texts_open_nothing(keys: AccessKeys, text: str) -> None:
    assert keys.authenticate(text) is None


def test_nothing_near_a_key_opens(keys: AccessKeys) -> None:
    text, key = keys.create("line 1", "station")
    other, _ = keys.create("line 2", "admin")
    near = [
        *(text[:n] + ("0" if text[n] != "0" else "1") + text[n + 1 :] for n in range(len(text))),
        text[:-1],
        text + "0",
        text.upper(),
        f" {text}",
        f"ik_{key.id}_{other.split('_')[2]}",
        f"ik_{key.id}_",
        f"ik_{key.id}",
        f"ik_{key.id}_{'%' * 32}",
        "ik_%_%",
    ]
    assert [keys.authenticate(t) for t in near] == [None] * len(near)


def test_revoked_key_opens_nothing_at_once_in_every_process(keys: AccessKeys, any_url: str) -> None:
    text, key = keys.create("line 1", "station")
    with closing(AccessKeys(any_url)) as other:
        assert other.authenticate(text) == key
        revoked = keys.revoke(key.id)
        assert other.authenticate(text) is None
        assert other.list() == (revoked,)
    assert not revoked.active
    assert keys.revoke(key.id) == revoked  # the time stays


def test_there_are_active_keys_or_none(keys: AccessKeys) -> None:
    assert not keys.any_active()
    _, key = keys.create("line 1", "station")
    assert keys.any_active()
    keys.revoke(key.id)
    assert not keys.any_active()


def test_name_is_one_active_keys_own(keys: AccessKeys) -> None:
    _, first = keys.create("line 1", "station")
    with pytest.raises(RequestError, match="line 1"):
        keys.create("line 1", "admin")
    keys.revoke(first.id)
    _, second = keys.create("line 1", "station")
    assert [key.id for key in keys.list()] == [first.id, second.id]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81])
def test_bad_names_are_refused(keys: AccessKeys, name: str) -> None:
    with pytest.raises(RequestError):
        keys.create(name, "station")


def test_unknown_scope_is_refused(keys: AccessKeys) -> None:
    with pytest.raises(RequestError):
        keys.create("line 1", "root")  # type: ignore[arg-type]


@pytest.mark.parametrize("key_id", ["nobody", "", "a\x00b", "'; DROP TABLE access_keys; --"])
def test_unknown_key_cannot_be_revoked(keys: AccessKeys, key_id: str) -> None:
    with pytest.raises(NotFound):
        keys.revoke(key_id)


def test_database_that_cannot_be_read_is_not_a_wrong_key(keys: AccessKeys, any_url: str) -> None:
    text, _ = keys.create("line 1", "station")
    engine = open_engine(any_url, writing=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE access_keys")
    engine.dispose()
    with pytest.raises(RecordError):
        keys.authenticate(text)
