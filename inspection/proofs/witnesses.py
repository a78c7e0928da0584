"""Handing a checkpoint to whoever witnesses it: files elsewhere, and witnesses over HTTP.

    PATH       -> FileWitness: appended, synced
    URL VKEY   -> HttpWitness: POST URL/add-checkpoint (c2sp.org/tlog-witness) -> cosignature line
                  409: it has seen another size than we thought -> proof from there, once more

An answer of 409 that names more records than there are, or the same number with another root, is
what witnesses are for: the records were cut off or rewritten.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from inspection.errors import ConfigurationError, InputError, RecordError, RecordsDamaged
from inspection.proofs.notes import (
    WITNESS,
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    holds,
    parse_size,
)
from inspection.proofs.witness import SIZE_TYPE, TEXT_TYPE, FileWitness, Submission

if TYPE_CHECKING:
    from inspection.proofs.witness import Prove

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
TRIES: Final = 3
"""The first may have the wrong old size; another sender may come between the second and it."""

_AWAY: Final = "See whether the witness runs and can be reached from here; it is tried again later."


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWitness:
    """A witness on another machine.

    Attributes:
        url: what `/add-checkpoint` is put behind.
        key: what it signs with.
    """

    url: str
    key: VerifierKey

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigurationError(
                f"{self.url!r} is not the address of a witness",
                remedy="Give it as http://HOST:PORT or https://HOST/PATH.",
            )
        if self.key.type != WITNESS:
            raise ConfigurationError(
                f"{self.key} is not the key of a witness",
                remedy="Use the key that `inspection witness serve` prints.",
            )

    @property
    def name(self) -> str:
        """How it is called in logs and figures."""
        return self.key.name

    def cosign(self, note: Note, prove: Prove, *, old: int = 0) -> Signature:
        """Its line under a checkpoint, verified.

        Args:
            note: signed by the log.
            prove: gives the consistency proof between two sizes.
            old: the size that it cosigned last, as far as is known.

        Raises:
            RecordsDamaged: it has seen another history.
            RecordError: it cannot be reached, refuses, or its signature does not hold.
        """
        head = Checkpoint.parse(note.text)
        for _ in range(TRIES):
            body = str(Submission(old=old, proof=prove(old, head.size), note=note)).encode()
            status, media_type, text = self._post(body)
            if status == 200:
                return self._line(note, text)
            if status != 409 or media_type.partition(";")[0].strip() != SIZE_TYPE:
                raise RecordError(
                    f"{self.url} answered {status}: {' '.join(text.split())[:200]}",
                    remedy="Give the witness this log's verifier key: --log VKEY.",
                )
            try:
                seen = parse_size(text.removesuffix("\n"))
            except InputError as error:
                raise RecordError(f"{self.url} answered 409: {error}", remedy=_AWAY) from error
            if seen > head.size or seen == old:
                raise RecordsDamaged(
                    f"the witness {self.name} has seen {seen} records of {head.origin}, which are "
                    f"not the beginning of these {head.size}: records were removed or rewritten",
                    remedy="Keep a copy of the store as it is; run `inspection verify`.",
                )
            old = seen
        raise RecordError(f"{self.url} gave another size each time", remedy=_AWAY)

    def _line(self, note: Note, text: str) -> Signature:
        try:
            lines = [Signature.parse(line) for line in text.removesuffix("\n").split("\n")]
        except InputError as error:
            raise RecordError(f"{self.url}: {error}", remedy=_AWAY) from error
        for line in lines:
            if holds(note, line, self.key):
                return line
        raise RecordError(
            f"{self.url} did not sign with {self.key}",
            remedy="Compare the key in the settings with what the witness prints.",
        )

    def _post(self, body: bytes) -> tuple[int, str, str]:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        try:
            path = f"{parts.path.rstrip('/')}/add-checkpoint"
            connection.request("POST", path, body, {"Content-Type": TEXT_TYPE})
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise RecordError(
                f"{self.url} cannot be reached: {str(error) or type(error).__name__}", remedy=_AWAY
            ) from error
        finally:
            connection.close()
        return (
            answer.status,
            answer.headers.get("Content-Type", ""),
            data.decode("utf-8", "replace"),
        )


AnyWitness = FileWitness | HttpWitness


def parse_witness(text: str) -> AnyWitness:
    """A witness as options and settings name it: a PATH, or `URL VKEY`.

    Raises:
        ConfigurationError, InputError: it is neither.
    """
    address, _, key = text.strip().partition(" ")
    if "://" not in address:
        if not text.strip():
            raise ConfigurationError("a witness is a file or an address; this is empty")
        return FileWitness(Path(text.strip()))
    if not key:
        raise ConfigurationError(
            f"the witness {address} has no key",
            remedy="Write its verifier key after the address, with a blank between.",
        )
    return HttpWitness(url=address, key=VerifierKey.parse(key))


def name_of(witness: AnyWitness) -> str:
    """How a witness is called in logs and figures."""
    return witness.name if isinstance(witness, HttpWitness) else str(witness.path)
