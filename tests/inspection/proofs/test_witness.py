from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inspection.errors import ConfigurationError, InputError, RecordError, RecordsDamaged
from inspection.proofs.notes import WITNESS, Checkpoint, Note, Signature, SigningKey, holds, sign
from inspection.proofs.witness import SIZE_TYPE, FileWitness, Submission, Witness, read_witness_file
from tests.logs import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = SigningKey(name="witness.example/hall", type=WITNESS, seed=bytes(range(32)))


@pytest.fixture
def log() -> Log:
    return Log().grow(5)


@pytest.fixture
def witness(tmp_path: Path, log: Log) -> Iterator[Witness]:
    with closing(Witness(tmp_path / "state", KEY, [log.key.verifier], clock=lambda: 42.9)) as made:
        yield made


def submission(log: Log, old: int, *, size: int | None = None) -> bytes:
    new = len(log.leaves) if size is None else size
    proof = log.prove(old, new) if old <= new else ()
    return str(Submission(old=old, proof=proof, note=log.note(new))).encode()


def test_submission_is_written_as_specified(log: Log) -> None:
    text = submission(log, 3).decode()
    assert text.startswith("old 3\n")
    assert str(Submission.parse(text)) == text
    head, _, rest = text.partition("\n\n")
    assert len(head.split("\n")) == 1 + len(log.prove(3, 5))
    assert Note.parse(rest) == log.note()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "old 3\n",
        "3\n\n",
        "old 03\n\n{note}",
        "old -1\n\n{note}",
        "old 3\nAAAA\n\n{note}",
        "old 3\n" + 64 * "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n" + "\n{note}",
    ],
)
def test_what_is_no_submission_is_refused_with_400(log: Log, witness: Witness, text: str) -> None:
    body = text.replace("{note}", str(log.note()))
    with pytest.raises(InputError):
        Submission.parse(body)
    assert witness.add_checkpoint(body.encode()).status == 400


def test_growing_log_is_cosigned_each_time(log: Log, witness: Witness) -> None:
    size = 0
    for count in (5, 8, 8, 300):
        log.grow(count - len(log.leaves))
        answer = witness.add_checkpoint(submission(log, size))
        assert answer.status == 200
        assert holds(log.note(), Signature.parse(answer.body.rstrip("\n")), KEY.verifier)
        size = count
    kept = witness.latest(log.key.name)
    assert kept is not None
    assert Checkpoint.parse(kept.text) == log.head()


def test_old_size_that_is_another_is_answered_with_the_right_one(
    log: Log, witness: Witness
) -> None:
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    log.grow(3)
    for old in (0, 3, 8):
        answer = witness.add_checkpoint(submission(log, old))
        assert (answer.status, answer.body, answer.media_type) == (409, "5\n", SIZE_TYPE)
    assert witness.add_checkpoint(submission(log, 5)).status == 200


def test_witness_never_goes_back(log: Log, witness: Witness) -> None:
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    assert witness.add_checkpoint(submission(log, 3, size=4)).status == 409
    assert witness.add_checkpoint(submission(log, 5, size=4)).status == 400
    kept = witness.latest(log.key.name)
    assert kept is not None
    assert Checkpoint.parse(kept.text).size == 5


def test_other_history_is_not_cosigned(log: Log, witness: Witness) -> None:
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    other = log.fork(3).grow(2, "rewritten")
    assert witness.add_checkpoint(submission(other, 5)).status == 409
    other.grow(4, "rewritten")
    assert witness.add_checkpoint(submission(other, 5)).status == 422
    assert witness.add_checkpoint(submission(log.grow(1), 5)).status == 200


def test_first_checkpoint_comes_without_a_proof(log: Log, witness: Witness) -> None:
    wrong = str(Submission(old=0, proof=(bytes(32),), note=log.note())).encode()
    assert witness.add_checkpoint(wrong).status == 422
    assert witness.latest(log.key.name) is None


def test_unknown_log_and_unknown_signature_are_told_apart(log: Log, witness: Witness) -> None:
    assert witness.add_checkpoint(submission(Log("elsewhere").grow(1), 0)).status == 404
    impostor = Log(seed=9).grow(1)
    assert witness.add_checkpoint(submission(impostor, 0)).status == 403
    damaged = str(log.note()).replace("\n5\n", "\n6\n")
    assert witness.add_checkpoint(f"old 0\n\n{damaged}".encode()).status == 403
    assert witness.add_checkpoint(b"\xff\xfe").status == 400


def test_witness_remembers_after_a_restart(log: Log, tmp_path: Path) -> None:
    for old, count in ((0, 5), (5, 9)):
        log.grow(count - len(log.leaves))
        with closing(Witness(tmp_path, KEY, [log.key.verifier])) as witness:
            assert witness.add_checkpoint(submission(log, old)).status == 200


def test_state_that_was_damaged_signs_nothing(log: Log, witness: Witness, tmp_path: Path) -> None:
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    (path,) = (tmp_path / "state").glob("*.checkpoint")
    good = path.read_bytes()
    log_line = range(good.index("\n— ".encode()), good.rindex("— ".encode()))
    for at in sorted(set(range(0, len(good), 7)) - set(log_line)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(RecordsDamaged):
            witness.add_checkpoint(submission(log, 5))
    path.write_bytes(b"")
    with pytest.raises(RecordsDamaged):
        witness.latest(log.key.name)


def test_two_witnesses_in_one_folder_would_forget_each_others(
    witness: Witness, log: Log, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="another witness"):
        Witness(tmp_path / "state", KEY, [log.key.verifier])


def test_keys_of_the_wrong_kind_are_refused(tmp_path: Path, log: Log) -> None:
    with pytest.raises(ConfigurationError, match="as a log"):
        Witness(tmp_path, log.key, [])
    twin = Log(seed=2).key.verifier
    with pytest.raises(ConfigurationError, match="same name"):
        Witness(tmp_path, KEY, [log.key.verifier, twin])


def test_of_two_that_come_at_once_none_turns_the_witness_back(log: Log, witness: Witness) -> None:
    log.grow(40)
    results: list[int] = []

    def send(size: int) -> None:
        for _ in range(60):
            kept = witness.latest(log.key.name)
            old = 0 if kept is None else Checkpoint.parse(kept.text).size
            if old >= size:
                return
            results.append(witness.add_checkpoint(submission(log, old, size=size)).status)

    threads = [threading.Thread(target=send, args=(size,)) for size in range(10, 45, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = witness.latest(log.key.name)
    assert kept is not None
    assert Checkpoint.parse(kept.text).size == 40
    assert set(results) <= {200, 409}


# --- a file ------------------------------------------------------------------------------------


def test_file_keeps_every_checkpoint_once(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "usb.txt"
    file = FileWitness(path)
    for count in (5, 7, 7, 30):
        log.grow(count - len(log.leaves))
        file.add(log.note(), log.prove)
    kept = read_witness_file(path)
    assert [Checkpoint.parse(note.text).size for note in kept.notes] == [5, 7, 30]
    assert not kept.torn
    assert path.read_text().endswith("\n\n")


def test_file_is_not_turned_back_nor_given_another_history(log: Log, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    file.add(log.note(), log.prove)
    before = file.path.read_bytes()
    other = log.fork(3).grow(9, "rewritten")
    for wrong in (other, log.fork(4)):
        with pytest.raises(RecordsDamaged, match="removed or rewritten"):
            file.add(wrong.note(), wrong.prove)
    stranger = Log("other").grow(9)
    with pytest.raises(ConfigurationError, match="not of other"):
        file.add(stranger.note(), stranger.prove)
    assert file.path.read_bytes() == before


def test_end_that_a_crash_tore_is_cut_off_and_the_rest_stays(log: Log, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    file.add(log.note(), log.prove)
    whole = file.path.read_bytes()
    log.grow(4)
    file.add(log.note(), log.prove)
    both = file.path.read_bytes()
    for end in range(len(whole), len(both)):
        file.path.write_bytes(both[:end])
        kept = read_witness_file(file.path)
        assert (len(kept.notes), kept.torn) == (1, end > len(whole))
        file.add(log.note(), log.prove)
        assert file.path.read_bytes() == both


def test_damaged_file_is_not_written_to(log: Log, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    file.add(log.note(), log.prove)
    data = file.path.read_bytes().replace(b"\n5\n", b"\nx\n")
    file.path.write_bytes(data)
    with pytest.raises(InputError, match="checkpoint 1 is damaged"):
        file.add(log.grow(1).note(), log.prove)
    assert file.path.read_bytes() == data


def test_disk_that_is_not_there_is_told(log: Log, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be written") as caught:
        FileWitness(tmp_path / "not mounted" / "usb.txt").add(log.note(), log.prove)
    assert "Mount" in caught.value.remedy


def test_log_may_sign_with_a_new_key_of_the_same_name(log: Log, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    file.add(log.note(), log.prove)
    log.key = Log(seed=7).key
    file.add(sign(log.grow(2).head().text, log.key), log.prove)
    assert len(read_witness_file(file.path).notes) == 2
