"""What this box is: facts about the machine and the installation, looked at and not judged.

`inspection/doctor.py` says what they mean. Nothing here raises for a fact that cannot be told:
it comes back as None or empty. Nothing is changed but temporary files that are removed.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit


def nearest_folder(path: Path) -> Path:
    """The path itself if it is a folder, or the nearest folder above it."""
    path = path.absolute()
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def usable_cores() -> float:
    """Cores that this process may use: its affinity, cut by a container's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = read_text(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def usable_memory_bytes() -> int | None:
    """Memory of the machine, cut by a container's limit; None if it cannot be told."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(Path("/proc/meminfo")), re.MULTILINE)
    if found is None:
        return None
    total = int(found[1]) * 1024
    limit = read_text(Path("/sys/fs/cgroup/memory.max")).strip()
    return min(total, int(limit)) if limit.isdigit() else total


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The feature flags in the text of /proc/cpuinfo."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def filesystem_kind(path: Path, mountinfo: str) -> str | None:
    """The kind of file system that holds a path, after proc(5), /proc/pid/mountinfo."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        mount, separator, rest = line.partition(" - ")
        fields = mount.split()
        if not separator or len(fields) < 5:
            continue
        point = Path(fields[4].replace("\\040", " "))
        # Of two mounts at one point the later one counts.
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), rest.split()[0])
    return best[1] if best else None


def time_fsyncs(folder: Path, *, rounds: int, limit_s: float) -> list[float]:
    """Seconds that each small write with its fsync took; at least one.

    Raises:
        OSError: the folder cannot be written to.
    """
    times_s: list[float] = []
    block = os.urandom(4096)
    with tempfile.TemporaryFile(dir=folder) as file:
        end = time.monotonic() + limit_s
        while not times_s or (len(times_s) < rounds and time.monotonic() < end):
            start = time.perf_counter()
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            times_s.append(max(time.perf_counter() - start, 1e-9))
    return times_s


def why_not_writable(path: Path) -> str | None:
    """Why nothing could be written at a path, or None if it could; found by trying."""
    if path.exists() and not path.is_dir():
        return os.strerror(errno.ENOTDIR)
    try:
        with tempfile.TemporaryFile(dir=nearest_folder(path)):
            return None
    except OSError as error:
        return error.strerror or str(error)


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there, tried the way a server does."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def command_output(command: Sequence[str]) -> str | None:
    """What a command writes to stdout; None if it is not there, fails or takes over 60 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def libraries_of(extra: str) -> tuple[str, ...]:
    """The distributions that an extra asks for, by this installation's own metadata."""
    wanted = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    try:
        requirements = importlib.metadata.requires("inspection") or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    names = (re.match(r"[\w.-]+", line) for line in requirements if wanted.search(line))
    return tuple(sorted({name[0] for name in names if name}))


def is_importable(module: str) -> bool:
    """Whether a top-level module could be imported; nothing is imported to find out."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def install_command(extra: str) -> str:
    """The command that adds an extra to this very installation.

    An installation from a folder or a file says so in its `direct_url.json` (PEP 610), and the
    command names the same place: the bare name could be somebody else's on an index.
    """
    python = shlex.quote(sys.executable)
    # Environments that uv makes have no pip.
    has_pip = is_importable("pip")
    install = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    try:
        text = importlib.metadata.distribution("inspection").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        text = None
    if text is not None:
        origin = json.loads(text)
        url = urlsplit(str(origin.get("url", "")))
        if url.scheme == "file":
            editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
            return f"{install} {editable}{shlex.quote(f'{unquote(url.path)}[{extra}]')}"
    return f"{install} {shlex.quote(f'inspection[{extra}]')}"


def time_zone_name() -> str:
    """The zone's name, as `Asia/Seoul` where the system says it, or else as `KST`."""
    named = os.environ.get("TZ", "").removeprefix(":")
    zone = Path("/etc/localtime")
    target = str(zone.resolve()) if zone.is_symlink() else ""
    return named or target.partition("/zoneinfo/")[2] or time.tzname[0]


def read_text(path: Path) -> str:
    """A file of the kernel's as text; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
