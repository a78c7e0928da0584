"""`inspection witness serve`: a witness on another box, over HTTP (c2sp.org/tlog-witness).

    POST /add-checkpoint  ->  inspection.proofs.witness.Witness  ->  200 cosignature | 4xx why not
    GET  /                ->  its verifier key, and the logs it knows

It needs no database and no model: a small machine that the owner of the records has no key to will
do. Who may send is settled by signatures, so there are no access keys; put it behind a proxy where
TLS is asked for.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import click

from inspection.errors import ConfigurationError, InspectionError
from inspection.proofs.key_files import make_key, read_or_make_key
from inspection.proofs.notes import WITNESS, VerifierKey
from inspection.proofs.witness import MAX_SUBMISSION_BYTES, Answer, Witness
from serving.envelope import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

log = logging.getLogger("serving")

FIRST_PORT: Final = 8410
KEY_FILE: Final = "witness.key"
IDLE_S: Final = 30.0
"""How long a connection may say nothing."""


class WitnessServer(ThreadingHTTPServer):
    """A witness that listens. `serve_forever` and `shutdown` are the standard library's."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], witness: Witness, about: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address[0]}, port {address[1]}: {error.strerror}",
                remedy="Stop what listens there, or take another: --port.",
            ) from error
        self.witness = witness
        self.about = about

    @property
    def url(self) -> str:
        """The address to send checkpoints to."""
        host, port = self.server_address[:2]
        shown = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "inspection-witness"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_POST(self) -> None:
        if self.path != "/add-checkpoint":
            self._refuse(404, "POST /add-checkpoint")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            self._refuse(411, "say how long the body is: Content-Length")
            return
        if int(length) > MAX_SUBMISSION_BYTES:
            self._refuse(413, f"a submission has at most {MAX_SUBMISSION_BYTES} bytes")
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self._refuse(400, "the body is shorter than it was said to be")
            return
        try:
            answer = self.server.witness.add_checkpoint(body)
        except InspectionError as error:
            log.error("witness failed", extra={"detail": str(error)})
            answer = Answer(status=500, body="the witness cannot keep its state\n")
        self._answer(answer)

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(Answer(status=200, body=self.server.about))
        else:
            self._refuse(404, "GET /")

    def _refuse(self, status: int, words: str) -> None:
        # What was sent and not read would be taken for the next request.
        self.close_connection = True
        self._answer(Answer(status=status, body=f"{words}\n"))

    def _answer(self, answer: Answer) -> None:
        data = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        log.info("witness", extra={"detail": format % args})


# --- the command -------------------------------------------------------------------------------

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("witness"),
    show_default=True,
    help="The witness's own folder: its key, and what it has seen.",
)


@click.group()
def witness() -> None:
    """Watch over another box's records: cosign their checkpoints, never go back."""


@witness.command()
@click.argument("name")
@_state
def init(name: str, state: Path) -> None:
    """Make the key of a witness called NAME, such as witness.example/hall-2."""
    _make_folder(state)
    click.echo(str(make_key(state / KEY_FILE, name, WITNESS).verifier))
    click.echo(f"The key is in {state / KEY_FILE}; the line above is its public half.", err=True)


@witness.command()
@_state
@click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    metavar="VKEY",
    help="Verifier key of a log to watch, as `inspection checkpoint init` prints it. Several times "
    "for several.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=FIRST_PORT,
    show_default=True,
    help="Port; 0 takes any that is free.",
)
def serve(state: Path, logs: Sequence[str], host: str, port: int) -> None:
    """Answer the checkpoints of the logs that are named, until Ctrl-C or SIGTERM."""
    known = [VerifierKey.parse(text) for text in logs]
    log_to_stderr()
    _make_folder(state)
    key = read_or_make_key(state / KEY_FILE, type_=WITNESS)
    keeper = Witness(state, key, known)
    try:
        about = "".join(f"{each}\n" for each in (key.verifier, *known))
        with WitnessServer((host, port), keeper, about) as server:
            click.echo(str(key.verifier))
            click.echo(f"ready at {server.url}")
            _serve_until_told(server)
    finally:
        keeper.close()


def _serve_until_told(server: WitnessServer) -> None:
    def stop(_: int, __: FrameType | None) -> None:
        # From a thread of its own: `shutdown` waits for the loop that this interrupts.
        threading.Thread(target=server.shutdown).start()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.serve_forever()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be made: {error.strerror}",
            remedy="Name a folder that this user may write to: --state.",
        ) from error
