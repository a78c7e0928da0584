"""What comes over the wire from whoever means no good: answered, and forgotten.

One `inspection serve` in a process of its own for all of them; at the end it must still judge, have
no file elsewhere and no line in its log that somebody else wrote, and not have grown.
"""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from serving import connections
from serving.envelope import HEADERS
from tests.hostile_images import hostile_images
from tests.live_server import ServerProcess, promoted_spot, start_process
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = part_png("good")
GROWTH_KB = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The server, a client of it, and where its files and its log are."""

    server: ServerProcess
    http: httpx.Client
    folder: Path
    log: Path

    def post(self, image: bytes, **fields: str) -> httpx.Response:
        given = {"station": "x", "product": "KN-42", "capture_id": f"h-{time.monotonic_ns()}"}
        headers = {"Idempotency-Key": str(time.monotonic_ns()), "Content-Type": "image/png"}
        return self.http.post(
            "/v1/inspections", params=given | fields, content=image, headers=headers
        )

    def raw(self, data: bytes, *, timeout: float = 15) -> bytes:
        """What comes back for these bytes, until the server closes or nothing comes."""
        place = urlsplit(self.server.address)
        with socket.create_connection((place.hostname or "", place.port or 0), timeout) as wire:
            answer = b""
            try:
                wire.sendall(data)
                while part := wire.recv(65536):
                    answer += part
            except (ConnectionError, TimeoutError):
                pass
            return answer

    def resident_kb(self) -> int:
        with Path(f"/proc/{self.server.process.pid}/status").open() as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("hostile")
    promoted_spot(folder / "weights")
    log = folder / "log.jsonl"
    with log.open("w") as errors:
        server = start_process(folder, "--port", "0", errors=errors)
        with httpx.Client(base_url=server.address, timeout=30, trust_env=False) as http:
            try:
                yield Box(server=server, http=http, folder=folder, log=log)
            finally:
                status = server.stop()
        assert status == 0


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The problem that it is, with nothing of the inside in it."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.headers["Content-Type"] == "application/problem+json"
    for name in HEADERS:
        assert name in answer.headers
    assert "server" not in answer.headers
    for word in ("Traceback", "site-packages", ".py", "uvicorn", "/tmp", "sqlite"):
        assert word not in answer.text, word
    problem: dict[str, Any] = answer.json()
    return problem


NAUGHTY = {
    "parents": "../../../../etc/passwd",
    "nul": "x\x00y",
    "line": "x\r\nSet-Cookie: a=b",
    "escape": "x\x1b[2Jy",
    "bidi": "abc\u202etxt.exe",
    "long": "L" * 50_000,
    "surrogates": "\ud800",
    "windows": "C:\\Windows\\system32\\con",
    "query": "a&b=c#d",
    "template": "{{7*7}}${jndi:ldap://x}",
    "sql": "'; DROP TABLE entries; --",
}
HARMLESS = {"parents", "windows", "query", "template", "sql"}
"""Strange names, but names: they are kept as they are, and never become a path."""


@pytest.mark.parametrize("name", NAUGHTY)
@pytest.mark.parametrize("field", ["station", "capture_id", "lot", "product", "serial"])
def test_no_field_is_a_path_or_a_line_of_its_own(box: Box, field: str, name: str) -> None:
    value = NAUGHTY[name].encode("utf-8", "surrogatepass")
    query = f"station=x&product=KN-42&capture_id={field}-{name}&{field}={quote(value)}"
    if field in ("station", "product", "capture_id"):
        query = "&".join(
            each for each in query.split("&")[:3] if not each.startswith(f"{field}=")
        ) + (f"&{field}={quote(value)}")
    headers = {"Idempotency-Key": f"{field}-{name}", "Content-Type": "image/png"}
    answer = box.http.post(f"/v1/inspections?{query}", content=GOOD, headers=headers)
    if answer.is_success:
        assert name in HARMLESS
        assert answer.json()[field] == NAUGHTY[name]
        assert "\n" not in answer.headers["Location"]
    else:
        refused(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/inspections/..%2f..%2f..%2fetc%2fpasswd/image",
        "/v1/inspections/%00/image",
        "/v1/parts/KN-42/%2e%2e%2f%2e%2e",
        "/v1/trace/%0d%0aSet-Cookie:%20a=b",
        "/static/../../../etc/passwd",
        "/docs/..%2f..%2finspection.toml",
        f"/v1/parts/{'p' * 5000}/x",
        "/v1/inspections?cursor=%ff%fe",
        "/v1/holds?limit=99999999999999999999999",
    ],
)
def test_no_path_leads_out_of_the_records(box: Box, path: str) -> None:
    refused(box.http.get(path))


LINE = b"POST /v1/inspections?station=x&product=KN-42&capture_id=raw HTTP/1.1\r\n"
HOST = b"Host: 127.0.0.1\r\nIdempotency-Key: raw\r\nContent-Type: image/png\r\n"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no such version": b"GET /livez HTTP/7.7\r\n\r\n",
    "NUL in a header": LINE + HOST + b"X-A: a\x00b\r\n\r\n",
    "two lengths": LINE + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length and chunks": LINE
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + b"GET /livez HTTP/1.1\r\n\r\n",
    "negative length": LINE + HOST + b"Content-Length: -1\r\n\r\n",
    "strange coding": LINE + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bad chunk": LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "giant chunk": LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nabc\r\n",
    "two hosts": LINE + HOST + b"Host: elsewhere.example\r\nContent-Length: 0\r\n\r\n",
    "two types": LINE + HOST + b"Content-Type: image/tiff\r\nContent-Length: 0\r\n\r\n",
    "two keys": LINE
    + HOST
    + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n\r\n",
    "two idempotency keys": LINE
    + HOST
    + b"Idempotency-Key: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "folded header": LINE + HOST + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": LINE + HOST + b"X-A : a\r\nContent-Length: 0\r\n\r\n",
    "endless header": LINE + HOST + b"X-A: " + b"a" * (connections.HEAD_BYTES + 300_000),
    "many headers": LINE + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(60_000)) + b"\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_clean_http_is_a_problem_and_the_end_of_the_connection(
    box: Box, case: str
) -> None:
    answer = box.raw(MALFORMED[case])
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    assert 400 <= status < 500, answer[:300]
    assert b"application/problem+json" in head, answer[:300]
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1, "one request, one answer"
    assert json.loads(body)["status"] == status
    assert b"uvicorn" not in answer


def test_whoever_says_nothing_or_little_is_let_go(box: Box) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        silent = pool.submit(box.raw, b"")
        slow = pool.submit(box.raw, LINE + b"X-A: a\r\n")
        honest = pool.submit(box.post, GOOD)
        assert honest.result().status_code == 201
        assert silent.result() == b""
        assert slow.result().startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < connections.HEAD_S + 4


def test_many_idle_connections_keep_nobody_out(box: Box) -> None:
    place = urlsplit(box.server.address)
    address = (place.hostname or "", place.port or 0)
    many = connections.most_connections() + 50
    held = [socket.create_connection(address, 5) for _ in range(many)]
    try:
        for _ in range(3):
            assert httpx.get(f"{box.server.address}/livez", trust_env=False).status_code == 200
    finally:
        for each in held:
            each.close()


def test_headers_that_lie_about_the_image(box: Box) -> None:
    query = {"station": "x", "product": "KN-42", "capture_id": "type"}
    for content_type in ("image/svg+xml", "text/html", "image/gif", "image/webp", "a" * 5000, "é"):
        headers = [(b"Idempotency-Key", b"type"), (b"Content-Type", content_type.encode())]
        posted = box.http.post("/v1/inspections", params=query, content=GOOD, headers=headers)
        assert refused(posted)["code"] == "image-unsupported"
    for name in ("X-Deadline-Ms", "Prefer", "Idempotency-Key"):
        value = {"Prefer": "wait=" + "9" * 3000}.get(name, "9" * 3000)
        given = {"Idempotency-Key": "v", "Content-Type": "image/png", name: value}
        posted = box.http.post("/v1/inspections", params=query, content=GOOD, headers=given)
        refused(posted)


def test_json_that_is_deep_or_long_or_no_json(box: Box) -> None:
    for body in (b"[" * 60_000, b'{"a":' * 10_000, b"{" + b'"x":1,' * 20_000, b"\xff\xfe", b"NaN"):
        headers = {"Idempotency-Key": "j", "Content-Type": "application/json"}
        refused(box.http.post("/v1/holds", content=body, headers=headers))


def test_hostile_images_are_refused_beside_honest_ones(box: Box) -> None:
    before = box.resident_kb()
    for name, case in hostile_images().items():
        headers = {"Idempotency-Key": name, "Content-Type": case.media_type}
        query = {"station": "x", "product": "KN-42", "capture_id": name}
        answer = box.http.post("/v1/inspections", params=query, content=case.data, headers=headers)
        if answer.status_code == 201:
            assert case.refused is None, name
            assert answer.json()["disposition"] != "pass", name
        else:
            refused(answer)
    assert box.post(GOOD).status_code == 201
    assert box.resident_kb() - before < GROWTH_KB


def test_afterwards_nothing_is_where_it_should_not_be(box: Box) -> None:
    assert box.post(GOOD).json()["disposition"] in ("pass", "review")
    assert {each.name for each in box.folder.iterdir()} == {"weights", "var", "log.jsonl"}
    allowed = {"records.db", "records.db-wal", "records.db-shm", "images"}
    assert {each.name for each in (box.folder / "var").iterdir()} <= allowed
    for line in box.log.read_text().splitlines():
        if line.startswith("PNG warning: "):  # OpenCV's decoder, in words of its own
            continue
        event = json.loads(line)
        assert event["event"] in ("request", "refused") or event["level"] != "error", line
        assert "\x1b" not in line
