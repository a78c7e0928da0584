"""Signing keys in files of their own, readable by one user only.

path -> there: read it, refuse it when others may read it
     -> not there: a new key, written whole or not at all
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from inspection.errors import ConfigurationError, InputError
from inspection.proofs.notes import LOG, SigningKey

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.proofs.notes import SignatureType


def read_key(path: Path) -> SigningKey:
    """The key in a file.

    Raises:
        InputError: there is none.
        ConfigurationError: it cannot be read, holds no key, or others may read it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(10_000)
    except FileNotFoundError:
        raise InputError(
            f"there is no key at {path}",
            remedy="Make one with `inspection checkpoint init`, or name the right file.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the key {path} cannot be read", remedy="Give this user, and no other, its file."
        ) from error
    if mode & 0o077:
        raise ConfigurationError(
            f"others may read the key {path}", remedy=f"Run `chmod 600 {path}`."
        )
    try:
        return SigningKey.parse(text)
    except InputError as error:
        raise ConfigurationError(
            f"{path}: {error}", remedy="Put the file back from a copy, or name the right one."
        ) from error


def make_key(path: Path, name: str | None = None, type_: SignatureType = LOG) -> SigningKey:
    """A new key, kept in a new file with mode 0600.

    Args:
        path: of the file; its folder must be there.
        name: of the key; made from the machine's when absent.
        type_: what it signs.

    Raises:
        InputError: the file is there already, or the name cannot be one.
        ConfigurationError: the file cannot be written.
    """
    key = SigningKey.generate(name or _own_name(), type_)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{key.text()}\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike a rename it never replaces a key
        finally:
            part.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise InputError(
            f"{path} is there already",
            remedy="Keep that key: another one would not continue what it has signed.",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the key {path} cannot be written: {error.strerror}",
            remedy="Name a folder that this user may write to.",
        ) from error
    return key


def read_or_make_key(path: Path, name: str | None = None, type_: SignatureType = LOG) -> SigningKey:
    """The key in a file; a new one when there is no such file. Raises as the two others do."""
    if not path.exists():
        with suppress(InputError):  # of two that start together, one makes it
            return make_key(path, name, type_)
    return read_key(path)


def _own_name() -> str:
    """Such as line-1/records-3f9a11c2: two machines of the same name still differ."""
    plain = "".join(c if c.isalnum() or c in ".-" else "-" for c in socket.gethostname())
    return f"{plain or 'inspection'}/records-{os.urandom(4).hex()}"
