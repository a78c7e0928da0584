"""What is done on a box without a network, as a program of the standard library alone.

    offline_box.py install ARCHIVE FOLDER WEIGHTS IMAGE
        what a technician does: unpack, install, be cut off half-way, install again, judge an image
    offline_box.py image DATA SCRATCH IMAGE HEALTH COMMAND...
        what a container does: everything read-only but DATA and SCRATCH, run COMMAND in DATA, ask
        its health check, judge an image

It runs in a network namespace of its own, whose loopback it brings up. What it saw goes to stdout
as JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SIOCSIFFLAGS = 0x8914  # netdevice(7)
IFF_UP = 0x1


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def outside_is_reachable() -> bool:
    """Whether there is any way out: sending a datagram needs a route, and nothing else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return False
        return True


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (place,) = folder.iterdir()
    return place


def run(*command: str) -> dict[str, Any]:
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = round(time.monotonic() - started, 1)
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "took_s": took}


def cut_off(installer: Path, target: Path) -> bool:
    """Kill an installation when the first library is unpacked; whether something was left."""
    command = [sys.executable, str(installer), str(target)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and not any(target.glob(".installing-*/store/archive-*/*")):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    return any(target.glob("releases/.installing-*")) and not (target / "current").exists()


def post(address: str, image: Path) -> Any:
    """Have a server judge an image."""
    request = urllib.request.Request(
        f"{address}/v1/inspections?station=xray-1&product=KN-42&capture_id=c-1",
        data=image.read_bytes(),
        headers={"Idempotency-Key": "key-1", "Content-Type": "image/png"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def judge(command: Sequence[str], image: Path, health: Sequence[str] = ()) -> dict[str, Any]:
    """Start the server, ask its health check, send it the image, stop it."""
    seen: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            seen["ready"] = server.stdout.readline().strip()
            if "ready at" in seen["ready"]:
                seen["health"] = run(*health) if health else None
                seen["answer"] = post(seen["ready"].split()[-1], image)
        finally:
            server.terminate()
            seen["errors"] = server.communicate()[1][-3000:]
    return {**seen, "status": server.returncode}


def install_and_judge(archive: Path, folder: Path, weights: Path, image: Path) -> dict[str, Any]:
    """The journey of a technician; an installation that was cut off is part of it."""
    target = folder / "opt"
    installer = unpack(archive, folder / "unpacked") / "install.py"
    inspection = str(target / "current" / "bin" / "inspection")
    seen: dict[str, Any] = {"reachable": outside_is_reachable()}
    seen["cut_off"] = cut_off(installer, target)
    seen["install"] = run(sys.executable, str(installer), str(target))
    seen["again"] = run(sys.executable, str(installer), str(target))
    seen["left"] = sorted(str(path) for path in target.rglob(".installing-*"))
    seen["help"] = run(inspection, "--help")
    seen["doctor"] = run(inspection, "doctor", "--format", "json")
    data = ["--data-dir", str(folder / "var")]
    seen["judged"] = judge(
        [inspection, "serve", "--port", "0", *data, "--weights-dir", str(weights)], image
    )
    seen["verify"] = run(inspection, "verify", *data)
    return seen


def make_read_only(*writable: str) -> None:
    """Mount everything read-only in this name space but these folders."""
    mount = "mount"
    subprocess.run([mount, "--make-rprivate", "/"], check=True)
    for folder in writable:
        subprocess.run([mount, "--bind", folder, folder], check=True)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in mounted:
        if place not in writable and not place.startswith(("/proc", "/sys", "/dev/")):
            subprocess.run([mount, "-o", "remount,bind,ro", place], check=True)


def judge_with_a_read_only_root(
    data: Path, scratch: Path, image: Path, health: Path, *command: str
) -> dict[str, Any]:
    """What a container does; `health` is a file with its health check, as JSON."""
    check = json.loads(health.read_text())
    make_read_only(str(data), str(scratch))
    written = []
    for folder in (Path(__file__).parent, data.parent, data, scratch):
        try:
            (folder / "written").write_text("")
        except OSError:
            continue
        (folder / "written").unlink()
        written.append(str(folder))
    os.chdir(data)
    return {"written": written, "before": run(*check), **judge(command, image, check)}


def main() -> None:
    kind, *words = sys.argv[1:]
    if os.environ.pop("OFFLINE_BOX_NAMESPACE", None):
        bring_loopback_up()
    if kind == "install":
        archive, folder, weights, image = map(Path, words)
        seen = install_and_judge(archive, folder, weights, image)
    else:
        data, scratch, image, health = map(Path, words[:4])
        seen = judge_with_a_read_only_root(data, scratch, image, health, *words[4:])
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
