"""Install what is in this archive, on a box with Python and no network.

    python3 install.py [FOLDER]          FOLDER is /opt/inspection when none is given

    every file against its digest -> the box fits -> a folder beside its place: environment,
    libraries, a trial run -> renamed to FOLDER/releases/NAME -> FOLDER/current points to it

Nothing is written before every file has been checked, nothing outside FOLDER at any time, and no
network is asked. After any failure run it again: what was begun is thrown away, what is finished
stays. The installer of an older archive goes back to the older release.

It needs nothing but the standard library, and starts under Pythons down to 3.6 (RHEL 8's), so that
it can say what is missing.

Exit statuses: 0 fine; 2 usage; 3 the archive is damaged; 4 the box; 130 Ctrl-C.
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

HERE = Path(__file__).resolve().parent
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
DEFAULT_FOLDER = "/opt/inspection"
BEGUN = ".installing-"
"""What an installation that was cut off leaves begins with this."""
ROOM = 1.5
"""Room on the disk that is asked for, in sizes of the unpacked libraries: compiled code too."""

EXIT_DAMAGED = 3
EXIT_BOX = 4
EXIT_INTERRUPTED = 130


class Refused(Exception):
    """Why it stops, what to do about it, and the exit status."""

    def __init__(self, text: str, remedy: str, status: int = EXIT_BOX) -> None:
        super().__init__(text)
        self.remedy = remedy
        self.status = status


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Read the command line, install, and say what was done."""
    parser = argparse.ArgumentParser(description="Install this archive without a network.")
    parser.add_argument("folder", nargs="?", default=DEFAULT_FOLDER, help=f"[{DEFAULT_FOLDER}]")
    parser.add_argument("--python", help="the Python to use, where it is not found by itself")
    parser.add_argument("--check", action="store_true", help="check the archive, install nothing")
    options = parser.parse_args(arguments)
    os.umask(0o022)  # whoever installs may be strict; the server's user has to read it
    # Stopping a service stops in order too: what was begun is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        manifest = verify()
        if not options.check:
            python = fitting_python(manifest, options.python)
            install(manifest, python, Path(options.folder).absolute())
    except Refused as refused:
        print(f"error: {refused}\n  -> {refused.remedy}", file=sys.stderr)
        return refused.status
    except OSError as error:
        print(f"error: {error}\n  -> Correct that, and run this again.", file=sys.stderr)
        return EXIT_BOX
    except KeyboardInterrupt:
        print("interrupted: nothing was installed; run this again", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def verify() -> "Any":
    """The manifest, when every file of the archive agrees with it and there is no other.

    Raises:
        Refused: names the file that is damaged, missing or too many.
    """
    text = _read(MANIFEST)
    if _read(MANIFEST_DIGEST) != f"{_sha256(text)}  {MANIFEST}\n".encode():
        raise _damaged(MANIFEST, "does not agree with its digest")
    manifest = json.loads(text)
    listed = {file["name"]: file for file in manifest["files"]}
    for name, file in listed.items():
        path = HERE / name
        if not path.is_file() or path.is_symlink():
            raise _damaged(name, "is missing")
        if path.stat().st_size != file["size_bytes"] or _digest(path) != file["sha256"]:
            raise _damaged(name, "is damaged: it does not agree with its digest")
    there = {path.relative_to(HERE).as_posix() for path in HERE.rglob("*") if not path.is_dir()}
    for name in sorted(there - listed.keys() - {MANIFEST, MANIFEST_DIGEST}):
        raise _damaged(name, "does not belong to the archive")
    size = sum(file["size_bytes"] for file in manifest["files"])
    _say(f"inspection {manifest['version']}, {manifest['bundle']}")
    _say(f"  {len(listed)} files, {_mb(size)}: every one agrees with its digest")
    return manifest


def fitting_python(manifest: "Any", named: "str | None") -> str:
    """The path of a Python that the libraries in here were built for.

    Raises:
        Refused: the box is of another kind, or has no such Python.
    """
    machine, glibc = manifest["machine"], manifest["glibc"]
    here = (sys.platform, platform.machine())
    if here != ("linux", machine):
        raise Refused(
            f"this archive is for Linux on {machine}; this box is {' '.join(here)}",
            f"Make one for this box: make bundle BUNDLE_MACHINE={here[1]}",
        )
    library = os.confstr("CS_GNU_LIBC_VERSION") or "" if _has_glibc() else ""
    found = re.match(r"glibc (\d+)\.(\d+)", library)
    if found is None or (int(found[1]), int(found[2])) < tuple(glibc):
        wanted = ".".join(map(str, glibc))
        raise Refused(
            f"the libraries need glibc {wanted} or newer; this box has {library or 'none'}",
            "Use a newer Linux: Debian 10, Ubuntu 20.04, RHEL 8, or later.",
        )
    wanted = manifest["python"]
    name = f"python{wanted}"
    tried = [named] if named else [sys.executable, shutil.which(name) or "", f"/usr/bin/{name}"]
    for python in tried:
        if python and _python_version(python) == wanted:
            _say(f"  Python {wanted}: {python}; {library}")
            return python
    missing = f"{named} is not" if named else "none is here"
    raise Refused(
        f"this archive is for Python {wanted}, and {missing}",
        f"Install Python {wanted}, or name it: --python PATH; or make an archive for the Python "
        "of this box: make bundle BUNDLE_PYTHON=3.NN",
    )


def install(manifest: "Any", python: str, folder: Path) -> None:
    """Make the release and point `current` to it.

    Raises:
        Refused: somebody else is installing, the disk is too small, or a step failed.
    """
    releases = folder / "releases"
    name = f"{manifest['version']}-{manifest['bundle']}-{_digest(HERE / MANIFEST)[:12]}"
    place = releases / name
    role = manifest["bundle"].partition("-")[0]
    releases.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        for other in sorted(releases.glob("[!.]*")):
            if f"-{role}-" not in other.name:
                raise Refused(
                    f"{folder} is not a {role}'s: it holds {other.name}",
                    f"Name a folder of its own for the {role}.",
                )
        for left in (*folder.glob(f"{BEGUN}*"), *releases.glob(f"{BEGUN}*")):
            _say(f"  removing what was begun and not finished: {left}")
            shutil.rmtree(str(left))
        if place.exists():
            _say(f"  {place} is there already")
            again = f"Remove {place}, and run this again."
            _run([str(place / "bin" / "inspection"), "--help"], again)
        else:
            _room_for(manifest, folder)
            _make(manifest, python, place)
        _point(folder / "current", Path("releases") / name)
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    _say(f"installed: {place}")
    _say(f"  {len(files):,} files, {_mb(sum(path.stat().st_size for path in files))}")
    _say(f"  {folder / 'current'} -> releases/{name}")
    others = sorted(path.name for path in releases.iterdir() if path.name != name)
    if others:
        _say(f"  older releases that may be removed: {', '.join(others)}")
    _say(f"next: {folder / 'current' / 'bin' / 'inspection'} doctor")


def _make(manifest: "Any", python: str, place: Path) -> None:
    """Environment, libraries, a trial run; then the folder gets its name."""
    # Not in /tmp, from where no program may be started on some boxes.
    work = Path(tempfile.mkdtemp(prefix=BEGUN, dir=str(place.parent.parent)))
    building = Path(tempfile.mkdtemp(prefix=BEGUN, dir=str(place.parent)))
    try:
        uv = _unpack_uv(HERE / manifest["installer"], work)
        # Its store lies beside the release, so that files are linked and not written twice.
        common = ["--offline", "--no-config", "--quiet", "--cache-dir", str(work / "store")]
        _say(f"  making {place}")
        _run([uv, "venv", *common, "--no-project", "--relocatable", "--allow-existing",
              "--python", python, str(building)])  # fmt: skip
        inside = str(building / "bin" / "python")
        _run([uv, "pip", "install", *common, "--python", inside, "--no-index", "--find-links",
              str(HERE / "wheels"), "--require-hashes", "--no-deps", "--no-build",
              "--compile-bytecode", "-r", str(HERE / "requirements.txt")])  # fmt: skip
        _run([uv, "pip", "check", *common, "--python", inside])
        _run([str(building / "bin" / "inspection"), "--help"])
        building.chmod(0o755)
        os.sync()  # so that a power cut leaves all of it under its name, or nothing
        building.rename(place)
    finally:
        shutil.rmtree(str(work), ignore_errors=True)
        shutil.rmtree(str(building), ignore_errors=True)


def _unpack_uv(wheel: Path, folder: Path) -> str:
    """The one program that the installer brings along, out of its wheel."""
    with zipfile.ZipFile(str(wheel)) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        target = folder / "uv"
        target.write_bytes(archive.read(name))
    target.chmod(0o755)
    return str(target)


def _run(command: "Sequence[str]", remedy: str = "Correct that, and run this again.") -> None:
    """Run a step with an environment that nobody's settings of pip, uv or Python reach.

    Raises:
        Refused: it failed; with what it said.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(  # noqa: PLW1510
        list(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        universal_newlines=True,  # noqa: UP021  what Python 3.6 calls `text`
        stdin=subprocess.DEVNULL,
        env={**kept, "PYTHONNOUSERSITE": "1"},
    )
    if done.returncode != 0:
        step = " ".join(Path(word).name for word in command[:3])
        raise Refused(
            f"{step} failed with status {done.returncode}:\n{done.stderr.strip()[-2000:]}",
            remedy,
        )


@contextmanager
def _alone(folder: Path) -> "Iterator[None]":
    """One installation at a time; the lock goes with the process."""
    with open(str(folder / ".lock"), "w") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(
                f"somebody else is installing into {folder}", "Wait until it is done."
            ) from None
        yield


def _point(link: Path, target: Path) -> None:
    """Let a link point somewhere else in one step."""
    if link.exists() and not link.is_symlink():
        raise Refused(f"{link} is in the way", "Move it elsewhere, and run this again.")
    new = link.with_name(f".{link.name}")
    if new.is_symlink():
        new.unlink()
    new.symlink_to(target)
    os.replace(str(new), str(link))  # noqa: PTH105


def _room_for(manifest: "Any", folder: Path) -> None:
    free = shutil.disk_usage(str(folder)).free
    wanted = int(manifest["unpacked_bytes"] * ROOM)
    if free < wanted:
        raise Refused(
            f"{folder} has {_mb(free)} free; this needs {_mb(wanted)}",
            "Free some disk space, or name another folder.",
        )


def _has_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in os.confstr_names


def _python_version(python: str) -> "str | None":
    """`3.12` of a 64-bit CPython; None when it is something else, or does not run."""
    code = (
        "import sys; print('%d.%d' % sys.version_info[:2] if sys.maxsize > 2**32 "
        "and sys.implementation.name == 'cpython' else '')"
    )
    try:
        said = subprocess.run(
            [python, "-I", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,  # noqa: UP021
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.strip()


def _read(name: str) -> bytes:
    try:
        return (HERE / name).read_bytes()
    except OSError as error:
        raise _damaged(name, f"cannot be read: {error.strerror}") from error


def _digest(path: Path) -> str:
    seen = hashlib.sha256()
    with open(str(path), "rb") as file:  # noqa: PTH123
        while True:
            piece = file.read(1 << 20)
            if not piece:
                return seen.hexdigest()
            seen.update(piece)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _damaged(name: str, how: str) -> Refused:
    return Refused(
        f"{name} {how}; nothing was installed",
        "Copy the archive again, compare it with its .sha256, and unpack it into an empty folder.",
        EXIT_DAMAGED,
    )


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
