"""Files that records carry until they are durable; an index of the holds that stand."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "carried_files",
        sa.Column("sequence", sequence, autoincrement=False, nullable=False),
        sa.Column("image", sa.LargeBinary),
        sa.Column("evidence", sa.LargeBinary),
        sa.PrimaryKeyConstraint("sequence", name="pk_carried_files"),
    )
    op.create_index(
        "ix_holds_standing",
        "holds",
        ["sequence"],
        sqlite_where=sa.text("released IS NULL"),
        postgresql_where=sa.text("released IS NULL"),
    )
