"""The engine on a real tritonserver: the contract, and everything that can go wrong on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from inspection.engines.openvino import OpenVinoEngine
from inspection.engines.stamp import stamped_graph
from inspection.engines.triton import TritonEngine
from inspection.engines.triton_names import served_name
from inspection.engines.triton_wire import Broken, _grpc_translated, _http_translated, _raise_for
from inspection.errors import EngineAway, EngineError
from inspection.triton_repository import ExportOptions, entry_files, export_to_triton
from tests.contracts.engines import EngineContract, tiny_network
from tests.spot_model import SIZE, spot_graph, write_spot_package
from tests.triton_server import TritonServer, network_package, running_triton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.engines.triton_wire import WireName
    from inspection.package import ModelPackage

PYTHON = ExportOptions(backend="python")
WIRES: tuple[WireName, ...] = ("grpc", "http")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    tiny_network(place)
    return place


@pytest.fixture(scope="module")
def network(folder: Path) -> ModelPackage:
    return network_package(folder, folder / "weights")


@pytest.fixture(scope="module")
def spot(folder: Path) -> ModelPackage:
    return write_spot_package(folder / "weights")


@pytest.fixture(scope="module")
def triton(
    network: ModelPackage, spot: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("triton") / "repository"
    export_to_triton(network, repository, PYTHON)
    export_to_triton(spot, repository, PYTHON)
    with running_triton(repository) as server:
        yield server


@pytest.fixture
def up(triton: TritonServer) -> Iterator[TritonServer]:
    """The same for tests that take it down; it is there again after them."""
    yield triton
    if triton.process is None:
        triton.start()


def spots(count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(count)
    return [rng.uniform(0, 255, (1, SIZE, SIZE)).astype(np.float32) for _ in range(count)]


class OnTriton(EngineContract):
    protocol: WireName
    shared: bool

    @pytest.fixture(autouse=True)
    def _server(self, triton: TritonServer, network: ModelPackage) -> None:
        self.triton, self.package = triton, network

    def make(self, folder: Path) -> Engine:
        package = self.package
        if not package.folder.is_relative_to(folder):
            package = network_package(folder, folder / "weights")
        export_to_triton(package, self.triton.repository, PYTHON)
        return TritonEngine.for_package(
            package,
            self.triton.url(self.protocol),
            protocol=self.protocol,
            shared_memory=self.shared,
        )


class TestOverGrpc(OnTriton):
    protocol, shared = "grpc", False


class TestOverGrpcInSharedMemory(OnTriton):
    protocol, shared = "grpc", True


class TestOverHttp(OnTriton):
    protocol, shared = "http", False


class TestOverHttpInSharedMemory(OnTriton):
    protocol, shared = "http", True


@pytest.mark.parametrize("protocol", WIRES)
@pytest.mark.parametrize("shared", [False, True])
def test_it_says_bit_for_bit_what_openvino_says_here(
    triton: TritonServer, network: ModelPackage, protocol: WireName, *, shared: bool
) -> None:
    here = OpenVinoEngine.for_package(network)
    there = TritonEngine.for_package(
        network, triton.url(protocol), protocol=protocol, shared_memory=shared
    )
    images = spots(11)  # more than Triton takes at a time
    for one in images:
        (mine,), (its,) = here.infer([one]), there.infer([one])
        np.testing.assert_array_equal(mine.scores, its.scores)
        np.testing.assert_array_equal(mine.evidence, its.evidence)
        assert mine.novelty == its.novelty
    assert len(there.infer(images)) == 11
    assert ("shared memory" in there.description) == shared
    assert f"{served_name(network)} version 1" in there.description
    there.close()


@pytest.mark.parametrize("protocol", WIRES)
def test_nothing_is_left_in_shared_memory_even_while_it_is_used(
    triton: TritonServer, spot: ModelPackage, protocol: WireName
) -> None:
    engine = TritonEngine.for_package(spot, triton.url(protocol), protocol=protocol)
    assert len(engine.infer(spots(2))) == 2
    assert "shared memory" in engine.description
    assert list(Path("/dev/shm").glob(f"inspection-{os.getpid()}-*")) == []
    engine.close()


@pytest.mark.parametrize("protocol", WIRES)
def test_a_model_that_is_not_there_says_what_to_do(
    triton: TritonServer, tmp_path: Path, protocol: WireName
) -> None:
    elsewhere = write_spot_package(tmp_path, gain=41.0)
    with pytest.raises(EngineAway, match="unknown model"):
        TritonEngine.for_package(elsewhere, triton.url(protocol), protocol=protocol)


@pytest.mark.parametrize("protocol", WIRES)
@pytest.mark.parametrize("shared", [False, True])
def test_a_server_that_hangs_is_left_at_the_deadline_and_found_again(
    triton: TritonServer, spot: ModelPackage, protocol: WireName, *, shared: bool
) -> None:
    engine = TritonEngine.for_package(
        spot, triton.url(protocol), protocol=protocol, timeout_s=1.0, shared_memory=shared
    )
    expected = [each.novelty for each in engine.infer(spots(2))]
    assert triton.process is not None
    os.kill(triton.process.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(EngineAway, match="in time"):
            engine.infer(spots(3))
        with pytest.raises(EngineAway, match="in time"):
            engine.check()
        assert time.monotonic() - start < 60  # far longer than two deadlines, and it came back
    finally:
        os.kill(triton.process.pid, signal.SIGCONT)
    # What the server still does of the old call must not show up in the new one's answer.
    again = _patiently(lambda: engine.infer(spots(2)))
    assert [each.novelty for each in again] == expected
    engine.check()
    engine.close()


def test_a_server_killed_in_mid_load_and_brought_back_gives_right_answers_or_none(
    up: TritonServer, spot: ModelPackage
) -> None:
    engines = [
        TritonEngine.for_package(spot, up.url(wire), protocol=wire, timeout_s=0.5) for wire in WIRES
    ]
    images = spots(2)
    expected = [each.novelty for each in engines[0].infer(images)]
    stop, failures = threading.Event(), list[EngineError]()
    right: Counter[TritonEngine] = Counter()

    def ask(engine: TritonEngine, which: int) -> None:
        while not stop.is_set():
            try:
                (found,) = engine.infer([images[which]])
            except EngineError as error:
                failures.append(error)
                time.sleep(0.02)
            else:
                assert found.novelty == expected[which]
                right[engine] += 1

    threads = [
        threading.Thread(target=ask, args=(engine, which))
        for engine in engines
        for which in range(len(images))
    ]
    for thread in threads:
        thread.start()
    _until(lambda: min(right[each] for each in engines) > 5)
    up.kill()
    _until(lambda: len(failures) > 4)
    before = right.copy()
    up.start()
    _until(lambda: min(right[each] - before[each] for each in engines) > 10)
    stop.set()
    for thread in threads:
        thread.join()
    assert {type(each) for each in failures} == {EngineAway}
    for engine in engines:
        engine.close()


def test_a_call_outlives_a_restart_that_ends_before_its_deadline(
    up: TritonServer, spot: ModelPackage
) -> None:
    engines = [
        TritonEngine.for_package(spot, up.url(wire), protocol=wire, timeout_s=30) for wire in WIRES
    ]
    expected = [engine.infer(spots(1))[0].novelty for engine in engines]
    up.kill()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(engine.infer, spots(1)) for engine in engines]
        up.start()
        found = [each.result()[0].novelty for each in waiting]
    assert found == expected
    for engine in engines:
        engine.close()


def _replaced(server: TritonServer, package: ModelPackage, files: dict[str, bytes]) -> None:
    """Put other files under the package's name, as somebody might, and load them."""
    place = server.repository / served_name(package)
    for relative, data in files.items():
        (place / relative).write_bytes(data)
    server.control("load", place.name)


@pytest.mark.parametrize("forged", [False, True])
def test_an_answer_of_another_model_under_the_same_name_is_refused(
    triton: TritonServer, tmp_path: Path, *, forged: bool
) -> None:
    package = write_spot_package(tmp_path, gain=50.0 + forged)
    other = write_spot_package(tmp_path, model="other", gain=-40.0)
    export_to_triton(package, triton.repository, PYTHON)
    name = served_name(package)
    triton.control("load", name)
    engines = [TritonEngine.for_package(package, triton.url(wire), protocol=wire) for wire in WIRES]
    assert [len(engine.infer(spots(1))) for engine in engines] == [1, 1]
    files = {
        relative: data.replace(served_name(other).encode(), name.encode())
        for relative, data in entry_files(other, PYTHON).items()
    }
    if forged:  # even where the configuration claims to be the right one
        config = files["config.pbtxt"].replace(other.digest.encode(), package.digest.encode())
        files["config.pbtxt"] = config
    _replaced(triton, package, files)
    for engine, wire in zip(engines, WIRES, strict=True):
        with pytest.raises(EngineAway, match="another model answered"):
            engine.infer(spots(1))
        if forged:
            anew = TritonEngine.for_package(package, triton.url(wire), protocol=wire)
            with pytest.raises(EngineAway, match="another model answered"):
                anew.infer(spots(1))
            anew.close()
        else:
            with pytest.raises(EngineAway, match="is of package"):
                engine.check()
            with pytest.raises(EngineAway, match="is of package"):
                TritonEngine.for_package(package, triton.url(wire), protocol=wire)
        engine.close()
    triton.control("unload", name)


def test_a_graph_that_was_altered_in_the_repository_is_not_loaded(
    triton: TritonServer, tmp_path: Path
) -> None:
    package = write_spot_package(tmp_path, gain=60.0)
    done = export_to_triton(package, triton.repository, PYTHON)
    graph = stamped_graph(spot_graph(gain=-60.0), package.digest, (1, SIZE, SIZE)).data
    (done.folder / "1" / "model.onnx").write_bytes(graph)
    with pytest.raises(Exception, match="400"):
        triton.control("load", done.model)
    assert "is not the file that was exported" in triton.log.read_text()
    with pytest.raises(EngineAway):
        TritonEngine.for_package(package, triton.grpc, timeout_s=0.2)


def test_whatever_grpc_says_is_one_of_our_errors() -> None:
    for code in grpc.StatusCode:
        with pytest.raises((Broken, EngineError)) as found, _grpc_translated():
            raise InferenceServerException("no", status=str(code))
        if code is grpc.StatusCode.UNAVAILABLE:
            assert found.type is Broken
        elif code is grpc.StatusCode.INVALID_ARGUMENT:
            assert found.type is EngineError, "the request is at fault, not the server"
        else:
            assert found.type is EngineAway


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, EngineError), (404, EngineAway), (500, EngineAway), (502, EngineAway), (503, Broken)],
)
@pytest.mark.parametrize("body", [b'{"error":"no"}', b"<html>", b"[]", b"\xff"])
def test_whatever_http_says_is_one_of_our_errors(
    status: int, kind: type[Exception], body: bytes
) -> None:
    with pytest.raises((Broken, EngineError)) as found:
        _raise_for(status, body)
    assert found.type is kind
    _raise_for(200, body)
    for foreign, ours in (
        (TimeoutError(), EngineAway),
        (ConnectionResetError(), Broken),
        (KeyError("outputs"), EngineAway),
    ):
        with pytest.raises(ours), _http_translated():
            raise foreign


def test_a_server_that_is_not_there_is_away_within_the_deadline(spot: ModelPackage) -> None:
    for protocol in WIRES:
        start = time.monotonic()
        with pytest.raises(EngineAway, match="tries"):
            TritonEngine.for_package(spot, "127.0.0.1:9", protocol=protocol, timeout_s=0.3)
        assert time.monotonic() - start < 60  # far longer than two deadlines, and it came back


def _patiently(ask: Callable[[], list[Prediction]]) -> list[Prediction]:
    """What it returns once it does not say "away" any more."""
    for _ in range(50):
        try:
            return ask()
        except EngineAway:
            time.sleep(0.05)
    raise AssertionError("still away")


def _until(holds: Callable[[], bool], *, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
