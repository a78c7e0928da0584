"""Who keeps checkpoints where the owner of the records cannot reach them.

    log: old size, consistency proof, checkpoint -> submission_text -> add-checkpoint -> Witness
    Witness: known log? signed by it? goes on from what was seen? -> kept durably -> cosignature
    log: checkpoint -> FileWitness: goes on from the last one in the file? -> appended, synced

The texts and statuses are those of c2sp.org/tlog-witness. A witness never goes back: what it has
signed once is the beginning of everything that it will ever sign of that log. Nothing here speaks
HTTP; `serving/witness.py` serves a `Witness`, `witnesses.py` calls one.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inspection.errors import ConfigurationError, InputError, RecordError, RecordsDamaged
from inspection.proofs.merkle import EMPTY_ROOT, verify_consistency
from inspection.proofs.notes import (
    MAX_NOTE_CHARACTERS,
    WITNESS,
    Checkpoint,
    Note,
    SigningKey,
    VerifierKey,
    base64_hash,
    cosign,
    parse_size,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_PROOF_LINES: Final = 63
MAX_SUBMISSION_BYTES: Final = MAX_NOTE_CHARACTERS * 2
SIZE_TYPE: Final = "text/x.tlog.size"
TEXT_TYPE: Final = "text/plain; charset=utf-8"

Prove = Callable[[int, int], tuple[bytes, ...]]
"""Gives the consistency proof between two sizes."""


# --- what is sent ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A checkpoint for a witness, and what shows that it goes on from the one of `old` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __post_init__(self) -> None:
        if len(self.proof) > MAX_PROOF_LINES:
            raise InputError(f"a consistency proof has at most {MAX_PROOF_LINES} lines")

    def __str__(self) -> str:
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.proof)
        return f"old {self.old}\n{lines}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Submission:
        """The submission in the body of a request. Raises InputError when it is none."""
        head, gap, rest = text.partition("\n\n")
        first, *proof = head.split("\n")
        if not gap or not first.startswith("old "):
            raise InputError("a submission begins with `old SIZE`, proof lines and an empty line")
        return cls(
            old=parse_size(first.removeprefix("old ")),
            proof=tuple(base64_hash(line) for line in proof),
            note=Note.parse(rest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a witness answers: an HTTP status, and a body of this type."""

    status: int
    body: str
    media_type: str = TEXT_TYPE


# --- a witness ---------------------------------------------------------------------------------


class Witness:
    """Cosigns checkpoints of the logs that it knows. Safe to call from several threads.

    Args:
        folder: its state: for each log the last checkpoint it signed, in a file of its own.
        key: of type WITNESS.
        logs: whose checkpoints it looks at; the name of a key is the origin of its log.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: the key is a log's, two keys have one name, or another witness works in
            this folder.
        RecordError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        logs: Sequence[VerifierKey],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if key.type != WITNESS:
            raise ConfigurationError("this key signs as a log, not as a witness")
        self._logs = {log.name: log for log in logs}
        if len(self._logs) != len(logs):
            raise ConfigurationError("two logs have the same name", remedy="Name each log once.")
        self._key = key
        self._clock = clock
        self._folder = folder
        self._lock = threading.Lock()
        with _refusing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._held)
            raise ConfigurationError(
                f"another witness works in {folder}",
                remedy="Stop it, or give this one a folder of its own.",
            ) from None

    def close(self) -> None:
        """Let another witness work in the folder."""
        os.close(self._held)

    def latest(self, origin: str) -> Note | None:
        """The last checkpoint of a log that it signed; None when there is none.

        Raises:
            RecordsDamaged: the file holds something else.
        """
        path = self._path(origin)
        with _refusing(path):
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                return None
            except UnicodeDecodeError:
                text = ""
        try:
            note = Note.parse(text)
            own = verify(note, (self._key.verifier,))
            if own and Checkpoint.parse(note.text).origin == origin:
                return note
        except InputError:
            pass
        raise RecordsDamaged(
            f"{path} is not the checkpoint that this witness kept",
            remedy="Put the file back from a copy; without it the witness would forget the log.",
        )

    def add_checkpoint(self, body: bytes) -> Answer:
        """Check, keep and cosign a checkpoint; the steps are those of the protocol, in its order.

        Raises:
            RecordError: its state cannot be read or written; nothing was signed then.
        """
        try:
            sent = Submission.parse(body.decode("utf-8"))
            checkpoint = Checkpoint.parse(sent.note.text)
        except (UnicodeDecodeError, InputError) as error:
            return Answer(status=400, body=f"{error}\n")
        log = self._logs.get(checkpoint.origin)
        if log is None:
            return Answer(status=404, body=f"{checkpoint.origin} is not a log known here\n")
        try:
            signed = verify(sent.note, (log,))
        except InputError:
            signed = ()
        if not signed:
            return Answer(status=403, body=f"not signed by {log}\n")
        if sent.old > checkpoint.size:
            return Answer(status=400, body="the old size is above the checkpoint's\n")
        with self._lock:
            return self._settle(sent, checkpoint)

    def _settle(self, sent: Submission, checkpoint: Checkpoint) -> Answer:
        kept = self.latest(checkpoint.origin)
        last = None if kept is None else Checkpoint.parse(kept.text)
        size, root = (0, EMPTY_ROOT) if last is None else (last.size, last.root)
        conflict = Answer(status=409, body=f"{size}\n", media_type=SIZE_TYPE)
        if sent.old != size:
            return conflict
        if sent.old == checkpoint.size and checkpoint.root != root:
            return conflict
        if not verify_consistency(size, checkpoint.size, root, checkpoint.root, sent.proof):
            return Answer(status=422, body="the consistency proof does not hold\n")
        line = cosign(sent.note.text, self._key, seconds=int(self._clock()))
        path = self._path(checkpoint.origin)
        with _refusing(path):
            _replace(path, str(sent.note.with_signatures((line,))).encode())
        return Answer(status=200, body=str(line))

    def _path(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"


# --- a file ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a witness's file holds: its checkpoints in order, and whether its end is torn."""

    notes: tuple[Note, ...]
    torn: bool


def read_witness_file(path: Path) -> Kept:
    """The checkpoints that were kept in a file, the oldest first.

    Raises:
        InputError: it cannot be read, or a part of it is no checkpoint.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    whole, end = _whole(data)
    notes = []
    for number, text in enumerate(whole, start=1):
        try:
            note = Note.parse(text.decode("utf-8"))
            Checkpoint.parse(note.text)
        except (UnicodeDecodeError, InputError) as error:
            raise InputError(
                f"{path}: checkpoint {number} is damaged: {error}",
                remedy="Compare the file with another witness's; keep both.",
            ) from error
        notes.append(note)
    return Kept(notes=tuple(notes), torn=end < len(data))


class FileWitness:
    """Checkpoints in a file on another disk or machine: appended, synced, and never turned back.

    Each is the signed note and an empty line. The file proves as much as the place it lies in: on
    the disk of the records themselves it proves nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, note: Note, prove: Prove) -> None:
        """Append a checkpoint; the same one again adds nothing.

        Args:
            note: signed by the log.
            prove: shows that the records go on from the last checkpoint.

        Raises:
            InputError: the file holds something else than checkpoints.
            RecordsDamaged: the checkpoint does not go on from the last one in the file.
            RecordError: the file cannot be written.
        """
        with _refusing(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._append(descriptor, note, prove)
            finally:
                os.close(descriptor)
            _sync_folder(self.path.parent)

    def _append(self, descriptor: int, note: Note, prove: Prove) -> None:
        kept = read_witness_file(self.path)
        if kept.notes:
            last, new = Checkpoint.parse(kept.notes[-1].text), Checkpoint.parse(note.text)
            if last == new and not kept.torn:
                return
            check_continues(last, new, prove, str(self.path))
        data = self.path.read_bytes()
        _, end = _whole(data)
        if end < len(data):
            # What a crash left half-written was never acknowledged to anybody.
            os.ftruncate(descriptor, end)
        os.lseek(descriptor, 0, os.SEEK_END)
        _write_all(descriptor, f"{note}\n".encode())
        os.fsync(descriptor)


def check_continues(last: Checkpoint, new: Checkpoint, prove: Prove, where: str) -> None:
    """Raise RecordsDamaged unless `new` is a continuation of `last`, which is kept at `where`."""
    if last.origin != new.origin:
        raise ConfigurationError(
            f"{where} keeps checkpoints of {last.origin}, not of {new.origin}",
            remedy="Give each record store a file of its own.",
        )
    if new.size < last.size or not verify_consistency(
        last.size, new.size, last.root, new.root, prove(last.size, new.size)
    ):
        raise RecordsDamaged(
            f"{where} has seen {last.size} records with the root {last.root.hex()}, which are "
            f"not the beginning of these {new.size}: records were removed or rewritten",
            remedy="Keep a copy of the store and of the witness; run `inspection verify`.",
        )


def _whole(data: bytes) -> tuple[list[bytes], int]:
    """The notes of a file, and where the last whole one ends: at a body, signatures, a blank."""
    blocks, end, start = [], 0, 0
    while (gap := data.find(b"\n\n", start)) >= 0:
        second = data.find(b"\n\n", gap + 2)
        if second < 0:
            break
        blocks.append(data[start : second + 1])
        start = end = second + 2
    return blocks, end


# --- files -------------------------------------------------------------------------------------


def _replace(path: Path, data: bytes) -> None:
    """Durable when it returns: the new contents, or the old ones."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(path)
    _sync_folder(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """An error of the operating system becomes one that says what to do."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror}",
            remedy="Mount the disk, make room on it, or give this user the right to write there.",
        ) from error
