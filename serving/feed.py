"""Whoever waits for changes waits here: any number of them, one thread at most.

    waiter: newest <= after -> sleeps in the event loop ............ -> newest, or its time is over
    while anybody waits:       one thread in RecordStore.wait_beyond -> wakes all of them

A server that stops wakes everybody at once, so that streams end in order instead of being cut.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from anyio import CapacityLimiter, to_thread

from serving.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.store import RecordStore

MOST_WAITING: Final = 200
"""Streams and long polls at a time; each holds a connection, none a thread."""

LOOK_S: Final = 1.0
"""The longest that the one thread stays in the store, and so the longest that closing takes."""


class Feed:
    """One server's waiters. Everything but the one thread happens in the event loop."""

    def __init__(self, records: RecordStore, *, most: int = MOST_WAITING) -> None:
        self._records = records
        self._most = most
        self._inside = 0
        self._waiting = 0
        self._newest = 0
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        # A thread of its own: the pool that serves requests is not for waiting.
        self._thread: CapacityLimiter | None = None
        self.stopping = False

    @property
    def inside(self) -> int:
        """How many streams and long polls there are."""
        return self._inside

    def check_room(self) -> None:
        """Refuse one more stream or long poll when there are too many.

        Raises:
            Overloaded: there are.
        """
        if self._inside >= self._most:
            raise Overloaded(
                f"{self._inside} callers wait for changes already",
                remedy="Close streams that nobody reads, or ask again with `wait=0`.",
                retry_after_s=5,
            )

    @contextmanager
    def place(self) -> Iterator[None]:
        """One stream or long poll, as long as it lasts."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def beyond(self, after: int, timeout_s: float) -> int:
        """The newest sequence: as soon as it is past `after`, or when the time is over.

        Raises:
            RecordError: the store cannot be asked.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._waiting += 1
        try:
            while self._newest <= after and not self.stopping:
                left = deadline - loop.time()
                if left <= 0:
                    break
                self._watch()
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    break
                if self._failure is not None:
                    raise self._failure
        finally:
            self._waiting -= 1
        return self._newest

    def stop(self) -> None:
        """The server stops: nobody waits any longer."""
        self.stopping = True
        self._wake()

    async def closed(self) -> None:
        """Returns when the one thread is out of the store, which may be closed then."""
        self.stop()
        if self._watching is not None:
            await self._watching

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._failure = None
            self._watching = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Asks the store, for as long as anybody waits."""
        if self._thread is None:
            self._thread = CapacityLimiter(1)
        try:
            while self._waiting and not self.stopping:
                newest = await to_thread.run_sync(
                    self._records.wait_beyond, self._newest, LOOK_S, limiter=self._thread
                )
                if newest > self._newest:
                    self._newest = newest
                    self._wake()
        except Exception as error:  # noqa: BLE001  it is raised again in every waiter
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
