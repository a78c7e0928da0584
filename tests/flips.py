"""Flipping the bytes of a small store, and finding out whether that is noticed.

    flip -> the same can be read as before?  -> nothing was changed: space that no row uses
         -> something else can be read       -> `verify` has to notice

What can be read is every row of every table, every entry of every index, and every definition. Not
part of the records, and so not of what is noticed: NOT_RECORDS, and the month that an entry is
filed under, which nothing reads on SQLite, as long as the order of months holds.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from inspection.errors import InspectionError
from inspection.proofs.notes import WITNESS, Checkpoint, SigningKey, cosign
from inspection.stores import database, definitions, verify
from inspection.stores.audit import AuditEvent, AuditLog
from inspection.stores.checkpoints import CheckpointMaker
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.verify import Outside, VerifyReport, verify_store
from tests.inspection.stores.every_kind import build

LOG: Final = SigningKey(name="plant.example/line-1", type=1, seed=bytes(range(32)))
HALL: Final = SigningKey(name="witness.example/hall", type=WITNESS, seed=bytes(range(32, 64)))
KEYS: Final = (LOG.verifier, HALL.verifier)
NOT_RECORDS: Final = frozenset({"access_keys", "server_keys", "submissions"})
PAGE_BYTES: Final = 512

Dump = dict[str, Any]

_engines: dict[str, Engine] = {}


def small_store(folder: Path) -> Path:
    """A data folder with entries of every kind and a cosigned checkpoint, on pages of 512 bytes."""
    build(folder)
    with closing(AuditLog(records_url(folder))) as log:
        at = "2026-11-21T10:00:00.000Z"
        log.add(AuditEvent(at=at, act="key-created", by=name, detail="a key") for name in "ab")
    with closing(CheckpointMaker(records_url(folder), LOG)) as maker:
        made = maker.make()
    note = made.note.with_signatures((cosign(made.note.text, HALL, seconds=1_700_000_000),))
    path = records_path(folder)
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        size = Checkpoint.parse(note.text).size
        opened.execute("UPDATE checkpoints SET note = ? WHERE size = ?", (str(note), size))
        opened.execute("PRAGMA journal_mode=DELETE")
        opened.execute(f"PRAGMA page_size={PAGE_BYTES}")
        opened.execute("VACUUM")
        opened.execute("PRAGMA journal_mode=WAL")
    return folder


def check(folder: Path) -> VerifyReport | InspectionError:
    """What `inspection verify` finds, statements compiled once for all times."""
    images = FileImageStore(images_dir(folder), read_only=True)
    before = database.open_engine

    def open_engine(url: str, **words: Any) -> Engine:
        if url not in _engines:
            _engines[url] = before(url, **words)
        return _engines[url]

    vars(verify)["open_engine"] = open_engine
    try:
        return verify_store(records_url(folder), images, outside=Outside(keys=KEYS))
    except InspectionError as error:
        return error
    finally:
        vars(verify)["open_engine"] = before


def noticed(folder: Path) -> bool:
    """Whether `inspection verify` says that something is wrong."""
    found = check(folder)
    return isinstance(found, InspectionError) or not found.ok


def dump(path: Path) -> Dump | None:
    """All that can be read from a database; None when it cannot be read to its end."""
    found: Dump = {}
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as opened:
            opened.text_factory = bytes
            rows = opened.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
            found["definitions"] = sorted(
                (*map(_text, row[:3]), definitions.plain(_text(row[3]))) for row in rows
            )
            for kind, name, table, _ in found["definitions"]:
                if kind == "table":
                    found[name] = opened.execute(f'SELECT * FROM "{name}"').fetchall()
                elif not name.startswith("sqlite_autoindex"):
                    found[name] = opened.execute(
                        f'SELECT * FROM "{table}" INDEXED BY "{name}" WHERE {_partial(name)}'
                    ).fetchall()
            for table in [row[1] for row in found["definitions"] if row[0] == "table"]:
                for _, name, _, origin, _ in opened.execute(f'PRAGMA index_list("{table}")'):
                    if origin in (b"u", b"pk"):
                        columns = opened.execute(f'PRAGMA index_info("{_text(name)}")').fetchall()
                        words = ", ".join(f'"{_text(column)}"' for _, _, column in columns)
                        found[_text(name).casefold()] = opened.execute(
                            f'SELECT {words} FROM "{table}" ORDER BY {words}'
                        ).fetchall()
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError):
        return None
    return found


def only_beside_the_records(one: Dump, other: Dump | None) -> bool:
    """Whether two dumps differ in nothing but what is no part of the records."""
    if other is None or one.keys() != other.keys():
        return False
    for name in one:
        same = one[name] == other[name]
        if not same and name.split("_autoindex_")[-1].rsplit("_", 1)[0] in NOT_RECORDS:
            same = True
        if not same and name == "entries":
            same = [row[:1] + row[2:] for row in one[name]] == [
                row[:1] + row[2:] for row in other[name]
            ]
        if not same and name not in NOT_RECORDS:
            return False
    return True


def difference(one: Dump, other: Dump | None) -> str:
    """What two dumps differ in, cut short."""
    if other is None:
        return "it cannot be read to its end"
    told = []
    for name in one.keys() | other.keys():
        before, after = one.get(name, []), other.get(name, [])
        if before != after:
            gone = [row for row in before if row not in after][:2]
            come = [row for row in after if row not in before][:2]
            told.append(f"{name}: {gone} became {come}")
    return "; ".join(told)[:2000]


class FlippingGround:
    """A copy of a small store that is flipped, checked and put right, again and again."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = Path(shutil.copytree(folder, scratch / "var"))
        self.path = records_path(self.folder)
        self.good = self.path.read_bytes()
        self.before = dump(self.path)
        assert self.before is not None
        assert not noticed(self.folder), check(self.folder)
        self.unread = self.beside = self.found = 0
        self.missed: list[str] = []

    def flip(self, at: int, bit: int) -> bool:
        """Whether a flip of this bit is noticed, or changes nothing that can be read."""
        assert self.before is not None
        self._write(self.good[:at] + bytes([self.good[at] ^ 1 << bit]) + self.good[at + 1 :])
        after = dump(self.path)
        if after == self.before:
            self.unread += 1
        elif noticed(self.folder):
            self.found += 1
        elif only_beside_the_records(self.before, after):
            self.beside += 1
        else:
            self.missed.append(f"byte {at}, bit {bit}: {difference(self.before, after)}")
            return False
        return True

    def _write(self, data: bytes) -> None:
        for name in ("-wal", "-shm"):
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        self.path.write_bytes(data)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _partial(index: str) -> str:
    """The condition of a partial index, without which it cannot be used."""
    return {
        "ix_inspections_view_set": "view_set IS NOT NULL",
        "ix_inspections_reason_sequence": "reason <> 'first'",
        "uq_access_keys_active_name": "revoked_at IS NULL",
        "ix_holds_standing": "released IS NULL",
    }.get(index, "1")
