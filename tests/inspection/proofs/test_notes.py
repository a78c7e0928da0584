from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import InputError
from inspection.proofs.notes import (
    LOG,
    WITNESS,
    Checkpoint,
    Note,
    Signature,
    SigningKey,
    VerifierKey,
    cosign,
    cosigned_at,
    holds,
    sign,
    verify,
)

# The vectors of Go's package sumdb/note, which the form comes from, and of the specification.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33"
    "WWd1RvMc+QQ=\n"
)
SPECIFIED = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFIED_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuw"
    "HjG1Yu72IneyaQM=\n"
)

LINE = SigningKey(name="plant.example/line-1", type=LOG, seed=bytes(range(32)))
HALL = SigningKey(name="witness.example/hall", type=WITNESS, seed=bytes(range(32, 64)))
HEAD = Checkpoint(origin=LINE.name, size=20852163, root=bytes(range(32)))


@pytest.mark.parametrize("text", [PETER, ENOCH, SPECIFIED])
def test_published_keys_are_read_and_written_alike(text: str) -> None:
    assert str(VerifierKey.parse(text)) == text


def test_published_signing_key_makes_the_published_note() -> None:
    key = SigningKey.parse(PETERS)
    assert key.text() == PETERS
    assert str(key.verifier) == PETER
    assert str(sign(TEXT, key)) == f"{TEXT}\n{PETER_LINE}"


def test_published_notes_hold() -> None:
    peter, enoch = VerifierKey.parse(PETER), VerifierKey.parse(ENOCH)
    note = Note.parse(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}")
    assert verify(note, (peter,)) == (peter,)
    assert verify(note, (peter, enoch)) == (peter, enoch)
    key = VerifierKey.parse(SPECIFIED)
    assert verify(Note.parse(SPECIFIED_NOTE), (key, peter)) == (key,)


def test_published_cosignature_has_the_published_time() -> None:
    line = Signature.parse(
        "— witness ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWW"
        "OworDcFiEBYJXORmnFBOBA=="
    )
    assert cosigned_at(line) == 1727964367


@pytest.mark.parametrize("key", [PETER, SPECIFIED])
def test_key_with_anything_changed_is_refused(key: str) -> None:
    for start in range(len(key)):
        for end in range(start + 1, len(key) + 1, 7):
            if (start, end) != (0, len(key)):
                with pytest.raises(InputError):
                    VerifierKey.parse(key[start:end])
    for at, character in enumerate(key):
        with pytest.raises(InputError):
            VerifierKey.parse(key[:at] + chr(ord(character) + 1) + key[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        # Of the wrong length, and of an unknown type, each with the hash that fits it.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "",
        "++",
        "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        VerifierKey.parse(text)


def test_error_about_a_signing_key_does_not_tell_it() -> None:
    for at in range(len(PETERS)):
        with pytest.raises(InputError) as caught:
            SigningKey.parse(PETERS[:at] + chr(ord(PETERS[at]) + 1) + PETERS[at + 1 :])
        assert PETERS[40:] not in str(caught.value)
    assert PETERS[-44:] not in repr(SigningKey.parse(PETERS))


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\t", "no\u00a0break"])
def test_name_that_would_break_a_line_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        SigningKey.generate(name)


# --- checkpoints -------------------------------------------------------------------------------


def test_checkpoint_is_three_lines() -> None:
    assert HEAD.text == (
        "plant.example/line-1\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    )
    assert Checkpoint.parse(HEAD.text) == HEAD
    assert Checkpoint.parse(f"{HEAD.text}more, which is opaque\n") == HEAD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "a\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "a\n١\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\n",
        "a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
        "a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "a\n1\n\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"a\n{2**63}\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Checkpoint.parse(text)


def test_cosignature_is_over_time_and_checkpoint() -> None:
    note = sign(HEAD.text, LINE)
    line = cosign(HEAD.text, HALL, seconds=1679315147)
    both = Note.parse(str(note.with_signatures((line,))))
    assert verify(both, (LINE.verifier, HALL.verifier)) == (LINE.verifier, HALL.verifier)
    assert cosigned_at(both.signatures[1]) == 1679315147
    later = replace(line, data=(1679315148).to_bytes(8, "big") + line.data[8:])
    assert not holds(note, later, HALL.verifier)
    # The very bytes that the specification has signed.
    as_log = replace(HALL, type=LOG, name="x")
    message = f"cosignature/v1\ntime 1679315147\n{HEAD.text}"
    assert line.data[8:] == as_log.sign(message.encode())


def test_witness_that_signs_again_has_one_line() -> None:
    note = sign(HEAD.text, LINE)
    first, second = (cosign(HEAD.text, HALL, seconds=when) for when in (100, 200))
    twice = note.with_signatures((first,)).with_signatures((second,))
    assert [each.name for each in twice.signatures] == [LINE.name, HALL.name]
    assert cosigned_at(twice.signatures[1]) == 200


def test_line_of_an_unknown_key_is_passed_over_and_a_false_one_is_not() -> None:
    note = sign(HEAD.text, LINE)
    assert verify(note, (HALL.verifier,)) == ()
    namesake = replace(LINE, seed=bytes(32))
    assert verify(note, (namesake.verifier,)) == ()
    false = replace(note, text=replace(HEAD, size=1).text)
    with pytest.raises(InputError, match="does not hold"):
        verify(false, (LINE.verifier,))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_note_with_any_byte_changed_is_noticed(at: int, flip: int) -> None:
    note = sign(HEAD.text, LINE).with_signatures((cosign(HEAD.text, HALL, seconds=5),))
    data = bytearray(str(note).encode())
    data[at % len(data)] ^= flip
    keys = (LINE.verifier, HALL.verifier)
    try:
        other = Note.parse(data.decode())
        Checkpoint.parse(other.text)
        noticed = verify(other, keys) != keys
    except (UnicodeDecodeError, InputError):
        noticed = True
    assert noticed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature\n",
        "text\n\n",
        "text\n\nno dash AAAAAAAA\n",
        "text\n\n— a\n",
        "text\n\n— a AAAA\n",
        "text\n\n— a AAAAAAA=",
        "te\x00xt\n\n— a AAAAAAA=\n",
        "te\rxt\n\n— a AAAAAAA=\n",
    ],
)
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Note.parse(text)


def test_note_may_hold_empty_lines() -> None:
    text = "one\n\n\ntwo\n"
    note = Note.parse(str(sign(text, LINE)))
    assert note.text == text
    assert verify(note, (LINE.verifier,)) == (LINE.verifier,)


def test_base64_has_one_form() -> None:
    line = str(sign(HEAD.text, LINE).signatures[0]).rstrip("\n")
    name, coded = line.removeprefix("— ").split(" ")
    data = base64.b64decode(coded)
    for other in (coded.rstrip("="), f"{coded}=", f" {coded}", coded[:-2] + "B=" + coded[-1]):
        with pytest.raises(InputError):
            Signature.parse(f"— {name} {other}")
    assert Signature.parse(line).data == data[4:]
