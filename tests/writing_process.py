"""A process that appends until it is killed, and can be had again in milliseconds.

    python -m tests.writing_process URL LEDGER      loads everything once; for each line on stdin
      -> fork -> open the records -> threads append, each like a station -> SIGKILL from outside

The ledger is what the stations remember: a line `try KEY` before each request, `got KEY ID` after
its answer. A station without an answer sends the same request again to the next process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inspection.errors import RecordError
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from inspection.record import InspectionDraft
    from inspection.stores.sql import SqlRecordStore

STATIONS: Final = 4
IMAGE: Final = b"the image of every part"


def main() -> None:
    """Fork a writer for every line that comes; say its process number, and when it has ended."""
    url, ledger = sys.argv[1], Path(sys.argv[2])
    open_records(url).close()  # loads what is loaded late
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            write(url, ledger, number)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


def write(url: str, ledger: Path, number: int) -> None:
    """Append until killed."""
    unanswered = unanswered_in(ledger)
    store = open_records(url)
    # One write a line, so that lines of several threads do not mix.
    book = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stations = [
        threading.Thread(
            target=station,
            args=(store, book, f"{number}-{n}", unanswered[n::STATIONS]),
            daemon=True,
        )
        for n in range(STATIONS)
    ]
    for thread in stations:
        thread.start()
    for thread in stations:
        thread.join()


def station(store: SqlRecordStore, book: int, name: str, unanswered: list[str]) -> None:
    """Send again what was not answered, then new parts without end."""
    for key in unanswered:
        send(store, book, key)
    for count in range(10**9):
        key = f"{name}-{count}"
        os.write(book, f"try {key}\n".encode())
        send(store, book, key)


def send(store: SqlRecordStore, book: int, key: str) -> None:
    """One request, the same for the same key; a refusal is no answer."""
    with suppress(RecordError):
        record = store.append(draft_of(key))
        os.write(book, f"got {key} {record.id}\n".encode())


def draft_of(key: str, **fields: Any) -> InspectionDraft:
    """The request of this key; all name one image, so that a store of one file is whole."""
    image = hashlib.sha256(IMAGE).hexdigest()
    serial = f"s{len(key) % 3}"
    said = {"idempotency_key": key, "capture_id": key, "serial": serial, "image_sha256": image}
    made = make_draft(**{**said, **fields})
    return replace(made, evidence=None)


def read_ledger(ledger: Path) -> tuple[list[str], dict[str, str]]:
    """The keys that were tried, and the ID that each answered one got."""
    tried, got = dict[str, None](), dict[str, str]()
    if ledger.exists():
        for line in ledger.read_text().splitlines():
            word, key, *rest = line.split()
            if word == "try":
                tried[key] = None
            else:
                assert got.setdefault(key, rest[0]) == rest[0], "one request, two answers"
    return list(tried), got


def unanswered_in(ledger: Path) -> list[str]:
    """The keys whose stations still wait."""
    tried, got = read_ledger(ledger)
    return [key for key in tried if key not in got]


if __name__ == "__main__":
    main()
