"""What an answer says of the inside: nothing, whatever goes wrong, and whoever asks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.envelope import HEADERS
from tests.spot_model import part_png

if TYPE_CHECKING:
    from tests.live_server import Live

INSIDE = ("Traceback", "site-packages", ".py", "uvicorn", "starlette", "sqlite", "secret-place")


def check(live: Live, answer: httpx.Response) -> None:
    for name, value in HEADERS.items():
        assert name in answer.headers, name
        if name != "Cache-Control":
            assert answer.headers[name] == value
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
    for word in (*INSIDE, str(live.folder)):
        assert word not in answer.text, word


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/livez", "/readyz", "/v1/models", "/nowhere", "/v1/inspections/x", "/metrics"],
)
def test_every_answer_has_the_headers_and_none_a_word_too_much(live: Live, path: str) -> None:
    for method in ("GET", "DELETE", "OPTIONS", "TRACE"):
        answer = live.http.request(method, path)
        if method == "GET" and answer.is_success:
            assert set(HEADERS) <= {name.title() for name in answer.headers}
        else:
            check(live, answer)


def test_a_fault_is_told_in_the_log_and_nowhere_else(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"{live.folder}/secret-place: starlette and sqlite")

    monkeypatch.setattr(type(live.server.records), "find", broken)
    monkeypatch.setattr(type(live.server.records), "replay", broken)
    caplog.set_level(logging.INFO, "serving")
    for answer in (live.http.get("/v1/inspections"), live.post(part_png("good"))):
        assert answer.status_code == 500
        check(live, answer)
        problem = answer.json()
        assert problem["code"] == "inspection-error"
        named = [r for r in caplog.records if getattr(r, "instance", "") == problem["instance"]]
        assert named, "what the caller is shown finds the line in the log"
    assert "secret-place" in caplog.text
