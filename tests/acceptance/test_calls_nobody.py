"""What judges parts calls nobody and leaves nothing in anybody's home folder.

Two libraries would: OpenVINO reports every import of it, ONNX Runtime every session.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.live_server import environment
from tests.spot_model import spot_graph

if TYPE_CHECKING:
    from pathlib import Path

SILENCING = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY")
ALONE = ("unshare", "--net")

JUDGING = """
import sys, time
import inspection
import numpy as np, onnxruntime, openvino
graph = open(sys.argv[1], "rb").read()
image = np.zeros((1, 1, 64, 64), np.float32)
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
session.run(None, {"image": image})
core = openvino.Core()
core.compile_model(core.read_model(graph, b""), "CPU")([image])
time.sleep(0.5)
"""


def judge(tmp_path: Path, code: str, *wrapper: str) -> Path:
    """Run the code with an empty home folder; that folder."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "spot.onnx").write_bytes(spot_graph())
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", code, str(tmp_path / "spot.onnx")],
        # As on a station: on a build machine both libraries would be silent by themselves.
        env={k: v for k, v in environment().items() if k not in SILENCING}
        | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home


def test_nothing_is_left_in_the_home_folder(tmp_path: Path) -> None:
    assert list(judge(tmp_path, JUDGING).rglob("*")) == []


def test_without_the_precaution_both_would_leave_something(tmp_path: Path) -> None:
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("would call somebody: no network namespace may be made here")
    home = judge(tmp_path, JUDGING.replace("import inspection\n", ""), *ALONE)
    left = {path.name for path in home.rglob("*")}
    assert {"openvino_ga_cid", "deviceid"} <= left, "if they are silent, take the precaution out"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_connection_is_tried(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    judge(tmp_path, JUDGING, "strace", "-f", "-e", "trace=connect,sendto", "-o", str(trace))
    lines = trace.read_text().splitlines()
    assert [line for line in lines if "AF_INET" in line] == []
