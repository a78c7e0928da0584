"""What was fetched for one archive is not fetched again for the next, and is never believed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from requirements import bundle
from requirements.bundle import Pin, Target

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

WHEELS = {"a-1-py3-none-any.whl": b"one", "b-1-py3-none-any.whl": b"other"}
PINS = [
    Pin(name=name[0], version="1", hashes=(f"sha256:{hashlib.sha256(data).hexdigest()}",))
    for name, data in WHEELS.items()
]


def test_a_store_gives_what_fits_a_hash_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(pins: Iterable[Pin], folder: Path, target: Target) -> None:
        names = {pin.name for pin in pins}
        asked.append(f"{target.python}: {' '.join(sorted(names))}")
        for name, data in WHEELS.items():
            if name[0] in names:
                (folder / name).write_bytes(data)

    monkeypatch.setattr(bundle, "fetch", fetch)
    for number, python in enumerate(("3.12", "3.12", "3.13", "3.12", "3.12")):
        folder = tmp_path / str(number)
        target = Target(python=python, machine="x86_64")
        bundle.gather(PINS, folder, target, tmp_path / "store")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == WHEELS
        if number == 2:
            for stored in (tmp_path / "store").glob("py3.12-*/a-*"):
                stored.write_bytes(b"damaged")
    assert asked == ["3.12: a b", "3.13: a b", "3.12: a"]
