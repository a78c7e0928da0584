"""Make one archive that installs the server or the trainer on a box without a network.

    python requirements/bundle.py server       (`make bundle BUNDLE=server`)

    requirements/*.txt -> the pins that hold for the target -> their wheels, by hash -> our wheel
      -> manifest with digests and licences -> dist/inspection-server-0.1.0-py311-x86_64.tar
      -> its SHA-256 beside it

The archive holds wheels only, so nothing is built on the box, and no address of an index: where
wheels come from is the matter of pip's settings on the machine that makes the archive. The
backbones' weights are wheels too (weights/backbones.toml). Equal wheels make an equal archive: its
members are sorted and carry no time and no owner.

It runs in the project's environment, which has pip and hatchling.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.markers import Marker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from email.message import Message

ROOT: Final = Path(__file__).resolve().parents[1]
BUNDLES: Final[Mapping[str, tuple[str, ...]]] = {
    "server": ("serve.txt",),
    "server-gpu": ("gpu.txt", "serve.txt"),
    "trainer": ("train.txt",),
}
"""The files of pins that each bundle is made of."""
GLIBC: Final = (2, 28)
"""The oldest C library that wheels are taken for: RHEL 8, Debian 10, Ubuntu 20.04."""
OLD_TAGS: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
"""Names of C libraries before PEP 600."""
NOT_FOR_PRODUCTS: Final = frozenset({"elpv-dataset"})
"""Distributions whose licence forbids commercial use; they serve the demo only."""
INSTALLER: Final = Path(__file__).with_name("install.py")
EXIT_CANNOT: Final = 4


class CannotBundle(Exception):
    """Why there is no archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The box that the archive is for: Linux with glibc and CPython.

    Attributes:
        python: as `3.12`.
        machine: as `x86_64`, what `uname -m` says there.
    """

    python: str
    machine: str

    def __post_init__(self) -> None:
        if re.fullmatch(r"3\.\d{1,2}", self.python) is None:
            raise CannotBundle(f"{self.python!r} is no Python version such as 3.12")
        if re.fullmatch(r"\w+", self.machine) is None:
            raise CannotBundle(f"{self.machine!r} is no machine such as x86_64")

    def markers(self) -> dict[str, str]:
        """The environment of PEP 508's markers there."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def platforms(self) -> list[str]:
        """pip's options for wheels that run there, the newest C library first (PEP 600)."""
        major, newest = GLIBC
        tags = [f"manylinux_{major}_{minor}_{self.machine}" for minor in range(newest, 4, -1)]
        tags += [f"{name}_{self.machine}" for name in OLD_TAGS]
        return [word for tag in tags for word in ("--platform", tag)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One library in a requirement file."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.hashes:
            raise CannotBundle(f"{self.name} is pinned without a hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What a wheel says about itself."""

    name: str
    version: str
    licence: str
    wheel: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and make the archive."""
    parser = argparse.ArgumentParser(description="Make an archive to install without a network.")
    parser.add_argument("bundle", choices=BUNDLES)
    parser.add_argument("--python", default="{}.{}".format(*sys.version_info[:2]))
    parser.add_argument("--machine", default=platform.machine())
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder [dist]")
    parser.add_argument("--store", type=Path, help="keep wheels in this folder, fetch none twice")
    options = parser.parse_args(arguments)
    try:
        target = Target(python=options.python, machine=options.machine)
        archive = make(options.bundle, target, options.out, options.store)
    except (CannotBundle, OSError) as error:
        print(f"error: {error}\n  → Correct that, and make it again.", file=sys.stderr)
        return EXIT_CANNOT
    print(f"{archive}: {archive.stat().st_size:,} bytes")
    print(archive.with_name(f"{archive.name}.sha256").read_text(), end="")
    return 0


def make(bundle: str, target: Target, out: Path, store: Path | None = None) -> Path:
    """Gather, describe and pack; the archive is there whole or not at all.

    Raises:
        CannotBundle: a wheel is missing, or must not go into a product.
    """
    pins = pins_of(bundle, target)
    (uv,) = [pin for pin in read_pins("tools.txt", target) if pin.name == "uv"]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=out) as name:
        folder = Path(name)
        gather(pins, folder / "wheels", target, store)
        gather([uv], folder / "installer", target, store)
        build_our_wheel(folder / "wheels")
        libraries = describe(sorted((folder / "wheels").iterdir()))
        refuse_licences(libraries)
        (installer,) = (folder / "installer").iterdir()
        write_requirements(folder, libraries)
        shutil.copyfile(INSTALLER, folder / "install.py")
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        pages = shutil.ignore_patterns("decisions", "pictures", "*.png")
        shutil.copytree(ROOT / "docs", folder / "docs", ignore=pages)
        version = next(each.version for each in libraries if each.name == "inspection")
        manifest = {
            "format": 1,
            "bundle": bundle,
            "version": version,
            "python": target.python,
            "machine": target.machine,
            "glibc": needed_glibc(folder.rglob("*.whl")),
            "installer": installer.relative_to(folder).as_posix(),
            "unpacked_bytes": unpacked_bytes((folder / "wheels").iterdir()),
            "libraries": [asdict(each) for each in [*libraries, *describe([installer])]],
            "files": list_files(folder),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"
        (folder / "manifest.json").write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()
        (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
        short = target.python.replace(".", "")
        return pack(folder, out / f"inspection-{bundle}-{version}-py{short}-{target.machine}.tar")


def pins_of(bundle: str, target: Target) -> list[Pin]:
    """Every library of a bundle, once, sorted by name.

    Raises:
        CannotBundle: two files pin one library differently, or one must not go into a product.
    """
    pins: dict[str, Pin] = {}
    for file in BUNDLES[bundle]:
        for pin in read_pins(file, target):
            if pins.setdefault(pin.name, pin).version != pin.version:
                raise CannotBundle(f"{pin.name} is pinned to two versions: run make requirements")
    if forbidden := NOT_FOR_PRODUCTS & pins.keys():
        raise CannotBundle(f"{', '.join(forbidden)}: its licence forbids commercial use")
    return [pins[name] for name in sorted(pins)]


def read_pins(file: str, target: Target) -> list[Pin]:
    """The pins of a requirement file that hold for the target."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    pins = []
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        first = entry.splitlines()[0].rstrip("\\ ")
        requirement, _, marker = (part.strip() for part in first.partition(";"))
        if marker and not Marker(marker).evaluate(target.markers()):
            continue
        name, _, version = requirement.partition("==")
        hashes = re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry)
        pins.append(Pin(name=plain(name), version=version, hashes=tuple(hashes)))
    return pins


def gather(pins: Sequence[Pin], folder: Path, target: Target, store: Path | None) -> None:
    """Exactly these wheels; those that a store has are taken out of it, by their hashes."""
    folder.mkdir()
    if store is None:
        fetch(pins, folder, target)
        return
    glibc = ".".join(map(str, GLIBC))
    place = store / f"py{target.python}-{target.machine}-glibc{glibc}"  # a hash names no target
    place.mkdir(parents=True, exist_ok=True)
    there = {f"sha256:{_digest(wheel)}": wheel for wheel in place.glob("*.whl")}
    found = {pin.name: there[each] for pin in pins for each in pin.hashes if each in there}
    if missing := [pin for pin in pins if pin.name not in found]:
        fetch(missing, folder, target)
    for wheel in list(folder.iterdir()):
        shutil.copyfile(wheel, place / wheel.name)
    for wheel in found.values():
        shutil.copyfile(wheel, folder / wheel.name)


def fetch(pins: Iterable[Pin], folder: Path, target: Target) -> None:
    """Let pip fetch exactly these wheels, each by one of its hashes.

    Raises:
        CannotBundle: one is not to be had for the target; with what pip says.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(map(_requirement, pins))
        file.flush()
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", file.name),
            *("--implementation", "cp", "--python-version", target.python, *target.platforms()),
            *("--dest", str(folder)),
        ]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CannotBundle(f"pip could not fetch the wheels:\n{done.stderr.strip()[-2000:]}")


def build_our_wheel(folder: Path) -> None:
    """The wheel of this project, the same bytes for the same sources."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBundle(f"the project's own wheel could not be built:\n{done.stderr.strip()}")


def describe(wheels: Iterable[Path]) -> list[Library]:
    """Name, version and licence out of each wheel."""
    libraries = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [
                n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)
            ]
            about = email.message_from_bytes(archive.read(name))
        libraries.append(
            Library(
                name=plain(str(about["Name"])),
                version=str(about["Version"]),
                licence=licence_of(about),
                wheel=wheel.name,
            )
        )
    return libraries


def licence_of(about: Message) -> str:
    """The licence by a wheel's metadata: its expression, its classifiers, its one line, or ours."""
    if expression := about["License-Expression"]:
        return str(expression)
    classified = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier", [])
        if line.startswith("License ::") and line != "License :: OSI Approved"
    ]
    if classified:
        return "; ".join(classified)
    said = str(about["License"] or "").strip().removeprefix("UNKNOWN")
    if said:
        return said.splitlines()[0][:100]
    return backbone_licences().get(plain(str(about["Name"])), "see the wheel's licence files")


def backbone_licences() -> dict[str, str]:
    """What weights/backbones.toml says of each wheel of weights: they do not say it themselves."""
    listed = tomllib.loads((ROOT / "weights" / "backbones.toml").read_text(encoding="utf-8"))
    return {each["distribution"]: f"{each['licence']} (backbones.toml)" for each in listed.values()}


def refuse_licences(libraries: Iterable[Library]) -> None:
    """No product may hold what must not be sold.

    Raises:
        CannotBundle: a wheel is on the list, or its licence says so.
    """
    for each in libraries:
        if each.name in NOT_FOR_PRODUCTS or re.search(
            r"\bNC\b|non-?commercial", each.licence, re.IGNORECASE
        ):
            raise CannotBundle(f"{each.wheel}: its licence forbids commercial use: {each.licence}")


def needed_glibc(wheels: Iterable[Path]) -> tuple[int, int]:
    """The oldest C library under which every wheel runs (PEP 600)."""
    needed = (2, 5)
    for wheel in wheels:
        tags = wheel.stem.rpartition("-")[2]
        named = re.findall(r"manylinux_(\d+)_(\d+)_", tags)
        found = [(int(major), int(minor)) for major, minor in named]
        found += [glibc for name, glibc in OLD_TAGS.items() if f"{name}_" in tags]
        needed = max(needed, min(found, default=needed))
    return needed


def unpacked_bytes(wheels: Iterable[Path]) -> int:
    """What the libraries take on the disk."""
    total = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            total += sum(member.file_size for member in archive.infolist())
    return total


def write_requirements(folder: Path, libraries: Iterable[Library]) -> None:
    """What the installer installs: every wheel in here, by its own hash."""
    pins = []
    for each in libraries:
        found = f"sha256:{_digest(folder / 'wheels' / each.wheel)}"
        pins.append(Pin(name=each.name, version=each.version, hashes=(found,)))
    (folder / "requirements.txt").write_text("".join(map(_requirement, pins)))


def list_files(folder: Path) -> list[dict[str, Any]]:
    """Name, size and digest of everything so far."""
    return [
        {
            "name": path.relative_to(folder).as_posix(),
            "size_bytes": path.stat().st_size,
            "sha256": _digest(path),
        }
        for path in sorted(each for each in folder.rglob("*") if each.is_file())
    ]


def pack(folder: Path, archive: Path) -> Path:
    """One tar of the folder, and its SHA-256 beside it; the archive gets its name last."""
    partial = folder.with_suffix(".tar")
    sums = archive.with_name(f"{archive.name}.sha256")
    archive.unlink(missing_ok=True)
    try:
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(each for each in folder.rglob("*") if each.is_file()):
                inside = path.relative_to(folder).as_posix()
                info = tarfile.TarInfo(f"{archive.stem}/{inside}")
                info.size, info.mode, info.mtime = path.stat().st_size, 0o644, 315532800
                with path.open("rb") as file:
                    tar.addfile(info, file)
        sums.write_text(f"{_digest(partial)}  {archive.name}\n")
        partial.rename(archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def plain(name: str) -> str:
    """A distribution's name, without extras and in the one form that names are compared in."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def _requirement(pin: Pin) -> str:
    return f"{pin.name}=={pin.version} {' '.join(f'--hash={each}' for each in pin.hashes)}\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
