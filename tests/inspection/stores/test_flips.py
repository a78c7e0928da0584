"""Every byte of a small store is flipped, and every flip is noticed.

Here: every column of every table, every byte of every image, and every 409th byte of the database
file. `benchmarks/records/flips.py` takes every byte of the file.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import RecordsDamaged
from inspection.proofs.merkle import Frontier, leaf_hash
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path
from tests.flips import NOT_RECORDS, FlippingGround, check, noticed, small_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = 42
EVERY = 409


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("small"))


@pytest.fixture
def folder(store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store, tmp_path / "var")


@pytest.fixture
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(records_path(folder), isolation_level=None)) as opened:
        opened.execute("PRAGMA ignore_check_constraints=ON")
        yield opened


def test_flips_of_raw_bytes_are_noticed_or_change_nothing(store: Path, tmp_path: Path) -> None:
    ground = FlippingGround(store, tmp_path)
    chance = random.Random(SEED)
    places = range(chance.randrange(EVERY), len(ground.good), EVERY)
    missed = [at for at in places if not ground.flip(at, chance.randrange(8))]
    assert missed == []
    assert ground.found > len(places) / 4  # the file is not mostly space that nothing uses


def tables_of(database: sqlite3.Connection) -> list[str]:
    names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return sorted({name for (name,) in names} - NOT_RECORDS - {"alembic_version"})


def other(value: Any, chance: random.Random) -> Any:
    """The value with one bit turned over, of the same type."""
    if value is None:
        return 1
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(16)
    if isinstance(value, float):
        return value + 2.0 ** chance.randrange(-8, 8)
    data = bytearray(value if isinstance(value, bytes) else value.encode())
    if not data:
        return b"x" if isinstance(value, bytes) else "x"
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
    return bytes(data) if isinstance(value, bytes) else data.decode("utf-8", "replace")


def test_change_in_any_column_of_any_table_is_noticed(
    folder: Path, database: sqlite3.Connection
) -> None:
    chance = random.Random(SEED)
    tried = 0
    for table in tables_of(database):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        for row in chance.sample(rows, min(2, len(rows))):
            for place, column in enumerate(columns):
                if (table, column) == ("entries", "month"):
                    continue  # no part of the records; below
                where = " AND ".join(f'"{name}" IS ?' for name in columns)
                changed = (*row[:place], other(row[place], chance), *row[place + 1 :])
                try:
                    database.execute(
                        f'UPDATE {table} SET "{column}" = ? WHERE {where}', (changed[place], *row)
                    )
                except sqlite3.IntegrityError:
                    continue  # the database itself refuses it
                assert noticed(folder), (table, column, row[place], changed[place])
                database.execute(
                    f'UPDATE {table} SET "{column}" = ? WHERE {where}', (row[place], *changed)
                )
                tried += 1
    assert tried > 150
    assert not noticed(folder)


def test_row_that_is_missing_from_any_table_is_noticed(
    folder: Path, database: sqlite3.Connection
) -> None:
    for table in tables_of(database):
        if table in ("checkpoints", "tree_heads"):
            continue  # below
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        for row in database.execute(f"SELECT * FROM {table}").fetchall()[::3]:
            where = " AND ".join(f'"{name}" IS ?' for name in columns)
            database.execute(f"DELETE FROM {table} WHERE {where}", row)
            assert noticed(folder), (table, row)
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in columns)})", row)
    assert not noticed(folder)


def test_missing_head_of_the_present_is_noticed_and_older_ones_can_be_made_again(
    folder: Path, database: sqlite3.Connection
) -> None:
    """A head or checkpoint of before is no more than the entries say anyway; a witness keeps it."""
    database.execute("DELETE FROM checkpoints")
    database.execute("DELETE FROM tree_heads WHERE size BETWEEN 3 AND 9")
    assert not noticed(folder)
    database.execute("DELETE FROM tree_heads WHERE size = (SELECT max(size) FROM tree_heads)")
    assert noticed(folder)


def test_row_that_was_added_to_any_table_is_noticed(
    folder: Path, database: sqlite3.Connection
) -> None:
    for table in tables_of(database):
        columns = [row[1:3] for row in database.execute(f"PRAGMA table_info({table})")]
        values = [901 if "INT" in kind else b"z" if "BLOB" in kind else "z" for _, kind in columns]
        if table == "reviews":
            (values[2],) = database.execute("SELECT id FROM inspections LIMIT 1").fetchone()
        database.execute("BEGIN")
        database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in values)})", values)
        database.execute("COMMIT")
        assert noticed(folder), table
        key = " AND ".join(f'"{name}" IS ?' for name, _ in columns)
        assert database.execute(f"DELETE FROM {table} WHERE {key}", values).rowcount == 1
    assert not noticed(folder)


def test_rows_that_changed_places_are_noticed(folder: Path, database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT sequence, kind, id, body, leaf_hash FROM entries").fetchall()
    put = "UPDATE entries SET kind = ?, id = ?, body = ?, leaf_hash = ? WHERE sequence = ?"
    for one, two in pairwise(rows):
        database.execute(put, (*two[1:], one[0]))
        database.execute(put, (*one[1:], two[0]))
        assert noticed(folder)
        database.execute(put, (*one[1:], one[0]))
        database.execute(put, (*two[1:], two[0]))
    assert not noticed(folder)


def test_file_that_was_cut_off_is_noticed(folder: Path) -> None:
    path = records_path(folder)
    good = path.read_bytes()
    for end in range(1, len(good), 4093):
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
        path.write_bytes(good[:end])
        assert noticed(folder), end


def test_every_byte_of_every_image_is_noticed(folder: Path) -> None:
    images = FileImageStore(images_dir(folder), read_only=True)
    for digest in list(images.digests()):
        path = images.path(digest)
        good = path.read_bytes()
        path.chmod(0o644)
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            with pytest.raises(RecordsDamaged):
                images.get(digest)
        assert noticed(folder)
        path.write_bytes(good[:-1])
        assert noticed(folder)
        path.unlink()
        assert noticed(folder)
        path.write_bytes(good)
    assert not noticed(folder)


def test_file_that_is_gone_is_excused_only_by_the_entry_that_erased_it(
    folder: Path, database: sqlite3.Connection
) -> None:
    report = check(folder)
    assert getattr(report, "erased", None) == 1
    # Whoever deletes a file and the row that says so still lacks an entry.
    (digest,) = database.execute("SELECT sha256 FROM erased_files").fetchone()
    images = FileImageStore(images_dir(folder), read_only=True)
    another = next(each for each in images.digests() if each != digest)
    images.path(another).unlink()
    database.execute("INSERT INTO erased_files SELECT ?, sequence FROM erased_files", (another,))
    assert noticed(folder)


def test_months_of_entries_are_months_and_never_go_back(
    folder: Path, database: sqlite3.Connection
) -> None:
    (month,) = database.execute("SELECT month FROM entries LIMIT 1").fetchone()
    for sequence, wrong in ((5, month - 1), (5, month + 100), (3, 202613), (17, 0), (2, "x")):
        database.execute("UPDATE entries SET month = ? WHERE sequence = ?", (wrong, sequence))
        assert noticed(folder), wrong
        database.execute("UPDATE entries SET month = ? WHERE sequence = ?", (month, sequence))
    assert not noticed(folder)


def test_definition_that_lets_more_in_is_noticed(
    folder: Path, database: sqlite3.Connection
) -> None:
    (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'access_keys'").fetchone()
    database.execute("PRAGMA writable_schema=ON")
    put = "UPDATE sqlite_master SET sql = ? WHERE name = 'access_keys'"
    database.execute(put, (sql.replace("'station'", "'statiom'"),))
    assert noticed(folder)
    database.execute(put, (sql,))
    assert not noticed(folder)
    database.execute("DROP INDEX ix_inspections_lot_sequence")
    assert noticed(folder)


def test_consistent_forgery_is_found_by_the_checkpoint_and_its_witness(
    folder: Path, database: sqlite3.Connection
) -> None:
    """A body, its leaf and every head are made to agree: the signatures still say otherwise."""
    (body,) = database.execute("SELECT body FROM entries WHERE sequence = 1").fetchone()
    forged = body.replace(b"2026-03-01T08", b"2026-03-01T09")
    database.execute("UPDATE entries SET body = ? WHERE sequence = 1", (forged,))
    tree = Frontier()
    for sequence, each in database.execute(
        "SELECT sequence, body FROM entries ORDER BY sequence"
    ).fetchall():
        tree.add(leaf_hash(each))
        database.execute(
            "UPDATE entries SET leaf_hash = ? WHERE sequence = ?", (leaf_hash(each), sequence)
        )
        database.execute(
            "UPDATE tree_heads SET root = ?, peaks = ? WHERE size = ?",
            (tree.root(), b"".join(tree.peaks), sequence),
        )
    report = check(folder)
    assert [
        problem for problem in getattr(report, "problems", ()) if "checkpoint" not in problem
    ] == []
    assert noticed(folder)
