"""The root of the command `inspection`: which verbs there are, and what an error exits with.

    inspection VERB ...  ->  VERBS  ->  the extra is there?  ->  entry point  ->  the room's command
                               |                 |
                             --help        MissingExtra: the command that installs it

The table below knows every verb by name, so that the help is quick and complete without importing
a room, and so that a verb whose packages are missing can still answer. The commands themselves live
in the rooms and are found through the entry-point group `inspection.commands`; verb = module =
function.

Exit statuses: 0 fine; 1 a figure missed its limit, or would flatter because of a leaking split;
2 usage; 3 input; 4 environment; 130 Ctrl-C.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from inspection import rooms
from inspection.errors import (
    InputError,
    InspectionError,
    QualityGateError,
)

COMMAND_GROUP: Final = "inspection.commands"
DEBUG_VARIABLE: Final = "INSPECTION_DEBUG"
COMPLETION_VARIABLE: Final = "_INSPECTION_COMPLETE"

EXIT_OK: Final = 0
EXIT_QUALITY: Final = 1
EXIT_USAGE: Final = 2
EXIT_INPUT: Final = 3
EXIT_ENVIRONMENT: Final = 4
EXIT_INTERRUPTED: Final = 130

# From the particular to the general: the first class that fits decides.
_EXIT_STATUSES: Final[tuple[tuple[type[InspectionError], int], ...]] = (
    (QualityGateError, EXIT_QUALITY),
    (InputError, EXIT_INPUT),
    (InspectionError, EXIT_ENVIRONMENT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One word after `inspection`.

    Attributes:
        help: one line for the list of verbs.
        extra: the optional part of the distribution that it lives in; None for the core.
    """

    help: str
    extra: str | None = None


# In the order of a newcomer's day.
VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "demo": Verb(help="Train, serve, inspect and show, on real images.", extra="demo"),
        "doctor": Verb(help="Say line by line whether this box is fit."),
        "simulate": Verb(help="Make sets of images whose truth is known.", extra="train"),
        "data": Verb(help="Bring labelled images in, and look at them.", extra="train"),
        "train": Verb(help="Make the next model from labelled images.", extra="train"),
        "evaluate": Verb(help="Measure a packaged model on parts it has not seen.", extra="train"),
        "report": Verb(help="Show the report of a model, to read and to sign.", extra="train"),
        "models": Verb(help="List, show, promote and roll back models."),
        "export": Verb(help="Write a model for NVIDIA Triton."),
        "recipe": Verb(help="Show a recipe with its zones, or begin one."),
        "package": Verb(help="Carry a model to another box as one verified file."),
        "serve": Verb(help="Judge parts over HTTP, and keep their records.", extra="serve"),
        "detector": Verb(help="Flat-field a detector, and check its health."),
        "keys": Verb(help="Create, rotate, list and revoke access keys."),
        "audit": Verb(help="Show who did what, and who was refused."),
        "trace": Verb(help="Show a part's whole life on one page."),
        "verify": Verb(help="Check the records against their hash tree."),
        "checkpoint": Verb(help="Sign the records' head, and hand it to witnesses."),
        "witness": Verb(help="Watch over another box's records.", extra="serve"),
        "export-proof": Verb(help="Write all of a part, with proof, into one file."),
        "verify-proof": Verb(help="Check such a file; needs no server and no network."),
        "fsck": Verb(help="Find missing, extra and damaged records and files."),
        "backup": Verb(help="Back up records and images while the server goes on."),
        "restore": Verb(help="Restore a backup, to SQLite or PostgreSQL."),
        "retention": Verb(help="Delete images that were kept long enough, by rule."),
        "db": Verb(help="Upgrade the record store, or show its revision."),
    }
)


def exit_status(error: InspectionError) -> int:
    """The exit status that stands for an error."""
    return next(status for kind, status in _EXIT_STATUSES if isinstance(error, kind))


class VerbGroup(click.Group):
    """The verbs of the table, each loaded only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, installed or not."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, or a stand-in that says how to install it."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        if verb.extra is not None and rooms.missing_modules(verb.extra):
            return rooms.stand_in(cmd_name, help_line=verb.help, extra=verb.extra)
        return load_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, with the nearest names for a mistyped verb."""
        word = args[0]
        if word not in VERBS and not word.startswith("-"):
            near = difflib.get_close_matches(word, VERBS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no verb {word!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs from the table alone."""
        rows = []
        for name, verb in VERBS.items():
            missing = rooms.missing_modules(verb.extra)
            mark = f" (needs the extra '{verb.extra}')" if missing else ""
            rows.append((name, f"{verb.help}{mark}"))
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


def load_command(name: str) -> click.Command:
    """Find a verb's command through the entry-point group.

    Raises:
        ConfigurationError: the installation does not know the verb, or it cannot be loaded.
    """
    return rooms.load_command(COMMAND_GROUP, name, extra=VERBS[name].extra)


@click.group(
    cls=VerbGroup,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(
    package_name="inspection", prog_name="inspection", message="%(prog)s %(version)s"
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Judge images of parts, and keep a history that nobody can quietly change.

    Every verb explains itself: inspection VERB --help
    """
    # Click leaves colours out of pipes by itself; it does not know NO_COLOR (no-color.org).
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and turn whatever comes out of it into an exit status.

    A verb that has a status to give ends with `ctx.exit(status)`; what it returns is not looked at.
    """
    if os.environ.get(COMPLETION_VARIABLE):
        # A shell asks for words to complete; click answers and leaves.
        root.main(prog_name="inspection")
    try:
        words = sys.argv[1:] if args is None else list(args)
        with root.make_context("inspection", words) as ctx:
            root.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "inspection"
        return _report(error, error.format_message(), f"run: {path} --help", EXIT_USAGE)
    except click.ClickException as error:
        return _report(error, error.format_message(), None, EXIT_INPUT)
    except (click.Abort, KeyboardInterrupt, EOFError):
        return _report(None, "stopped", None, EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader left (`| head`). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InspectionError as error:
        return _report(error, str(error), error.remedy, exit_status(error))
    except OSError as error:
        return _report(error, _os_error_text(error), "Run `inspection doctor`.", EXIT_ENVIRONMENT)
    except Exception as error:  # noqa: BLE001  the last line of defence: no traceback for a user
        text = f"{type(error).__name__}: {error}"
        remedy = f"This is a fault of the program. Report it with {DEBUG_VARIABLE}=1 set."
        return _report(error, text, remedy, EXIT_ENVIRONMENT)
    return EXIT_OK


def _os_error_text(error: OSError) -> str:
    names = [str(Path(os.fsdecode(name))) for name in (error.filename, error.filename2) if name]
    return ": ".join([*names, error.strerror or str(error)])


def _report(error: BaseException | None, text: str, remedy: str | None, status: int) -> int:
    """Write what happened to stderr, and give the status back."""
    if error is not None and os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    lines = [f"error: {text}" if error is not None else text]
    if remedy:
        lines.append(f"  → {remedy}")
    encoding = sys.stderr.encoding or "utf-8"
    for line in lines:
        # A terminal without the arrow gets a question mark, not a second error.
        printable = line.encode(encoding, "replace").decode(encoding)
        click.echo(" ".join(printable.split("\n")), err=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
