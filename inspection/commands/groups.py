"""A group of commands some of which live in another room, as the root has it for verbs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

from inspection import rooms

if TYPE_CHECKING:
    from collections.abc import Mapping


class SharedGroup(click.Group):
    """The commands below, and those of another room, listed whether or not they are installed.

    Args:
        entry_points: the group that those of another room are found through.
        elsewhere: their help and their extra, by name.
        attrs: click's own.
    """

    def __init__(
        self, *, entry_points: str, elsewhere: Mapping[str, tuple[str, str]], **attrs: Any
    ) -> None:
        super().__init__(**attrs)
        self.entry_points = entry_points
        self.elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were written, then those of another room."""
        return [*self.commands, *self.elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or a stand-in that says how to install it."""
        if cmd_name not in self.elsewhere:
            return super().get_command(ctx, cmd_name)
        help_line, extra = self.elsewhere[cmd_name]
        if rooms.missing_modules(extra):
            return rooms.stand_in(f"{self.name} {cmd_name}", help_line=help_line, extra=extra)
        return rooms.load_command(self.entry_points, cmd_name, extra=extra)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing another room."""
        rows = [(name, command.get_short_help_str(60)) for name, command in self.commands.items()]
        for name, (help_line, extra) in self.elsewhere.items():
            mark = f" (needs the extra '{extra}')" if rooms.missing_modules(extra) else ""
            rows.append((name, f"{help_line}{mark}"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, with the nearest name for a mistyped command."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command '{self.name} {args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)
