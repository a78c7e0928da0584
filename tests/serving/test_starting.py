"""Starting, being ready, being refused alone, stopping."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inspection.cli import main
from inspection.errors import (
    ConfigurationError,
    EngineError,
    NoPromotedModel,
    RecordError,
    RegistryError,
)
from inspection.registry import LOG_NAME
from inspection.stores.sql import SqlRecordStore
from serving.cli import listen
from serving.warming import warm_engine
from tests.live_server import (
    Live,
    environment,
    promoted_spot,
    running,
    serial,
    serve_command,
    settings_in,
    start_process,
)
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inspection.engine import Engine
    from inspection.package import ModelPackage
    from serving.settings import Settings

GOOD = part_png("good")


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command line ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_serve(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Runs `inspection serve` as the command does, in this process; it must end by itself."""
    loggers = [logging.getLogger(name) for name in ("serving", "uvicorn")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]

    def run(*options: str, **variables: str) -> Done:
        monkeypatch.chdir(site)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        status = main(serve_command(site, *options)[3:])
        out, err = capsys.readouterr()
        return Done(returncode=status, stdout=out, stderr=err)

    yield run
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


# --- readiness -------------------------------------------------------------------------------


def checks(live: Live, **query: str) -> tuple[int, dict[str, tuple[bool, str]]]:
    answer = live.http.get("/readyz", params=query)
    return answer.status_code, {
        each["name"]: (each["ok"], each["detail"]) for each in answer.json()["checks"]
    }


def test_a_damaged_package_is_refused_alone_and_named(live: Live) -> None:
    status, found = checks(live)
    assert status == 503
    assert found["product KN-42"] == (True, "spot-kn-42@1 is warm")
    ok, detail = found["product DM-9"]
    assert not ok
    assert "spot-dm-9/1/model.onnx" in detail
    assert str(live.folder) not in detail
    assert found["product NO-0"][0] is False
    assert checks(live, product="KN-42")[0] == 200
    assert checks(live, product="DM-9")[0] == 503
    assert live.post(GOOD, capture_id="others-serve", serial=serial(1)).status_code == 201


def test_readiness_in_lines_for_people(live: Live) -> None:
    answer = live.http.get("/readyz?verbose")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "[ok] product KN-42: spot-kn-42@1 is warm" in answer.text
    assert "[FAIL] product NO-0" in answer.text
    assert answer.text.endswith("not ready\n")
    assert answer.headers["Retry-After"]
    one = live.http.get("/readyz?verbose&product=KN-42")
    assert one.status_code == 200
    assert one.text.endswith("\nready\n")


def test_readiness_of_a_product_that_is_not_listed(live: Live) -> None:
    assert live.http.get("/readyz?product=KN-43").status_code == 404


def test_a_server_with_nothing_to_serve_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(NoPromotedModel, match="nothing to serve"),
        running(settings_in(tmp_path)),
    ):
        pass


def test_a_server_whose_only_product_has_no_model_is_alive_and_not_ready(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, products=("NO-0",))) as live:
        assert live.http.get("/livez").status_code == 200
        assert checks(live)[0] == 503


def test_records_that_cannot_be_written_are_not_ready(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: SqlRecordStore) -> None:
        raise RecordError(f"no room in {site / 'var'}/records.db")

    with running(settings_in(site)) as live:
        assert checks(live)[0] == 200
        monkeypatch.setattr(SqlRecordStore, "check", full)
        live.server.keeping.look()  # as it does by itself every second
        status, found = checks(live)
        assert status == 503
        assert found["records"] == (False, "no room in records.db")


def test_an_engine_that_has_stopped_is_not_ready(site: Path) -> None:
    engines: list[Engine] = []

    def kept(package: ModelPackage, settings: Settings) -> Engine:
        engines.append(warm_engine(package, settings))
        return engines[-1]

    with running(settings_in(site), make_engine=kept) as live:
        engines[0].close()
        assert checks(live)[0] == 503
        refused = live.post(GOOD, capture_id="stopped")
        assert refused.status_code == 503
        assert refused.json()["code"] == "engine-failed"


def test_an_engine_that_does_not_warm_up_is_refused_alone(tmp_path: Path) -> None:
    promoted_spot(tmp_path / "weights", "KN-42")
    promoted_spot(tmp_path / "weights", "NAN-1", gain=float("nan"))

    def failing(package: ModelPackage, settings: Settings) -> Engine:
        if package.recipe.product == "OUT-1":
            raise EngineError("no such device")
        return warm_engine(package, settings)

    promoted_spot(tmp_path / "weights", "OUT-1")
    with running(settings_in(tmp_path), make_engine=failing) as live:
        _, found = checks(live)
        assert found["product KN-42"][0]
        passed, said = found["product NAN-1"]
        assert not passed
        assert "not a finite number" in said
        assert found["product OUT-1"] == (False, "no such device")


# --- models ----------------------------------------------------------------------------------


def models(live: Live) -> dict[str, dict[str, Any]]:
    return {each["product"]: each for each in live.http.get("/v1/models").json()["items"]}


def test_models_say_what_judges_and_what_it_certifies(live: Live) -> None:
    found = models(live)
    assert set(found) == {"KN-42", "KN-16", "DM-9", "NO-0"}
    serving = found["KN-42"]
    assert serving["state"] == "serving"
    assert serving["model"]["name"] == "spot-kn-42"
    assert serving["model"]["engine"].startswith("OpenVINO")
    assert set(serving["model"]["files"]) == {
        *("model.onnx", "model.safetensors", "recipe.toml", "report.json"),
    }
    point = serving["model"]["operating_point"]
    assert point["pass_below"] == {"spot": 0.2}
    assert point["certificate"]["bad_parts"] == 330
    assert serving["serial_format"]["length"] == 10
    assert (found["DM-9"]["state"], found["DM-9"]["model"]) == ("refused", None)
    assert found["NO-0"]["promotion"] is None


def test_a_log_of_promotions_that_was_altered_stops_the_start(site: Path) -> None:
    log = site / "weights" / LOG_NAME
    log.write_text(log.read_text() + '{"made": "up"}\n')
    with (
        pytest.raises(RegistryError, match="line 2"),
        running(settings_in(site)),
    ):
        pass


# --- the command -----------------------------------------------------------------------------


def test_the_command_serves_and_stops_with_status_0(site: Path) -> None:
    with (site / "log").open("w+") as log:
        server = start_process(site, errors=log)
        try:
            with httpx.Client(base_url=server.address, trust_env=False) as client:
                answer = client.post(
                    f"/v1/inspections?station=s&product=KN-42&capture_id=c&serial={serial(1)}",
                    content=GOOD,
                    headers={"Idempotency-Key": "c", "Content-Type": "image/png"},
                )
            assert answer.status_code == 201
        finally:
            status = server.stop()
        log.seek(0)
        lines = log.read()
    assert status == 0
    trace_id = answer.json()["trace_id"]
    assert f'"trace_id": "{trace_id}"' in lines, "the log names the trace ID"
    assert '"disposition": "pass"' in lines
    assert "Traceback" not in lines


def test_a_stopping_server_finishes_what_it_has_begun(site: Path) -> None:
    """The request is on its way, its last byte not yet sent, when the server is told to stop."""
    server = start_process(site)
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        head = (
            f"POST /v1/inspections?station=s&product=KN-42&capture_id=c&serial={serial(1)} "
            "HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: c\r\nContent-Type: image/png\r\n"
            f"Content-Length: {len(GOOD)}\r\n\r\n"
        )
        wire.sendall(head.encode() + GOOD[:-1])
        # The server has taken this connection: an answer on a second one proves that it runs.
        assert httpx.get(f"{server.address}/livez", trust_env=False).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        closed = threading.Event()
        for _ in range(3000):
            with socket.socket() as late:
                if late.connect_ex((host, int(port))) == errno.ECONNREFUSED:
                    break
            closed.wait(0.01)
        else:
            pytest.fail("the server still takes connections")
        wire.sendall(GOOD[-1:])
        answer = b""
        while part := wire.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert server.process.wait(timeout=60) == 0
    server.stop()


def test_check_says_what_it_found(run_serve: Callable[..., Done]) -> None:
    fine = run_serve("--check", "--port", "0")
    assert fine.returncode == 0, fine.stderr
    assert "ok   product KN-42: spot-kn-42@1 is warm" in fine.stdout
    refused = run_serve("--check", "--port", "0", INSPECTION_PRODUCTS="KN-42,NO-0")
    assert refused.returncode == 4
    assert "FAIL product NO-0" in refused.stdout
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "variables", "status", "says"),
    [
        (("--host", "0.0.0.0", "--port", "0"), {}, 4, "loopback only"),
        (("--port", "70000"), {}, 2, "70000"),
        (("--config", "nothing.toml"), {}, 2, "nothing.toml"),
        ((), {"INSPECTION_SERVER_PORT": "1"}, 2, "INSPECTION_SERVER__PORT"),
        ((), {"INSPECTION_SERVER__PORT": "many"}, 2, "server.port"),
        (("--host", "192.0.2.1"), {}, 4, "cannot listen on 192.0.2.1"),
        (("--port", "0", "--data-dir", "/dev/null/x"), {}, 4, "/dev/null/x"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    run_serve: Callable[..., Done],
    options: tuple[str, ...],
    variables: dict[str, str],
    status: int,
    says: str,
) -> None:
    done = run_serve(*options, **variables)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_in_use_is_said(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)


def test_port_0_is_the_first_free_one_from_8400() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        ports = [each.getsockname()[1] for each in (first, second)]
        assert 8400 <= ports[0] < ports[1] < 8500
        # asyncio sends small answers at once only on sockets that say that they are TCP.
        assert first.proto == socket.IPPROTO_TCP


def test_nothing_happens_on_import() -> None:
    """No folder is made, no setting read, no training room and no torch come in."""
    script = (
        "import sys; import serving.cli, serving.app, serving.client; "
        "unwanted = {'torch', 'training', 'onnxruntime', 'timm', 'opentelemetry.sdk'}; "
        "print(sorted(unwanted & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment() | {"INSPECTION_NO_SUCH": "1"},
        check=True,
    )
    assert done.stdout.strip() == "[]"
