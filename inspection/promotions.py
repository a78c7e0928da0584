"""The log of decisions on model packages: who put what in force, or out of it, and why.

`weights/promotions.jsonl` is append-only, a JSON object a line; each line carries the SHA-256 of
the line before it, so an edit in the middle shows. A line that was cut off while it was written
never happened: the next one takes its place. Nothing is ever removed; what is in force, what was
before it and what is retired are views over the lines.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.errors import NoPromotedModel, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOG_NAME = "promotions.jsonl"
FIRST_LINK = "0" * 64
LONGEST = 1000  # characters of a name or a reason
_CLOSED = ConfigDict(extra="forbid", strict=True)
Action = Literal["promote", "rollback", "retire"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was known of a package when somebody decided on it.

    Attributes:
        certificate, agreement: in words.
        report_sha256: of report.json.
        objections: what stood against a promotion and was accepted as a risk.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    certificate: str
    agreement: str
    report_sha256: str
    objections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One line of the log: a promotion, a rollback or a retirement.

    Attributes:
        at: RFC 3339, in UTC.
        by: who decided it, as they gave their name; the account's name when they gave none.
        account: the name of the operating system's account; None in lines of the first release.
        certified: whether the package's certificate held.
        accepted_risk: why it was promoted although something stood against it.
        reason: why it was retired, or put in force.
        evidence: what was known; None in lines of the first release.
        previous: SHA-256 of the line before.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    at: str
    action: Action
    product: str
    model: str
    version: int
    digest: str
    by: str
    certified: bool
    accepted_risk: str | None
    previous: str
    account: str | None = None
    reason: str | None = None
    evidence: Evidence | None = None

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.model}@{self.version}"


def read_log(log: Path) -> list[Promotion]:
    """Every line of the log, oldest first.

    Raises:
        RegistryError: the log was altered or is damaged; names the line.
    """
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryError(f"{log} cannot be read: {error.strerror}") from error
    promotions, link = [], FIRST_LINK
    lines = data[: data.rfind(b"\n") + 1].splitlines()  # an unfinished append never happened
    for number, line in enumerate(lines, start=1):
        where = f"{log}, line {number}"
        try:
            promotion = _adapter().validate_json(line)
        except ValidationError as error:
            raise RegistryError(
                f"{where}: not a promotion",
                remedy="Restore the log from a backup; do not edit it. A log that a newer "
                "release wrote needs that release.",
            ) from error
        if promotion.previous != link:
            raise RegistryError(
                f"{where}: the log was altered before this line",
                remedy="Restore the log from a backup; do not edit it.",
            )
        link = hashlib.sha256(line).hexdigest()
        promotions.append(promotion)
    return promotions


def append_line(log: Path, decide: Callable[[list[Promotion]], Promotion]) -> Promotion:
    """Write one more line, made from the log as it stands while nobody else may write.

    Args:
        log: made when it is not there; its folder is.
        decide: gives the line, without `previous`; what it raises leaves the log as it was.

    Raises:
        RegistryError: the log does not hold, or cannot be written.
    """
    try:
        with log.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            promotion = decide(read_log(log))  # refuses to add to a log that does not hold
            file.seek(0)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            lines = data[:whole].splitlines()
            link = hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST_LINK
            promotion = replace(promotion, previous=link)
            file.truncate(whole)
            file.write(_adapter().dump_json(promotion) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if not lines:
                _sync_folder(log.parent)
    except OSError as error:
        raise RegistryError(f"{log} cannot be written: {error.strerror}") from error
    return promotion


def retired_in(history: Sequence[Promotion]) -> dict[str, Promotion]:
    """The line that retired each package, by digest, unless it was promoted again since."""
    retired: dict[str, Promotion] = {}
    for line in history:
        if line.action == "retire":
            retired[line.digest] = line
        else:
            retired.pop(line.digest, None)
    return retired


def in_force(history: Sequence[Promotion]) -> dict[str, Promotion]:
    """The last promotion or rollback for each product, unless its package is retired."""
    last = {line.product: line for line in history if line.action != "retire"}
    retired = retired_in(history)
    return {product: line for product, line in last.items() if line.digest not in retired}


def before_in(product: str, history: Sequence[Promotion]) -> Promotion:
    """The line that a rollback goes back to: one step along the packages that served."""
    lines = [line for line in history if line.product == product and line.action != "retire"]
    if not lines:
        raise NoPromotedModel(f"no model is promoted for product {product}")
    served: list[Promotion] = []
    for line in lines:
        if line.action == "rollback":
            while len(served) > 1 and served[-1].digest != line.digest:
                served.pop()
        elif not served or served[-1].digest != line.digest:
            served.append(line)
    retired = retired_in(history)
    now = in_force(history).get(product)
    left = [one for one in served if one.digest not in retired]
    if now is not None and left and left[-1].digest == now.digest:
        left.pop()
    if not left:
        raise RegistryError(
            f"{product}: nothing was promoted before {lines[-1].reference}"
            + (" that is not retired" if retired else ""),
            remedy="Promote the version you want by name.",
        )
    return left[-1]


def retirement(line: Promotion) -> str:
    """Who retired what, when and why."""
    return f"{line.reference} was retired by {line.by} on {line.at[:10]}: {line.reason}"


def whoever() -> str:
    """The account's name as the system knows it; in a container whose user has none, the number.

    Never what the environment says: anybody can set `LOGNAME`.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid:{os.getuid()}"


def words(text: str | None, what: str) -> str | None:
    """What somebody typed, on one line; None when it is nothing.

    Raises:
        RegistryError: it is too long for a log that people read, or holds control characters.
    """
    said = " ".join((text or "").split())
    if len(said) > LONGEST or not said.isprintable():
        raise RegistryError(
            f"{what} cannot stand in the log: over {LONGEST} characters, or not printable",
            remedy="Say it in a line of plain text.",
        )
    return said or None


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file last, not only its contents."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _adapter() -> TypeAdapter[Promotion]:
    return TypeAdapter(Promotion)
