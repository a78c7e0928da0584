"""Signed notes and checkpoints of the hash tree, in the text forms of C2SP.

    origin, size, root -> Checkpoint -> sign   -> Note   (c2sp.org/signed-note, tlog-checkpoint)
    Note of a log      -> cosign               -> one more signature line   (tlog-cosignature)
    Note, VerifierKey  -> verify               -> who signed it

A checkpoint says: this log, cut off after so many entries, has this root. A cosignature says: as of
this second, the largest tree that I have seen of this log has that root, and it is the
continuation of all that I have seen before. Both are Ed25519 (RFC 8032).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, replace
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from inspection.errors import InputError

LOG: Final = 0x01
WITNESS: Final = 0x04
SignatureType = Literal[0x01, 0x04]
"""What a key signs: notes as a log, or cosignatures as a witness."""

MAX_SIGNATURES: Final = 64
MAX_NOTE_CHARACTERS: Final = 64 * 1024
MAX_SIZE: Final = 2**63 - 1

_DASH: Final = "\u2014 "
_PRIVATE: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """Who may have signed: the public half of a key, written `name+hash+base64`.

    Attributes:
        public: 32 bytes, as RFC 8032 has them.
    """

    name: str
    type: SignatureType
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.type not in (LOG, WITNESS) or len(self.public) != 32:
            raise InputError("a verifier key holds 32 bytes of an Ed25519 key of type 1 or 4")

    @property
    def id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || newline || type || public key)."""
        seen = self.name.encode() + b"\n" + bytes([self.type]) + self.public
        return hashlib.sha256(seen).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """A key as it is printed.

        Raises:
            InputError: it is none, or a character of it is wrong.
        """
        name, hexed, data = _key_parts(text.strip(), "verifier key")
        type_, public = data[0], data[1:]
        if type_ not in (LOG, WITNESS):
            raise InputError(f"{text!r}: signature type {type_} is not known here")
        key = cls(name=name, type=LOG if type_ == LOG else WITNESS, public=public)
        if key.id.hex() != hexed:
            raise InputError(
                f"{text!r} is not a verifier key: its hash does not hold",
                remedy="Copy the key again, whole.",
            )
        return key

    def __str__(self) -> str:
        data = base64.b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{data}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The secret half of a key; it is never shown.

    Attributes:
        seed: 32 bytes, as RFC 8032 has them.
    """

    name: str
    type: SignatureType
    seed: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier})"

    @classmethod
    def generate(cls, name: str, type_: SignatureType = LOG) -> SigningKey:
        """A new key. Raises InputError when the name cannot be one."""
        _check_name(name)
        return cls(name=name, type=type_, seed=Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """A key as `text` gives it. Raises InputError when it is none; its text is never told."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise InputError("this is not a signing key: it does not begin with PRIVATE+KEY+")
        try:
            name, hexed, data = _key_parts(text.removeprefix(_PRIVATE), "signing key")
        except InputError:
            raise InputError("the signing key is damaged") from None
        if data[0] not in (LOG, WITNESS) or len(data) != 33:
            raise InputError("the signing key is of a type that is not known here")
        key = cls(name=name, type=LOG if data[0] == LOG else WITNESS, seed=data[1:])
        if key.verifier.id.hex() != hexed:
            raise InputError("the signing key is damaged: its hash does not hold")
        return key

    def text(self) -> str:
        """The key to be kept in a file: PRIVATE+KEY+name+hash+base64."""
        data = base64.b64encode(bytes([self.type]) + self.seed).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{data}"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        public = self._key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return VerifierKey(name=self.name, type=self.type, public=public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes: the Ed25519 signature of `message`."""
        return self._key().sign(message)

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


# --- notes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line: who says to have signed, and the bytes."""

    name: str
    key_id: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.data).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Signature:
        """A line without its newline. Raises InputError when it is none."""
        name, _, coded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH):
            raise InputError("a signature line begins with an em dash and a space")
        _check_name(name)
        data = _from_base64(coded)
        if len(data) <= 4:
            raise InputError("a signature line holds a key ID and a signature")
        return cls(name=name, key_id=data[:4], data=data[4:])

    def is_by(self, key: VerifierKey) -> bool:
        """Whether it says to be of this key: name and ID, both."""
        return (self.name, self.key_id) == (key.name, key.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and who signed it. `str` gives the bytes that were parsed, exactly."""

    text: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or any(
            character < " " and character != "\n" for character in self.text
        ):
            raise InputError("a note is text without control characters, and ends in a newline")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise InputError(f"a note has 1 to {MAX_SIGNATURES} signatures")

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    @classmethod
    def parse(cls, text: str) -> Note:
        """The note in a text.

        Raises:
            InputError: it is no signed note.
        """
        body, gap, lines = text.rpartition("\n\n")
        if not gap or not lines.endswith("\n") or len(text) > MAX_NOTE_CHARACTERS:
            raise InputError("this is not a signed note: no blank line before its signatures")
        signatures = tuple(Signature.parse(line) for line in lines[:-1].split("\n"))
        return cls(text=f"{body}\n", signatures=signatures)

    def with_signatures(self, more: tuple[Signature, ...]) -> Note:
        """The note with these lines too.

        A witness signs anew each time it is asked: its latest line takes the place of the older.
        """
        lines = {(each.name, each.key_id): each for each in (*self.signatures, *more)}
        return replace(self, signatures=tuple(lines.values()))


def sign(text: str, key: SigningKey) -> Note:
    """The note that a log makes of a text."""
    verifier = key.verifier
    line = Signature(name=key.name, key_id=verifier.id, data=key.sign(text.encode()))
    return Note(text=text, signatures=(line,))


def cosign(text: str, key: SigningKey, *, seconds: int) -> Signature:
    """A witness's line under a checkpoint, at this Unix time."""
    signed = key.sign(_cosigned(text, seconds))
    return Signature(
        name=key.name, key_id=key.verifier.id, data=seconds.to_bytes(8, "big") + signed
    )


def cosigned_at(signature: Signature) -> int:
    """The Unix time in a witness's line, in seconds."""
    return int.from_bytes(signature.data[:8], "big")


def holds(note: Note, signature: Signature, key: VerifierKey) -> bool:
    """Whether this line of the note is a signature of the note's text by `key`."""
    if not signature.is_by(key):
        return False
    message, signed = note.text.encode(), signature.data
    if key.type == WITNESS:
        if len(signed) != 72 or cosigned_at(signature) > MAX_SIZE:
            return False
        message, signed = _cosigned(note.text, cosigned_at(signature)), signed[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signed, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify(note: Note, keys: tuple[VerifierKey, ...]) -> tuple[VerifierKey, ...]:
    """Which of these keys have signed the note; lines of other keys are passed over.

    Raises:
        InputError: a line says to be of one of the keys, and is not.
    """
    found: list[VerifierKey] = []
    for signature in note.signatures:
        for key in keys:
            if not signature.is_by(key):
                continue
            if not holds(note, signature, key):
                raise InputError(
                    f"the signature of {key.name} does not hold: the note was changed",
                    remedy="Get the note again from where it was first kept.",
                )
            if key not in found:
                found.append(key)
    return tuple(found)


# --- checkpoints -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a log's tree.

    Attributes:
        origin: which log; the name of the key that signs.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or not self.origin.isprintable():
            raise InputError("the origin of a checkpoint is a line of text")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != 32:
            raise InputError("a checkpoint holds a size and a root of 32 bytes")

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint in the text of a note; lines after the third are passed over.

        Raises:
            InputError: it is none.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not all(lines[:-1]) or lines[-1]:
            raise InputError("a checkpoint has an origin, a size and a root, each on its line")
        return cls(origin=lines[0], size=parse_size(lines[1]), root=_from_base64(lines[2]))


def parse_size(text: str) -> int:
    """A number of leaves in decimal. Raises InputError when it is not in its one written form."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or str(int(text)) != text:
        raise InputError(f"{text[:40]!r} is not the size of a tree")
    return int(text)


def base64_hash(text: str) -> bytes:
    """A hash as proofs are written, one a line. Raises InputError when it is none."""
    data = _from_base64(text)
    if len(data) != 32:
        raise InputError("a hash has 32 bytes")
    return data


# --- for all of them ---------------------------------------------------------------------------


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _check_name(name: str) -> None:
    if not name or "+" in name or not name.isprintable() or any(c.isspace() for c in name):
        raise InputError(
            f"{name!r} cannot be the name of a key",
            remedy="Give a name without blanks and plus signs, such as plant.example/line-1.",
        )


def _key_parts(text: str, what: str) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    hexed, _, coded = rest.partition("+")
    if len(hexed) != 8 or set(hexed) - set("0123456789abcdef") or not coded:
        raise InputError(
            f"{text[:200]!r} is not a {what}", remedy="Give it whole: name+hash+base64."
        )
    _check_name(name)
    return name, hexed, _from_base64(coded)


def _from_base64(text: str) -> bytes:
    """RFC 4648, section 4, in its one form: padded, and no bit set that is not read."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{text[:80]!r} is not base64") from None
    if not data or base64.b64encode(data).decode() != text:
        raise InputError(f"{text[:80]!r} is not base64 in its one written form")
    return data
