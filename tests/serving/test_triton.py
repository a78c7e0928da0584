"""A server whose network runs on Triton: it judges rightly, by its fallback, or says 503."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inspection.engine import Prediction
from inspection.engines.openvino import OpenVinoEngine
from inspection.engines.stamp import stamped_graph
from inspection.engines.triton_names import served_name
from inspection.errors import ConfigurationError, EngineAway, EngineError
from inspection.golden import Golden
from inspection.registry import Registry
from inspection.triton_repository import ExportOptions, entry_files, export_to_triton
from serving.settings import EngineSettings, TritonSettings, load_settings
from serving.standby import StandbyEngine
from tests.live_server import running, serial, settings_in, until
from tests.spot_model import SIZE, part_png, spot_graph, write_spot_package
from tests.triton_server import TritonServer, running_triton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from serving.settings import Settings
    from tests.live_server import Live

PYTHON = ExportOptions(backend="python", max_batch=4)
SHAPE = (1, SIZE, SIZE)
VERDICTS = {"good": "pass", "bad": "fail"}


def golden() -> bytes:
    images = [np.full(SHAPE, grey, np.float32) for grey in (51.0, 120.0, 200.0)]
    return Golden.of(images, OpenVinoEngine(spot_graph()).infer(images)).as_bytes()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one promoted package that has golden images."""
    folder = tmp_path_factory.mktemp("site")
    write_spot_package(folder / "weights", model="spot-kn", more={"golden.npz": golden()})
    Registry(folder / "weights").promote("spot-kn@1")
    return folder


@pytest.fixture(scope="module")
def package(site: Path) -> ModelPackage:
    return Registry(site / "weights").load("spot-kn@1")


@pytest.fixture(scope="module")
def server(
    package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("triton") / "repository"
    export_to_triton(package, repository, PYTHON)
    with running_triton(repository) as made:
        yield made


@pytest.fixture
def triton(server: TritonServer) -> TritonServer:
    """Running, whatever the test before did to it."""
    if server.process is None:
        server.start()
    return server


def on_triton(
    site: Path, triton: TritonServer, data: str, *, protocol: Any = "grpc", fallback: Any = "none"
) -> Settings:
    engine = EngineSettings(
        kind="triton",
        fallback=fallback,
        max_batch=4,
        triton=TritonSettings(url=triton.url(protocol), protocol=protocol, timeout_s=1.0),
    )
    settings = settings_in(site)
    return settings.model_copy(update={"data_dir": site / data, "engine": engine})


def readiness(live: Live) -> tuple[int, str]:
    answer = live.http.get("/readyz", params={"verbose": ""})
    return answer.status_code, answer.text


def post(live: Live, number: int, kind: str) -> Any:
    return live.post(
        part_png(kind, seed=number),
        capture_id=f"c-{number}",
        serial=serial(number),
    )


def verdict_of(answer: Any) -> str:
    assert answer.status_code == 201, answer.text
    return str(answer.json()["disposition"])


@dataclass(slots=True)
class Load:
    """Stations that go on sending parts; whatever comes back is kept."""

    live: Live
    answers: list[tuple[str, Any]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for station in range(3):
            thread = threading.Thread(target=self._send, args=(station,))
            self.threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _send(self, station: int) -> None:
        number = station
        while not self.stop.is_set():
            kind = ("good", "bad")[number % 2]
            self.answers.append((kind, post(self.live, number, kind)))
            number += 3

    def judged(self) -> int:
        """How many parts have their verdict; each of them the right one."""
        found = [(kind, each) for kind, each in list(self.answers) if each.status_code == 201]
        assert [verdict_of(each) for _, each in found] == [VERDICTS[kind] for kind, _ in found]
        return len(found)

    def refused(self) -> list[Any]:
        return [each for _, each in list(self.answers) if each.status_code != 201]


def test_killed_in_mid_load_it_answers_503_and_never_guesses(
    site: Path, triton: TritonServer
) -> None:
    with running(on_triton(site, triton, "none", protocol="http")) as live:
        assert readiness(live)[0] == 200
        (model,) = live.http.get("/v1/models").json()["items"]
        assert model["model"]["engine"].startswith("Triton python spot-kn-")
        with Load(live) as load:
            until(lambda: load.judged() > 10)
            triton.kill()
            until(lambda: len(load.refused()) > 5)
            status, text = readiness(live)
            assert status == 503
            assert "[FAIL] product KN-42: " in text
            before = load.judged()
            triton.start()
            until(lambda: load.judged() > before + 10)
            until(lambda: readiness(live)[0] == 200)
        assert {each.status_code for each in load.refused()} == {503}
        for each in load.refused():
            assert each.json()["code"] == "engine-away"
            assert int(each.headers["Retry-After"]) > 0
        assert live.kept()[0] == load.judged(), "a verdict without a record, or the reverse"


def test_killed_in_mid_load_the_fallback_judges_and_is_named(
    site: Path, triton: TritonServer
) -> None:
    with running(on_triton(site, triton, "openvino", fallback="openvino")) as live:
        with Load(live) as load:
            until(lambda: load.judged() > 10)
            triton.kill()
            before = load.judged()
            until(lambda: load.judged() > before + 20)
            status, text = readiness(live)
            assert status == 200
            assert "judged by OpenVINO" in text
            assert "while Triton is away" in text
            (model,) = live.http.get("/v1/models").json()["items"]
            assert model["model"]["engine"].startswith("OpenVINO")
            triton.start()
            until(lambda: "judged by" not in readiness(live)[1])
            before = load.judged()
            until(lambda: load.judged() > before + 10)
        assert load.refused() == []
        assert live.kept()[0] == load.judged()


def test_a_server_that_starts_before_triton_is_not_ready_until_it_has_come(
    site: Path, triton: TritonServer
) -> None:
    triton.kill()
    with running(on_triton(site, triton, "early")) as live:
        assert readiness(live)[0] == 503
        assert post(live, 1, "good").json()["code"] == "engine-away"
        triton.start()
        until(lambda: readiness(live)[0] == 200)
        assert verdict_of(post(live, 1, "good")) == "pass"


def test_only_the_package_itself_judges_whatever_stands_under_its_name(
    site: Path, triton: TritonServer, package: ModelPackage, tmp_path: Path
) -> None:
    place = triton.repository / served_name(package)
    kept = {path.relative_to(place): path.read_bytes() for path in place.rglob("*.*")}
    another = entry_files(write_spot_package(tmp_path, model="spot-kn", gain=-40.0), PYTHON)
    old_name = next(iter(another["config.pbtxt"].split(b'name: "')[1:])).split(b'"')[0]
    # Here name, configuration and stamp are right: only the golden images tell.
    graph = stamped_graph(spot_graph(gain=20.0), package.digest, SHAPE).data
    unguarded = kept[Path("1/model.py")].replace(b'!= said["graph_sha256"]', b'== ""')

    def put(files: Mapping[Any, bytes]) -> None:
        for relative, data in files.items():
            (place / relative).write_bytes(data.replace(old_name, place.name.encode()))
        triton.control("load", place.name)

    with running(on_triton(site, triton, "other")) as live:
        assert verdict_of(post(live, 1, "bad")) == "fail"
        put(another)
        refused = post(live, 2, "bad")
        assert (refused.status_code, refused.json()["code"]) == (503, "engine-away")
        until(lambda: "is of package" in readiness(live)[1])
        put({**kept, "1/model.onnx": graph, "1/model.py": unguarded})
        until(lambda: "does not answer golden image" in readiness(live)[1])
        assert readiness(live)[0] == 503
        assert post(live, 2, "bad").status_code == 503
        put(kept)
        until(lambda: readiness(live)[0] == 200)
        assert verdict_of(post(live, 2, "bad")) == "fail"


@dataclass(slots=True)
class Remote:
    """An engine that is away when a test says so."""

    trouble: EngineError | None = None
    closed: bool = False
    description: str = "remote"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        if self.trouble is not None:
            raise self.trouble
        flat = np.zeros((1, 1, 1), np.float32)
        return [Prediction(scores=flat[0, 0], evidence=flat, novelty=0.0) for _ in images]

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def close(self) -> None:
        self.closed = True


def test_what_went_away_is_closed_and_one_that_is_made_anew_judges() -> None:
    made: list[Remote] = []

    def make() -> Remote:
        made.append(Remote())
        return made[-1]

    engine = StandbyEngine(make, look_every_s=0.01)
    images = [np.zeros(SHAPE, np.float32)]
    assert len(engine.infer(images)) == 1
    made[0].trouble = EngineAway("gone")
    until(lambda: len(made) == 2 and engine.away is None)
    assert made[0].closed
    assert len(engine.infer(images)) == 1
    engine.close()
    assert made[1].closed
    with pytest.raises(EngineError, match="closed"):
        engine.infer(images)


def test_an_image_that_is_refused_is_no_reason_to_judge_it_elsewhere() -> None:
    remote, fallback = Remote(), Remote(description="fallback")
    engine = StandbyEngine(lambda: remote, fallback=fallback, look_every_s=60)
    remote.trouble = EngineError("not finite")
    with pytest.raises(EngineError, match="not finite"):
        engine.infer([np.zeros(SHAPE, np.float32)])
    engine.close()
    assert fallback.closed


def test_what_does_not_answer_as_measured_does_not_judge() -> None:
    def make() -> Remote:
        raise EngineError("golden image 1")

    engine = StandbyEngine(make, look_every_s=60)
    with pytest.raises(EngineAway, match="golden"):
        engine.infer([np.zeros(SHAPE, np.float32)])
    assert engine.complaint == "golden image 1"
    engine.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('kind = "triton"', "host:port"),
        ('kind = "triton"\ntriton.url = "http://gpu-1:8000"', "host:port"),
        ('fallback = "openvino"', "stands in"),
        ('kind = "triton"\nstuck_s = 3\ntriton.url = "gpu-1:8001"', "half of stuck_s"),
        ('kind = "magic"', "kind"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "inspection.toml"
    path.write_text(f"[engine]\n{text}\n")
    with pytest.raises(ConfigurationError, match=says):
        load_settings(path)


def test_the_environment_sets_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSPECTION_ENGINE__KIND", "triton")
    monkeypatch.setenv("INSPECTION_ENGINE__FALLBACK", "openvino")
    monkeypatch.setenv("INSPECTION_ENGINE__TRITON__URL", "gpu-1:8001")
    engine = load_settings().engine
    assert (engine.kind, engine.fallback, engine.triton.url) == ("triton", "openvino", "gpu-1:8001")
