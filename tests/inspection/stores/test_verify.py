from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import ConfigurationError, InputError
from inspection.proofs.merkle import Frontier, leaf_hash
from inspection.stores import verify
from inspection.stores.database import open_engine
from inspection.stores.derived import rebuild_derived
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.sql import open_records
from inspection.stores.verify import Outside, TreeHead, verify_store
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.record import InspectionRecord
    from inspection.stores.sql import SqlRecordStore
    from inspection.stores.verify import VerifyReport

RECORDS = 7  # entries 1 to 7; the fifth is a review of the second


def keep(store: SqlRecordStore, images: FileImageStore, number: int) -> InspectionRecord:
    draft = make_draft(
        serial=f"s{number % 2}",
        image_sha256=images.put(f"image {number}".encode()),
        lot="L1",
        machine="LPC-1",
        mould="M1",
    )
    assert draft.evidence is not None
    evidence = replace(draft.evidence, sha256=images.put(f"evidence {number}".encode()))
    return store.append(replace(draft, evidence=evidence))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    images = FileImageStore(images_dir(folder))
    with closing(open_records(records_url(folder))) as store:
        records = [keep(store, images, number) for number in range(4)]
        store.append_review(make_review(records[1].id))
        keep(store, images, 5)
        keep(store, images, 6)
    return folder


@pytest.fixture
def data_dir(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "var"))


def check(data_dir: Path, *expected: TreeHead) -> VerifyReport:
    images = FileImageStore(images_dir(data_dir), read_only=True)
    return verify_store(records_url(data_dir), images, outside=Outside(heads=expected))


@pytest.fixture
def database(data_dir: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(records_path(data_dir), isolation_level=None)) as opened:
        yield opened


def test_good_store_holds_and_says_what_was_checked(data_dir: Path) -> None:
    report = check(data_dir)
    assert report.ok, report.problems
    assert (report.records, report.kinds) == (7, {"inspection": 6, "review": 1})
    assert (report.heads, report.images, report.extra_files) == (7, 12, 0)
    assert report.head.size == 7
    assert TreeHead.parse(str(report.head)) == report.head


def test_checking_changes_no_file(data_dir: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in data_dir.rglob("*")
            # SQLite makes these two, empty, for any reader of a write-ahead log.
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    before = contents()
    assert check(data_dir).ok
    assert contents() == before


def test_empty_store_holds(tmp_path: Path) -> None:
    open_records(records_url(tmp_path)).close()
    report = check(tmp_path)
    assert report.ok
    assert report.head == TreeHead(size=0, root=Frontier().root().hex())


@pytest.mark.parametrize("chunk", [1, 2, 7, 8])
def test_chunks_make_no_difference(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    whole = check(data_dir)
    monkeypatch.setattr(verify, "CHUNK", chunk)
    assert check(data_dir) == whole


def test_server_may_go_on_meanwhile(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "CHUNK", 2)
    images = FileImageStore(images_dir(data_dir))
    stop = threading.Event()
    with closing(open_records(records_url(data_dir))) as store:

        def serve() -> None:
            number = 100
            while not stop.is_set():
                keep(store, images, number)
                number += 1

        server = threading.Thread(target=serve)
        server.start()
        reports = [check(data_dir) for _ in range(5)]
        stop.set()
        server.join()
    assert [report.problems for report in reports] == [()] * 5
    assert check(data_dir).extra_files == 0


# --- every column of every row -----------------------------------------------------------------

COLUMNS = {
    "entries": ["kind", "id", "body", "leaf_hash"],
    "inspections": [
        "id",
        "trace_id",
        "product",
        "part",
        "serial",
        "station",
        "capture_id",
        "idempotency_key",
        "request_sha256",
        "lot",
        "machine",
        "mould",
        "disposition",
        "reason",
        "attempt",
        "received_at",
    ],
    "reviews": ["id", "inspection_id", "disposition", "reviewer", "reviewed_at"],
    "tree_heads": ["root", "peaks"],
}


def flipped(value: Any, at: int) -> Any:
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, str):
        return value[:at] + chr(ord(value[at]) ^ 64) + value[at:][1:]
    return value[:at] + bytes([value[at] ^ 1]) + value[at:][1:]


def change(database: sqlite3.Connection, table: str, column: str, rowid: int, value: Any) -> None:
    database.execute("PRAGMA ignore_check_constraints=ON")
    database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rowid))


@pytest.mark.parametrize(("table", "column"), [(t, c) for t, cs in COLUMNS.items() for c in cs])
def test_flip_in_any_column_is_noticed(
    data_dir: Path, database: sqlite3.Connection, table: str, column: str
) -> None:
    rows = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    for rowid, value in {rows[0], rows[-1], rows[len(rows) // 2]}:
        length = len(str(value)) if isinstance(value, int) else len(value)
        change(database, table, column, rowid, flipped(value, (0, length // 2, -1)[rowid % 3]))
        assert not check(data_dir).ok, (table, column, rowid)
        change(database, table, column, rowid, b"\xff\xfe")
        assert not check(data_dir).ok, (table, column, rowid)
        change(database, table, column, rowid, value)
    assert check(data_dir).ok


def test_flip_of_a_byte_of_a_body_is_noticed_and_its_record_named(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    body: bytes
    (body,) = database.execute("SELECT body FROM entries WHERE sequence = 5").fetchone()
    for at in range(0, len(body), 11):
        change(database, "entries", "body", 5, flipped(body, at))
        report = check(data_dir)
        assert any("record 5" in problem for problem in report.problems), at
    change(database, "entries", "body", 5, body)
    assert check(data_dir).ok


def test_text_that_is_no_text_is_noticed_where_it_is(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    database.execute("UPDATE inspections SET lot = CAST(x'ff4c' AS TEXT) WHERE sequence = 2")
    (problem,) = check(data_dir).problems
    assert "record 2" in problem
    assert "lot" in problem


@pytest.mark.parametrize(
    ("statement", "sign"),
    [
        ("DELETE FROM inspections WHERE sequence = 3", "record 3"),
        ("DELETE FROM reviews", "record 5"),
        ("DELETE FROM entries WHERE sequence = 3", "record 3 is missing"),
        ("DELETE FROM entries WHERE sequence = 1", "record 1 is missing"),
        ("DELETE FROM entries WHERE sequence = 7", "head"),
        ("DELETE FROM tree_heads WHERE size = 7", "head"),
        ("DELETE FROM tree_heads", "head"),
        ("UPDATE tree_heads SET size = 99 WHERE size = 7", "head"),
        ("UPDATE tree_heads SET size = -1 WHERE size = 4", "head"),
        ("UPDATE inspections SET sequence = 99 WHERE sequence = 7", "99"),
        ("UPDATE entries SET sequence = 0 WHERE sequence = 3", "record"),
        ("UPDATE inspections SET serial = NULL WHERE sequence = 2", "serial"),
        ("INSERT INTO tree_heads VALUES (0, x'00', x'')", "head"),
        (
            "INSERT INTO entries SELECT 8, month, kind, 'x', body, leaf_hash FROM entries LIMIT 1",
            "8",
        ),
    ],
)
def test_missing_moved_and_added_rows_are_noticed(
    data_dir: Path, database: sqlite3.Connection, statement: str, sign: str
) -> None:
    database.execute(statement)
    report = check(data_dir)
    assert any(sign in problem for problem in report.problems), report.problems


def test_records_that_changed_places_are_noticed(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    for table in ("entries", "inspections"):
        for a, b in ((2, 1000), (3, 2), (1000, 3)):
            database.execute(f"UPDATE {table} SET sequence = ? WHERE sequence = ?", (b, a))
    report = check(data_dir)
    assert any("tree heads do not hold" in problem for problem in report.problems)


def test_body_in_another_form_of_the_same_json_is_noticed(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    (body,) = database.execute("SELECT body FROM entries WHERE sequence = 7").fetchone()
    other = body.replace(b":", b": ", 1)
    change(database, "entries", "body", 7, other)
    change(database, "entries", "leaf_hash", 7, leaf_hash(other))
    assert any("canonical" in problem for problem in check(data_dir).problems)


def test_changed_record_with_its_leaf_is_found_by_the_tree(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    (body,) = database.execute("SELECT body FROM entries WHERE sequence = 4").fetchone()
    other = body.replace(b"2026-03-01T08", b"2026-03-01T07")
    assert other != body
    change(database, "entries", "body", 4, other)
    change(database, "entries", "leaf_hash", 4, leaf_hash(other))
    (problem,) = check(data_dir).problems
    assert "4 of 7 tree heads do not hold" in problem


def rewrite_all(database: sqlite3.Connection) -> None:
    """What an owner of the machine can do: change a record and everything that hangs on it."""
    (body,) = database.execute("SELECT body FROM entries WHERE sequence = 2").fetchone()
    change(database, "entries", "body", 2, body.replace(b'"lot":"L1"', b'"lot":"L2"'))
    tree = Frontier()
    for number, text in database.execute(
        "SELECT sequence, body FROM entries ORDER BY sequence"
    ).fetchall():
        tree.add(leaf_hash(text))
        change(database, "entries", "leaf_hash", number, leaf_hash(text))
        change(database, "tree_heads", "root", number, tree.root())
        change(database, "tree_heads", "peaks", number, b"".join(tree.peaks))


def make_the_other_tables_anew(data_dir: Path) -> None:
    """Every table beside the entries, made from the entries as they are now."""
    engine = open_engine(records_url(data_dir), writing=True)
    try:
        with engine.begin() as connection:
            rebuild_derived(connection)
    finally:
        engine.dispose()


def test_consistent_rewriting_is_found_only_by_a_head_kept_elsewhere(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    noted = check(data_dir).head
    early = TreeHead(size=1, root=leaf_root(database))
    rewrite_all(database)
    make_the_other_tables_anew(data_dir)
    assert check(data_dir).ok
    report = check(data_dir, early, noted)
    (problem,) = report.problems
    assert "first 7 records" in problem


def leaf_root(database: sqlite3.Connection) -> str:
    (leaf,) = database.execute("SELECT leaf_hash FROM entries WHERE sequence = 1").fetchone()
    return bytes(leaf).hex()


def test_cut_off_end_is_found_only_by_a_head_kept_elsewhere(
    data_dir: Path, database: sqlite3.Connection
) -> None:
    noted = check(data_dir).head
    database.execute("DELETE FROM entries WHERE sequence = 7")
    database.execute("DELETE FROM tree_heads WHERE size = 7")
    make_the_other_tables_anew(data_dir)
    assert check(data_dir).ok
    assert "removed" in check(data_dir, noted).problems[0]


def test_noted_head_is_found_again_after_more_records(data_dir: Path) -> None:
    noted = check(data_dir).head
    images = FileImageStore(images_dir(data_dir))
    with closing(open_records(records_url(data_dir))) as store:
        keep(store, images, 50)
    empty = TreeHead(size=0, root=Frontier().root().hex())
    report = check(data_dir, noted, empty)
    assert report.ok
    assert (report.heads, report.outside, report.covered) == (8, 2, 7)
    assert not check(data_dir, TreeHead(size=0, root="0" * 64)).ok


@pytest.mark.parametrize(
    "text", ["", "7", "7:", ":" + "0" * 64, "7:" + "g" * 64, "x:" + "0" * 64, "-1:" + "0" * 64]
)
def test_what_is_no_tree_head_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        TreeHead.parse(text)


# --- files -------------------------------------------------------------------------------------


def test_extra_files_are_a_note_and_no_problem(data_dir: Path) -> None:
    FileImageStore(images_dir(data_dir)).put(b"of a request that was interrupted")
    (images_dir(data_dir) / "incoming" / "1-2").write_bytes(b"half")
    report = check(data_dir)
    assert report.ok
    assert report.extra_files == 2


# --- what cannot be checked --------------------------------------------------------------------


def test_list_of_problems_is_cut_and_says_so(
    data_dir: Path, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "PROBLEMS_LISTED", 3)
    database.execute("UPDATE inspections SET lot = 'other'")
    problems = check(data_dir).problems
    assert len(problems) == 4
    assert problems[-1] == "and 3 more"


def test_broken_database_file_is_reported(data_dir: Path) -> None:
    path = records_path(data_dir)
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    assert not check(data_dir).ok


def test_there_must_be_records_of_this_release(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check(tmp_path / "elsewhere")
    with closing(sqlite3.connect(records_path(data_dir))) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with pytest.raises(ConfigurationError):
        check(data_dir)


def test_progress_ends_at_all(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "CHUNK", 3)
    seen: list[tuple[int, int]] = []
    images = FileImageStore(images_dir(data_dir), read_only=True)
    verify_store(
        records_url(data_dir), images, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, RECORDS), (6, RECORDS), (7, RECORDS)]
