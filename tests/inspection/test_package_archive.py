"""A model travels as one file: every byte of it counts, and it arrives whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from inspection import package_archive
from inspection.cli import main
from inspection.errors import ConfigurationError, InspectionError, NotFound, PackageDamaged
from inspection.package import CONTENT, load_package
from inspection.package_archive import (
    BLOCK,
    END,
    LARGEST_MANIFEST,
    MANIFEST_NAME,
    Manifest,
    dump_manifest,
    export_package,
    header,
    import_package,
    padded,
)
from inspection.registry import Registry
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Change = Callable[[dict[str, Any]], object]

CONTENTS = {"test.csv": b"part,label\n1,good\n", "report.html": b"<p>measured</p>" * 50}


@pytest.fixture
def sender(tmp_path: Path) -> Registry:
    write_spot_package(tmp_path / "here", more=CONTENTS)
    return Registry(tmp_path / "here")


@pytest.fixture
def receiver(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "there")


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package file, as bytes to damage."""
    folder = tmp_path_factory.mktemp("carried")
    write_spot_package(folder, more=CONTENTS)
    export_package(Registry(folder), "spot@1", folder / "spot.tar")
    return (folder / "spot.tar").read_bytes()


def everything(folder: Path) -> list[str]:
    """Every file and folder below, the hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(data: bytes) -> str:
    """What importing these bytes is refused with; nothing is left behind."""
    with tempfile.TemporaryDirectory() as name:
        file, root = Path(name, "file"), Path(name, "weights")
        file.write_bytes(data)
        with pytest.raises(PackageDamaged) as refused:
            import_package(Registry(root), file)
        assert not root.exists() or everything(root) == []
        return str(refused.value)


def test_a_package_arrives_as_it_left(sender: Registry, receiver: Registry, tmp_path: Path) -> None:
    file = tmp_path / "spot.tar"
    manifest = export_package(sender, "spot@1", file)
    assert file.stat().st_size == manifest.total_bytes
    package = import_package(receiver, file)
    sent = sender.load("spot@1")
    assert package.folder == receiver.root / "spot" / "1"
    assert (package.digest, package.document) == (sent.digest, sent.document)
    assert contents(package.folder) == contents(sent.folder)
    arrived = [f"spot/1/{name}" for name in sorted(contents(sent.folder))]
    assert everything(receiver.root) == ["spot", "spot/1", *arrived]
    assert package.folder.stat().st_mode & 0o777 == 0o755
    assert receiver.state(package) == "candidate"


def test_a_package_of_the_first_format_travels_too(tmp_path: Path, receiver: Registry) -> None:
    write_spot_package(tmp_path / "old")
    export_package(Registry(tmp_path / "old"), "spot@1", tmp_path / "old.tar")
    assert set(import_package(receiver, tmp_path / "old.tar").files) == set(CONTENT[1])


def test_the_file_is_the_same_whenever_and_wherever_it_is_made(
    sender: Registry, tmp_path: Path
) -> None:
    export_package(sender, "spot@1", tmp_path / "first.tar")
    copy = tmp_path / "copy"
    shutil.copytree(sender.root, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    export_package(Registry(copy), "spot@1", tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_any_tar_can_list_and_unpack_it(sender: Registry, tmp_path: Path) -> None:
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    with tarfile.open(tmp_path / "spot.tar") as archive:
        assert archive.getnames()[0] == MANIFEST_NAME
        archive.extractall(tmp_path / "by-hand", filter="data")
    assert load_package(tmp_path / "by-hand" / "spot" / "1").digest == sender.load("spot@1").digest


@given(place=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_no_byte_can_be_another(carried: bytes, place: int, flip: int) -> None:
    damaged = bytearray(carried)
    damaged[place % len(carried)] ^= flip
    assert "is refused" in refusal(bytes(damaged))


def test_bytes_of_headers_manifest_and_padding_count_too(carried: bytes) -> None:
    size = tarfile.TarInfo.frombuf(carried[:BLOCK], "utf-8", "strict").size
    head = BLOCK + padded(size) + BLOCK  # first header, manifest, the second member's header
    for place in (*range(0, head, 11), *range(len(carried) - len(END), len(carried), 61)):
        damaged = bytearray(carried)
        damaged[place] ^= 0x20
        refusal(bytes(damaged))


@given(length=st.integers(min_value=0))
def test_a_file_that_was_cut_short_is_refused(carried: bytes, length: int) -> None:
    refusal(carried[: length % len(carried)])


@given(more=st.binary(min_size=1, max_size=2000))
def test_a_file_that_grew_is_refused(carried: bytes, more: bytes) -> None:
    assert "bytes; spot@1 takes" in refusal(carried + more)


def manifest_of(carried: bytes) -> Manifest:
    with tarfile.open(fileobj=io.BytesIO(carried)) as archive:
        first = archive.extractfile(MANIFEST_NAME)
        assert first is not None
        text = first.read()
    manifest = TypeAdapter(Manifest).validate_json(text)
    assert rfc8785.dumps(json.loads(text)) == dump_manifest(manifest) == text
    return manifest


def forged(carried: bytes, change: Change) -> bytes:
    """A file whose manifest says something else, put together as a forger would."""
    manifest = manifest_of(carried)
    plain = json.loads(dump_manifest(manifest))
    change(plain)
    text = rfc8785.dumps(plain)
    info = tarfile.TarInfo(MANIFEST_NAME)
    info.size, info.mode = len(text), 0o644
    rest = carried[BLOCK + padded(len(dump_manifest(manifest))) :]
    return info.tobuf(tarfile.GNU_FORMAT) + text.ljust(padded(len(text)), b"\0") + rest


@pytest.mark.parametrize("name", ["../spot", "/etc/spot", "spot/../..", "", ".hidden", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(carried: bytes, name: str) -> None:
    assert "manifest makes no sense" in refusal(
        forged(carried, lambda plain: plain.update(model=name))
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain["files"][0].update(name="../../golden.npz"),
        lambda plain: plain["files"][0].update(name="/golden.npz"),
        lambda plain: plain["files"].append(plain["files"][0]),
        lambda plain: plain["files"].insert(1, plain["files"][0]),
        lambda plain: plain["files"].pop(0),
        lambda plain: plain["files"].reverse(),
        lambda plain: plain["files"].clear(),
        lambda plain: plain["files"][0].update(size_bytes=2**40),
        lambda plain: plain["files"][0].update(size_bytes=-1),
        lambda plain: plain["files"][0].update(size_bytes=1.5),
        lambda plain: plain["files"][0].update(sha256="../" + "0" * 61),
        lambda plain: plain["files"][0].update(link="package.toml"),
        lambda plain: plain.update(version=0),
        lambda plain: plain.update(version="1"),
        lambda plain: plain.update(format=2),
        lambda plain: plain.update(digest="0" * 64),
        lambda plain: plain.update(more=1),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(carried: bytes, change: Change) -> None:
    assert "manifest makes no sense" in refusal(forged(carried, change))


def test_sizes_that_are_declared_and_not_there_are_refused_before_anything_is_written(
    carried: bytes,
) -> None:
    # As large as the package's own limits allow: 2 GiB that the file does not have.
    def change(plain: dict[str, Any]) -> None:
        model = next(file for file in plain["files"] if file["name"] == "model.onnx")
        model["size_bytes"] = 2**31

    assert "bytes; spot@1 takes 2,1" in refusal(forged(carried, change))


def test_another_name_or_version_in_the_manifest_is_found_out(carried: bytes) -> None:
    manifest = manifest_of(carried)
    for other in (replace(manifest, version=2), replace(manifest, model="knot")):
        text = dump_manifest(other)
        data = bytearray(carried[: BLOCK + padded(len(text))])
        data[BLOCK : BLOCK + len(text)] = text
        place = len(data)
        for file in manifest.files:
            place += BLOCK
            data += header(other, file) + carried[place : place + padded(file.size_bytes)]
            place += padded(file.size_bytes)
        assert f"it says {other.reference} and holds spot@1" in refusal(bytes(data + END))


def links() -> Iterator[bytes]:
    """Members that are not plain files, where the second member should stand."""
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("spot/1/golden.npz")
        info.type, info.linkname = kind, "/etc/passwd"
        yield info.tobuf(tarfile.GNU_FORMAT)


def test_links_and_other_members_are_refused(carried: bytes) -> None:
    second = BLOCK + padded(len(dump_manifest(manifest_of(carried))))
    for member in links():
        data = carried[:second] + member + carried[second + BLOCK :]
        assert "not as export writes it" in refusal(data)


def test_a_large_first_member_is_not_read(carried: bytes) -> None:
    info = tarfile.TarInfo(MANIFEST_NAME)
    info.size, info.mode = LARGEST_MANIFEST + 1, 0o644
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(padded(info.size))
    assert "does not begin" in refusal(data)
    for other in (b"", b"PK\x03\x04" + bytes(600), b"text\n" * 200):
        assert "does not begin" in refusal(other)


def test_a_name_that_is_taken_stays_with_its_package(
    sender: Registry, receiver: Registry, tmp_path: Path
) -> None:
    there = write_spot_package(receiver.root, gain=39.0)
    before = contents(there.folder)
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    with pytest.raises(ConfigurationError, match="is another package") as refused:
        import_package(receiver, tmp_path / "spot.tar")
    assert "next version" in refused.value.remedy
    assert contents(there.folder) == before
    assert everything(receiver.root)[0] == "spot"


def test_another_package_that_comes_meanwhile_is_not_taken_for_it(
    sender: Registry, receiver: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    check = package_archive._check

    def somebody_else_comes_first(building: Path, manifest: Manifest, source: Path) -> None:
        check(building, manifest, source)
        write_spot_package(receiver.root, gain=39.0)

    monkeypatch.setattr(package_archive, "_check", somebody_else_comes_first)
    with pytest.raises(ConfigurationError, match="is another package"):
        import_package(receiver, tmp_path / "spot.tar")
    assert everything(receiver.root)[0] == "spot"


def test_a_name_that_the_log_knows_stays_with_its_package(
    sender: Registry, receiver: Registry, tmp_path: Path
) -> None:
    there = write_spot_package(receiver.root, gain=39.0)
    receiver.promote("spot@1")
    shutil.rmtree(there.folder)
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    with pytest.raises(ConfigurationError, match=r"the log has spot@1 .* promoted on"):
        import_package(receiver, tmp_path / "spot.tar")
    assert not there.folder.exists()


def test_what_was_lost_comes_back_and_twice_is_once(
    sender: Registry, receiver: Registry, tmp_path: Path
) -> None:
    file = tmp_path / "spot.tar"
    export_package(sender, "spot@1", file)
    package = import_package(receiver, file)
    receiver.promote("spot@1")
    before = package.folder.stat().st_ino
    assert import_package(receiver, file).folder.stat().st_ino == before
    shutil.rmtree(package.folder)
    restored = import_package(receiver, file)
    assert receiver.promoted("KN-42").digest == restored.digest


def test_a_damaged_package_in_its_place_is_not_written_over(
    sender: Registry, receiver: Registry, tmp_path: Path
) -> None:
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    package = import_package(receiver, tmp_path / "spot.tar")
    (package.folder / "test.csv").write_bytes(b"")
    with pytest.raises(PackageDamaged, match=r"test\.csv"):
        import_package(receiver, tmp_path / "spot.tar")


def test_a_damaged_package_is_not_exported(sender: Registry, tmp_path: Path) -> None:
    (sender.root / "spot" / "1" / "golden.npz").write_bytes(b"x")
    with pytest.raises(PackageDamaged):
        export_package(sender, "spot@1", tmp_path / "spot.tar")
    assert not list(tmp_path.glob("*spot.tar*"))


def test_what_is_there_is_not_written_over(sender: Registry, tmp_path: Path) -> None:
    file = tmp_path / "spot.tar"
    file.write_text("mine")
    for target in (file, tmp_path, tmp_path / "no" / "folder" / "spot.tar"):
        with pytest.raises(ConfigurationError):
            export_package(sender, "spot@1", target)
    assert file.read_text() == "mine"
    with pytest.raises(NotFound):
        export_package(sender, "spot@2", tmp_path / "other.tar")
    assert everything(tmp_path)[-1] == "spot.tar"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_what_is_no_plain_file_is_refused_and_does_not_hang(
    receiver: Registry, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    unreadable = Path("/proc/self/mem")  # a plain file, and no byte of it: a broken stick
    for source in (tmp_path / "pipe", tmp_path, Path("/dev/full"), tmp_path / "no", unreadable):
        with pytest.raises(InspectionError):
            import_package(receiver, source)
    assert not receiver.root.exists()


def test_a_file_in_the_way_of_the_folder_is_said(
    sender: Registry, receiver: Registry, tmp_path: Path
) -> None:
    export_package(sender, "spot@1", tmp_path / "spot.tar")
    receiver.root.mkdir()
    (receiver.root / "spot").write_text("in the way")
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        import_package(receiver, tmp_path / "spot.tar")
    assert everything(receiver.root) == ["spot"]


def test_the_commands_say_the_digest_and_what_comes_next(
    sender: Registry, receiver: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "spot.tar")
    digest = hashlib.sha256((sender.root / "spot" / "1" / "package.toml").read_bytes()).hexdigest()
    here, there = ("--weights-dir", str(sender.root)), ("--weights-dir", str(receiver.root))
    assert main(["package", "export", "spot@1", file, *here]) == 0
    assert f"package digest: {digest}" in capsys.readouterr().out
    assert main(["package", "import", file, *there]) == 0
    said = capsys.readouterr()
    assert f"package digest: {digest}" in said.out
    following = next(line for line in said.err.splitlines() if "promote" in line).split()
    assert main(following[1:]) == 0
    assert Registry(receiver.root).promoted("KN-42").digest == digest
    capsys.readouterr()
    assert main(["package", "import", file, *there]) == 0
    assert "it is promoted" in capsys.readouterr().err


def test_a_damaged_file_ends_the_command_with_4_and_a_remedy(
    sender: Registry, receiver: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spot.tar"
    export_package(sender, "spot@1", file)
    data = bytearray(file.read_bytes())
    data[data.index(b"part,label")] ^= 1
    file.write_bytes(data)
    status = main(["package", "import", str(file), "--weights-dir", str(receiver.root)])
    said = capsys.readouterr()
    assert (status, said.out) == (4, "")
    assert "test.csv in it does not agree with its digest" in said.err
    assert "  → Export the package again" in said.err
