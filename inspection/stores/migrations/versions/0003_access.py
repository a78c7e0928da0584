"""Keys that are bound, expire, are rotated and have limits; the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

text = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")

KEPT = "id, name, scope, secret_sha256, created_at, revoked_at"


def added() -> list[sa.Column]:
    return [
        sa.Column("stations", text),
        sa.Column("products", text),
        sa.Column("expires_at", text),
        sa.Column("old_sha256", sa.LargeBinary),
        sa.Column("old_until", text),
        sa.Column("rate_per_s", sa.Float),
        sa.Column("burst", sa.Integer),
        sa.Column("at_once", sa.Integer),
        sa.Column("last_used_at", text),
    ]


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in added():
            op.add_column("access_keys", column)
    else:
        make_keys_anew()
    op.create_table(
        "audit",
        sa.Column("number", sequence, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("link", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )


def make_keys_anew() -> None:
    """SQLite writes an added column after the constraints, where a new file has it before them."""
    op.drop_index("uq_access_keys_active_name")
    op.rename_table("access_keys", "access_keys_0002")
    op.create_table(
        "access_keys",
        sa.Column("id", text, nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("scope", text, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("created_at", text, nullable=False),
        sa.Column("revoked_at", text),
        *added(),
        sa.PrimaryKeyConstraint("id", name="pk_access_keys"),
        sa.CheckConstraint(
            "scope IN ('station', 'mes', 'qa', 'admin')", name=op.f("ck_access_keys_scope")
        ),
    )
    op.execute(f"INSERT INTO access_keys ({KEPT}) SELECT {KEPT} FROM access_keys_0002")  # noqa: S608
    op.drop_table("access_keys_0002")
    op.create_index(
        "uq_access_keys_active_name",
        "access_keys",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
    )
