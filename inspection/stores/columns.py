"""What the tables are made of: kinds of columns that are the same on both databases, and names."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy import Text as AnyText
from sqlalchemy.dialects.postgresql import TEXT as POSTGRESQL_TEXT

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

# Text is compared by its bytes on both databases, whatever language a server was set up in.
Text: Final = AnyText().with_variant(POSTGRESQL_TEXT(collation="C"), "postgresql")

# SQLite makes only an INTEGER key the row's own number.
SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")
