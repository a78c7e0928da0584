"""A real server on a loopback port, for tests: in this process, or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpx

from inspection.registry import Registry
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir
from serving.app import create_app
from serving.cli import WebServer, web_config
from serving.settings import LimitSettings, ServerSettings, Settings
from tests.spot_model import SERIALS, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving.app import MakeEngine
    from serving.state import Server

PRODUCT = "KN-42"


def until(holds: Callable[[], Any], *, within_s: float = 30.0) -> None:
    """Wait for what happens after an answer, such as its line in the log."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A server that runs in this process, and a client of it."""

    address: str
    http: httpx.Client
    server: Server
    folder: Path

    def post(
        self,
        image: bytes,
        *,
        key: str | None = "default",
        content_type: str | None = "image/png",
        headers: dict[str, str] | None = None,
        **fields: str,
    ) -> httpx.Response:
        """POST an image with sensible fields, each of which can be replaced; "" leaves it out."""
        values = {"station": "xray-1", "product": PRODUCT, "capture_id": "c-1", **fields}
        sent = {"Idempotency-Key": f"key-{values['capture_id']}" if key == "default" else key}
        sent["Content-Type"] = content_type
        given = {name: value for name, value in sent.items() if value is not None}
        return self.http.post(
            "/v1/inspections",
            params={name: value for name, value in values.items() if value != ""},
            content=image,
            headers=given | (headers or {}),
        )

    def review(
        self, inspection_id: str, *, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """Read an inspection, and decide on it as it was read."""
        values = {"disposition": "pass", "reason": "seen", **fields}
        place = f"/v1/inspections/{inspection_id}"
        tag = self.http.get(place, headers=headers).headers.get("ETag", '"none"')
        sent = {"If-Match": tag, **(headers or {})}
        return self.http.post(f"{place}/reviews", json=values, headers=sent)

    def add(self, place: str, key: str, *, headers: Any = None, **fields: Any) -> httpx.Response:
        """POST a statement as JSON under a key."""
        sent = {"Idempotency-Key": key, **(headers or {})}
        return self.http.post(place, json=fields, headers=sent)

    def kept(self) -> tuple[int, frozenset[str]]:
        """How many inspections are on record, and every file that is kept."""
        listed = self.http.get("/v1/inspections", params={"limit": "1000"}).json()
        assert listed["next_cursor"] is None
        store = FileImageStore(images_dir(self.server.settings.data_dir), read_only=True)
        files = [*store.digests(), *(str(left.path) for left in store.leftovers())]
        return len(listed["items"]), frozenset(files)


def serial(number: int) -> str:
    """A mark that fits the spot model's format."""
    mark: str = SERIALS.complete(f"KN42{number:05d}").text
    return mark


def promoted_spot(weights: Path, product: str = PRODUCT, **options: Any) -> Path:
    """Write a spot package for a product, promote it, and return its folder."""
    options.setdefault("model", f"spot-{product.lower()}")
    package = write_spot_package(weights, product=product, **options)
    Registry(weights).promote(package.reference)
    folder: Path = package.folder
    return folder


def settings_in(
    folder: Path,
    *,
    products: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    max_bytes: int = 4_000_000,
    max_pixels: int = 2_000_000,
    workers: int = 8,
) -> Settings:
    """Settings for a server whose folders lie in `folder`."""
    return Settings(
        data_dir=folder / "var",
        weights_dir=folder / "weights",
        products=products,
        server=ServerSettings(host=host, workers=workers),
        limits=LimitSettings(max_bytes=max_bytes, max_pixels=max_pixels),
    )


@contextlib.contextmanager
def running(settings: Settings, *, make_engine: MakeEngine | None = None) -> Iterator[Live]:
    """A server in a thread of this process, ready; stopped in order at the end."""
    app = create_app(settings, make_engine=make_engine)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    web = WebServer(web_config(app, settings))
    started, failures = threading.Event(), list[BaseException]()

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            started.set()
            await web.serve(sockets=[listener])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001  it is raised again where the test is
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    started.wait()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        if not failures:
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield Live(
                    address=address,
                    http=client,
                    server=app.state.server,
                    folder=settings.data_dir.parent,
                )
    finally:
        web.should_exit = True
        thread.join()
        listener.close()
    if failures:
        raise failures[0]


@dataclass(slots=True, kw_only=True)
class ServerProcess:
    """`inspection serve` in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(timeout=60)
        self._close()
        return status

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(timeout=60)
        self._close()

    def _close(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def serve_command(folder: Path, *options: str) -> list[str]:
    """The command line of a server whose folders lie in `folder`."""
    return [
        *(sys.executable, "-m", "inspection.cli", "serve"),
        *("--data-dir", str(folder / "var"), "--weights-dir", str(folder / "weights"), *options),
    ]


def environment() -> dict[str, str]:
    """This process's, without settings of somebody else's server, and with the source in reach."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INSPECTION_")}
    return kept | {"PYTHONPATH": str(Path(__file__).parent.parent)}


def spawn(
    folder: Path, *options: str, wrapper: tuple[str, ...] = (), errors: IO[str] | None = None
) -> subprocess.Popen[str]:
    """Start `inspection serve` and do not wait for it."""
    return subprocess.Popen(
        [*wrapper, *serve_command(folder, *(options or ("--port", "0")))],
        stdout=subprocess.PIPE,
        stderr=errors or subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env=environment(),
    )


def start_process(
    folder: Path, *options: str, wrapper: tuple[str, ...] = (), errors: IO[str] | None = None
) -> ServerProcess:
    """Start `inspection serve` and wait until it says that it is ready."""
    process = spawn(folder, *options, wrapper=wrapper, errors=errors)
    assert process.stdout is not None
    line = process.stdout.readline()
    server = ServerProcess(process=process, address=line.split()[-1] if line else "")
    if "ready at" not in line:
        server.kill()
        raise AssertionError(f"the server did not become ready: {line!r}")
    return server
