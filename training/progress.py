"""How long work is followed: a live bar on a terminal, plain lines anywhere else.

Everything here goes to stderr; results are printed by the commands, to stdout.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET_S = 30.0  # outside a terminal, no longer silence than this


class Reporter(Protocol):
    """Who is told how far the work is."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are finished."""
        ...

    def say(self, text: str) -> None:
        """One line for the person who waits."""
        ...


class Silent:
    """Tells nobody."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class PlainLines:
    """A line when a stage begins and ends, and one at least every half minute.

    A stage whose first news is that something is done already began when the one before ended.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._begun = self._told = self._ended = clock()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Print when there is something new, or it has been quiet for too long."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._begun = stage, self._ended if done else now
            if done < total:
                self._tell(f"{stage}: {done} of {total}")
                return
        spent = now - self._begun
        if done >= total:
            self._tell(f"{stage}: {total} done in {spent:.1f} s")
            self._stage, self._ended = "", now
        elif now - self._told >= QUIET_S and done:
            left = spent / done * (total - done)
            self._tell(f"{stage}: {done / total:.0%}, about {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print the line."""
        self._tell(text)

    def _tell(self, text: str) -> None:
        self._told = self._clock()
        click.echo(text, err=True)


class JsonLines:
    """A JSON object a line, for programs that watch a training.

    {"stage": ..., "done": ..., "total": ..., "left_s": ...} at most once a second, and at the
    beginning and end of every stage; {"say": ...} for lines to people.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._begun = self._told = clock()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Print, unless this stage was told of less than a second ago and goes on."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._begun = stage, now
        elif done < total and now - self._told < 1.0:
            return
        self._told = now
        left = (now - self._begun) / done * (total - done) if done else None
        told = {"stage": stage, "done": done, "total": total}
        rounded = None if left is None else round(left, 1)
        click.echo(json.dumps({**told, "left_s": rounded}), err=True)

    def say(self, text: str) -> None:
        """Print the line as JSON."""
        click.echo(json.dumps({"say": text}), err=True)


class LiveBars:
    """A bar for every stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the stage's bar."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)
        if done >= total:
            del self._tasks[stage]  # a stage of the same name gets a bar of its own

    def say(self, text: str) -> None:
        """Print the line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)


@contextmanager
def reporter(style: Literal["auto", "json"] = "auto") -> Iterator[Reporter]:
    """The kind that suits stderr: live on a terminal, lines elsewhere; or JSON lines."""
    if style == "json":
        yield JsonLines()
        return
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines()
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield LiveBars(bars)
