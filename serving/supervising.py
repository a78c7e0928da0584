"""What systemd is told: ready, how it goes, that the engines beat, that it stops.

    $NOTIFY_SOCKET -> Notifier.tell("READY=1")           sd_notify(3), by a datagram of our own
    every few seconds, in the event loop:
        Lines, Keeping -> STATUS= in words               `systemctl status` shows it
        every engine at work answers -> WATCHDOG=1       silence: systemd starts the process anew

An engine that hangs is replaced within the process first (`lines.py`). The watchdog is for what
that does not mend: an event loop that stands still, a thread that cannot replace, or no model left
at work because engines hung. A model that is exchanged is no reload: it is ready all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

from serving.lines import complaint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.keeping import Keeping
    from serving.lines import Lines
    from serving.state import Server

LOOK_EVERY_S: Final = 1.0
BEATS: Final = 3
"""In the time after which systemd loses its patience."""


class Notifier:
    """Tells systemd, where it started this process; else it does nothing.

    Args:
        environment: `NOTIFY_SOCKET` is a path, or `@name` in the abstract namespace;
            `WATCHDOG_USEC` and `WATCHDOG_PID` are those of sd_watchdog_enabled(3).
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        place = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + place[1:] if place.startswith("@") else place
        said = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        patience_s = int(said) / 1e6 if said.isdecimal() and meant and self._address else 0.0
        self.beat_every_s: float | None = patience_s / BEATS if patience_s else None

    @property
    def listening(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Send lines such as `READY=1` in one datagram. That nobody takes it is no error."""
        if not self._address:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire,
        ):
            wire.setblocking(False)  # a full queue is no reason to stand still
            wire.sendto(text.encode(), self._address)


async def supervise(server: Server, notifier: Notifier) -> None:
    """Tell how it goes and that the engines beat, until it is cancelled."""
    loop = asyncio.get_running_loop()
    shown, beaten = "", 0.0
    while notifier.listening:
        if (status := status_of(server.lines, server.keeping)) != shown:
            notifier.tell(f"STATUS={status}")
            shown = status
        every = notifier.beat_every_s
        if every is not None and loop.time() - beaten >= every and beats(server.lines):
            notifier.tell("WATCHDOG=1")
            beaten = loop.time()
        await asyncio.sleep(min(LOOK_EVERY_S, every or LOOK_EVERY_S))


def beats(lines: Lines) -> bool:
    """Whether what judges is alive: no engine at work has stopped or hangs, or none is left so.

    An engine on another server that is away is no reason to start this process anew, nor is a
    product that is refused while others are judged.
    """
    return not (lines.hanging or lines.gone)


def status_of(lines: Lines, keeping: Keeping) -> str:
    """One line for `systemctl status`."""
    wrong = [f"{name}: {error}" for name, error in keeping.causes().items() if error is not None]
    for product, line in sorted(lines.items()):
        if (complaint := complaint_of(line)) is not None:
            wrong.append(f"product {product}: {complaint}")
    if wrong:
        return f"not ready: {'; '.join(wrong)}"[:1000]
    return f"ready: {', '.join(sorted(lines))}"[:1000]
