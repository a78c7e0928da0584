from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inspection.errors import (
    CaptureConflict,
    ConfigurationError,
    KeyReused,
    NotFound,
    RecordError,
    RecordsDamaged,
)
from inspection.record import ReviewRecord
from inspection.store import Filter, RecordStore
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.sql import SqlRecordStore, open_records
from inspection.stores.transaction import Decision, Work
from inspection.stores.verify import verify_store
from inspection.stores.writer import GroupWriter
from tests.contracts.drafts import make_draft, make_review
from tests.contracts.record_store import RecordStoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlRecordStore]:
    opened = open_records(records_url(tmp_path))
    yield opened
    opened.close()


class TestSqlite(RecordStoreContract):
    """SQLite keeps the promises of every record store."""


def test_it_is_a_record_store(store: SqlRecordStore) -> None:
    promised: RecordStore = store
    assert promised is store


@contextmanager
def write_lock(data_dir: Path) -> Iterator[None]:
    """Hold the database's write lock, as another process would."""
    with closing(sqlite3.connect(records_path(data_dir), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def group_sizes(data_dir: Path) -> list[int]:
    with closing(sqlite3.connect(records_path(data_dir))) as database:
        sizes = [row[0] for row in database.execute("SELECT size FROM tree_heads ORDER BY size")]
    return [b - a for a, b in zip([0, *sizes], sizes, strict=False)]


def commit_together(data_dir: Path, works: list[Work]) -> list[object]:
    """What each gets when all wait behind one lock, in this order."""
    writer = GroupWriter(open_engine(records_url(data_dir), writing=True))
    with write_lock(data_dir):
        futures = [writer.submit(work) for work in works]
    answers: list[object] = [future.exception() or future.result() for future in futures]
    writer.close()
    return answers


def test_what_waits_is_committed_as_one_group(store: SqlRecordStore, tmp_path: Path) -> None:
    answers = commit_together(tmp_path, [make_draft(serial="s") for _ in range(24)])
    assert [getattr(answer, "attempt", None) for answer in answers] == list(range(1, 25))
    sizes = group_sizes(tmp_path)
    assert sum(sizes) == 24
    assert max(sizes) > 1
    assert len(store.part_history("knuckle", "s")) == 24


def images_of(data_dir: Path) -> FileImageStore:
    return FileImageStore(images_dir(data_dir), read_only=True)


def test_conflicts_in_a_group_fail_alone(store: SqlRecordStore, tmp_path: Path) -> None:
    stands = make_draft()
    stored = store.append(stands)
    twin = make_draft(serial="t")
    answers = commit_together(
        tmp_path,
        [
            make_draft(serial="a"),
            make_draft(idempotency_key=stands.idempotency_key),
            make_draft(capture_id=stands.capture_id),
            twin,
            twin,
            stands,
            replace(make_draft(serial="u"), lot=5),  # type: ignore[arg-type]
            make_draft(serial="b"),
            make_draft(capture_id=twin.capture_id),
            Decision(review=make_review("nothing")),
            Decision(review=make_review(stored.id, id=stored.id)),
            replace(make_draft(serial="v"), verdict=None),  # type: ignore[arg-type]
            Decision(review=make_review(stored.id)),
        ],
    )
    assert isinstance(answers[1], KeyReused)
    assert isinstance(answers[2], CaptureConflict)
    assert answers[3] == answers[4]
    assert answers[5] == stored
    assert isinstance(answers[6], RecordError)
    assert [type(answers[n]).__name__ for n in (0, 3, 7)] == ["InspectionRecord"] * 3
    assert isinstance(answers[8], CaptureConflict)
    assert isinstance(answers[9], NotFound)
    assert isinstance(answers[10], RecordError)
    assert isinstance(answers[11], RecordError)
    assert isinstance(answers[12], ReviewRecord)
    assert sum(group_sizes(tmp_path)) == 5
    assert verify_store(records_url(tmp_path), images_of(tmp_path)).heads == len(
        group_sizes(tmp_path)
    )


def test_reader_does_not_wait_for_the_writer(store: SqlRecordStore, tmp_path: Path) -> None:
    record = store.append(make_draft())
    with write_lock(tmp_path):
        assert store.get(record.id) == record
        assert store.find(Filter()).records == (record,)


def test_wait_for_a_lock_is_bounded_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    store = open_records(records_url(tmp_path), lock_wait_s=0.05)
    draft = make_draft()
    with write_lock(tmp_path):
        with pytest.raises(RecordError, match="locked"):
            store.append(draft)
        with pytest.raises(RecordError):
            store.check()
    store.check()
    record = store.append(draft)
    assert record.attempt == 1
    store.close()
    assert group_sizes(tmp_path) == [1]


def test_reopened_store_goes_on_where_it_was(tmp_path: Path) -> None:
    with closing(open_records(records_url(tmp_path))) as store:
        first = store.append(make_draft())
    with closing(open_records(records_url(tmp_path))) as store:
        second = store.append(make_draft())
        assert store.get(first.id) == first
    assert second.attempt == 2
    assert second.trace_id > first.trace_id


def test_two_servers_by_mistake_do_no_harm(store: SqlRecordStore, tmp_path: Path) -> None:
    with closing(open_records(records_url(tmp_path))) as other, ThreadPoolExecutor(8) as pool:
        both = [store, other]
        records = list(pool.map(lambda n: both[n % 2].append(make_draft()), range(40)))
    assert sorted(r.attempt or 0 for r in records) == list(range(1, 41))
    by_attempt = sorted(records, key=lambda r: r.attempt or 0)
    assert [r.trace_id for r in by_attempt] == sorted(r.trace_id for r in records)
    assert sum(group_sizes(tmp_path)) == 40


def test_changed_body_is_never_served(store: SqlRecordStore, tmp_path: Path) -> None:
    record = store.append(make_draft())
    with closing(sqlite3.connect(records_path(tmp_path))) as database:
        database.execute("UPDATE entries SET body = replace(body, 'fail', 'pass')")
        database.commit()
    for read in (
        lambda: store.get(record.id),
        lambda: store.find(Filter()),
        lambda: store.part_history(record.product, record.part),
    ):
        with pytest.raises(RecordsDamaged):
            read()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM tree_heads WHERE size = 3",
        "UPDATE tree_heads SET root = zeroblob(32) WHERE size = 3",
        "UPDATE tree_heads SET peaks = x'00' WHERE size = 3",
        "DELETE FROM entries WHERE sequence = 3",
    ],
)
def test_store_with_a_damaged_end_is_not_added_to(
    store: SqlRecordStore, tmp_path: Path, damage: str
) -> None:
    for _ in range(3):
        store.append(make_draft())
    with closing(sqlite3.connect(records_path(tmp_path))) as database:
        database.execute(damage)
        database.commit()
    with pytest.raises(RecordsDamaged):
        store.append(make_draft())
    with pytest.raises(RecordsDamaged):
        store.check()
    with pytest.raises(RecordsDamaged):
        open_records(records_url(tmp_path))


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    records_path(tmp_path).write_bytes(b"not a database at all" * 500)
    with pytest.raises(RecordsDamaged):
        open_records(records_url(tmp_path))


def test_folder_may_have_any_name_but_a_question_mark(tmp_path: Path) -> None:
    folder = tmp_path / "자료 #1 100% & more"
    folder.mkdir()
    with closing(open_records(records_url(folder))) as store:
        store.append(make_draft())
    assert group_sizes(folder) == [1]
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        open_records(records_url(tmp_path / "nowhere"))


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///a?b", "nonsense"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_records(url)


def test_almost_full_disk_is_found_before_it_is_full(
    store: SqlRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspection.stores.sqlite.ROOM_NEEDED_BYTES", 2**80)
    with pytest.raises(RecordError, match="free"):
        store.check()


FULL_DISK = """
import resource, sys
from pathlib import Path
from inspection.errors import RecordError
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft

data_dir = Path(sys.argv[1])
records = open_records(records_url(data_dir))
kept = [records.append(make_draft(serial=f"before-{n}")) for n in range(10)]
log = records_path(data_dir).with_name("records.db-wal").stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (log + 100_000, hard))
refused = []
while len(refused) < 3:
    draft = make_draft(serial="while")
    try:
        kept.append(records.append(draft))
    except RecordError:
        refused.append(draft)
resource.setrlimit(resource.RLIMIT_FSIZE, (log, hard))  # not a single page more
try:
    records.check()
except RecordError:
    print("unwell")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
records.check()
kept += [records.append(draft) for draft in refused]
attempts = [r.attempt for r in kept if r.serial == "while"]
assert attempts == list(range(1, len(attempts) + 1)), attempts
assert all(records.get(r.id) == r for r in kept)
records.close()
print(len(kept))
"""


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )


def test_full_disk_loses_nothing_and_the_store_recovers(tmp_path: Path) -> None:
    done = run_script(FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr
    unwell, kept = done.stdout.split()
    assert unwell == "unwell"
    assert sum(group_sizes(tmp_path)) == int(kept)


LOAD = """
import sys, threading, os
from dataclasses import replace
from pathlib import Path
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft

data_dir = Path(sys.argv[1])
records, images = open_records(records_url(data_dir)), FileImageStore(images_dir(data_dir))

def work(name):
    n = 0
    while True:
        n += 1
        capture = f"{sys.argv[2]}-{name}-{n}"
        image, evidence = images.put(f"image {capture}".encode()), images.put(f"map {n}".encode())
        draft = make_draft(
            serial=f"s{n % 7}", image_sha256=image, capture_id=capture, idempotency_key=capture
        )
        draft = replace(draft, evidence=replace(draft.evidence, sha256=evidence))
        record = records.append(draft)
        os.write(1, f"{record.id} {record.trace_id} {record.attempt}\\n".encode())

for name in range(8):
    threading.Thread(target=work, args=(name,)).start()
"""


def test_killed_in_mid_load_it_has_everything_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[list[str]] = []
    for kill_after in (1, 40, 90):
        with subprocess.Popen(
            [sys.executable, "-c", LOAD, str(tmp_path), str(kill_after)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(kill_after)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        acknowledged += [line.split() for line in lines if line.endswith("\n")]
    assert len(acknowledged) >= 131
    with closing(open_records(records_url(tmp_path))) as store:
        for inspection_id, trace_id, attempt in acknowledged:
            record = store.get(inspection_id)
            assert (record.trace_id, str(record.attempt)) == (trace_id, attempt)
        review = store.append_review(make_review(acknowledged[0][0]))
        assert store.reviews(acknowledged[0][0]) == [review]
    report = verify_store(records_url(tmp_path), images_of(tmp_path))
    assert report.ok, report.problems
    assert report.inspections >= len(acknowledged)
