"""Records as the release before this one wrote them: tables of 0001, bodies of its form."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from inspection.canonical import canonical_bytes
from inspection.names import TraceIds, new_inspection_id
from inspection.proofs.merkle import Frontier, leaf_hash
from inspection.stores.database import open_engine
from inspection.stores.steps import take_steps

if TYPE_CHECKING:
    from pathlib import Path

_IN_INDEX: Final = (
    *("id", "trace_id", "product", "part", "serial", "station", "capture_id", "idempotency_key"),
    *("request_sha256", "lot", "machine", "mould", "disposition", "reason", "attempt"),
    "received_at",
)
# The clock of the third went back; the fifth is of the next month.
_TIMES: Final = (
    "2026-02-28T23:59:58.250Z",
    "2026-03-01T00:00:01.250Z",
    "2026-02-28T23:59:59.250Z",
    "2026-03-15T08:00:00.000Z",
    "2026-04-01T08:00:00.000Z",
)


def records_of_0001(path: Path) -> list[str]:
    """Make a SQLite file of five inspections, the first reviewed; the IDs of all six in order."""
    engine = open_engine(f"sqlite:///{path}", writing=True)
    with engine.begin() as connection:
        take_steps(connection, "0001")
    engine.dispose()
    tree, trace_ids = Frontier(), TraceIds()
    ids: list[str] = []
    with closing(sqlite3.connect(path)) as database, database:
        for number, time in enumerate(_TIMES, start=1):
            body = _inspection(number, time, trace_ids.next())
            ids.append(body["id"])
            _add(database, tree, "inspection", body)
            row = (tree.size, *(body[name] for name in _IN_INDEX))
            database.execute(f"INSERT INTO inspections VALUES ({', '.join('?' * len(row))})", row)
        body = {
            "id": new_inspection_id(),
            "inspection_id": ids[0],
            "disposition": "pass",
            "reason": "surface mark, no crack",
            "reviewer": "kim",
            "reviewed_at": "2026-04-01T09:00:00.000Z",
        }
        ids.append(body["id"])
        _add(database, tree, "review", body)
        review = [body[key] for key in ("id", "inspection_id", "disposition", "reviewer")]
        row = (tree.size, *review, body["reviewed_at"])
        database.execute("INSERT INTO reviews VALUES (?, ?, ?, ?, ?, ?)", row)
        database.execute(
            "INSERT INTO access_keys VALUES ('abcdefgh', 'line-1', 'station', ?, ?, NULL)",
            (bytes(32), "2026-02-01T00:00:00.000Z"),
        )
    return ids


def _add(database: sqlite3.Connection, tree: Frontier, kind: str, body: dict[str, Any]) -> None:
    text = canonical_bytes(body)
    leaf = leaf_hash(text)
    tree.add(leaf)
    row = (tree.size, kind, body["id"], text, leaf)
    database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)
    head = (tree.size, tree.root(), b"".join(tree.peaks))
    database.execute("INSERT INTO tree_heads VALUES (?, ?, ?)", head)


def _inspection(number: int, received_at: str, trace_id: str) -> dict[str, Any]:
    failed = number % 2 == 1
    unread = number == 5
    region = {"top": 10, "left": 20, "height": 30, "width": 40}
    found = {"defect_class": "crack", "probability": 0.875, "region": region}
    why = {"code": "defect", "detail": "crack: probability 0.875 is at or above its fail limit"}
    return {
        "id": new_inspection_id(),
        "trace_id": trace_id,
        "part": f"unread:{trace_id}" if unread else "0000000001",
        "serial": None if unread else "0000000001",
        "station": "xray-1",
        "product": "knuckle",
        "lot": "L7",
        "machine": "LPC-2",
        "mould": None,
        "cavity": None,
        "capture_id": f"old-capture-{number}",
        "attempt": 1 if unread else number,
        "reason": "first",
        "disposition": "fail" if failed else "pass",
        "probability": {"crack": 0.875 if failed else 0.01},
        "novelty": 1.25,
        "findings": [found] if failed else [],
        "reasons": [why] if failed else [],
        "model": {"name": "knuckle-net", "version": 3, "digest": "ab" * 32},
        "recipe": {"product": "knuckle", "revision": 2, "digest": "cd" * 32},
        "image_sha256": hashlib.sha256(f"old image {number}".encode()).hexdigest(),
        "image_media_type": "image/tiff",
        "image_size_px": [2048, 2048],
        "evidence": None,
        "captured_at": "2026-03-01T08:00:00+09:00",
        "received_at": received_at,
        "timings_ms": {"decode": 1.25, "infer": 2.5},
        "idempotency_key": f"old-key-{number}",
        "request_sha256": hashlib.sha256(f"request {number}".encode()).hexdigest(),
        "principal": None,
    }


def images_of_0001() -> list[bytes]:
    """The images that these records name."""
    return [f"old image {number}".encode() for number in range(1, len(_TIMES) + 1)]
