"""A decoder that crashes or hangs takes one image with it, and not the server."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from inspection.errors import EngineError, ImageError, UnreadableImage
from inspection.frame import DecodeLimits, decode_image
from serving.decoders import Decoders
from tests.hostile_images import hostile_images
from tests.live_server import promoted_spot, running, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOOD = part_png("good")


def raw_tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.arange(64, dtype=np.uint16).reshape(8, 8))
    return file.getvalue()


PATIENT_S = 60.0
"""More than any image here takes on a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Decoders]:
    made = Decoders(processes=1, limit_s=PATIENT_S)
    yield made
    made.close()


@pytest.fixture
def decoders(opened: Decoders) -> Decoders:
    opened.decode(GOOD)  # it is at work
    return opened


def pid_of(decoders: Decoders) -> int:
    worker = decoders._free.get()
    decoders._free.put(worker)
    assert worker is not None
    return worker.process.pid


def test_another_process_decodes_the_same(decoders: Decoders) -> None:
    for data in (GOOD, part_png("bad"), raw_tiff()):
        there, here = decoders.decode(data), decode_image(data)
        assert np.array_equal(there.pixels, here.pixels)
        assert there.pixels.dtype == here.pixels.dtype
        assert not there.pixels.flags.writeable
        assert (there.sha256, there.media_type) == (here.sha256, here.media_type)


def test_hostile_files_get_the_same_refusal(decoders: Decoders) -> None:
    limits = DecodeLimits(max_pixels=4_000_000)
    for name, case in hostile_images().items():
        said: list[str] = []
        for decode in (decoders.decode, decode_image):
            try:
                decode(case.data, limits=limits)
                said.append("decoded")
            except ImageError as error:
                said.append(f"{type(error).__name__}: {error}")
        assert said[0] == said[1], name


def test_a_worker_that_somebody_killed_is_replaced_and_the_image_decoded(
    decoders: Decoders,
) -> None:
    os.kill(pid_of(decoders), signal.SIGKILL)
    assert decoders.decode(GOOD).size_px == decode_image(GOOD).size_px


def test_a_worker_that_cannot_be_replaced_now_is_replaced_later(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr("serving.decoders.subprocess.Popen", refuse)
        os.kill(pid_of(decoders), signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(EngineError, match="no decoder can be started"):
                decoders.decode(GOOD)
    assert decoders.decode(GOOD).size_px == decode_image(GOOD).size_px
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


class Fatal(DecodeLimits):
    """Ends the process that unpacks it with SIGABRT, as a decoder that writes out of bounds."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return os.abort, ()


def test_a_file_that_crashes_its_decoder_is_refused_alone(decoders: Decoders) -> None:
    before = pid_of(decoders)
    with pytest.raises(UnreadableImage, match="crashed"):
        decoders.decode(GOOD, limits=Fatal())
    assert decoders.decode(GOOD).bits == 8
    assert pid_of(decoders) != before


def test_a_decoder_that_hangs_is_killed_in_its_time(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_limit_s", 1.0)
    hung = pid_of(decoders)
    os.kill(hung, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(UnreadableImage, match="within 1 s"):
        decoders.decode(GOOD)
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    with pytest.raises(ProcessLookupError):
        os.kill(hung, 0)
    assert decoders.decode(GOOD).bits == 8


def test_the_server_outlives_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted_spot(tmp_path / "weights")
    settings = settings_in(tmp_path)
    limits = settings.limits.model_copy(update={"decoder": "process", "decode_s": PATIENT_S})
    with running(settings.model_copy(update={"limits": limits})) as live:
        assert live.post(GOOD, capture_id="d-1").status_code == 201
        with live.server.lines.use("KN-42") as line:
            decoders = line.decode.__self__  # type: ignore[attr-defined]
        assert isinstance(decoders, Decoders)
        monkeypatch.setattr(decoders, "_limit_s", 1.0)
        stopped = [decoders._free.get() for _ in range(decoders._count)]
        for worker in reversed(stopped):  # the one at work is asked first again
            assert worker is not None
            os.kill(worker.process.pid, signal.SIGSTOP)
            decoders._free.put(worker)
        refused = live.post(GOOD, capture_id="d-2")
        assert (refused.status_code, refused.json()["code"]) == (422, "image-unreadable")
        monkeypatch.undo()
        assert live.post(GOOD, capture_id="d-2").status_code == 201
