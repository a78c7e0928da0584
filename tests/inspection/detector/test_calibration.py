"""A calibration's file is whole and unaltered, or refused; nothing is ever overwritten."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inspection.detector.calibration import read_calibration, write_calibration
from inspection.errors import ConfigurationError
from tests.panels import Panel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection.detector.calibration import Calibration


@pytest.fixture(scope="module")
def made() -> Calibration:
    return Panel(size_px=(40, 48), stuck=((5, 5),)).calibration()


@pytest.fixture
def written(made: Calibration, tmp_path: Path) -> Path:
    return write_calibration(made, tmp_path / "xray-1")


def test_it_comes_back_as_it_was(made: Calibration, written: Path) -> None:
    again = read_calibration(written)
    assert again.facts == made.facts
    assert again.flat.digest == made.flat.digest
    for name in ("offset", "gain", "bad"):
        np.testing.assert_array_equal(getattr(again.flat, name), getattr(made.flat, name))
    assert written.name == f"20261122T060000Z-{made.flat.digest[:12]}.npz"
    assert [each.name for each in written.parent.iterdir()] == [written.name]


def test_the_same_frames_give_the_same_digest_and_others_another(made: Calibration) -> None:
    assert Panel(size_px=(40, 48), stuck=((5, 5),)).calibration().flat.digest == made.flat.digest
    assert Panel(size_px=(40, 48)).calibration().flat.digest != made.flat.digest


def test_a_file_that_is_there_is_not_overwritten(made: Calibration, written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_calibration(made, written.parent)
    assert written.read_bytes() == before


def test_every_damaged_byte_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(whole), 60, replace=False):
        broken = bytearray(whole)
        broken[place] ^= 0x40
        written.write_bytes(broken)
        try:
            again = read_calibration(written)
        except ConfigurationError:
            refused += 1
        else:  # padding of a header, or a time in the archive's directory: nothing that counts
            assert again.flat.digest in written.name or again.flat.digest[:12] in written.name
    assert refused > 50
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        written.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError, match="is damaged"):
            read_calibration(written)


def rewritten(whole: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """The archive with its members changed; checksums of the archive hold again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return buffer.getvalue()


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


LIES: dict[str, Callable[[str, bytes], bytes | None]] = {
    "another gain": lambda name, data: (
        npy(np.full((40, 48), 2, np.float32)) if name == "gain.npy" else data
    ),
    "another station": lambda _, data: data.replace(b"xray-1", b"xray-2"),
    "a header that claims more": lambda name, data: (
        data.replace(b"(40, 48)", b"(9940, 9948)") if name == "gain.npy" else data
    ),
    "a pickle": lambda name, data: (
        npy(np.array([{"a": 1}], dtype=object), pickled=True) if name == "bad.npy" else data
    ),
    "a member less": lambda name, data: None if name == "bad.npy" else data,
    "no JSON": lambda name, data: npy(np.zeros(9, np.uint8)) if name == "meta.npy" else data,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(written: Path, lie: str) -> None:
    written.write_bytes(rewritten(written.read_bytes(), LIES[lie]))
    with pytest.raises(ConfigurationError, match="is damaged") as caught:
        read_calibration(written)
    assert "inspection detector calibrate" in caught.value.remedy


def test_a_packed_archive_is_refused_unread(written: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compress_type=zipfile.ZIP_DEFLATED)
    written.write_bytes(buffer.getvalue())
    with pytest.raises(ConfigurationError, match="packed"):
        read_calibration(written)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_calibration(written.with_name("absent.npz"))
