"""What a plant does to its servers: kills, a database that is gone, full disks, clocks that jump.

Each time the same is asked for: nothing acknowledged is lost, nothing is there twice, the order of
commits has no gap and is never another.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from inspection.errors import RecordError
from inspection.store import Filter
from inspection.stores import writer
from inspection.stores.files import FileImageStore
from inspection.stores.places import records_path
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from tests.contracts.drafts import make_draft, make_review
from tests.postgres_server import PostgresServer, running_server
from tests.writing_process import IMAGE, draft_of, read_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.store import Change
    from inspection.stores.sql import SqlRecordStore

ROOT = Path(__file__).resolve().parents[3]
KILLS = 40
_numbers = itertools.count(1)


def new_key() -> str:
    """For a request of its own."""
    return f"key-{next(_numbers)}"


def changes_of(store: SqlRecordStore) -> list[Change]:
    found: list[Change] = []
    while page := store.changes(len(found), limit=1000):
        found += page
    return found


def assert_order_holds(store: SqlRecordStore, url: str, tmp_path: Path) -> list[Change]:
    """No gap, no twin, and the tree agrees; files are not what this is about."""
    changes = changes_of(store)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert len({change.entry.id for change in changes}) == len(changes)
    traced = [getattr(change.entry, "trace_id", None) for change in changes]
    assert traced == sorted(traced, key=str)
    assert_tree_holds(url, tmp_path)
    return changes


def assert_tree_holds(url: str, tmp_path: Path) -> None:
    images = FileImageStore(tmp_path / "images")
    images.put(IMAGE)
    assert verify_store(url, images).problems == ()


# --- kills ---------------------------------------------------------------------------------------


@contextmanager
def writing_processes(url: str, ledger: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.writing_process", url, str(ledger)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as nursery:
        assert nursery.stdout is not None
        assert nursery.stdout.readline() == "ready\n"
        yield nursery
        assert nursery.stdin is not None
        nursery.stdin.close()


def kill_one(nursery: subprocess.Popen[str], ledger: Path, chance: random.Random) -> None:
    """Start a writer, wait until it has added something, and kill it at any moment after that."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    size = ledger.stat().st_size if ledger.exists() else 0
    nursery.stdin.write("\n")
    nursery.stdin.flush()
    child = int(nursery.stdout.readline())
    deadline = time.monotonic() + 60
    while not ledger.exists() or ledger.stat().st_size <= size:
        assert time.monotonic() < deadline, "the writer adds nothing"
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.12))
    os.kill(child, signal.SIGKILL)
    assert nursery.stdout.readline() == "ended\n"


@pytest.mark.slow
def test_writers_killed_at_any_moment_lose_nothing_and_add_nothing_twice(
    any_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    chance = random.Random(7)
    with writing_processes(any_url, ledger) as nursery:
        for _ in range(KILLS):
            kill_one(nursery, ledger, chance)
    tried, got = read_ledger(ledger)
    assert len(got) > KILLS
    with closing(open_records(any_url)) as store:
        changes = assert_order_holds(store, any_url, tmp_path)
        kept = {change.entry.idempotency_key: change.entry for change in changes}  # type: ignore[union-attr]
        assert len(kept) == len(changes)
        assert set(got) <= set(kept) <= set(tried)
        assert all(kept[key].id == number for key, number in got.items())
        # Whoever got no answer asks again, others do for no reason: every part is there once.
        unanswered = [key for key in tried if key not in got]
        for key in (*unanswered, *chance.sample(sorted(got), 20)):
            answer = store.append(draft_of(key)).id
            assert answer == got.get(key, answer) == store.append(draft_of(key)).id
        assert len(changes_of(store)) == len(tried)


# --- the database is gone, and comes back --------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that these tests may stop."""
    with running_server() as server:
        yield server


class Stations:
    """Threads that send each part until it is answered, as stations do; what they met."""

    def __init__(self, store: SqlRecordStore, count: int = 4) -> None:
        self.answers: dict[str, str] = {}
        self.refusals: list[RecordError] = []
        self.waits_s: list[float] = []
        self._store = store
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        for count in range(10**9):
            draft = draft_of(f"{number}-{count}")
            while draft.idempotency_key not in self.answers:
                begun = time.monotonic()
                try:
                    self.answers[draft.idempotency_key] = self._store.append(draft).id
                except RecordError as error:
                    self.refusals.append(error)
                    if self._stop.is_set():
                        return
                    time.sleep(0.02)
                self.waits_s.append(time.monotonic() - begun)
            if self._stop.is_set():
                return

    def wait_for(self, more: int) -> None:
        """Until this many more parts were answered."""
        wanted, deadline = len(self.answers) + more, time.monotonic() + 60
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline, self.refusals[-1:]
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.slow
def test_a_database_that_is_gone_and_back_costs_time_but_no_record(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    url = own_server.fresh()
    with closing(open_records(url, lock_wait_s=2)) as store:
        stations = Stations(store)
        try:
            for _ in range(3):
                stations.wait_for(20)
                own_server.stop(hard=True)
                before = len(stations.refusals)
                begun = time.monotonic()
                while len(stations.refusals) < before + 8:
                    assert time.monotonic() - begun < 10
                    time.sleep(0.01)
                with pytest.raises(RecordError) as caught:
                    store.find(Filter())
                assert "database server runs" in caught.value.remedy
                own_server.start()
            stations.wait_for(20)
        finally:
            stations.stop()
        assert max(stations.waits_s) < 5
        assert all("server" in str(each) or "connection" in str(each) for each in stations.refusals)
        assert all(each.remedy for each in stations.refusals)
        # The same process goes on, and so does everything that it had answered.
        changes = assert_order_holds(store, url, tmp_path)
        kept = {change.entry.idempotency_key: change.entry.id for change in changes}  # type: ignore[union-attr]
        assert len(kept) == len(changes)
        assert kept == {**kept, **stations.answers}
        store.check()


@pytest.mark.slow
def test_a_server_that_starts_while_the_database_is_gone_says_so_and_can_start_later(
    own_server: PostgresServer,
) -> None:
    url = own_server.fresh()
    own_server.stop(hard=True)
    try:
        with pytest.raises(RecordError) as caught:
            open_records(url, lock_wait_s=1)
        assert "database server runs" in caught.value.remedy
    finally:
        own_server.start()
    with closing(open_records(url, lock_wait_s=1)) as store:
        store.append(draft_of(new_key()))


# --- full disks ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 64 MiB that every account can reach; only root can mount one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    place = Path(tempfile.mkdtemp(prefix="small-disk-"))
    place.chmod(0o755)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
        place.rmdir()


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves only this many bytes free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


def append_many(store: SqlRecordStore, wide: dict[str, float], got: list[str]) -> None:
    """More than the small disk holds; `got` gets the trace IDs, also of those before an error."""
    got.extend(store.append(draft_of(new_key(), timings_ms=wide)).id for _ in range(2000))


def assert_full_disk_is_survived(url: str, ballast: Path, tmp_path: Path) -> None:
    """Append to a disk that fills up; make room; go on."""
    wide = {os.urandom(16).hex(): 1.25 for _ in range(1500)}  # what cannot be packed
    with closing(open_records(url)) as store:
        got: list[str] = []
        with pytest.raises(RecordError) as caught:
            append_many(store, wide, got)
        assert "Make room" in caught.value.remedy
        # A little room may be found after that, but not for long; or the database is down by then.
        with pytest.raises(RecordError) as caught:
            append_many(store, wide, got)
        assert any(said in caught.value.remedy for said in ("Make room", "database server runs"))
        assert got
        assert store.get(got[-1]).id == got[-1]
        assert [change.entry.id for change in changes_of(store)] == got

        ballast.unlink()
        got.append(store.append(draft_of(new_key(), timings_ms=wide)).id)
        store.append_review(make_review(got[0], id="the review"))
        store.check()
        changes = changes_of(store)
        assert [change.entry.id for change in changes] == [*got, "the review"]
        assert_tree_holds(url, tmp_path)


def test_a_full_disk_under_sqlite_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{records_path(small_disk)}"
    with closing(open_records(url)) as store:
        store.check()
    ballast = fill(small_disk, 3 * 2**20)
    with closing(open_records(url)) as store, pytest.raises(RecordError) as caught:
        store.check()
    assert "Make room" in caught.value.remedy
    assert_full_disk_is_survived(url, ballast, tmp_path)


def test_a_full_disk_under_images_keeps_no_half_file(small_disk: Path) -> None:
    images = FileImageStore(small_disk / "images")
    kept = images.put(b"first" * 1000)
    ballast = fill(small_disk, 2**20)
    with pytest.raises(RecordError) as caught:
        images.put(os.urandom(2 * 2**20))
    assert "Make room" in caught.value.remedy
    assert (list(images.digests()), list(images.leftovers())) == ([kept], [])
    ballast.unlink()
    assert images.put(os.urandom(2 * 2**20))


def test_a_full_disk_under_postgresql_loses_nothing(
    small_disk: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    space = small_disk / "space"
    space.mkdir()
    if postgres.account is not None:
        shutil.chown(space, postgres.account)
    postgres.run(f"CREATE TABLESPACE small LOCATION '{space}'")
    url = postgres.empty(tablespace="small")
    try:
        with closing(open_records(url)) as store:
            store.check()
        # The log of changes is on another disk: without that one the server itself stops.
        assert_full_disk_is_survived(url, fill(small_disk, 3 * 2**20), tmp_path)
    finally:
        postgres.run(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")
        postgres.run("DROP TABLESPACE small")


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_that_jumps_changes_neither_order_nor_uniqueness(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)

    def set_clock(moment: datetime) -> None:
        stamp = int(moment.timestamp() * 1e9)
        monkeypatch.setattr("inspection.names.time.time_ns", lambda: stamp)
        monkeypatch.setattr(writer, "_this_month", lambda: moment.year * 100 + moment.month)

    jumps = [timedelta(), timedelta(days=-400), timedelta(hours=1), timedelta(days=-40)]
    with closing(open_records(any_url)) as store:
        for jump in jumps:
            set_clock(now - timedelta(days=2) + jump)
            for _ in range(5):
                store.append(draft_of(new_key(), serial="s"))
    for jump in reversed(jumps):  # and with a server that starts while the clock is wrong
        set_clock(now - timedelta(days=2) + jump)
        with closing(open_records(any_url)) as store:
            store.append(draft_of(new_key(), serial="s"))
    monkeypatch.undo()
    with closing(open_records(any_url)) as store:
        store.append(draft_of(new_key(), serial="s"))
        changes = assert_order_holds(store, any_url, tmp_path)
        attempts = [getattr(change.entry, "attempt", None) for change in changes]
        assert attempts == list(range(1, 26))
        assert len(store.part_history("knuckle", "s")) == 25


def test_a_clock_that_ran_ahead_and_was_set_back_is_no_damage(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=500)
    written = ahead.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with closing(open_records(any_url)) as store:
        store.append(make_draft(serial="s1"))
        monkeypatch.setattr(writer, "_this_month", lambda: ahead.year * 100 + ahead.month)
        store.append(make_draft(serial="s2", received_at=written))
        monkeypatch.undo()
        store.append(make_draft(serial="s3"))
    assert months_doubted(any_url, tmp_path) == []


def test_a_month_that_no_clock_has_said_is_damage(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_this_month", lambda: 209901)
    with closing(open_records(any_url)) as store:
        store.append(make_draft(serial="s1"))
    monkeypatch.undo()
    (doubt,) = months_doubted(any_url, tmp_path)
    assert "its month 209901" in doubt


def months_doubted(url: str, tmp_path: Path) -> list[str]:
    """What `verify` says of months; the drafts here have no image files."""
    report = verify_store(url, FileImageStore(tmp_path / "images", read_only=True))
    return [problem for problem in report.problems if "month" in problem]
