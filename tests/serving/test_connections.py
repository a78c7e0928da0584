"""Large bodies and early answers, byte by byte: nothing is lost, nothing is taken for the next."""

from __future__ import annotations

import json
import logging
import re
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import filling, in_bulk
from serving.filling import Filling
from tests.live_server import Live, promoted_spot, running, settings_in, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = part_png("good")
LARGE = 8 * 1024 * 1024
"""More than the system takes for a peer that does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: str
    problem: dict[str, object]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that lets one request in at a time."""
    folder = tmp_path_factory.mktemp("connections")
    promoted_spot(folder / "weights")
    settings = settings_in(folder, workers=1)
    one = settings.model_copy(update={"server": settings.server.model_copy(update={"queue": 1})})
    with running(one) as found:
        yield found


def head(length: int, name: str, more: str = "") -> bytes:
    query = f"station=s&product=KN-42&capture_id={name}"
    return (
        f"POST /v1/inspections?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: {name}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


@contextmanager
def wire(live: Live) -> Iterator[socket.socket]:
    place = urlsplit(live.address)
    with socket.create_connection((place.hostname or "", place.port or 0), 20) as sock:
        yield sock


@contextmanager
def full(live: Live) -> Iterator[None]:
    """Somebody has the one place and does not go on."""
    with wire(live) as sock:
        sock.sendall(head(1000, "holds"))
        until(lambda: live.server.gate.inside == 1)
        yield
    until(lambda: live.server.gate.inside == 0)


def read_to_the_end(sock: socket.socket) -> list[Answer]:
    """Everything until the server closes; a reset is an error."""
    data = b""
    while part := sock.recv(65536):
        data += part
    answers = []
    while data:
        top, _, data = data.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: (\d+)", top)
        assert found
        body, data = data[: int(found[1])], data[int(found[1]) :]
        status = int(top.split()[1])
        answers.append(Answer(status=status, headers=top.decode(), problem=json.loads(body)))
    return answers


@pytest.mark.parametrize("why", ["overloaded", "image-too-large"])
def test_who_is_refused_while_it_still_sends_reads_the_answer_whole(live: Live, why: str) -> None:
    def sent() -> list[Answer]:
        with wire(live) as sock:
            sock.sendall(head(LARGE, "large"))
            sock.sendall(bytes(LARGE))  # all of it before a byte is read, as many clients do
            return read_to_the_end(sock)

    if why == "overloaded":
        with full(live):
            (answer,) = sent()
    else:
        (answer,) = sent()
    assert answer.problem["code"] == why
    assert answer.status == (429 if why == "overloaded" else 413)
    assert "connection: close" in answer.headers


def test_a_large_body_ends_where_its_length_says_and_the_next_request_begins(live: Live) -> None:
    length = 3_000_000
    with wire(live) as sock:
        sock.sendall(
            head(length, "first")
            + bytes(length)
            + b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            + head(len(GOOD), "third", "Connection: close\r\n")
            + GOOD
        )
        first, second, third = read_to_the_end(sock)
    assert (first.status, first.problem["code"]) == (422, "image-unreadable")
    assert second.status == 200
    assert third.status == 201


def test_a_body_is_asked_for_only_when_it_is_wanted(live: Live) -> None:
    with wire(live) as sock:
        sock.sendall(head(len(GOOD), "asked", "Expect: 100-continue\r\nConnection: close\r\n"))
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(GOOD)
        (answer,) = read_to_the_end(sock)
    assert answer.status == 201
    with full(live), wire(live) as sock:
        sock.sendall(head(len(GOOD), "asked-2", "Expect: 100-continue\r\n"))
        (answer,) = read_to_the_end(sock)
    assert answer.status == 429


def test_whoever_goes_in_the_middle_of_a_body_leaves_its_place(live: Live) -> None:
    with wire(live) as sock:
        sock.sendall(head(LARGE // 4, "gone") + bytes(300_000))
        until(lambda: live.server.gate.inside == 1)
    until(lambda: live.server.gate.inside == 0)


def test_many_refusals_of_a_second_are_one_line_of_the_log(
    live: Live, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: not live.server.in_bulk._made)  # what was refused before has its line
    monkeypatch.setattr(in_bulk, "FOR_S", 0.5)
    with caplog.at_level(logging.INFO, "serving"), full(live):
        answers = [live.post(GOOD, capture_id=f"many-{n}") for n in range(20)]
        until(lambda: not live.server.in_bulk._made)
    assert {answer.status_code for answer in answers} == {429}
    (told,) = [line for line in caplog.records if getattr(line, "code", "") == "overloaded"]
    assert told.__dict__["count"] == 20
    assert {answer.json()["instance"] for answer in answers} == {told.__dict__["instance"]}
    assert "request" not in {
        line.getMessage() for line in caplog.records if getattr(line, "status", 0) == 429
    }


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20), st.integers(0, 3))
def test_a_body_is_what_came_in_whatever_pieces(pieces: list[bytes], at_once: int) -> None:
    whole, before = b"".join(pieces), filling.AT_ONCE_BYTES
    coming = pieces[1:]
    filling.AT_ONCE_BYTES = at_once  # type: ignore[misc]
    try:
        found = Filling(pieces[0], len(whole), None)  # type: ignore[arg-type]
        rest = b"".join(coming)
        while rest:
            room = found.room()
            assert len(room)
            count = min(len(room), len(rest), 7)
            room[:count] = rest[:count]
            rest = rest[count:]
            assert found.add(count) == (not rest)
        assert found.whole() == whole
    finally:
        filling.AT_ONCE_BYTES = before  # type: ignore[misc]
