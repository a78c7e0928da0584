from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspection.errors import NotFound, RecordError, RecordsDamaged
from inspection.image_store import ImageStore
from inspection.stores.files import INCOMING, STALE_AFTER_S, FileImageStore


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(tmp_path / "images")


def name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def names(images: FileImageStore) -> list[Path]:
    return sorted(p for p in images.root.rglob("*") if p.is_file())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.binary(max_size=3000))
def test_what_is_put_is_got_under_its_digest(images: FileImageStore, data: bytes) -> None:
    store: ImageStore = images
    digest = store.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert store.get(digest) == data
    assert images.path(digest) == images.root / digest[:2] / digest[2:]


def test_same_bytes_are_kept_once(images: FileImageStore) -> None:
    assert images.put(b"image") == images.put(b"image")
    assert len(names(images)) == 1


def test_many_threads_put_the_same_and_others(images: FileImageStore) -> None:
    wanted = [f"image {n % 20}".encode() for n in range(100)]
    with ThreadPoolExecutor(16) as pool:
        digests = list(pool.map(images.put, wanted))
    assert [images.get(d) for d in digests] == wanted
    assert sorted(images.digests()) == sorted(set(digests))
    assert list(images.leftovers()) == []


@pytest.mark.parametrize(
    "text", ["", "ab", "Z" * 64, "A" * 64, "../" * 21 + "a", "0" * 63 + "/", "0" * 65]
)
def test_what_is_no_digest_is_not_found(images: FileImageStore, text: str) -> None:
    with pytest.raises(NotFound):
        images.get(text)


def test_missing_image_is_not_found(images: FileImageStore) -> None:
    with pytest.raises(NotFound):
        images.get("0" * 64)


@pytest.mark.parametrize("change", [b"", b"imagd", b"image and more"])
def test_changed_file_is_noticed_and_healed_when_it_comes_again(
    images: FileImageStore, change: bytes
) -> None:
    path = images.path(images.put(b"image"))
    path.chmod(0o644)
    path.write_bytes(change)
    with pytest.raises(RecordsDamaged):
        images.get(hashlib.sha256(b"image").hexdigest())
    assert images.get(images.put(b"image")) == b"image"


def test_kept_files_are_read_only(images: FileImageStore) -> None:
    assert images.path(images.put(b"image")).stat().st_mode & 0o222 == 0


def test_file_and_folders_are_synced_before_put_returns(
    images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(name_of(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = images.path(images.put(b"image"))
    assert str(images.root) in synced  # the new folder's name
    assert any(INCOMING in name for name in synced)  # the contents, before the rename
    assert synced[-1] == str(path.parent)  # the name, after it
    synced.clear()
    # Somebody else's rename may not be on the disk yet: a second put syncs again.
    images.put(b"image")
    assert synced == [str(path), str(path.parent)]


def test_another_store_syncs_a_folder_that_it_finds(
    images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.put(b"image")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(name_of(d)))
    FileImageStore(images.root).put(b"image")
    assert str(images.root) in synced


def test_full_disk_leaves_nothing(images: FileImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(RecordError) as caught:
            images.put(b"image")
    assert "room" in caught.value.remedy
    assert names(images) == []
    assert images.get(images.put(b"image")) == b"image"


LIMITED = """
import resource, sys
from pathlib import Path
from inspection.errors import RecordError
from inspection.stores.files import FileImageStore

images = FileImageStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
small = images.put(b"x" * 9_000)
try:
    images.put(b"y" * 90_000)
except RecordError as error:
    print(error.remedy)
assert images.get(small) == b"x" * 9_000
"""


def test_file_that_stops_in_the_middle_is_taken_away(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "images")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "room" in done.stdout
    images = FileImageStore(tmp_path / "images", read_only=True)
    assert len(list(images.digests())) == 1
    assert list(images.leftovers()) == []


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecordError):
        FileImageStore(tmp_path / "file" / "images")


def test_read_only_store_makes_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    images = FileImageStore(tmp_path / "images", read_only=True)
    with pytest.raises(RecordError):
        images.put(b"image")
    assert list(images.digests()) == []
    assert list(images.leftovers()) == []
    assert not images.root.exists()


def test_opening_clears_what_dead_processes_left(images: FileImageStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        left = {
            "of the dead, old": (f"{dead.pid}-0", True),
            "of the dead, new": (f"{dead.pid}-1", False),
            "of the living, old": (f"{living.pid}-0", True),
            "our own, old": (f"{os.getpid()}-0", True),
            "of nobody, old": ("something", True),
        }
        for name, old in left.values():
            path = images.root / INCOMING / name
            path.write_bytes(b"half")
            if old:
                moment = path.stat().st_mtime - STALE_AFTER_S - 60
                os.utime(path, (moment, moment))
        FileImageStore(images.root)
        there = {
            what for what, (name, _) in left.items() if (images.root / INCOMING / name).exists()
        }
        living.communicate(b"\n")
    assert there == {"of the dead, new", "of the living, old"}


def test_leftovers_are_everything_without_a_digest(images: FileImageStore) -> None:
    kept = images.put(b"image")
    strangers = [
        images.root / "notes.txt",
        images.root / INCOMING / "1-2",
        images.root / kept[:2] / "short",
        images.root / "zz" / "a" / ("0" * 62),
    ]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    assert sorted(left.path for left in images.leftovers()) == sorted(strangers)
    assert {left.size_bytes for left in images.leftovers()} == {5}
    assert list(images.digests()) == [kept]


def test_nobody_takes_back_what_another_brought_in_the_same_moment(images: FileImageStore) -> None:
    mine = images.lay(b"image", digest := hashlib.sha256(b"image").hexdigest())
    assert mine.made is not None
    images.put(b"image", anew=True)  # neither had seen the other's file
    os.utime(images.path(digest), ns=(mine.made[1],) * 2)  # the kernel's clock ticks slowly
    images.take_back(mine)
    assert images.get(digest) == b"image"

    images.path(digest).chmod(0o644)
    images.path(digest).write_bytes(b"damaged")
    images.take_back(images.lay(b"image", digest))  # it mended the file of an earlier record
    assert images.get(digest) == b"image"


def test_a_crash_while_a_file_is_taken_away_leaves_it_in_its_place(
    images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = images.put(b"image")

    def crash(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            images.remove(digest, older_than=time.time() + 60)
    assert list(images.digests()) == []
    assert FileImageStore(images.root).get(digest) == b"image"
    assert list(images.leftovers()) == []
