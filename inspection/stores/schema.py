"""The tables. `entries` is the record; everything beside it is made from it or is an index.

    entries      one row a record: its canonical JSON, exactly as hashed, and its leaf
    inspections  what inspections are looked up by, copied out of the body
    reviews      the same for reviews
    tree_heads   the root of the hash tree after every commit
    access_keys  who may call; no part of the tree

`migrations/` makes these same tables step by step; a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from inspection.record import InspectionRecord

if TYPE_CHECKING:
    from inspection.record import Entry

REVISION: Final = "0001"
"""The migration that this code was written for."""

# Named constraints: a later migration can address them on every database.
metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only an INTEGER key the row's own number.
SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")

entries: Final = Table(
    "entries",
    metadata,
    # The leaf's index in the hash tree, plus one. Given by the writer, never by the database:
    # a database's own counters leave gaps, and order of counting is not order of commit.
    Column("sequence", SEQUENCE, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    CheckConstraint("kind IN ('inspection', 'review')", name="kind"),
    UniqueConstraint("id"),
)

inspections: Final = Table(
    "inspections",
    metadata,
    Column(
        "sequence",
        SEQUENCE,
        ForeignKey("entries.sequence"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("serial", Text),
    Column("station", Text, nullable=False),
    Column("capture_id", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request_sha256", Text, nullable=False),
    Column("lot", Text),
    Column("machine", Text),
    Column("mould", Text),
    Column("disposition", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer),
    Column("received_at", Text, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("trace_id"),
    UniqueConstraint("station", "capture_id"),
    UniqueConstraint("station", "idempotency_key"),
    # One for every filter, each in the order of the answer. They are read backwards for newest
    # first, which costs nothing, so none is declared descending.
    Index(None, "product", "part", "sequence"),
    Index(None, "product", "sequence"),
    Index(None, "serial", "sequence"),
    Index(None, "station", "sequence"),
    Index(None, "lot", "sequence"),
    Index(None, "machine", "sequence"),
    Index(None, "mould", "sequence"),
    Index(None, "disposition", "sequence"),
    Index(None, "received_at", "sequence"),
)

reviews: Final = Table(
    "reviews",
    metadata,
    Column(
        "sequence",
        SEQUENCE,
        ForeignKey("entries.sequence"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("id", Text, nullable=False),
    Column("inspection_id", Text, ForeignKey("inspections.id"), nullable=False),
    Column("disposition", Text, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("reviewed_at", Text, nullable=False),
    UniqueConstraint("id"),
    Index(None, "inspection_id", "sequence"),
)

# No time here: nothing in the tree could prove it, and the records hold theirs.
tree_heads: Final = Table(
    "tree_heads",
    metadata,
    Column("size", SEQUENCE, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    # The roots of the complete subtrees, largest first, 32 bytes each.
    Column("peaks", LargeBinary, nullable=False),
)

access_keys: Final = Table(
    "access_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("revoked_at", Text),
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

_INSPECTION_COLUMNS: Final = tuple(c.name for c in inspections.columns if c.name != "sequence")
_REVIEW_COLUMNS: Final = tuple(c.name for c in reviews.columns if c.name != "sequence")


def index_row(sequence: int, entry: Entry) -> dict[str, Any]:
    """The row of `inspections` or `reviews` that belongs to a record."""
    inspection = isinstance(entry, InspectionRecord)
    columns = _INSPECTION_COLUMNS if inspection else _REVIEW_COLUMNS
    return {"sequence": sequence, **{name: getattr(entry, name) for name in columns}}
