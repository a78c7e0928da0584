"""Several processes train one network together, and one of them writes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inspection.errors import ConfigurationError
from training.fitting.ranks import is_leader, joined, place

ROOT = Path(__file__).resolve().parents[3]

# What each of the processes runs: the same fit, then the leader says what came of it.
SCRIPT = """
import hashlib, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.training.fitting.test_checkpoint import SETTINGS, Plates, digest, trained
from training.fitting.checkpoint import RunFolder
from training.fitting.features import extract_features
from training.fitting.ranks import is_leader
from training.fit import fit
run = RunFolder.open(Path({folder!r}) / os.environ["RANK"], {{}}, resume=False)
plates = Plates()
result = fit(plates, plates.labels, plates.groups, SETTINGS, run=run)
name = "digest-" + os.environ["RANK"]
(Path({folder!r}) / name).write_text(hashlib.sha256(digest(result)).hexdigest())
(Path({folder!r}) / ("leader-" + os.environ["RANK"])).write_text(str(is_leader()))
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.mark.slow
def test_two_processes_come_to_the_same_network_and_one_keeps_checkpoints(tmp_path: Path) -> None:
    port = free_port()
    running = []
    for rank in range(2):
        told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        rest = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        script = SCRIPT.format(root=str(ROOT), folder=str(tmp_path))
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=ROOT,
                env={**os.environ, **told, **rest},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for one in running:
        _, said = one.communicate(timeout=400)
        assert one.returncode == 0, said
    first, second = ((tmp_path / f"digest-{rank}").read_text() for rank in range(2))
    assert first == second
    assert [(tmp_path / f"leader-{rank}").read_text() for rank in range(2)] == ["True", "False"]
    assert len(list(tmp_path.glob("0/*/checkpoint.pt"))) == 1
    assert list(tmp_path.glob("1/*/checkpoint.pt")) == []


def test_alone_a_process_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert place() == (0, 1, 0)
    assert is_leader()
    with joined() as ranks:
        assert (ranks.rank, ranks.world) == (0, 1)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigurationError, match="must be numbers"):
        place()
