"""A witness over real HTTP, and whoever calls it."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from inspection.errors import ConfigurationError, InputError, RecordError, RecordsDamaged
from inspection.proofs.notes import WITNESS, SigningKey, VerifierKey, cosigned_at, holds
from inspection.proofs.witness import MAX_SUBMISSION_BYTES, FileWitness, Submission, Witness
from inspection.proofs.witnesses import HttpWitness, name_of, parse_witness
from serving.witness import WitnessServer, witness
from tests.logs import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = SigningKey(name="witness.example/hall", type=WITNESS, seed=bytes(range(32)))
NAMES = [f"plant.example/line-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessServer]:
    logs = [Log(name).key.verifier for name in NAMES]
    with (
        closing(Witness(tmp_path_factory.mktemp("state"), KEY, logs)) as keeper,
        WitnessServer(("127.0.0.1", 0), keeper, f"{KEY.verifier}\n") as made,
    ):
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Log:
    """Each test has a log of its own."""
    taken = request.session.stash.setdefault(_TAKEN, [])
    taken.append(request.node.name)
    return Log(NAMES[len(taken) - 1]).grow(5)


_TAKEN = pytest.StashKey[list[str]]()


@pytest.fixture
def client(server: WitnessServer) -> HttpWitness:
    return HttpWitness(url=server.url, key=KEY.verifier)


def test_growing_log_gets_its_line_each_time(client: HttpWitness, log: Log) -> None:
    for count, old in ((5, 0), (12, 5), (12, 12), (700, 12)):
        log.grow(count - len(log.leaves))
        line = client.cosign(log.note(), log.prove, old=old)
        assert holds(log.note(), line, KEY.verifier)
        assert cosigned_at(line) > 1_700_000_000


def test_size_that_was_forgotten_is_asked_for(client: HttpWitness, log: Log) -> None:
    client.cosign(log.note(), log.prove)
    log.grow(6)
    assert holds(log.note(), client.cosign(log.note(), log.prove, old=0), KEY.verifier)
    log.grow(1)
    assert holds(log.note(), client.cosign(log.note(), log.prove, old=3), KEY.verifier)


def test_records_that_were_cut_off_are_found_out(client: HttpWitness, log: Log) -> None:
    client.cosign(log.note(), log.prove)
    shorter = log.fork(4)
    with pytest.raises(RecordsDamaged, match="has seen 5 records"):
        client.cosign(shorter.note(), shorter.prove)


def test_records_that_were_rewritten_are_found_out(client: HttpWitness, log: Log) -> None:
    client.cosign(log.note(), log.prove)
    other = log.fork(2).grow(3, "rewritten")
    with pytest.raises(RecordsDamaged, match="removed or rewritten"):
        client.cosign(other.note(), other.prove)
    other.grow(3, "rewritten")
    with pytest.raises(RecordError, match="422"):
        client.cosign(other.note(), other.prove, old=5)


def test_unknown_log_is_told_what_to_do(client: HttpWitness) -> None:
    stranger = Log("stranger").grow(1)
    with pytest.raises(RecordError, match="404") as caught:
        client.cosign(stranger.note(), stranger.prove)
    assert "--log" in caught.value.remedy


def test_signature_of_another_witness_is_not_taken(server: WitnessServer, log: Log) -> None:
    other = SigningKey(name=KEY.name, type=WITNESS, seed=bytes(32)).verifier
    with pytest.raises(RecordError, match="did not sign"):
        HttpWitness(url=server.url, key=other).cosign(log.note(), log.prove)


def test_witness_that_is_away_is_an_error_with_a_remedy(log: Log) -> None:
    nobody = HttpWitness(url="http://127.0.0.1:9", key=KEY.verifier)
    with pytest.raises(RecordError, match="cannot be reached") as caught:
        nobody.cosign(log.note(), log.prove)
    assert caught.value.remedy


def ask(
    server: WitnessServer, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    host, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(host), port, timeout=5)) as connection:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if "length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        elif headers["length"]:
            connection.putheader("Content-Length", headers["length"])
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_says_who_it_is(server: WitnessServer) -> None:
    status, body = ask(server, "GET", "/")
    assert (status, body.decode().splitlines()[0]) == (200, str(KEY.verifier))


def test_requests_that_are_none_are_refused(server: WitnessServer, log: Log) -> None:
    assert ask(server, "GET", "/add-checkpoint")[0] == 404
    assert ask(server, "POST", "/elsewhere", b"x")[0] == 404
    assert ask(server, "POST", "/add-checkpoint", b"old x\n\n")[0] == 400
    assert ask(server, "POST", "/add-checkpoint", length="")[0] == 411
    assert ask(server, "POST", "/add-checkpoint", length="-1")[0] == 411
    assert ask(server, "POST", "/add-checkpoint", length=str(MAX_SUBMISSION_BYTES + 1))[0] == 413
    assert ask(server, "DELETE", "/")[0] == 501


def test_one_connection_serves_many_requests(server: WitnessServer, log: Log) -> None:
    host, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(host), port, timeout=5)) as connection:
        for old in (0, 5, 5):
            body = str(Submission(old=old, proof=(), note=log.note())).encode()
            connection.request("POST", "/add-checkpoint", body)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)


# --- how witnesses are named -------------------------------------------------------------------


def test_witnesses_are_named_by_file_or_by_address_and_key(tmp_path: Path) -> None:
    file = parse_witness(str(tmp_path / "on a usb stick.txt"))
    assert isinstance(file, FileWitness)
    assert name_of(file).endswith("on a usb stick.txt")
    other = parse_witness(f"https://box/witness {KEY.verifier}")
    assert other == HttpWitness(url="https://box/witness", key=KEY.verifier)
    assert name_of(other) == KEY.name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://box",
        "http://box key",
        f"ftp://box {KEY.verifier}",
        f"http:// {KEY.verifier}",
        f"http://box?a=b {KEY.verifier}",
        f"http://box {Log().key.verifier}",
    ],
)
def test_what_names_no_witness_is_refused(text: str) -> None:
    with pytest.raises((ConfigurationError, InputError)):
        parse_witness(text)


# --- the command -------------------------------------------------------------------------------


def test_command_serves_until_it_is_told_to_stop(tmp_path: Path, log: Log) -> None:
    state = tmp_path / "state"
    made = CliRunner().invoke(witness, ["init", "box.example/w", "--state", str(state)])
    assert made.exit_code == 0, made.output
    key = VerifierKey.parse(made.stdout)
    assert (state / "witness.key").stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-c", "from serving.witness import witness; witness()", "serve"]
    command += ["--state", str(state), "--port", "0", "--log", str(log.key.verifier)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == str(key)
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            client = HttpWitness(url=found[0], key=key)
            assert holds(log.note(), client.cosign(log.note(), log.prove), key)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_command_wants_keys_of_logs(tmp_path: Path) -> None:
    words = ["serve", "--state", str(tmp_path), "--port", "0", "--log", "nonsense"]
    result = CliRunner().invoke(witness, words)
    assert isinstance(result.exception, InputError)
