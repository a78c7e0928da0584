"""What the demos are made of: steps that are timed, verbs, a server, questions over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inspection.cli import DEBUG_VARIABLE
from inspection.errors import ConfigurationError, InspectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

START_TIMEOUT_S = 180.0
TABLE_WIDTH = 100


@dataclass(slots=True)
class Steps:
    """How long each step took, in seconds, in order."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and time it."""
        self.console.print(f"\n[bold]{len(self.seconds) + 1}. {name}[/bold]", highlight=False)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run_demo(
    data_dir: Path,
    make: Callable[[Steps], str],
    walk: Callable[[Steps, str, str], None],
    *,
    once: bool,
) -> None:
    """A model, a server, what its users do; then serve until Ctrl-C, or stop when `once`.

    Args:
        data_dir: where the server keeps everything.
        make: trains and promotes; gives the package as MODEL@VERSION.
        walk: plays the users, with that and the server's address.
        once: stop at the end.

    Raises:
        InspectionError: a step did not succeed; the server is stopped first.
    """
    terminal = Console(highlight=False)
    console = Console(highlight=False, width=max(TABLE_WIDTH, terminal.width))
    steps = Steps(console)
    reference = make(steps)
    with steps.step("start the server"):
        server, address = start_server(data_dir)
    try:
        walk(steps, reference, address)
        with steps.step("verify the records"):
            verb("verify", "--data-dir", str(data_dir))
        print_seconds(console, steps)
        console.print(f"\nThe page: [bold]{address}/[/bold]   the API: {address}/docs")
        if not once:
            console.print("Serving until Ctrl-C.")
            wait(server)
    finally:
        stop(server)
    console.print(f"Stopped. The records stay in {data_dir}")


def newest(model: str) -> str:
    """The newest version of a model, as MODEL@VERSION."""
    listed = verb("models", "list", "--format", "json", quiet=True)
    references = [str(row["model"]) for row in json.loads(listed)]
    ours = [reference for reference in references if reference.startswith(f"{model}@")]
    return max(ours, key=lambda reference: int(reference.partition("@")[2]))


def verb(*words: str, quiet: bool = False) -> str:
    """Run `inspection WORDS`; its output goes to ours, or is returned when `quiet`."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    if not quiet:
        print(f"$ inspection {shown}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "inspection.cli", *words],
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        env=environment(),
        check=False,
    )
    if done.returncode != 0:
        raise ConfigurationError(
            f"`inspection {shown}` ended with exit status {done.returncode}"
            + (f": {done.stderr.strip()}" if quiet else ""),
            remedy="Read what it said above, correct it, and run the demo again.",
        )
    return str(done.stdout) if quiet else ""


def start_server(data_dir: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server on these records, once it is ready, and its address."""
    data_dir.mkdir(parents=True, exist_ok=True)
    words = ["serve", "--port", "0", "--data-dir", str(data_dir)]
    print(f"$ inspection {' '.join(words)}", flush=True)
    log = data_dir / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "inspection.cli", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,  # Ctrl-C reaches the demo, which stops the server in order
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        ready = re.search(r"ready at (http://\S+)", log.read_text(errors="replace"))
        if ready:
            print(f"ready at {ready[1]}", flush=True)
            return server, ready[1]
        time.sleep(0.1)
    stop(server)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ConfigurationError(
        f"the server did not become ready: {lines[-1] if lines else 'it said nothing'}",
        remedy=f"Read {log}.",
    )


def environment() -> dict[str, str]:
    """This process's, without settings of a plant's server: the demo has folders of its own."""
    own = (DEBUG_VARIABLE,)
    return {k: v for k, v in os.environ.items() if not k.startswith("INSPECTION_") or k in own}


def wait(server: subprocess.Popen[bytes]) -> None:
    """Until Ctrl-C."""
    try:
        server.wait()
    except KeyboardInterrupt:
        return
    raise ConfigurationError(
        "the server ended by itself", remedy="Read server.log in the demo's folder under var/."
    )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server in order; in half a minute at most."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def get(client: httpx.Client, path: str, query: dict[str, str] | None = None) -> Any:
    """What a GET answers, as JSON."""
    response = client.get(path, params=query)
    check(response)
    return response.json()


def check(response: httpx.Response) -> None:
    """Raise what the server said, unless it did what it was asked."""
    if response.is_error:
        raise InspectionError(f"the server answered {response.status_code}: {response.text}")


def print_seconds(console: Console, steps: Steps) -> None:
    """How long each step took."""
    table = Table(box=SIMPLE, title="How long each step took", show_footer=True)
    table.add_column("step", footer="in all")
    table.add_column("seconds", justify="right", footer=f"{sum(steps.seconds.values()):.1f}")
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
