"""Every question that is asked of records, over ten million inspections, on both databases.

    .venv/bin/python benchmarks/records/ten_million.py [--count 10000000] [--short]
        [--on sqlite postgresql] [--folder FOLDER] [--runs 200] [--out FILE]

Fills empty records in bulk with four months of a made-up plant (`plant.py`): tables and indexes are
those of the migrations. Then it opens them as a server does and asks each question RUNS times, with
other values each time, through `SqlRecordStore`: bodies are read, proven against their leaves and
parsed, as for every answer. Prints a Markdown table; `results.md` keeps one. A run of ten million
needs 25 GB of FOLDER for one database at a time. `--short` is 20,000 records and a few rounds.

PostgreSQL is a server of its own with `shared_buffers = 2GB` and `effective_cache_size = 8GB`, and
is vacuumed after the filling, as autovacuum does in time; all else is as it comes. SQLite is used
as the store opens it, without statistics.

Times are what the caller waits. On a machine that has other work too, "own" is that less the time
that the caller's thread and the database's process were ready to run and had no core, as Linux
counts it (`schedstat`): what the question costs by itself, reading the disk included.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import psycopg

from benchmarks.records._plant import Plant
from benchmarks.records._questions import Question, add_statements, questions
from inspection.stores.database import ensure_month, open_engine
from inspection.stores.migrate import ensure_schema
from inspection.stores.places import records_path, records_url
from inspection.stores.rows import insert_rows
from inspection.stores.schema import counts, tallies
from inspection.stores.sql import open_records
from tests.postgres_server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

TABLES = ("entries", "inspections", "findings", "tree_heads")
SETTINGS = {"shared_buffers": "2GB", "effective_cache_size": "8GB"}
TYPES = {
    "entries": ("int8", "int4", "text", "text", "bytea", "bytea"),
    "inspections": ("int8", *["text"] * 14, "int4", "text", "text", "text"),
    "findings": ("text", "int8"),
    "tree_heads": ("int8", "bytea", "bytea"),
}


# --- filling -----------------------------------------------------------------------------------


def said(text: str) -> None:
    """Say how far it is; the table alone goes to standard output."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def told(what: str, count: int) -> Iterator[None]:
    """Say how long something took."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    said(f"{what}: {took:.0f} s ({count / max(took, 1e-9):,.0f} records/s)")


def write_sums(connection: Connection, plant: Plant) -> None:
    """The roll-ups, and the nodes of the tree."""
    insert_rows(connection, counts, plant.counts())
    insert_rows(connection, tallies, plant.tallies())
    plant.tree.write(connection)


def fill_sqlite(url: str, folder: Path, plant: Plant) -> None:
    """Rows first, then the indexes that are not unique: the same file, sooner."""
    ensure_schema(url, lock_wait_s=5)
    path = records_path(folder)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            database.execute(f"PRAGMA {pragma}")
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name = 'inspections'"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        with told("SQLite: rows", plant.count):
            for batch in plant.batches():
                database.execute("BEGIN")
                for table in TABLES:
                    rows = getattr(batch, table)
                    if rows:
                        places = ", ".join("?" * len(rows[0]))
                        inserting = f"INSERT INTO {table} VALUES ({places})"  # noqa: S608
                        database.executemany(inserting, rows)
                database.execute("COMMIT")
        with told("SQLite: indexes", plant.count):
            for _, sql in indexes:
                database.execute(sql)
    write_engine = open_engine(url, writing=True)
    with write_engine.begin() as connection:
        write_sums(connection, plant)
    write_engine.dispose()


def fill_postgresql(url: str, plant: Plant) -> None:
    """Rows by COPY, then the indexes that are not unique, then what autovacuum would do."""
    ensure_schema(url, lock_wait_s=5)
    engine = open_engine(url, writing=True)
    known: set[int] = set()
    with closing(psycopg.connect(url, autocommit=True)) as database:
        database.execute("SET synchronous_commit = off; SET maintenance_work_mem = '400MB'")
        indexes = database.execute(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i "
            "WHERE i.indrelid = 'inspections'::regclass AND NOT i.indisunique"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        with told("PostgreSQL: rows", plant.count):
            for batch in plant.batches():
                for month in plant.months - known:
                    with engine.begin() as connection:
                        ensure_month(connection, month)
                known = set(plant.months)
                for table in TABLES:
                    rows = getattr(batch, table)
                    copying = f"COPY {table} FROM STDIN (FORMAT BINARY)"
                    with database.cursor() as cursor, cursor.copy(copying) as copy:
                        copy.set_types(TYPES[table])
                        for row in rows:
                            copy.write_row(row)
        with told("PostgreSQL: indexes", plant.count):
            for _, sql in indexes:
                database.execute(sql)
        with engine.begin() as connection:
            write_sums(connection, plant)
        with told("PostgreSQL: vacuum", plant.count):
            database.execute("VACUUM (ANALYZE)")
    engine.dispose()


# --- asking ------------------------------------------------------------------------------------


def ask(url: str, plant: Plant, runs: int) -> tuple[dict[str, Any], list[Question]]:
    """The times of each question in ms, most of them after the first few rounds."""
    asked = questions(plant.count)
    results: dict[str, Any] = {}
    with closing(open_records(url)) as store:
        add_statements(store, plant.count)
        waits = [Path("/proc/thread-self/schedstat")]
        if url.startswith("postgresql"):
            # One caller: the pool always hands out the same connection.
            with store.reading("the server process is not known") as connection:
                process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            waits.append(Path(f"/proc/{process}/schedstat"))
        gc.disable()
        for question in asked:
            rng = random.Random(question.name)
            took: list[float] = []
            own: list[float] = []
            held = 0
            for number in range(runs + 5):
                call = question.prepare(rng)
                waited = sum(map(without_a_core, waits))
                start = time.perf_counter()
                answer = call(store)
                passed = (time.perf_counter() - start) * 1000
                waited = sum(map(without_a_core, waits)) - waited
                if number >= 5:  # the plans and pages that a running server has
                    took.append(passed)
                    own.append(passed - min(waited, passed))
                    held += question.size(answer)
            gc.collect()
            results[question.name] = {
                "p50": statistics.median(took),
                "p99": statistics.quantiles(took, n=100)[98],
                "own": statistics.quantiles(own, n=100)[98],
                "rows": held / runs,
            }
            said(f"{question.name}: {results[question.name]}")
        gc.enable()
    return results, asked


def without_a_core(schedstat: Path) -> float:
    """How long a thread was ready to run and did not, in ms."""
    return int(schedstat.read_text().split()[1]) / 1e6


def on_sqlite(folder: Path, count: int, runs: int) -> dict[str, Any]:
    """One run on SQLite."""
    data = Path(tempfile.mkdtemp(dir=folder))
    try:
        plant = Plant(count)
        fill_sqlite(records_url(data), data, plant)
        results, _ = ask(records_url(data), plant, runs)
        size = sum(path.stat().st_size for path in data.iterdir() if path.is_file())
        return {"results": results, "bytes": size, "body": plant.body_bytes / count}
    finally:
        shutil.rmtree(data)


def on_postgresql(folder: Path, count: int, runs: int) -> dict[str, Any]:
    """One run on a PostgreSQL server of its own."""
    with running_server(folder) as server:
        lines = "".join(f"{name} = {value}\n" for name, value in SETTINGS.items())
        with (server.data / "postgresql.conf").open("a") as settings:
            settings.write(lines)
        server.stop()
        server.start()
        server.run("CREATE DATABASE records")
        url, plant = server.url("records"), Plant(count)
        fill_postgresql(url, plant)
        results, _ = ask(url, plant, runs)
        with closing(psycopg.connect(url)) as database:
            row = database.execute("SELECT pg_database_size('records')").fetchone()
        assert row is not None
        return {"results": results, "bytes": row[0], "body": plant.body_bytes / count}


def table(found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of what was measured."""
    names = list(next(iter(found.values()))["results"])
    heads = " | ".join(f"{name} p50 | p99 | own p99 ms" for name in found)
    lines = [f"| question | rows | {heads} |", "|---|--:|" + "--:|--:|--:|" * len(found)]
    for name in names:
        each = [database["results"][name] for database in found.values()]
        times = " | ".join(
            f"{one['p50']:.1f} | {one['p99']:.1f} | {one['own']:.1f}" for one in each
        )
        lines.append(f"| {name} | {each[0]['rows']:.0f} | {times} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--on", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--out", type=Path, help="where the figures go besides, as JSON")
    parser.add_argument("--short", action="store_true", help="20,000 records, 20 rounds")
    options = parser.parse_args()
    if options.short:
        options.count, options.runs = 20_000, 20
    run = {"sqlite": on_sqlite, "postgresql": on_postgresql}
    found: dict[str, dict[str, Any]] = {}
    for name in options.on:
        found[name] = run[name](options.folder, options.count, options.runs)
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=1))
    sizes = ", ".join(f"{name} {each['bytes'] / 1e9:.1f} GB" for name, each in found.items())
    print(
        f"{options.count:,} inspections, bodies of {next(iter(found.values()))['body']:.0f} bytes; "
        f"{sizes}; {options.runs} rounds; {os.cpu_count()} CPU cores, load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}\n"
    )
    print(table(found))
    for what in ("p99", "own"):
        every = [one[what] for each in found.values() for one in each["results"].values()]
        print(
            f"\n{what}: the slowest {max(every):.1f} ms; {sum(t > 20 for t in every)} above 20 ms"
        )


if __name__ == "__main__":
    main()
