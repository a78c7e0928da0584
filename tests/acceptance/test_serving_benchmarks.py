"""The benchmarks compute what they say, and their client does what it says to a server."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from inspection.frame import decode_image
from inspection.recipe import Recipe, prepare
from tests.spot_model import part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "benchmarks" / "serving"


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, Any]]:
    """The modules of the benchmarks, which are scripts and no package."""
    places = [str(FOLDER), str(FOLDER / "rivals")]
    names = ("_figures", "_load", "_place", "_report", "_outputs", "_judge")
    sys.path[:0] = places
    try:
        yield {name.strip("_"): importlib.import_module(name) for name in names}
    finally:
        del sys.path[: len(places)]
        for name in names:
            sys.modules.pop(name, None)


def answers(bench: dict[str, Any], *rows: tuple[float, float, float, int]) -> Any:
    """(due, sent, answered, status) each, of a run of two seconds."""
    records = np.array([(*row, n) for n, row in enumerate(rows)], dtype=bench["figures"].RECORD)
    return bench["figures"].Answers(
        records=records, seconds=2.0, client_cpu_s=0.1, server_cpu_s=0.9
    )


@pytest.mark.parametrize(
    ("centile", "expected"), [(50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0), (1, 1.0)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    bench: dict[str, Any], centile: float, expected: float
) -> None:
    hundred = np.random.default_rng(3).permutation(np.arange(1.0, 101.0))
    assert bench["figures"].percentile(hundred, centile) == expected
    assert np.isnan(bench["figures"].percentile([], centile))


def test_goodput_counts_from_when_a_request_was_due_and_lateness_from_when_it_left(
    bench: dict[str, Any],
) -> None:
    run = answers(
        bench,
        (10.0, 10.0, 10.2, 201),  # in time
        (10.1, 10.5, 10.7, 201),  # left late: the caller's 0.6 s are too long, the server's not
        (10.2, 10.2, 10.9, 201),  # answered late
        (10.3, 10.3, 10.301, 429),
        (10.4, 10.4, 13.0, 201),  # after the end
        (10.5, 10.5, 25.0, 0),
    )
    assert run.rate() == 3 / 2
    assert run.goodput(0.5) == 1 / 2
    assert run.late(0.5) == 2
    assert run.statuses() == {0: 1, 201: 4, 429: 1}
    assert run.times_ms(429) == pytest.approx([1.0])
    assert run.lag_ms() == pytest.approx(400.0)
    assert run.server_cpu_ms == pytest.approx(900 / 4)
    assert run.client_share == pytest.approx(0.1)
    assert run.rate(settle_s=0.5) == pytest.approx(2 / 1.5)


def test_the_rivals_see_what_the_product_sees(bench: dict[str, Any]) -> None:
    image = part_png("bad", seed=5)
    size = decode_image(image).size_px[0] // 2
    recipe = Recipe(
        product="x",
        modality="vision",
        bits=8,
        channels=1,
        input_size_px=(size, size),
        window=(0, 255),
        classes=("bad",),
    )
    ours = prepare(decode_image(image), recipe)
    assert np.array_equal(bench["judge"].prepared(image, size), ours)


def test_a_graph_can_be_asked_for_fewer_outputs(bench: dict[str, Any], tmp_path: Path) -> None:
    import onnx

    model = write_spot_package(tmp_path).read("model.onnx")
    one = onnx.load_from_string(bench["outputs"].with_outputs(model, ["score"]))
    assert [output.name for output in one.graph.output] == ["score"]
    with pytest.raises(ValueError, match="has not all of"):
        bench["outputs"].with_outputs(model, ["score", "heat"])


def test_a_figure_replaces_its_own_rows_and_leaves_the_others(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    def row(value: str, met: bool | None) -> Any:
        return bench["figures"].Row(
            figure="a | b", value=value, target=">= 1", met=met, how="so", command="it",
            raw={"name": "<ours>", "rates": {1: [2.0, 4.0, 3.0], 8: [5.0]}},
        )  # fmt: skip

    machine = {"processor": "some", "load average": "0.1"}
    write = bench["report"].write
    write("rivals", [row("1", True)], machine, short=True, folder=tmp_path)
    write("lone", [row("2", None)], machine, short=False, folder=tmp_path)
    write("rivals", [row("3", False)], machine, short=True, folder=tmp_path)
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [each["name"] for each in kept] == ["lone", "rivals"]
    page = (tmp_path / "results.md").read_text()
    assert "| a / b | 3 | >= 1 | **no** | so |" in page
    assert "| a / b | 1 |" not in page
    assert "| processor | some |" in page
    picture = ET.fromstring((tmp_path / "results.svg").read_text())
    words = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<ours>", "3 a second, 1 at once", "5 a second, 8 at once"} <= set(words)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """load.c, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("client") / "load"
    words = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program)]
    subprocess.run([*words, str(FOLDER / "load.c")], check=True)
    return program


class Slow(BaseHTTPRequestHandler):
    """Answers after 50 ms, one at a time, and keeps what came; hangs up on every fifth."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]
    heads: list[str]
    turn: threading.Lock

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.turn:
            time.sleep(0.05)
            self.bodies.append(body)
            self.heads.append(self.headers["Idempotency-Key"])
            refused = len(self.bodies) % 5 == 0
        self.send_response(429 if refused else 201)
        self.send_header("Content-Length", "2")
        if refused:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Not aloud."""


def test_the_client_posts_whole_new_images_at_their_times_whatever_comes_back(
    bench: dict[str, Any], client: Path, tmp_path: Path
) -> None:
    Slow.bodies, Slow.heads, Slow.turn = [], [], threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        images = [part_png("good", seed=1), part_png("bad", seed=2)]
        messages = bench["load"].station_messages(images, bench["place"].PNG)
        (tmp_path / "messages").write_bytes(b"".join(each.written() for each in messages))
        words = [str(client), str(server.server_address[1]), str(tmp_path / "messages")]
        words += [str(tmp_path / "out"), "3", "0.5", "40", "0"]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    run = bench["figures"].answers_of(
        tmp_path / "out", seconds=0.5, client_cpu_s=0.0, server_cpu_s=0.0
    )
    assert run.statuses() == {201: 16, 429: 4}, "twenty were due in half a second"
    assert sorted(run.records["number"]) == list(range(20))
    due = np.sort(run.records["due"])
    assert np.diff(due) == pytest.approx(np.full(19, 1 / 40), abs=1e-6)
    # One at a time takes a second: the last one, due at 0.475 s, has waited for half of it.
    assert run.times_ms(201, 429).max() > 400
    assert len({hashlib.sha256(body).hexdigest() for body in Slow.bodies}) == 20
    assert len(set(Slow.heads)) == 20
    seen = [decode_image(body).pixels for body in Slow.bodies]  # checksums and all
    pixels = [decode_image(image).pixels for image in images]
    assert all(any(np.array_equal(one, each) for each in pixels) for one in seen)
    assert (
        bench["load"]
        .as_sent(messages[0], 0)
        .endswith(Slow.bodies[Slow.heads.index(min(Slow.heads))])
    )
