"""Commands that live in another room: found through entry points, or answered for.

    name in a table -> the extra's libraries are there? -> entry point -> the command
                                 |
                         a stand-in: MissingExtra, with the command that installs it

So a list of commands is quick and complete without importing a room, and a command whose packages
are missing can still answer.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from inspection import box
from inspection.errors import ConfigurationError, MissingExtra

_ROOMS: Final = frozenset({"inspection", "training", "serving"})

# What tells that an extra is installed: its libraries that nothing else brings along.
MARKERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "serve": ("fastapi", "uvicorn", "openvino"),
        "train": ("torch", "timm", "sklearn", "onnx"),
        "demo": ("elpv_dataset", "fastapi", "uvicorn", "openvino", "torch", "timm", "sklearn"),
    }
)


def missing_modules(extra: str | None) -> tuple[str, ...]:
    """Those of an extra's marker modules that are not installed; none for the core."""
    markers = () if extra is None else MARKERS[extra]
    return tuple(module for module in markers if not box.is_importable(module))


def load_command(group: str, name: str, *, extra: str | None) -> click.Command:
    """Find a command through an entry-point group.

    Raises:
        ConfigurationError: the installation does not know it, or it cannot be loaded.
    """
    found = tuple(importlib.metadata.entry_points(group=group, name=name))
    again = "Install the package again: its list of commands is out of date."
    if not found:
        raise ConfigurationError(f"this installation has no command {name!r}", remedy=again)
    try:
        command = found[0].load()
    except (ImportError, AttributeError) as error:
        # A library that is gone can be installed; a module of our own that is gone cannot.
        library = (getattr(error, "name", None) or "inspection").partition(".")[0]
        needed = None if library in _ROOMS else extra
        raise ConfigurationError(
            f"the command {name!r} could not be loaded: {error}",
            remedy=again if needed is None else f"run: {box.install_command(needed)}",
        ) from error
    if not isinstance(command, click.Command):
        raise ConfigurationError(f"{found[0].value} is not a command", remedy=again)
    return command


def stand_in(name: str, *, help_line: str, extra: str) -> click.Command:
    """A command that takes anything, `--help` too, and answers with what is missing."""

    def answer() -> None:
        missing = ", ".join(missing_modules(extra))
        raise MissingExtra(
            f"'{name}' needs the extra '{extra}', which is not installed (missing: {missing})",
            remedy=f"run: {box.install_command(extra)}",
        )

    return click.Command(
        name,
        callback=answer,
        help=help_line,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
