"""Writer processes that are killed while somebody follows the changes; then it is counted.

    4 processes: append -> durable -> a line in their own file        SIGKILL, start again, ...
    one follower: wait_beyond(n) -> changes(n) -> n + 1, n + 2, ...   in another process's store

What the follower saw is compared with what the writers were promised, and with what is there. The
writers are forked from one process that has the modules and nothing else, no thread, no connection:
starting one costs nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from inspection.errors import RecordError
from inspection.record import InspectionRecord
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from inspection.store import Change

ROOT = Path(__file__).resolve().parents[1]


def write(url: str, promised: Path, threads: int) -> None:
    """Append until killed; each record that is promised gets a line."""
    name = promised.name
    with closing(open_records(url, lock_wait_s=30)) as store, promised.open("a") as file:

        def append(thread: int) -> None:
            for number in range(10**9):
                capture = f"{thread}-{number}"
                draft = make_draft(station=name, capture_id=capture, idempotency_key=capture)
                store.append(draft)
                file.write(f"{name} {capture}\n")
                file.flush()

        workers = [threading.Thread(target=append, args=(n,), daemon=True) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def fork_on_demand(url: str, threads: int) -> None:
    """A writer for each line that comes in, which names its file; says its process ID."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever is killed needs no burial
    for line in sys.stdin:
        promised = Path(line.rstrip("\n"))
        process = os.fork()
        if process == 0:
            try:
                write(url, promised, threads)
            except BaseException:  # noqa: BLE001  a writer never ends by itself
                promised.with_suffix(".failed").write_text(traceback.format_exc())
            os._exit(1)
        print(process, flush=True)


class Writers:
    """The writer processes."""

    def __init__(self, url: str, folder: Path, threads: int) -> None:
        words = ["--url", url, "--threads", str(threads)]
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.feed_writers", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._folder = folder
        self._alive: list[tuple[int, Path]] = []
        self.files: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._alive:
            self.kill(0)
        self._nursery.communicate()

    def start(self) -> None:
        """One more."""
        promised = self._folder / f"w{len(self.files) + 1}"
        self.files.append(promised)
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print(promised, file=self._nursery.stdin, flush=True)
        self._alive.append((int(self._nursery.stdout.readline()), promised))

    def kill(self, place: int) -> None:
        """SIGKILL for one of those that live."""
        process, _ = self._alive.pop(place)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def until_all_write(self) -> None:
        """Wait until each that lives was promised something."""
        limit = time.monotonic() + 60
        while not all(file.exists() and file.stat().st_size for _, file in self._alive):
            if time.monotonic() > limit:
                raise AssertionError("a writer wrote nothing for a minute")
            time.sleep(0.02)

    def promised(self) -> list[str]:
        """All lines; a last one without its end is no promise that came whole."""
        texts = [file.read_text() for file in self.files if file.exists()]
        return [line for text in texts for line in text.rpartition("\n")[0].splitlines()]

    def failures(self) -> list[str]:
        """Of writers that ended by themselves."""
        return [file.read_text() for file in self._folder.glob("w*.failed")]


@dataclass(slots=True)
class Follower:
    """Follows the changes from the first on, as an MES does; opens anew now and then."""

    url: str
    seen: list[tuple[int, str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Until told to stop, and everything is read."""
        after, stopping = 0, False
        while not stopping:
            with closing(open_records(self.url)) as store:
                for _ in range(200):
                    stopping = self._stop.is_set() and store.newest() == after
                    if stopping:
                        break
                    store.wait_beyond(after, 0.2)
                    try:
                        changes = store.changes(after, limit=500)
                    except RecordError as error:
                        self.wrong.append(str(error))
                        return
                    for change in changes:
                        after += 1
                        if change.sequence != after:
                            self.wrong.append(f"{change.sequence} came where {after} was due")
                        if isinstance(change.entry, InspectionRecord):
                            row = (change.sequence, change.entry.station, change.entry.capture_id)
                            self.seen.append(row)

    def stop(self) -> None:
        """Read what there is, then stop."""
        self._stop.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it; everything in it but the first three is to be empty."""

    records: int
    promised: int
    kills: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    twice: tuple[str, ...]
    otherwise: bool


def run(
    url: str, folder: Path, *, writers: int, threads: int, kills: int, every_s: float, seed: int
) -> Outcome:
    """Let `writers` processes write, kill one after the other, and follow all the while."""
    rng = random.Random(seed)
    follower = Follower(url)
    following = threading.Thread(target=follower.follow)
    with Writers(url, folder, threads) as processes:
        following.start()
        try:
            for _ in range(writers):
                processes.start()
            for _ in range(kills):
                processes.until_all_write()
                time.sleep(rng.uniform(0.3, 1.7) * every_s)
                processes.kill(rng.randrange(writers))
                processes.start()
            processes.until_all_write()
            time.sleep(every_s)
        except BaseException:
            follower.stop()
            raise
    follower.stop()
    following.join()
    promised = processes.promised()
    seen = [f"{station} {capture}" for _, station, capture in follower.seen]
    there: list[Change] = []
    with closing(open_records(url)) as store:
        while page := store.changes(len(there), limit=1000):
            there += page
    return Outcome(
        records=len(seen),
        promised=len(promised),
        kills=kills,
        wrong=(*follower.wrong, *processes.failures()),
        missing=tuple(sorted(set(promised) - set(seen))),
        twice=tuple(line for line, count in Counter(seen).items() if count > 1),
        otherwise=[change.sequence for change in there] != [row[0] for row in follower.seen],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=fork_on_demand.__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    fork_on_demand(options.url, options.threads)
