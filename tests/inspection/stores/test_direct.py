"""A large file past the page cache is the same file, on every file system, or none."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from inspection.errors import RecordError
from inspection.stores.direct import ALIGNED, LEAST_BYTES, PIECE_BYTES, write_direct
from inspection.stores.files import FileImageStore

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (
    LEAST_BYTES,
    LEAST_BYTES + 1,
    PIECE_BYTES - 1,
    PIECE_BYTES + ALIGNED,
    2 * PIECE_BYTES + ALIGNED - 1,
)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_file_holds_what_was_written_and_nothing_behind_it(tmp_path: Path, length: int) -> None:
    for data in (os.urandom(length), bytes(length)):  # the second in memory that was used
        path = tmp_path / hashlib.sha256(data).hexdigest()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            done = write_direct(descriptor, data)
        finally:
            os.close(descriptor)
        assert path.read_bytes() == (data if done else b"")


def test_small_files_are_left_to_whoever_asks(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        assert not write_direct(descriptor, bytes(LEAST_BYTES - 1))
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").stat().st_size == 0


def test_a_file_system_that_cannot_gets_the_file_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    asked = []

    def pwrite(descriptor: int, data: memoryview, place: int) -> int:
        asked.append(place)
        if place:  # it finds out in the middle
            raise OSError(errno.EINVAL, "invalid argument")
        return real(descriptor, data, place)

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = os.urandom(PIECE_BYTES + 5)
    store = FileImageStore(tmp_path)
    assert store.get(store.put(data)) == data
    if not asked:
        pytest.skip("this file system says so at once")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(descriptor: int, data: memoryview, place: int = 0) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "write", pwrite)
    store = FileImageStore(tmp_path)
    data = os.urandom(LEAST_BYTES)
    with pytest.raises(RecordError, match="no space"):
        store.put(data)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    monkeypatch.undo()
    assert store.get(store.put(data)) == data


def test_the_descriptor_is_as_before_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(descriptor: int, data: memoryview, place: int) -> int:
        raise OSError(errno.EINVAL, "invalid argument")

    monkeypatch.setattr(os, "pwrite", pwrite)
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        before = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        assert not write_direct(descriptor, bytes(LEAST_BYTES))
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) == before
    finally:
        os.close(descriptor)
