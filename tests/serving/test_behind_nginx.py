"""The shipped nginx configuration before a real server: TLS, images, streams, refusals, its log."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from tests.live_server import promoted_spot, running, serial, settings_in, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
GOOD = part_png("good")


@dataclass(frozen=True, kw_only=True)
class Front:
    """nginx before a server, and a client that trusts its certificate."""

    http: httpx.Client
    key: str
    folder: Path

    def post(self, image: bytes, capture: str, **headers: str) -> httpx.Response:
        return self.http.post(
            "/v1/inspections",
            params={
                "station": "xray-1",
                "product": "KN-42",
                "capture_id": capture,
                "serial": serial(1),
            },
            content=image,
            headers={"Idempotency-Key": capture, "Content-Type": "image/png", **headers},
        )


def certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1 that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def adapted(folder: Path, upstream: str, plain: int, secure: int) -> Path:
    """The shipped file with places and ports of its own, inside a whole configuration."""
    text = CONFIGURATION.read_text()
    for old, new in {
        "127.0.0.1:8400": upstream.removeprefix("http://"),
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl": f"listen 127.0.0.1:{secure} ssl",
        "/etc/inspection/tls": str(folder),
        "/var/log/nginx": str(folder),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    (folder / "inspection.conf").write_text(text)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(
        f"{user}daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/main.log;\n"
        f"events {{ }}\nhttp {{ {places}include {folder}/inspection.conf; }}\n"
    )
    return main


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[tuple[int, int]]:
    """nginx with the shipped file before `upstream`; its ports, without and with TLS."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    certificate(folder)
    plain, secure = free_port(), free_port()
    main = adapted(folder, upstream, plain, secure)
    command = [program, "-e", str(folder / "main.log"), "-c", str(main)]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    process = subprocess.Popen(command)
    try:
        until(lambda: listens(secure))
        yield plain, secure
    finally:
        process.terminate()
        process.wait(timeout=20)


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "server.crt"))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    promoted_spot(folder / "weights")
    (folder / "var").mkdir()
    keys = AccessKeys(records_url(folder / "var"))
    key = keys.create("xray-1", "admin")[0]
    keys.close()
    with (
        running(settings_in(folder)) as live,
        nginx(folder, live.address) as (_, secure),
        httpx.Client(
            base_url=f"https://127.0.0.1:{secure}",
            verify=trusting(folder),
            trust_env=False,
            timeout=20,
            headers={"Authorization": f"Bearer {key}"},
        ) as client,
    ):
        yield Front(http=client, key=key, folder=folder)


def test_a_part_is_judged_through_it_and_nothing_secret_is_logged(front: Front) -> None:
    answer = front.post(GOOD, "through-1")
    assert answer.status_code == 201, answer.text
    assert answer.headers["Strict-Transport-Security"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "nginx/" not in str(answer.headers)
    log = front.folder / "inspection.log"
    until(lambda: "POST /v1/inspections 201" in log.read_text())
    logged = "".join(each.read_text() for each in front.folder.glob("*.log"))
    assert serial(1) not in logged
    assert front.key not in logged


def test_a_key_is_asked_for_although_the_proxy_is_on_this_machine(front: Front) -> None:
    assert front.post(GOOD, "through-2", Authorization="Bearer nonsense").status_code == 401


def test_a_stream_comes_as_it_is_made(front: Front) -> None:
    with front.http.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        for line in lines:
            if not line:
                break
        posted = front.post(part_png("bad"), "through-3").json()
        seen = next(line for line in lines if line.startswith("data:"))
        assert posted["id"] in seen


def test_what_the_proxy_refuses_is_a_problem_too(front: Front) -> None:
    answer = front.post(bytes(66 * 2**20), "through-4")
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "image-too-large"


def test_a_server_that_is_down_is_said_with_a_time_to_come_again(tmp_path: Path) -> None:
    with nginx(tmp_path, f"http://127.0.0.1:{free_port()}") as (plain, secure):
        address = f"https://127.0.0.1:{secure}/v1/models"
        answer = httpx.get(address, verify=trusting(tmp_path), trust_env=False)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["code"] == "server-unreachable"
        plainly = httpx.get(f"http://127.0.0.1:{plain}/v1/models", trust_env=False)
        assert plainly.status_code == 403
