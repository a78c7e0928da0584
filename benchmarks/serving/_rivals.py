"""The same network behind four other servers, each as its documentation says, none with a record.

    requirements -> an environment of its own -> the server -> the same PNGs, 1, 8 and 32 at a time

All are asked in turn, round after round, and so are we; only one is asked at a time, the others
wait. Each rival's settings are the best of those that `bench.py tune` tries; the pages that say how
to tune it stand beside them. The decoder and the network are rivals/_judge.py's, which leaves
out what the product checks; nothing is kept, while ours keeps the image, the evidence and a record.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from _figures import Row, median, percentile
from _load import Message, posted, station_messages, with_head
from _place import HERE, PNG, SIZE_PX, Server, running, served, wait_until
from _rival_settings import RIVALS, Rival, Tuning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _place import Place

AT_ONCE: Final = (1, 8, 32)
RIVALS_DIR: Final = HERE / "rivals"
BOUNDARY: Final = "part-of-a-form"
COMMAND: Final = "python benchmarks/serving/bench.py rivals"


def environment_of(place: Place, rival: Rival) -> Path:
    """The rival's Python, its environment made when it is not there yet.

    Raises:
        RuntimeError: it cannot be installed here; says why.
    """
    folder = place.folder / "rivals" / rival.name
    pins = RIVALS_DIR / f"{rival.name}.txt"
    marker, python = folder / "installed", folder / "bin" / "python"
    if marker.exists() and marker.read_text() == pins.read_text():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = str(Path(sys.executable).with_name("uv"))
    install = ["pip", "install", "--quiet", "--python", str(python), "--require-hashes"]
    for words in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, *install, "-r", str(pins)],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no reason")
    marker.write_text(pins.read_text())
    return python


@contextmanager
def rival_served(place: Place, rival: Rival, tuning: Tuning) -> Iterator[Server]:
    """A rival's server, which has answered once.

    Raises:
        RuntimeError: it cannot be installed.
        SystemExit: it does not become ready.
    """
    python = environment_of(place, rival)
    folder = place.folder / "rivals" / f"{rival.name}-run"
    folder.mkdir(exist_ok=True)
    port = _free_port()
    model = place.weights(PNG) / PNG.name / "1" / "model.onnx"
    said = {"model": str(model), "size_px": SIZE_PX, "port": port, **tuning.settings}
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith("INSPECTION_")},
        "RIVAL": json.dumps(said),
        "PYTHONPATH": str(RIVALS_DIR),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
        "OTEL_SDK_DISABLED": "true",
    }
    log = place.folder / f"{rival.name}.log"
    words = _command(rival, python, folder, port, tuning)
    (first,) = messages_for(tuning, place.images(PNG)[:1])
    with running(words, log, folder, variables) as process:
        wait_until(lambda: _answered(port, tuning, first), process, log)
        yield Server(process=process, port=port)


def _command(rival: Rival, python: Path, folder: Path, port: int, tuning: Tuning) -> list[str]:
    if rival.name == "litserve":
        return [str(python), str(RIVALS_DIR / "litserve_server.py")]
    if rival.name == "mosec":
        script = str(RIVALS_DIR / "mosec_server.py")
        words = [str(python), script, "--address", "127.0.0.1", "--port", str(port)]
        return [*words, "--timeout", "60000"]
    if rival.name == "bentoml":
        words = [str(python), "-m", "bentoml", "serve", "bentoml_service:Judged"]
        words += ["--host", "127.0.0.1", "--port", str(port)]
        return [*words, "--working-dir", str(RIVALS_DIR)]
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": tuning.settings["workers"],
        "debug": False,
    }
    model = {
        "name": "judge",
        "implementation": "mlserver_model.Judged",
        "max_batch_size": tuning.settings["batch"],
        "max_batch_time": tuning.settings["wait_s"],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(python.with_name("mlserver")), "start", str(folder)]


def messages_for(tuning: Tuning, images: Sequence[bytes]) -> list[Message]:
    """The images as this rival takes them; nothing is kept, so they need not differ."""
    messages = []
    for image in images:
        media_type, body = body_for(tuning, image)
        lines = [f"POST {tuning.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {media_type}"]
        messages.append(with_head([*lines, f"Content-Length: {len(body)}"], body))
    return messages


def body_for(tuning: Tuning, image: bytes) -> tuple[str, bytes]:
    """(media type, body) of one image."""
    if tuning.form == "raw":
        return "image/png", image
    if tuning.form == "form":
        head = (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
            'name="images"; filename="part.png"\r\nContent-Type: image/png\r\n\r\n'
        )
        tail = f"\r\n--{BOUNDARY}--\r\n"
        return f"multipart/form-data; boundary={BOUNDARY}", head.encode() + image + tail.encode()
    inputs = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(image).decode()],
    }
    return "application/json", json.dumps({"inputs": [inputs]}).encode()


def _answered(port: int, tuning: Tuning, first: Message) -> bytes | None:
    """The answer to one image; None while there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    head, _, body = first.data.partition(b"\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    try:
        connection.request("POST", tuning.path, body, dict(lines))
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if answer.status == 200 else None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one server did, round after round, for each number of requests at once."""

    rates: dict[int, list[float]] = field(default_factory=dict)
    cpu_ms: dict[int, list[float]] = field(default_factory=dict)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


def ask(
    place: Place,
    servers: dict[str, tuple[Server, list[Message] | None]],
    *,
    rounds: int,
    seconds: float,
    at_once: Sequence[int] = AT_ONCE,
) -> dict[str, Seen]:
    """Every server in turn, at every number of requests at once; None makes our own messages."""
    seen = {name: Seen() for name in servers}
    images = place.images(PNG)
    for turn in range(-1, rounds):  # the first turn warms up
        for name, (server, given) in servers.items():
            for many in at_once:
                messages = given or station_messages(images, PNG)
                answers = posted(
                    place, server, messages, connections=many, seconds=1.0 if turn < 0 else seconds
                )
                if turn < 0:
                    continue
                seen[name].rates.setdefault(many, []).append(answers.rate())
                seen[name].cpu_ms.setdefault(many, []).append(answers.server_cpu_ms)
                if many == 1:
                    times = answers.times_ms(200, 201)
                    seen[name].p50_ms.append(percentile(times, 50))
                    seen[name].p99_ms.append(percentile(times, 99))
    return seen


def rivals(place: Place, *, short: bool) -> list[Row]:
    """Ours and theirs."""
    rounds, seconds = (1, 2.0) if short else (5, 6.0)
    missing: dict[str, str] = {}
    tunings: dict[str, Tuning] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(served(place, PNG))
        servers: dict[str, tuple[Server, list[Message] | None]] = {"ours": (ours, None)}
        for rival in RIVALS:
            try:
                tunings[rival.name] = tuned(place, rival)
                server = stack.enter_context(rival_served(place, rival, tunings[rival.name]))
            except RuntimeError as error:
                missing[rival.name] = str(error)
                continue
            messages = messages_for(tunings[rival.name], place.images(PNG))
            servers[rival.name] = (server, messages)
        seen = ask(place, servers, rounds=rounds, seconds=seconds)
    words = {
        rival.name: f"{tunings[rival.name].words} (tuned after {', '.join(rival.pages)})"
        for rival in RIVALS
        if rival.name in tunings
    }
    rows = [
        _row(name, each, seen["ours"], words.get(name, "as it comes"))
        for name, each in seen.items()
    ]
    for name, why in missing.items():
        rows.append(
            Row(
                figure=f"{name} beside ours",
                value="not installed",
                target="ours ahead in each",
                met=None,
                how=why,
                command=COMMAND,
            )
        )
    return rows


def _row(name: str, seen: Seen, ours: Seen, tuning: str) -> Row:
    mine = {many: median(rates) for many, rates in ours.rates.items()}
    rates = {many: median(each) for many, each in seen.rates.items()}
    cpu = {many: median(each) for many, each in seen.cpu_ms.items()}
    ahead = all(mine[many] >= rates[many] for many in rates)
    quicker = median(ours.p50_ms) <= median(seen.p50_ms)
    steadier = median(ours.p99_ms) <= median(seen.p99_ms)
    words = "ours, with records" if name == "ours" else name
    return Row(
        figure=f"{words}: a second at 1, 8, 32 at once",
        value=f"{' / '.join(f'{rates[many]:.0f}' for many in sorted(rates))}; "
        f"lone p50 {median(seen.p50_ms):.2f}, p99 {median(seen.p99_ms):.2f} ms",
        target="" if name == "ours" else "ours ahead in each",
        met=None if name == "ours" else ahead and quicker and steadier,
        how=f"{tuning}; CPU {' / '.join(f'{cpu[many]:.1f}' for many in sorted(cpu))} ms a request",
        command=COMMAND,
        raw={
            "name": name,
            "rates": seen.rates,
            "cpu_ms": seen.cpu_ms,
            "p50_ms": seen.p50_ms,
            "p99_ms": seen.p99_ms,
        },
    )


def tune(place: Place, *, short: bool) -> list[Row]:
    """Every rival with all the settings that are tried; notes which one was the best."""
    rows, best = [], {}
    for rival in RIVALS:
        with ExitStack() as stack:
            servers: dict[str, tuple[Server, list[Message] | None]] = {}
            for tuning in rival.tried:
                try:
                    server = stack.enter_context(rival_served(place, rival, tuning))
                except (RuntimeError, SystemExit) as error:
                    print(f"{rival.name}, {tuning.words}: {error}", file=sys.stderr)
                    continue
                servers[tuning.words] = (server, messages_for(tuning, place.images(PNG)))
            seen = ask(place, servers, rounds=1 if short else 3, seconds=2.0 if short else 4.0)
        scores = {
            words: math.prod(median(each.rates[many]) for many in AT_ONCE)
            for words, each in seen.items()
        }
        best[rival.name] = max(scores, key=lambda words: scores[words])
        for words, each in seen.items():
            rates = " / ".join(f"{median(each.rates[many]):.0f}" for many in AT_ONCE)
            rows.append(
                Row(
                    figure=f"{rival.name}: {words}",
                    value=f"{rates}; lone p50 {median(each.p50_ms):.2f} ms",
                    target="",
                    met=None,
                    how="the best" if words == best[rival.name] else "",
                    command="python benchmarks/serving/bench.py tune",
                    raw={"rates": each.rates},
                )
            )
    _tuned(place).write_text(json.dumps(best, indent=1) + "\n")
    return rows


def tuned(place: Place, rival: Rival) -> Tuning:
    """The settings that `tune` found to be the best; the first ones where it was not run."""
    best = json.loads(_tuned(place).read_text()) if _tuned(place).exists() else {}
    words = best.get(rival.name)
    return next((each for each in rival.tried if each.words == words), rival.tried[0])


def _tuned(place: Place) -> Path:
    return place.folder / "tuned.json"
