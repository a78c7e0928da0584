"""The first tables: records, their indexes, the heads of their tree, access keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "entries",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_entries"),
        sa.CheckConstraint("kind IN ('inspection', 'review')", name=op.f("ck_entries_kind")),
        sa.UniqueConstraint("id", name="uq_entries_id"),
    )
    op.create_table(
        "inspections",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("serial", sa.Text),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("capture_id", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("request_sha256", sa.Text, nullable=False),
        sa.Column("lot", sa.Text),
        sa.Column("machine", sa.Text),
        sa.Column("mould", sa.Text),
        sa.Column("disposition", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer),
        sa.Column("received_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_inspections"),
        sa.UniqueConstraint("id", name="uq_inspections_id"),
        sa.UniqueConstraint("trace_id", name="uq_inspections_trace_id"),
        sa.UniqueConstraint("station", "capture_id", name="uq_inspections_station_capture_id"),
        sa.UniqueConstraint(
            "station", "idempotency_key", name="uq_inspections_station_idempotency_key"
        ),
        sa.ForeignKeyConstraint(["sequence"], ["entries.sequence"], name="fk_inspections_sequence"),
    )
    for columns in (
        ["product", "part", "sequence"],
        ["product", "sequence"],
        ["serial", "sequence"],
        ["station", "sequence"],
        ["lot", "sequence"],
        ["machine", "sequence"],
        ["mould", "sequence"],
        ["disposition", "sequence"],
        ["received_at", "sequence"],
    ):
        op.create_index("ix_inspections_" + "_".join(columns), "inspections", columns)
    op.create_table(
        "reviews",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("inspection_id", sa.Text, nullable=False),
        sa.Column("disposition", sa.Text, nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("reviewed_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_reviews"),
        sa.UniqueConstraint("id", name="uq_reviews_id"),
        sa.ForeignKeyConstraint(["sequence"], ["entries.sequence"], name="fk_reviews_sequence"),
        sa.ForeignKeyConstraint(
            ["inspection_id"], ["inspections.id"], name="fk_reviews_inspection_id"
        ),
    )
    op.create_index("ix_reviews_inspection_id_sequence", "reviews", ["inspection_id", "sequence"])
    op.create_table(
        "tree_heads",
        sa.Column("size", sequence, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_tree_heads"),
    )
    op.create_table(
        "access_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_access_keys"),
        sa.CheckConstraint(
            "scope IN ('station', 'mes', 'qa', 'admin')", name=op.f("ck_access_keys_scope")
        ),
    )
    op.create_index(
        "uq_access_keys_active_name",
        "access_keys",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
