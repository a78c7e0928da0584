"""Parts by serial, statements, roll-ups, proofs; PostgreSQL.

What the new tables hold of older records is not copied here: `stores.derived` makes it from the
records when the steps are done.
"""

import os

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

text = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        make_anew()
    else:
        rename_old()
        create_records()
        copy_old()
    create_indexes_of_records()
    create_statements()
    create_proofs()


def make_anew() -> None:
    """No release before this one kept records on PostgreSQL: there is nothing to carry over."""
    held = op.get_bind().execute(sa.text("SELECT count(*) FROM entries")).scalar_one()
    if held:
        raise RuntimeError(f"the tables of revision 0001 hold {held} records")
    for table in ("access_keys", "tree_heads", "reviews", "inspections", "entries"):
        op.drop_table(table)
    create_records()
    op.create_table(
        "tree_heads",
        sa.Column("size", sequence, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_tree_heads"),
    )
    op.create_table(
        "access_keys",
        sa.Column("id", text, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("scope", text, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("created_at", text, nullable=False),
        sa.Column("revoked_at", text),
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
        postgresql_where=sa.text("revoked_at IS NULL"),
    )


def rename_old() -> None:
    for index in (
        "product_part_sequence",
        "product_sequence",
        "serial_sequence",
        "station_sequence",
        "lot_sequence",
        "machine_sequence",
        "mould_sequence",
        "disposition_sequence",
        "received_at_sequence",
    ):
        op.drop_index("ix_inspections_" + index)
    op.drop_index("ix_reviews_inspection_id_sequence")
    for table in ("reviews", "inspections", "entries"):
        op.rename_table(table, f"{table}_0001")


def copy_old() -> None:
    # The month of a commit was not written down: an inspection's own, and a review's is that of
    # the inspection before it. Like the writer's, it never goes back.
    op.execute(
        "INSERT INTO entries (sequence, month, kind, id, body, leaf_hash) "
        "SELECT e.sequence, "
        "max(coalesce(CAST(substr(i.received_at, 1, 4) || substr(i.received_at, 6, 2) AS INTEGER), "
        "197001)) OVER (ORDER BY e.sequence), "
        "e.kind, e.id, e.body, e.leaf_hash "
        "FROM entries_0001 e LEFT JOIN inspections_0001 i ON i.sequence = e.sequence "
        "ORDER BY e.sequence"
    )
    op.execute(
        "INSERT INTO inspections (sequence, id, trace_id, product, part, serial, station, "
        "capture_id, idempotency_key, request_sha256, lot, machine, mould, disposition, reason, "
        "attempt, received_at) "
        "SELECT sequence, id, trace_id, product, part, serial, station, "
        "capture_id, idempotency_key, request_sha256, lot, machine, mould, disposition, reason, "
        "attempt, received_at FROM inspections_0001"
    )
    op.execute(
        "INSERT INTO reviews (sequence, id, inspection_id, disposition, reviewer, reviewed_at) "
        "SELECT sequence, id, inspection_id, disposition, reviewer, reviewed_at FROM reviews_0001"
    )
    for table in ("reviews", "inspections", "entries"):
        op.drop_table(f"{table}_0001")


def create_records() -> None:
    partitioned = op.get_bind().dialect.name == "postgresql"
    key = ("sequence", "month") if partitioned else ("sequence",)
    op.create_table(
        "entries",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("month", sa.Integer, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("id", text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_entries"),
        postgresql_partition_by="LIST (month)",
    )
    op.create_table(
        "inspections",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("id", text, nullable=False),
        sa.Column("trace_id", text, nullable=False),
        sa.Column("product", text, nullable=False),
        sa.Column("part", text, nullable=False),
        sa.Column("serial", text),
        sa.Column("station", text, nullable=False),
        sa.Column("capture_id", text, nullable=False),
        sa.Column("idempotency_key", text, nullable=False),
        sa.Column("request_sha256", text, nullable=False),
        sa.Column("lot", text),
        sa.Column("machine", text),
        sa.Column("mould", text),
        sa.Column("disposition", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("attempt", sa.Integer),
        sa.Column("received_at", text, nullable=False),
        sa.Column("view_set", text),
        sa.Column("view", text),
        sa.PrimaryKeyConstraint("sequence", name="pk_inspections"),
        sa.UniqueConstraint("id", name="uq_inspections_id"),
        sa.UniqueConstraint("trace_id", name="uq_inspections_trace_id"),
        sa.UniqueConstraint("station", "capture_id", name="uq_inspections_station_capture_id"),
        sa.UniqueConstraint(
            "station", "idempotency_key", name="uq_inspections_station_idempotency_key"
        ),
    )
    op.create_table(
        "reviews",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("id", text, nullable=False),
        sa.Column("inspection_id", text, nullable=False),
        sa.Column("disposition", text, nullable=False),
        sa.Column("reviewer", text, nullable=False),
        sa.Column("reviewed_at", text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_reviews"),
        sa.UniqueConstraint("id", name="uq_reviews_id"),
        sa.ForeignKeyConstraint(
            ["inspection_id"], ["inspections.id"], name="fk_reviews_inspection_id"
        ),
    )


def create_indexes_of_records() -> None:
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
    op.create_index(
        "ix_inspections_reason_sequence",
        "inspections",
        ["reason", "sequence"],
        sqlite_where=sa.text("reason <> 'first'"),
        postgresql_where=sa.text("reason <> 'first'"),
    )
    op.create_index(
        "ix_inspections_view_set",
        "inspections",
        ["view_set"],
        sqlite_where=sa.text("view_set IS NOT NULL"),
        postgresql_where=sa.text("view_set IS NOT NULL"),
    )
    op.create_index("ix_reviews_inspection_id_sequence", "reviews", ["inspection_id", "sequence"])


def create_statements() -> None:
    op.create_table(
        "findings",
        sa.Column("defect_class", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("defect_class", "sequence", name="pk_findings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statements",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("id", text, nullable=False),
        sa.Column("recorded_at", text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_statements"),
        sa.UniqueConstraint("id", name="uq_statements_id"),
    )
    op.create_table(
        "mentions",
        sa.Column("product", text, nullable=False),
        sa.Column("part", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("product", "part", "sequence", name="pk_mentions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "part_names",
        sa.Column("product", text, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("root", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("product", "name", name="pk_part_names"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_part_names_product_root", "part_names", ["product", "root"])
    op.create_table(
        "holds",
        sa.Column("id", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("product", text, nullable=False),
        sa.Column("scope", text, nullable=False),
        sa.Column("value", text, nullable=False),
        sa.Column("legal", sa.Integer, nullable=False),
        sa.Column("released", sequence),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.UniqueConstraint("sequence", name="uq_holds_sequence"),
    )
    op.create_index("ix_holds_product_scope_value", "holds", ["product", "scope", "value"])
    op.create_table(
        "view_sets",
        sa.Column("id", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("station", text, nullable=False),
        sa.Column("product", text, nullable=False),
        sa.Column("part", text, nullable=False),
        sa.Column("closed", sequence),
        sa.PrimaryKeyConstraint("id", name="pk_view_sets"),
    )
    op.create_index("ix_view_sets_product_part", "view_sets", ["product", "part"])
    op.create_table(
        "process_values",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("item", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("product", text),
        sa.Column("part", text),
        sa.Column("machine", text),
        sa.Column("name", text, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("unit", text, nullable=False),
        sa.Column("at", text, nullable=False),
        sa.Column("until", text),
        sa.PrimaryKeyConstraint("sequence", "item", name="pk_process_values"),
    )
    op.create_index(
        "ix_process_values_product_part_at", "process_values", ["product", "part", "at"]
    )
    op.create_index("ix_process_values_machine_at", "process_values", ["machine", "at"])
    op.create_table(
        "erased_files",
        sa.Column("sha256", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_erased_files"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "submissions",
        sa.Column("principal", text, nullable=False),
        sa.Column("key", text, nullable=False),
        sa.Column("request_sha256", text, nullable=False),
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name="pk_submissions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counts",
        sa.Column("hour", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("product", text, nullable=False),
        sa.Column("station", text, nullable=False),
        sa.Column("lot", text, nullable=False),
        sa.Column("machine", text, nullable=False),
        sa.Column("mould", text, nullable=False),
        sa.Column("disposition", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("defect_class", text, nullable=False),
        sa.Column("inspections", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("lowest", sequence, nullable=False),
        sa.Column("highest", sequence, nullable=False),
        sa.PrimaryKeyConstraint(
            *("hour", "product", "station", "lot", "machine", "mould"),
            *("disposition", "reason", "defect_class"),
            name="pk_counts",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_counts_lot_hour", "counts", ["lot", "hour"])
    op.create_table(
        "tallies",
        sa.Column("grain", text, nullable=False),
        sa.Column("defect_class", text, nullable=False),
        sa.Column("start", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("product", text, nullable=False),
        sa.Column("station", text, nullable=False),
        sa.Column("machine", text, nullable=False),
        sa.Column("mould", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.Column("passed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("review", sa.Integer, nullable=False),
        sa.Column("first_passed", sa.Integer, nullable=False),
        sa.Column("first_failed", sa.Integer, nullable=False),
        sa.Column("first_review", sa.Integer, nullable=False),
        sa.Column("lowest", sequence, nullable=False),
        sa.Column("highest", sequence, nullable=False),
        sa.PrimaryKeyConstraint(
            *("grain", "defect_class", "start", "product", "station", "machine"),
            *("mould", "reason"),
            name="pk_tallies",
        ),
        sqlite_with_rowid=False,
    )


def create_proofs() -> None:
    op.create_table(
        "tree_nodes",
        sa.Column("level", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("position", sequence, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name="pk_tree_nodes"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sequence, autoincrement=False, nullable=False),
        sa.Column("note", text, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_checkpoints"),
    )
    server_keys = op.create_table(
        "server_keys",
        sa.Column("name", text, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_server_keys"),
    )
    op.bulk_insert(server_keys, [{"name": "cursors", "secret": os.urandom(32)}])
