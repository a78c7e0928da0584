"""The tables of who may call and who did what; no part of the records' tree."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    Table,
    text,
)

from inspection.stores.columns import SEQUENCE, Text, metadata

access_keys: Final = Table(
    "access_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("revoked_at", Text),
    # JSON lists of names; null where the key is bound to none.
    Column("stations", Text),
    Column("products", Text),
    Column("expires_at", Text),
    # What the secret was before it was rotated, and how long that still opens.
    Column("old_sha256", LargeBinary),
    Column("old_until", Text),
    # Limits; null where there are none.
    Column("rate_per_s", Float),
    Column("burst", Integer),
    Column("at_once", Integer),
    # Written now and then, not at each use.
    Column("last_used_at", Text),
    CheckConstraint("scope IN ('station', 'mes', 'qa', 'admin')", name="scope"),
    # A name may come again once its key is revoked.
    Index(
        "uq_access_keys_active_name",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

# `link` is the SHA-256 of the link before and the body; zeros before the first.
audit: Final = Table(
    "audit",
    metadata,
    Column("number", SEQUENCE, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("link", LargeBinary, nullable=False),
)
