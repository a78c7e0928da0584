"""What the verbs of training share on the command line: options, their checks, the first page."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from inspection.errors import DataLeak, RecipeError
from inspection.package import check_model_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALLEST_PX = 32  # below it the backbone's last stage would be a single cell
COST_NAMES = ("escape", "overkill", "review")


class FirstPage(click.Command):
    """A command whose `--help` shows what most people need, and `--help-all` the rest."""

    def __init__(self, *args: Any, first: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first = first
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=self._show_all,
                help="Show every option, and stop.",
            )
        )
        self._show(whole=False)

    def _show(self, *, whole: bool) -> None:
        for option in self.params:
            if isinstance(option, click.Option) and option.name != "help_all":
                option.hidden = not whole and option.name not in self._first

    def _show_all(self, ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if not wanted:
            return
        self._show(whole=True)
        try:
            click.echo(self.get_help(ctx), color=ctx.color)
        finally:
            self._show(whole=False)
        ctx.exit()


def read_size(
    _ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """(height, width) out of "300" or "300x400"."""
    if text is None:
        return None
    numbers = text.lower().split("x")
    if len(numbers) not in (1, 2) or not all(number.isdecimal() for number in numbers):
        raise click.BadParameter(f"{text!r} is not a size such as 300 or 300x400", param=param)
    size = int(numbers[0]), int(numbers[-1])
    if min(size) < SMALLEST_PX:
        raise click.BadParameter(f"{text}: sizes begin at {SMALLEST_PX} pixels", param=param)
    return size


def read_share(_ctx: click.Context, param: click.Parameter, share: float | None) -> float | None:
    """A share that is a number: `nan` passes every comparison of a range."""
    if share is not None and not math.isfinite(share):
        raise click.BadParameter(f"{share} is not a share between 0 and 1", param=param)
    return share


def read_model(_ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """A name that will do as a folder's."""
    if name is not None:
        try:
            check_model_name(name)
        except RecipeError as error:
            raise click.BadParameter(str(error), param=param) from error
    return name


def read_names(
    _ctx: click.Context, _param: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """The names in a list such as lot,mould."""
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_costs(
    _ctx: click.Context, param: click.Parameter, text: str | None
) -> dict[str, float] | None:
    """{"escape": 500.0, ...} out of "escape=500,overkill=20,review=3"."""
    if text is None:
        return None
    costs: dict[str, float] = {}
    for each in text.split(","):
        name, _, written = each.partition("=")
        try:
            costs[name.strip()] = float(written)
        except ValueError as error:
            raise click.BadParameter(f"{each!r} is not a cost", param=param) from error
    if not set(COST_NAMES) <= set(costs) <= {*COST_NAMES, "bad_share"}:
        raise click.BadParameter(
            f"{text!r}: the costs of an escape, an overkill and a review are needed, such as "
            "escape=500,overkill=20,review=3; bad_share=0.02 may be added",
            param=param,
        )
    return costs


@contextmanager
def leaks_told() -> Iterator[None]:
    """Print every pair of a leaking split before the command ends with it."""
    try:
        yield
    except DataLeak as leak:
        for line in leak.lines:
            click.echo(line, err=True)
        raise
