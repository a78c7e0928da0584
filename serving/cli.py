"""The commands `inspection serve` and `inspection demo`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import uvicorn

from inspection.errors import ConfigurationError
from serving.app import create_app, open_server
from serving.connections import guarded_protocol
from serving.envelope import log_to_stderr
from serving.memory import few_arenas
from serving.routes.health import checks_of
from serving.settings import Settings, load_settings
from serving.supervising import Notifier, supervise
from serving.threads import take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from fastapi import FastAPI

FIRST_PORT: Final = 8400
PORTS_TRIED: Final = 100
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file.  [default: $INSPECTION_CONFIG, or inspection.toml if it is there]",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 takes the first free from 8400."
)
@click.option("--data-dir", type=_FOLDER, help="Records and images.  [default: var]")
@click.option("--weights-dir", type=_FOLDER, help="Model packages.  [default: weights]")
@click.option("--check", is_flag=True, help="Try everything out, say what is wrong, and stop.")
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    weights_dir: Path | None,
    *,
    check: bool,
) -> None:
    """Judge parts over HTTP, and keep their records.

    Prints its address when it is ready. Stops on Ctrl-C or SIGTERM after the requests that are
    being worked on.
    """
    try:
        settings = load_settings(
            config,
            overrides={
                "server.host": host,
                "server.port": port,
                "data_dir": data_dir,
                "weights_dir": weights_dir,
            },
        )
    except ConfigurationError as error:
        raise click.UsageError(f"{error}. {error.remedy}") from error
    log_to_stderr()
    few_arenas()
    take_turns()
    if check:
        _check(settings)
        return
    with listen(settings.server.host, settings.server.port) as listener:
        asyncio.run(_serve(settings, listener))


@click.command()
@click.option("--once", is_flag=True, help="Stop at the end instead of serving until Ctrl-C.")
@click.option("--castings", is_flag=True, help="On simulated radiographs of castings instead.")
@click.option("--parts", type=click.IntRange(360), help="With --castings: how many. [default: 480]")
def demo(*, once: bool, castings: bool, parts: int | None) -> None:
    """Train, serve, inspect and show, on real images."""
    import sys

    from serving import demo as walk
    from serving import demo_castings

    stops = once or not sys.stdout.isatty()
    if castings:
        demo_castings.run(once=stops, parts=parts or demo_castings.PARTS)
    elif parts is not None:
        raise click.UsageError("--parts goes with --castings: the other set is as large as it is")
    else:
        walk.run(once=stops)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigurationError: the port is in use, or the address is not this machine's.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port == 0 else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for each in ports:
        # asyncio switches Nagle's algorithm off only for sockets that say that they are TCP;
        # with it on, every answer waits 40 ms for an acknowledgement that is being delayed.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, each))
            listener.listen(1)
        except OSError as error:
            listener.close()
            last = error
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return listener
    assert last is not None  # noqa: S101  there is at least one port to try
    if last.errno == errno.EADDRINUSE:
        place = f"port {port}" if port else f"every port from {FIRST_PORT} to {ports[-1]}"
        raise ConfigurationError(
            f"{place} on {host} is in use",
            remedy="Stop what listens there, or take another: --port 0 finds a free one.",
        )
    raise ConfigurationError(
        f"cannot listen on {host}: {last.strerror or last}",
        remedy="Name an address of this machine: --host 127.0.0.1.",
    )


def address_of(listener: socket.socket) -> str:
    """The address to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def web_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the application: one process, no word of its own in logs and headers."""
    return uvicorn.Config(
        app,
        http=guarded_protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a caller's word about its address is not taken
        timeout_graceful_shutdown=settings.server.drain_s,
        workers=1,
    )


class WebServer(uvicorn.Server):
    """uvicorn's server, which lets streams end before it waits for what is being worked on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Any = self.config.app
        app.state.server.feed.stop()
        await super().shutdown(sockets=sockets)
        protocol: Any = self.config.http_protocol_class
        protocol.lingering.close()


class _Announcing(WebServer):
    """Says where it is when it takes connections, and tells systemd of its life."""

    def __init__(self, config: uvicorn.Config, address: str, notifier: Notifier) -> None:
        super().__init__(config)
        self._address = address
        self._notifier = notifier
        self._supervising: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        click.echo(f"ready at {self._address}")
        self._notifier.tell("READY=1", f"MAINPID={os.getpid()}")
        app: Any = self.config.app
        self._supervising = asyncio.create_task(supervise(app.state.server, self._notifier))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._notifier.tell("STOPPING=1", "STATUS=stopping: what was begun is finished")
        if self._supervising is not None:
            self._supervising.cancel()
        await super().shutdown(sockets=sockets)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    app = create_app(settings)
    server = _Announcing(web_config(app, settings), address_of(listener), Notifier())
    # Entered here and not by uvicorn, so that what goes wrong comes out as the error that it is.
    with contextlib.ExitStack() as until_closed:
        async with app.router.lifespan_context(app):
            # A second request to stop does not cut short what the first one began.
            until_closed.enter_context(_own_signals())
            await server.serve(sockets=[listener])


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Stopping on request is not a failure: uvicorn raises the signal again when it is done."""

    def done(_: int, __: FrameType | None) -> None:
        """Nothing more is to do."""

    before = {each: signal.signal(each, done) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check(settings: Settings) -> None:
    """Put everything together as a start would, say what was found, and stop.

    Raises:
        ConfigurationError: the server would not be ready.
    """
    with listen(settings.server.host, settings.server.port), open_server(settings) as server:
        checks = checks_of(server)
        keys = "access keys are in use" if server.keys.any_active() else "no access key: local only"
    click.echo(f"ok   address: {settings.server.host} can be listened on")
    click.echo(f"ok   access: {keys}")
    for each in checks:
        click.echo(f"{'ok  ' if each.ok else 'FAIL'} {each.name}: {each.detail}")
    failed = [each.name for each in checks if not each.ok]
    if failed:
        raise ConfigurationError(
            f"not ready: {', '.join(failed)}", remedy="Correct what is marked FAIL above."
        )
