"""What systemd hears of a real process: ready when it is, how it goes, a beat, and the end."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.supervising import Notifier
from tests.live_server import ServerProcess, environment, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "inspection.service"


@contextmanager
def manager(place: str) -> Iterator[socket.socket]:
    """A socket that listens as systemd's does; `@name` is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind("\0" + place[1:] if place.startswith("@") else place)
        wire.settimeout(30)
        yield wire


def heard(wire: socket.socket) -> list[str]:
    return wire.recv(65536).decode().splitlines()


def test_a_manager_hears_the_whole_life_of_a_server(site: Path) -> None:
    place = str(site / "notify")
    told = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "1500000"}
    with manager(place) as wire:
        process = subprocess.Popen(
            serve_command(site, "--port", "0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=site,
            env=environment() | told,
        )
        assert process.stdout is not None
        try:
            assert heard(wire) == ["READY=1", f"MAINPID={process.pid}"]
            address = process.stdout.readline().split()[-1]
            ready = httpx.get(f"{address}/readyz", trust_env=False)
            assert ready.status_code == 200, "who is told that it is ready may use it at once"
            assert heard(wire) == ["STATUS=ready: KN-42"]
            assert heard(wire) == ["WATCHDOG=1"]
            began = time.monotonic()
            assert heard(wire) == ["WATCHDOG=1"]
            assert time.monotonic() - began < 1.5
            process.terminate()
            rest = []
            while "STOPPING=1" not in rest:
                rest = heard(wire)
            assert process.wait(timeout=30) == 0
        finally:
            ServerProcess(process=process, address="").kill()


def test_nobody_is_told_anything_where_nobody_listens(tmp_path: Path) -> None:
    assert not Notifier({}).listening
    Notifier({}).tell("READY=1")
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "many"})
    gone.tell("READY=1")
    assert gone.beat_every_s is None
    other = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    assert Notifier(other).beat_every_s is None, "another process is watched"
    assert Notifier(other | {"WATCHDOG_PID": str(os.getpid())}).beat_every_s == 1.0


@pytest.mark.parametrize("abstract", [False, True])
def test_no_message_can_say_more_than_one_thing(tmp_path: Path, *, abstract: bool) -> None:
    place = f"@inspection-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with manager(place) as wire:
        Notifier({"NOTIFY_SOCKET": place}).tell("STATUS=a\nWATCHDOG=1")
        assert heard(wire) == ["STATUS=a WATCHDOG=1"]


def test_the_unit_suits_the_server_and_systemd(tmp_path: Path) -> None:
    text = UNIT.read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert (settings["Type"], settings["NotifyAccess"]) == ("notify", "main")
    assert settings["ExecStart"].startswith("/opt/inspection/current/bin/inspection serve")
    assert int(settings["WatchdogSec"].removesuffix("s")) > 10, "longer than engine.stuck_s"
    assert int(settings["TimeoutStopSec"].removesuffix("s")) > 30, "longer than server.drain_s"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "inspection.service"
    program = tmp_path / "inspection"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy.write_text(text.replace("/opt/inspection/current/bin/inspection", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    ours = [line for line in done.stderr.splitlines() if "inspection" in line]
    assert ours == [], done.stderr
