"""Where the benchmarks take place: two packages, two kinds of images, a server, what machine it is.

    elpv-dataset -> 240 cells as 8-bit PNG, and as 16-bit TIFF -> data import -> train -> promote
                 -> `inspection serve` on the loopback, its data on a real disk

Everything is made once by the product's own commands below the folder of --work, and found again
by the next run. Fewer cells than the whole set make a worse model that takes exactly as long.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
SIZE_PX: Final = 224
CELLS: Final = 240
START_S: Final = 300.0
_Found = TypeVar("_Found")
TICK: Final = os.sysconf("SC_CLK_TCK")

RECIPE: Final = f"""product = "bench-tiff"
modality = "x-ray"
bits = 16
channels = 1
input_size_px = [{SIZE_PX}, {SIZE_PX}]
window = [0.0, 65535.0]
classes = ["defective"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of image, and how many of them at a time fill the server.

    Attributes:
        name: of the data set, the model and its folder.
        saturating: connections of a closed loop that keep the server busy.
        deadline_s: what callers give it under overload.
    """

    name: str
    media_type: str
    saturating: int
    deadline_s: float

    @property
    def product(self) -> str:
        """As stations send it."""
        return f"bench-{self.name}"


PNG: Final = Kind(name="png", media_type="image/png", saturating=16, deadline_s=0.5)
TIFF: Final = Kind(name="tiff", media_type="image/tiff", saturating=8, deadline_s=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder that everything lies in."""

    folder: Path

    def weights(self, kind: Kind) -> Path:
        """The model packages for a kind of image."""
        return self.folder / kind.name / "weights"

    @property
    def client(self) -> Path:
        """load.c, compiled."""
        return self.folder / "load"

    def images(self, kind: Kind) -> list[bytes]:
        """The files that are posted: 16 of 300 x 300, or 4 of 2048 x 2048."""
        folder = self.folder / kind.name / "posted"
        return [path.read_bytes() for path in sorted(folder.iterdir())]


def make_place(work: Path) -> Place:
    """The place, made where it is not there yet."""
    place = Place(folder=work.resolve())
    place.folder.mkdir(parents=True, exist_ok=True)
    for kind in (PNG, TIFF):
        if not (place.weights(kind) / "promoted").exists():
            started = time.perf_counter()
            _make_model(place, kind)
            print(f"trained {kind.product}: {time.perf_counter() - started:.0f} s", flush=True)
    source = HERE / "load.c"
    if not place.client.exists() or place.client.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("error: no C compiler\n  → on Debian: apt-get install gcc libc6-dev")
        subprocess.run([compiler, "-O2", "-o", str(place.client), str(source)], check=True)
    return place


def _make_model(place: Place, kind: Kind) -> None:
    folder = place.folder / kind.name
    shutil.rmtree(folder, ignore_errors=True)
    source, posted = folder / "source", folder / "posted"
    posted.mkdir(parents=True)
    _write_images(kind, source, posted)
    (folder / "recipe.toml").write_text(RECIPE)
    datasets = ("--datasets-dir", str(folder / "datasets"))
    weights = ("--weights-dir", str(folder / "weights"))
    given = ("--recipe", str(folder / "recipe.toml")) if kind is TIFF else ("--size", str(SIZE_PX))
    inspection(
        *("data", "import", str(source), "--name", kind.name, "--product", kind.product),
        *("--modality", "x-ray" if kind is TIFF else "vision"),
        *datasets,
    )
    inspection(
        *("train", kind.name, "--preset", "fast", "--seed", "7", *given),
        *("--escape-rate", "0.05", "--review-budget", "0.4"),
        *("--set", "engine.whole_agreement=false", "--set", "fit.epochs=5", *datasets, *weights),
    )
    inspection(
        *("models", "promote", f"{kind.name}@1", *weights),
        *("--accept-risk", "trained for a benchmark on public images; no part is shipped on it"),
    )
    shutil.rmtree(source)
    (folder / "weights" / "promoted").touch()


def _write_images(kind: Kind, source: Path, posted: Path) -> None:
    """240 labelled cells, a third of them bad, and the files that will be posted."""
    import cv2
    import imagecodecs
    import tifffile

    from training.sources.elpv import read_elpv

    files = read_elpv().files
    bad = [each for each in files if each.label != "good"][: CELLS // 3]
    good = [each for each in files if each.label == "good"][: CELLS - len(bad)]
    for number, each in enumerate([*good, *bad]):
        label = "good" if each.label == "good" else "defective"
        (source / label).mkdir(parents=True, exist_ok=True)
        name, pixels = each.file.stem, imagecodecs.png_decode(each.file.read_bytes())
        if kind is PNG:
            shutil.copyfile(each.file, source / label / f"{name}.png")
            if number % (CELLS // 16) == 0:
                shutil.copyfile(each.file, posted / f"{name}.png")
            continue
        deep = np.asarray(pixels, dtype=np.uint16) * 257
        tifffile.imwrite(source / label / f"{name}.tif", deep)
        if number % (CELLS // 4) == 0:
            large = cv2.resize(deep, (2048, 2048), interpolation=cv2.INTER_CUBIC)
            tifffile.imwrite(posted / f"{name}.tif", np.asarray(large, dtype=np.uint16))


def inspection(*words: str) -> None:
    """Run a command of the product; what it says is shown only when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "inspection.cli", *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: inspection {' '.join(words)}\n{done.stdout}{done.stderr}")


def environment() -> dict[str, str]:
    """This process's, without the settings of somebody else's server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INSPECTION_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server in processes of its own: this product's, or a rival's."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu_s(self) -> float:
        """User and system time of it and all its children so far."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def rss_mib(self) -> float:
        """Resident memory of the first process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def served(place: Place, kind: Kind, *options: str) -> Iterator[Server]:
    """`inspection serve` with fresh records, which are removed at the end."""
    data = Path(tempfile.mkdtemp(prefix="data-", dir=place.folder))
    log = place.folder / "server.log"
    words = [sys.executable, "-m", "inspection.cli", "serve", "--port", "0"]
    folders = ["--data-dir", str(data), "--weights-dir", str(place.weights(kind))]
    try:
        with running([*words, *folders, *options], log, place.folder) as process:
            found = wait_until(
                lambda: re.search(r"ready at http://\S+:(\d+)", log.read_text(errors="replace")),
                process,
                log,
            )
            yield Server(process=process, port=int(found[1]))
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def running(
    words: list[str], log: Path, folder: Path, variables: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own; all of the group is ended afterwards.

    It stays in this session: Linux shares the processor out by session first, and what is compared
    must not be better off by being one.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment() if variables is None else variables,
            process_group=0,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _end_group(process.pid)


def _end_group(group: int) -> None:
    """End what a server left behind."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def wait_until(
    ready: Callable[[], _Found | None], process: subprocess.Popen[bytes], log: Path
) -> _Found:
    """What `ready` gives once it gives something.

    Raises:
        SystemExit: the process ended, or it took too long; with the end of its log.
    """
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if (found := ready()) is not None:
            return found
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise SystemExit(f"error: {' '.join(map(str, process.args))} did not become ready\n{tail}")


def _family(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / TICK  # with children that have ended


# --- the machine ---------------------------------------------------------------------------------


def sync_ms(folder: Path, seconds: float = 0.5, block: bytes = b"\xa5" * 4096) -> float:
    """Median time to append `block` to a file in `folder` and sync it (fdatasync)."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def filesystem(folder: Path) -> str:
    """The kind of file system that a folder lies on.

    Raises:
        SystemExit: it is memory, where a sync costs nothing and means nothing.
    """
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [line for line in lines if folder.is_relative_to(line[1])]
    kind = max(above, key=lambda line: len(line[1]))[2]
    if kind in ("tmpfs", "ramfs"):
        raise SystemExit(f"error: {folder} is in memory\n  → give --work a folder on a real disk")
    return kind


def machine(place: Place) -> dict[str, str]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    one = sync_ms(place.folder)
    libraries = ("openvino", "numpy", "imagecodecs", "opencv-python-headless", "uvicorn", "fastapi")
    return {
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "disk": f"{filesystem(place.folder)}; 4 KiB and fdatasync in {one:.2f} ms, "
        f"{1000 / one:,.0f} a second",
        "libraries": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries),
        "load average": " ".join(f"{each:.1f}" for each in os.getloadavg()),
    }
