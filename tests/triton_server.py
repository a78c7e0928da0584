"""A real tritonserver on loopback ports, for tests: the binary out of the nvidia-pytriton wheel.

requirements/triton-server.txt -> .triton/ (an environment of its own, made once)
  -> tritonserver --model-repository REPO -> ready -> kill -9, and again on the same ports
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from inspection.package import write_package
from inspection.verdict import Calibration
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.package import ModelPackage

ROOT: Final = Path(__file__).resolve().parents[1]
PINS: Final = ROOT / "requirements" / "triton-server.txt"
PLACE: Final = ROOT / ".triton"
NEWEST_PYTHON: Final = (3, 12)  # of those that a numpy of before 2 has wheels for
NO_INDEX: Final = re.compile(r"Failed to fetch|error sending request|dns error|Could not connect")


def server_environment() -> Path:
    """The environment that holds tritonserver, made when it is not there or its pins changed.

    Skips the test, with the reason, where it cannot be made.
    """
    if sys.version_info[:2] > NEWEST_PYTHON:
        pytest.skip("tritonserver wants numpy 1, which has no wheel for this Python")
    with (ROOT / ".triton.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()
        marker = PLACE / ".ready"
        if not marker.is_file() or marker.read_text() != wanted:
            _make(PLACE)
            marker.write_text(wanted)
    return PLACE


def _make(place: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        pytest.skip("no uv beside this Python: `make environment` puts it there")
    shutil.rmtree(place, ignore_errors=True)
    _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(place)])
    install = [str(uv), "pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
    _run([*install, "--require-hashes", "-r", str(PINS)])
    triton = _tritonserver(place)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, triton / "backends" / "python")


def _run(command: list[str]) -> None:
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or _pips_index()
    environment = os.environ | ({"UV_DEFAULT_INDEX": index} if index else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"no package index to take tritonserver from: {done.stderr.strip()[:300]}")
    assert done.returncode == 0, done.stderr


def _pips_index() -> str:
    """What pip is pointed at, as the Makefile asks it too: uv does not read pip's configuration."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _site(place: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return place / "lib" / version / "site-packages"


def _tritonserver(place: Path) -> Path:
    return _site(place) / "pytriton" / "tritonserver"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True, kw_only=True)
class TritonServer:
    """One tritonserver over a model repository; killed and started again as a test likes.

    Attributes:
        repository: the folder of models; every one in it is loaded at the start.
        log: where its output goes.
    """

    environment: Path
    repository: Path
    log: Path
    grpc_port: int = field(default_factory=_free_port)
    http_port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def grpc(self) -> str:
        """host:port of its gRPC end."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """host:port of its HTTP end."""
        return f"127.0.0.1:{self.http_port}"

    def url(self, protocol: str) -> str:
        """host:port of either."""
        return self.grpc if protocol == "grpc" else self.http

    def start(self, *, wait_s: float = 60) -> None:
        """Start it and wait until it takes calls; models that do not load do not stop it."""
        triton = _tritonserver(self.environment)
        # It ends with the tests, however these end.
        command = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        command += [
            str(triton / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={triton / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name=triton-{self.grpc_port}-",
            *("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"),
            *("--strict-readiness=false", "--allow-metrics=false"),
            *("--http-address=127.0.0.1", f"--http-port={self.http_port}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={self.grpc_port}"),
        ]
        libraries = str(sysconfig.get_config_var("LIBDIR"))
        environment = {
            "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": libraries,
            "PYTHONPATH": str(_site(self.environment)),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + wait_s
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"tritonserver did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def control(self, verb: str, model: str) -> None:
        """Load (again) or unload a model."""
        url = f"http://{self.http}/v2/repository/models/{model}/{verb}"
        with urllib.request.urlopen(url, data=b"{}", timeout=30) as answer:
            assert answer.status == 200

    def kill(self) -> None:
        """SIGKILL, to the server and to the processes of its Python backend."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None
        for left in Path("/dev/shm").glob(f"triton-{self.grpc_port}-*"):
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def running_triton(repository: Path) -> Iterator[TritonServer]:
    """A tritonserver over `repository`, ready; killed at the end."""
    server = TritonServer(
        environment=server_environment(),
        repository=repository,
        log=repository.with_name(f"{repository.name}.log"),
    )
    server.start()
    try:
        yield server
    finally:
        server.kill()


def network_package(
    network: Path, weights: Path, *, input_size_px: tuple[int, int] = (64, 64)
) -> ModelPackage:
    """A network of two classes and one channel as a package.

    Args:
        network: the folder of its model.onnx and model.safetensors.
        weights: where the package is written.
        input_size_px: (height, width).
    """
    spot = write_spot_package(weights / "spot")
    point = replace(spot.document.operating_point, pass_below=(0.2, 0.2), fail_from=(0.8, 0.8))
    document = replace(
        spot.document,
        model="tiny",
        calibration=Calibration(slope=(1.0, 1.0), intercept=(0.0, 0.0)),
        operating_point=point,
        agreement=None,
    )
    recipe = replace(spot.recipe, classes=("crack", "pore"), input_size_px=input_size_px)
    return write_package(
        weights,
        document,
        recipe,
        {
            "model.onnx": network / "model.onnx",
            "model.safetensors": network / "model.safetensors",
            "report.json": b"{}",
        },
    )
