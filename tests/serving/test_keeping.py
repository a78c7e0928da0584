"""A disk that is nearly full, a database that is down: refused in time, nothing lost, and back."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import RecordError
from serving import keeping
from serving.errors import DiskFull
from serving.keeping import READING, Keeping, check_disk
from serving.settings import DiskSettings
from tests.live_server import Live, running, serial, settings_in, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres_server import PostgresServer

GOOD = part_png("good")
MIB = 2**20


def ready(live: Live) -> bool:
    return live.http.get("/readyz").status_code == 200


def cause(live: Live, name: str) -> str:
    checks = live.http.get("/readyz").json()["checks"]
    (found,) = [each for each in checks if each["name"] == name]
    return "" if found["ok"] else str(found["detail"])


def runs(live: Live) -> float:
    """How often an engine has run."""
    text = live.server.metrics.text().decode()
    lines = [line for line in text.splitlines() if line.startswith("inspection_batch_size_count")]
    return sum(float(line.split()[-1]) for line in lines)


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A disk of 24 MiB, mounted there."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_nearly_full_disk_refuses_at_the_door_and_loses_nothing(site: Path) -> None:
    settings = settings_in(site).model_copy(update={"disk": DiskSettings(min_free_bytes=8 * MIB)})
    images = site / "var" / "images"
    with small_disk(images), running(settings) as live:
        first = live.post(GOOD, capture_id="before", serial=serial(1))
        assert first.status_code == 201
        ballast = images / "incoming" / "ballast"
        ballast.write_bytes(b"x" * 17 * MIB)
        until(lambda: not ready(live))
        assert "MiB are free" in cause(live, "disk")
        assert str(site) not in cause(live, "disk")
        before, kept = runs(live), live.kept()
        for image in (GOOD, b"not even an image"):  # nothing of it was looked at
            refused = live.post(image, capture_id="full", serial=serial(2))
            assert (refused.status_code, refused.json()["code"]) == (503, "disk-full")
            assert int(refused.headers["Retry-After"]) >= 1
        assert (runs(live), live.kept()) == (before, kept)
        # Whoever reads goes on, and an inspection that is on record is still there.
        assert live.http.get(f"/v1/inspections/{first.json()['id']}").status_code == 200
        asked = live.http.post("/v1/parts:lookup", json={"parts": []})
        assert asked.status_code != 503
        disk = os.statvfs(images)
        over = disk.f_bavail * disk.f_frsize - 8 * MIB - MIB // 4
        os.truncate(ballast, 17 * MIB + over)
        live.server.keeping.look()
        assert not ready(live), "hardly enough: there is no to and fro at the edge"
        ballast.unlink()
        until(lambda: ready(live))
        assert live.post(GOOD, capture_id="full", serial=serial(2)).status_code == 201
        assert live.kept()[0] == kept[0] + 1


def test_a_disk_that_is_full_after_all_is_noticed_by_the_failed_write(site: Path) -> None:
    settings = settings_in(site).model_copy(update={"disk": DiskSettings(min_free_bytes=0)})
    images = site / "var" / "images"
    with small_disk(images), running(settings) as live:
        assert live.post(GOOD, capture_id="before").status_code == 201
        ballast = images / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        kept = live.kept()
        refused = live.post(part_png("bad"), capture_id="full")
        assert (refused.status_code, refused.json()["code"]) == (503, "record-failed")
        assert refused.headers["Retry-After"]
        until(lambda: cause(live, "images") != "")
        assert live.kept() == kept, "nothing half-written is left"
        before = runs(live)
        assert live.post(part_png("bad"), capture_id="full").status_code == 503
        assert runs(live) == before
        ballast.unlink()
        until(lambda: ready(live))
        assert live.post(part_png("bad"), capture_id="full").status_code == 201


def test_a_database_that_is_down_is_said_and_comes_back(
    site: Path, postgres: PostgresServer
) -> None:
    settings = settings_in(site).model_copy(update={"database_url": postgres.fresh()})
    with running(settings) as live:
        assert live.post(GOOD, capture_id="before").status_code == 201
        postgres.stop(hard=True)
        try:
            until(lambda: cause(live, "records") != "")
            assert "password" not in cause(live, "records")
            before = runs(live)
            began = time.monotonic()
            answers = [live.post(GOOD, capture_id=f"down-{number}") for number in range(5)]
            assert {each.status_code for each in answers} == {503}
            assert {each.json()["code"] for each in answers} == {"records-away"}
            assert all(each.headers["Retry-After"] for each in answers)
            assert time.monotonic() - began < 5, "refused at the door, not after a time-out"
            assert runs(live) == before
            assert live.http.get("/livez").status_code == 200
        finally:
            postgres.start()
        until(lambda: ready(live))
        again = [live.post(GOOD, capture_id=f"down-{number}") for number in range(5)]
        assert {each.status_code for each in again} == {201}
        assert live.post(GOOD, capture_id="before").status_code == 200
        assert live.kept()[0] == 6


def test_every_call_that_adds_something_is_refused_while_nothing_can_be_kept(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever routes there will be: a POST either is known to read only, or asks first."""
    paths = live.http.get("/openapi.json").json()["paths"]
    posts = {path: each["post"]["operationId"] for path, each in paths.items() if "post" in each}
    assert len(posts) > 8
    assert set(posts.values()) >= READING
    monkeypatch.setattr(live.server.keeping, "_least", 2**60)
    live.server.keeping.look()
    try:
        found = {
            name: live.http.post(path.replace("{", "").replace("}", "")).json()["code"]
            for path, name in posts.items()
        }
    finally:
        monkeypatch.undo()
        live.server.keeping.look()
    assert {name for name, code in found.items() if code != "disk-full"} == READING, found
    assert live.server.keeping.causes()["disk"] is None


def test_a_store_that_does_not_answer_is_a_cause_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ANSWER_S", 0.2)
    let_go = threading.Event()

    class Hangs:
        def check(self) -> None:
            let_go.wait(30)

    stores: Any = Hangs()
    watching = Keeping(stores, stores, {}, min_free_bytes=0)
    watching.start()
    try:
        until(lambda: watching.causes()["records"] is not None)
        with pytest.raises(RecordError, match="no answer for"):
            watching.require()
        assert watching.causes()["disk"] is None
        let_go.set()
        until(lambda: watching.causes()["records"] is None)
        watching.require()
    finally:
        let_go.set()
        watching.close()


def test_a_folder_that_is_gone_or_has_no_room_is_said(tmp_path: Path) -> None:
    check_disk(tmp_path, 0)
    with pytest.raises(DiskFull, match="are kept back"):
        check_disk(tmp_path, 2**60)
    with pytest.raises(RecordError, match="No such file"):
        check_disk(tmp_path / "gone", 0)
