"""`inspection doctor`: whether this box is fit, line by line.

    box.py looks -> Check(code, status, text, remedy) -> table or JSON -> exit 0, or 4 on a fail

Each check is a function that takes what it needs and returns a `Check`; none raises, none changes
anything but a temporary file that it removes. `ok` needs nothing, `warn` works but not well, `fail`
will not work. Codes never change their meaning and are never given to another check.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import click

from inspection import box

Status = Literal["ok", "warn", "fail"]

GIB: Final = 1 << 30
DEFAULT_PORT: Final = 8400

# The extras in the order of their codes, INS-D11 onwards, and what each is for.
_EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("INS-D11", "serving over HTTP"),
    "train": ("INS-D12", "making models"),
    "gpu": ("INS-D13", "judging on a GPU"),
    "triton": ("INS-D14", "judging on Triton"),
    "demo": ("INS-D15", "the demo"),
    "dev": ("INS-D16", "working on the program"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found about one thing.

    Attributes:
        code: stable, `INS-D` and two digits.
        name: what was looked at, two or three words.
        status: `ok`, `warn` or `fail`.
        text: what was found, with units.
        remedy: one sentence that says what to do; there whenever the status is not `ok`.
    """

    code: str
    name: str
    status: Status
    text: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if re.fullmatch(r"INS-D\d\d", self.code) is None:
            raise ValueError(f"{self.code!r} is not a code")
        if self.status != "ok" and not self.remedy:
            raise ValueError(f"{self.code}: {self.status} without a remedy")


def examine(*, data_dir: Path, root: Path, port: int = DEFAULT_PORT) -> tuple[Check, ...]:
    """Look at everything.

    Args:
        data_dir: where records and images are, or will be kept.
        root: the folder that holds, or will hold, `weights` and `datasets`.
        port: where the server would listen.
    """
    return (
        check_python(sys.version_info[:3]),
        check_cores(box.usable_cores()),
        check_cpu_features(platform.machine(), box.cpu_flags(box.read_text(Path("/proc/cpuinfo")))),
        check_memory(box.usable_memory_bytes()),
        check_disk(data_dir),
        check_fsync(data_dir),
        check_writable(data_dir, root),
        check_port(port),
        check_gpu(),
        *(check_extra(name) for name in _EXTRAS),
        check_clock(datetime.now(UTC), box.time_zone_name()),
        check_korean_font(),
    )


def check_python(version: Sequence[int]) -> Check:
    """Whether this Python is one that the program runs on."""
    found = Check(
        code="INS-D01", name="Python", status="ok", text=".".join(str(part) for part in version)
    )
    if tuple(version[:2]) < (3, 11):
        return _worse(found, "fail", "Install Python 3.11 or newer.")
    return found


def check_cores(cores: float) -> Check:
    """Whether there are cores enough to decode and judge side by side."""
    found = Check(code="INS-D02", name="CPU cores", status="ok", text=f"{cores:g} usable")
    if cores < 2:
        return _worse(found, "warn", "Give it two cores or more: one decodes while one judges.")
    return found


def check_cpu_features(machine: str, flags: frozenset[str]) -> Check:
    """Which vector units the CPU engine will find, and whether the least is there."""
    known = {
        "AVX2": "avx2" in flags,
        "AVX-512": "avx512f" in flags,
        "AVX-512 VNNI": "avx512_vnni" in flags,
        "AMX bf16": "amx_bf16" in flags,
        "Advanced SIMD": "asimd" in flags,
    }
    there = ", ".join(name for name, has in known.items() if has) or "no vector unit recognised"
    found = Check(code="INS-D03", name="CPU features", status="ok", text=f"{machine}: {there}")
    if machine == "x86_64" and not known["AVX2"]:
        return _worse(found, "warn", "Take a CPU with AVX2: judging is several times slower here.")
    return found


def check_memory(total_bytes: int | None) -> Check:
    """Whether the server and one model fit in memory."""
    found = Check(code="INS-D04", name="Memory", status="ok", text="unknown")
    if total_bytes is None:
        return _worse(found, "warn", "Make sure of 4 GiB: /proc/meminfo could not be read.")
    found = dataclasses.replace(found, text=f"{total_bytes / GIB:.1f} GiB")
    if total_bytes < GIB:
        return _worse(found, "fail", "Give it 4 GiB: the server does not fit in less than 1 GiB.")
    # A machine sold as 4 GiB shows a little less.
    if total_bytes < 3.5 * GIB:
        return _worse(found, "warn", "Give it 4 GiB, and 8 GiB for training.")
    return found


def check_disk(data_dir: Path) -> Check:
    """Whether there is room for images and records."""
    place = box.nearest_folder(data_dir)
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.0f} GiB free at {data_dir}: {free // 2**20:,} images of 1 MiB"
    found = Check(code="INS-D05", name="Disk space", status="ok", text=text)
    if free < GIB:
        return _worse(found, "fail", "Free some space, or name another disk with --data-dir.")
    if free < 20 * GIB:
        return _worse(found, "warn", "Plan for more: every original image is kept.")
    return found


def check_fsync(
    data_dir: Path, *, rounds: int = 100, limit_s: float = 1.0, floor_per_s: float = 100.0
) -> Check:
    """How fast the disk makes things durable, which every single verdict waits for.

    Args:
        data_dir: the folder to measure at, or the nearest one above it that exists.
        rounds: how many small writes, each with its own fsync, at most.
        limit_s: stop after this time even when fewer are done.
        floor_per_s: below this rate it warns.
    """
    place = box.nearest_folder(data_dir)
    found = Check(code="INS-D06", name="Durable writes", status="ok", text="not measured")
    try:
        times_s = box.time_fsyncs(place, rounds=rounds, limit_s=limit_s)
    except OSError as error:
        remedy = f"Make {place} writable, or name another folder with --data-dir."
        return _worse(
            dataclasses.replace(found, text=f"not measured: {error.strerror}"), "warn", remedy
        )
    rate = len(times_s) / sum(times_s)
    # An image is one file and its folder, a record is one transaction: three waits one by one.
    text = (
        f"{rate:,.0f} fsyncs/s (median {statistics.median(times_s) * 1e3:.2f} ms) at {place}: "
        f"about {rate / 3:,.0f} inspections/s one after another"
    )
    found = dataclasses.replace(found, text=text)
    kind = box.filesystem_kind(place, box.read_text(Path("/proc/self/mountinfo")))
    if kind in {"tmpfs", "ramfs"}:
        remedy = f"Keep the records on a disk: {place} is a {kind}, gone when the power is."
        return _worse(found, "warn", remedy)
    if rate < floor_per_s:
        return _worse(found, "warn", "Put the data folder on an SSD: every verdict waits for this.")
    return found


def check_writable(data_dir: Path, root: Path) -> Check:
    """Whether the folders can be written to: the data folder must, the others should."""
    refused = {
        place: reason
        for place in (data_dir, root / "weights", root / "datasets")
        if (reason := box.why_not_writable(place)) is not None
    }
    text = "; ".join(f"{place}: {reason}" for place, reason in refused.items())
    found = Check(
        code="INS-D07",
        name="Write rights",
        status="ok",
        text=text or f"{data_dir}, weights and datasets under {root}",
    )
    if data_dir in refused:
        return _worse(found, "fail", f"Give this user write rights on {data_dir}.")
    if refused:
        return _worse(found, "warn", "Give write rights there to train or import on this box.")
    return found


def check_port(port: int, *, host: str = "127.0.0.1", tries: int = 100) -> Check:
    """Whether the server's port is free, and which is the next free one if not."""
    name = "Port"
    last = min(port + tries, 65536)
    free = next((each for each in range(port, last) if box.port_is_free(host, each)), None)
    if free == port:
        return Check(code="INS-D08", name=name, status="ok", text=f"{port} is free on {host}")
    if free is not None:
        text = f"{port} is taken on {host}; {free} is the first free one"
        remedy = f"Stop what listens on {port} (it may be this very server), or serve on {free}."
        return Check(code="INS-D08", name=name, status="warn", text=text, remedy=remedy)
    text = f"{port} to {last - 1} are all taken on {host}"
    return Check(code="INS-D08", name=name, status="fail", text=text, remedy="Free one of them.")


def check_gpu(run: Callable[[Sequence[str]], str | None] | None = None) -> Check:
    """Which GPU there is. None is no fault: the CPU engine serves.

    Args:
        run: runs a command and returns its output, or None if it failed or is not there.
    """
    run = run or box.command_output
    code, name = "INS-D09", "GPU"
    if shutil.which("nvidia-smi") is None and run is box.command_output:
        return Check(code=code, name=name, status="ok", text="no GPU: the CPU engine serves")
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    devices = run(query)
    if not devices:
        remedy = "Reinstall the driver, or ignore this: the CPU engine serves."
        text = "nvidia-smi is there but does not answer"
        return Check(code=code, name=name, status="warn", text=text, remedy=remedy)
    text = "; ".join(line.strip() for line in devices.splitlines() if line.strip())
    found = Check(code=code, name=name, status="ok", text=text)
    if box.installed_version("torch") is None:
        return dataclasses.replace(found, text=f"{text}; not used without the extra 'gpu'")
    # Asked of another process: a driver that crashes takes that one down, and not the doctor.
    answer = run((sys.executable, "-c", "import torch; print(torch.cuda.is_available())"))
    if answer is None or answer.strip() != "True":
        remedy = "Install a newer driver: the torch installed here cannot use this one."
        return _worse(dataclasses.replace(found, text=f"{text}; torch sees none"), "warn", remedy)
    return dataclasses.replace(found, text=f"{text}; torch uses it")


def check_extra(extra: str) -> Check:
    """Whether an extra's libraries are there, and in which versions."""
    code, purpose = _EXTRAS[extra]
    versions = {name: box.installed_version(name) for name in box.libraries_of(extra)}
    there = [f"{name} {version}" for name, version in versions.items() if version is not None]
    missing = [name for name, version in versions.items() if version is None]
    found = Check(code=code, name=f"Extra {extra}", status="ok", text=", ".join(there))
    if not missing:
        return found
    # Extras overlap, so a part of one is no fault: its neighbour brought that part.
    state = f"incomplete, without {', '.join(missing)}" if there else "not installed"
    remedy = f"Only for {purpose}: {box.install_command(extra)}"
    return dataclasses.replace(found, text=state, remedy=remedy)


def check_clock(now: datetime, zone: str) -> Check:
    """Whether the clock can be right: trace IDs sort by it."""
    text = f"{now:%Y-%m-%dT%H:%MZ}, time zone {zone}"
    found = Check(code="INS-D17", name="Clock", status="ok", text=text)
    if not 2026 <= now.year < 2100:
        return _worse(found, "fail", "Set the clock, and keep it set with NTP: trace IDs need it.")
    return found


def check_korean_font(run: Callable[[Sequence[str]], str | None] | None = None) -> Check:
    """Whether a screen on this box could show Korean. Other people's screens bring their own."""
    fonts = (run or box.command_output)(("fc-list", ":lang=ko", "family"))
    found = Check(code="INS-D18", name="Korean font", status="ok", text="")
    if fonts is None:
        return dataclasses.replace(found, text="not looked at: fc-list is not installed")
    first = next(iter(sorted(line.strip() for line in fonts.splitlines() if line.strip())), None)
    if first is None:
        text = "none: matters only for a screen on this box (on Debian: fonts-noto-cjk)"
        return dataclasses.replace(found, text=text)
    return dataclasses.replace(found, text=first)


def _worse(check: Check, status: Status, remedy: str) -> Check:
    return dataclasses.replace(check, status=status, remedy=remedy)


def as_table(checks: Iterable[Check], *, color: bool = False) -> str:
    """One line a check, and the remedy under it where there is one."""
    paint: Mapping[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}
    lines = []
    for check in checks:
        status = f"{check.status:<4}"
        status = click.style(status, fg=paint[check.status]) if color else status
        lines.append(f"{status}  {check.code}  {check.name:<14}  {check.text}")
        if check.remedy:
            lines.append(f"{'':31}→ {check.remedy}")
    return "\n".join(lines)


def as_json(checks: Iterable[Check]) -> str:
    """The checks and the verdict on the box, as one JSON object."""
    found = [dataclasses.asdict(check) for check in checks]
    fit = all(check["status"] != "fail" for check in found)
    return json.dumps({"fit": fit, "checks": found}, ensure_ascii=False, indent=2)


@click.command(name="doctor")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var"),
    show_default=True,
    help="Where records and images are, or will be kept.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Where the server would listen.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or for programs.",
)
@click.pass_context
def doctor(ctx: click.Context, data_dir: Path, port: int, form: str) -> None:
    """Say line by line whether this box is fit.

    Exit status 0, or 4 if any line says fail. Nothing is changed.
    """
    checks = examine(data_dir=data_dir, root=Path.cwd(), port=port)
    if form == "json":
        click.echo(as_json(checks))
    else:
        color = sys.stdout.isatty() and ctx.color is not False
        click.echo(as_table(checks, color=color))
    if any(check.status == "fail" for check in checks):
        ctx.exit(4)
